//! Mounts, kernel modules and block devices of the guest.
//!
//! Typed wrappers whose errors say what could not be mounted, where, and why. What holds: no function follows a
//! name that the caller did not give. Left out: device mapping (`sys/dm`) and which mounts a container gets.

#![allow(unsafe_code, reason = "kernel modules and mount attributes have no safe form")]

mod attributes;
mod below;
mod device;
mod early;
mod error;
mod grow;
mod module;
mod mounts;

pub use attributes::{forbid_devices_below, program_on_read_only_mount};
pub use below::{file_below, folder_below};
pub use device::block_device_by_serial;
pub use early::{leave_initramfs, mount_early};
pub use error::MountError;
pub use grow::grow_ext4;
pub use module::{load_module, load_modules_listed_in};
pub use mounts::{
    Flags, bind, bound_tmpfs, make_private, mount, remount, sync_file_system, unmount, unmount_lazily,
};
