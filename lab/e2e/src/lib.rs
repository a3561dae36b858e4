//! What end-to-end cases share: a broker, images of other tools' making, and `coffer` run as a user runs it.
//!
//! Machines are booted one at a time ([`World::enter`]), because each wants a core under software emulation.
//! Left out: building what is booted, which `cargo xtask test` does and names in `COFFER_E2E_*`.

mod image;
mod processes;
mod world;

pub use image::{CANARY, PAGE, busybox_layout};
pub use processes::{Counted, Ends, Registry, children_of, lives, name_of, wait_for};
pub use world::{Outcome, World};
