//! The device.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::request::{self, MAX_USER_DATA, Register, Unusable};

/// Where the device is.
pub const NSM: &str = "/dev/nsm";

/// `NSM_RESPONSE_MAX_SIZE`.
const MAX_RESPONSE: usize = 0x3000;

/// Why the module does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NsmError {
    /// The device cannot be opened or does not answer.
    #[error("{step} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// The device.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The module refused.
    #[error("{step}: the Nitro Security Module refused: {why}")]
    Refused {
        /// What was asked.
        step: &'static str,
        /// Its word for it.
        why: String,
    },
    /// The response is none to the request.
    #[error("{step}: the Nitro Security Module's response is malformed")]
    Malformed {
        /// What was asked.
        step: &'static str,
    },
    /// User data is longer than a document carries.
    #[error("user data has at most {MAX_USER_DATA} bytes, found {0}")]
    TooLong(usize),
}

/// `struct nsm_iovec`.
#[repr(C)]
struct Buffer {
    address: u64,
    length: u64,
}

/// `struct nsm_raw`.
#[repr(C)]
struct Raw {
    request: Buffer,
    response: Buffer,
}

nix::ioctl_readwrite!(nsm_ioctl_raw, 0x0a, 0, Raw);

/// The module.
pub struct Nsm {
    device: File,
    path: PathBuf,
}

impl Nsm {
    /// Opens the device.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NsmError> {
        let path = path.as_ref().to_owned();
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(device) => Ok(Self { device, path }),
            Err(cause) => Err(NsmError::Io { step: "opening", path, cause }),
        }
    }

    /// An attestation document over this user data.
    pub fn document(&self, user_data: &[u8]) -> Result<Vec<u8>, NsmError> {
        const STEP: &str = "an attestation document";
        if user_data.len() > MAX_USER_DATA {
            return Err(NsmError::TooLong(user_data.len()));
        }
        let response = self.ask(STEP, request::attestation(user_data))?;
        request::document(&response).map_err(|why| unusable(STEP, why))
    }

    /// Extends a register; gives its new value.
    pub fn extend(&self, register: u16, data: &[u8]) -> Result<Vec<u8>, NsmError> {
        const STEP: &str = "extending a register";
        let response = self.ask(STEP, request::extend(register, data))?;
        request::extended(&response).map_err(|why| unusable(STEP, why))
    }

    /// Locks a register until the machine starts again. Documents quote only registers that are locked.
    pub fn lock(&self, register: u16) -> Result<(), NsmError> {
        const STEP: &str = "locking a register";
        let response = self.ask(STEP, request::lock(register))?;
        request::locked(&response).map_err(|why| unusable(STEP, why))
    }

    /// Reads a register.
    pub fn register(&self, register: u16) -> Result<Register, NsmError> {
        const STEP: &str = "reading a register";
        let response = self.ask(STEP, request::describe(register))?;
        request::described(&response).map_err(|why| unusable(STEP, why))
    }

    fn ask(&self, step: &'static str, mut request: Vec<u8>) -> Result<Vec<u8>, NsmError> {
        let mut response = vec![0; MAX_RESPONSE];
        let buffer = |bytes: &mut [u8]| Buffer {
            address: bytes.as_mut_ptr().expose_provenance() as u64,
            length: u64::try_from(bytes.len()).unwrap_or(0),
        };
        let mut raw = Raw { request: buffer(&mut request), response: buffer(&mut response) };
        // SAFETY: the descriptor is open; `raw` is a `nsm_raw` whose two buffers have the lengths that it says, and all
        // of them outlive the call. The kernel writes to the second only, and its length.
        if let Err(cause) = unsafe { nsm_ioctl_raw(self.device.as_raw_fd(), &raw mut raw) } {
            return Err(NsmError::Io { step, path: self.path.clone(), cause: cause.into() });
        }
        response.truncate(usize::try_from(raw.response.length).unwrap_or(0));
        Ok(response)
    }
}

fn unusable(step: &'static str, why: Unusable) -> NsmError {
    match why {
        Unusable::Refused(why) => NsmError::Refused { step, why },
        Unusable::Malformed => NsmError::Malformed { step },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_kernel_s_size_and_what_is_no_device_is_told() {
        assert_eq!(size_of::<Raw>(), 32);
        assert!(matches!(Nsm::open("/nowhere/nsm"), Err(NsmError::Io { step: "opening", .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        let nsm = Nsm::open(file.path()).unwrap();
        assert!(matches!(nsm.document(&[0; 48]), Err(NsmError::Io { .. })));
        assert!(matches!(nsm.document(&[0; 513]), Err(NsmError::TooLong(513))));
    }
}
