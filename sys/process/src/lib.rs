//! Namespaces, capabilities, seccomp, terminals and process ends.
//!
//! The kernel's process interfaces that the container runtime and the launchers need, as safe functions.
//! What holds: nothing here decides policy; each function does one kernel operation and says in its error what
//! could not be done and why. Left out: mounts (`sys/mount`), device mapping (`sys/dm`), the order of the steps.

#![allow(
    unsafe_code,
    reason = "process interfaces of the kernel have no safe form; each block says why it is sound"
)]

mod capabilities;
mod end;
mod error;
mod identity;
mod namespace;
pub mod seccomp;
mod spawn;
mod terminal;

pub use capabilities::{CapabilityError, CapabilityList};
pub use end::{Child, End, kill_process, power_off, reap, restart, uptime_us, wait_without_reaping};
pub use error::ProcessError;
pub use identity::{Limit, Resource, become_user, forbid_new_privileges, limit, set_limit, set_umask};
pub use namespace::{Namespaces, change_root_to, set_host_name, unshare};
pub use spawn::{
    close_others_at_exec, die_with_parent, execute, guard, pass_descriptors, spawn_guarded,
    take_inherited_descriptor,
};
pub use terminal::{
    Size, Terminal, open_terminal, receive_descriptor, resize, send_descriptor, take_terminal,
};
