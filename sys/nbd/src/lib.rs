//! A block device of the kernel's `nbd` driver, served over a socket (linux/nbd.h, drivers/block/nbd.c).
//!
//! Holds: the device is read-only, and gone when [`Device`] is dropped. Left out: the protocol, which is `core/nbd`.

#![allow(unsafe_code, reason = "the driver's ioctls and a thread's signal mask have no safe form")]

mod device;
mod error;

pub use device::{BLOCK, Device, attach};
pub use error::NbdError;
