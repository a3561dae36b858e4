//! Builds the guest's initramfs, the same bytes from the same inputs.
//!
//! Holds true: the bytes depend on the agent, the kernel package and the list of modules, and on nothing else of the
//! machine that builds: no path, no time, no user, no order of a directory. The manifest says what went in.
//! Left out: compiling the agent (`xtask`), and measuring the result (`core/launch`).

mod apt;
mod cpio;
mod error;
mod image;
mod kernel;
mod modinfo;
mod modules;

pub use error::GuestImageError;
pub use image::{BuildSpec, Built, Component, GUEST_MODULES, Manifest, build};
pub use kernel::{Kernel, Package};
