//! Why the kernel gives no report.

use std::io::Error;
use std::path::{Path, PathBuf};

/// Why the kernel gives no report.
#[derive(Debug, thiserror::Error)]
pub enum TsmError {
    /// The kernel has the interface, and no driver that answers.
    #[error("{} takes no request: no driver of a TEE is registered", path.display())]
    NoProvider {
        /// The interface.
        path: PathBuf,
    },
    /// A file or device refused.
    #[error("{step} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: Error,
    },
    /// Somebody else wrote to the same request while it was answered.
    #[error("another request came between each of {attempts} attempts at {}", path.display())]
    Raced {
        /// The request.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// What the kernel gives is longer than any report.
    #[error("{} is too long: at most {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// What the kernel gives is no report.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file or device.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The firmware of the TEE refused.
    #[error("{}: the TEE's firmware refused with {status:#x}", path.display())]
    Firmware {
        /// The device.
        path: PathBuf,
        /// Its answer.
        status: u64,
    },
    /// The kernel shows no register that the guest may extend.
    #[error("this kernel shows no register {register} to extend under {}", path.display())]
    NotSupported {
        /// Where it would be.
        path: PathBuf,
        /// Which.
        register: String,
    },
}

impl TsmError {
    pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { step, path, cause }
    }

    /// Whether the kernel has no such interface or no driver behind it, so that another source may be tried.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NoProvider { .. } | Self::NotSupported { .. } => true,
            Self::Io { cause, .. } => {
                matches!(cause.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO))
            }
            _ => false,
        }
    }
}
