//! Why a sandbox did not start or did not end well, with what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use coffer_host_vmm::MachineError;
use coffer_host_vtpm::VtpmError;

/// Why a sandbox did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A forwarded port is taken.
    #[error("{address} is in use by another program. Stop it, or forward another port with -p HOST:GUEST")]
    PortInUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// A forwarded port cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source}")]
    Port {
        /// The address that was asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The host has not the memory.
    #[error(
        "the guest needs {needed_mib} MiB of memory and {available_mib} MiB are free. \
         Free some, or give the guest less with --memory"
    )]
    NotEnoughMemory {
        /// What the guest and its machine need.
        needed_mib: u64,
        /// What is there.
        available_mib: u64,
    },
    /// The host has not the disk space.
    #[error(
        "{path} has {available_mib} MiB free and a sandbox needs {needed_mib} MiB. Free some space there"
    )]
    NotEnoughDisk {
        /// Where.
        path: PathBuf,
        /// What a sandbox needs.
        needed_mib: u64,
        /// What is there.
        available_mib: u64,
    },
    /// A run directory belongs to somebody else or is open to others.
    #[error("{path} is not a private directory of this user ({found}). Remove it, or set XDG_RUNTIME_DIR")]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A file of the sandbox cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried: `copy firmware variables to`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host's cache does not serve a sealed block.
    #[error(transparent)]
    Cache(#[from] coffer_host_cache::CacheError),
    /// A sealed block's digest and file do not belong to a disk.
    #[error("the sealed block {path} has {size} bytes, which is not a whole number of sectors of 512")]
    DiskSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// The software TPM did not start.
    #[error(transparent)]
    Vtpm(#[from] VtpmError),
    /// The machine did not start.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The machine ended before its workload.
    #[error("the machine ended before the workload did ({status}).{errors}{console}")]
    MachineEnded {
        /// How its process ended.
        status: String,
        /// What its process said, as a sentence, or nothing.
        errors: String,
        /// The end of the guest's console, as a paragraph, or nothing.
        console: Tail,
    },
    /// The guest's kernel or agent panicked.
    #[error("the guest panicked: {reason}{console}")]
    GuestPanicked {
        /// The kernel's line.
        reason: String,
        /// The end of the guest's console.
        console: Tail,
    },
    /// The guest was not heard of in time.
    #[error(
        "the guest did not answer within {} s. Under software emulation a start can be slow: \
         raise --start-timeout{console}", waited.as_secs()
    )]
    Silent {
        /// How long it was waited for.
        waited: Duration,
        /// The end of the guest's console.
        console: Tail,
    },
    /// The channel to the guest failed.
    #[error("the channel to the guest failed: {reason}{console}")]
    Channel {
        /// Why.
        reason: String,
        /// The end of the guest's console.
        console: Tail,
    },
    /// Something of the host's own failed.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The end of a guest's console and where the whole of it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The last lines, without control characters.
    pub lines: Vec<String>,
    /// The whole console, if it was kept.
    pub file: Option<PathBuf>,
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.lines.is_empty() {
            write!(f, "\nThe guest's console is empty.")?;
        } else {
            write!(f, "\nThe guest's console ends with:")?;
        }
        for line in &self.lines {
            write!(f, "\n  | {line}")?;
        }
        if let Some(file) = &self.file {
            write!(f, "\nAll of it: {}", file.display())?;
        }
        Ok(())
    }
}

impl SandboxError {
    /// Adds what was being done and to which file.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
