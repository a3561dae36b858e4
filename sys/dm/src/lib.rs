//! Device mapper, loop devices and kernel keys: mapping of sealed blocks.
//!
//! A sealed block is ciphertext under a hash tree: `map_verity` over the disk, `map_crypt` over that; a volume is
//! ciphertext that may be written, `map_volume`, with a MAC for each sector `map_authenticated` over `map_integrity`. Written
//! against the kernel's own interface (`include/uapi/linux/dm-ioctl.h`, `loop.h`, `keyctl.h`), without libdevmapper
//! and without udev. What holds: a key never stands in a mapping table, where `DM_TABLE_STATUS` would show it; it
//! goes through a kernel keyring and is taken out again once the mapping has it.

#![allow(
    unsafe_code,
    reason = "ioctls and key system calls have no safe form; each block says why it is sound"
)]

mod control;
mod crypt;
mod error;
mod integrity;
mod key;
mod loopdev;
mod status;
mod table;
mod verity;

pub use crypt::{CryptTable, VolumeTable, map_crypt, map_scratch, map_volume};
pub use error::DmError;
pub use integrity::{IntegrityTable, forget_cached, map_authenticated, map_integrity};
pub use loopdev::{Loop, LoopOptions, attach_loop};
pub use status::verity_is_corrupt;
pub use verity::{VerityTable, map_verity};

use std::path::PathBuf;

/// Whether a mapped device may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may not.
    ReadOnly,
    /// It may.
    ReadWrite,
}

/// A mapped device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Its name among the mappings, for [`unmap`].
    pub name: String,
    /// Its device node.
    pub path: PathBuf,
}

/// Removes a mapping. Its device must not be mounted or mapped by another.
///
/// # Errors
/// When there is no such mapping, or it is in use.
pub fn unmap(name: &str) -> Result<(), DmError> {
    control::Control::open()?.remove(name)
}

/// The version of the kernel's device mapper interface.
///
/// # Errors
/// When the kernel has no device mapper (module `dm-mod`).
pub fn version() -> Result<(u32, u32, u32), DmError> {
    control::Control::open()?.version()
}
