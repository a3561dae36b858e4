//! A software TPM whose attestation key is certified by this installation's root.
//!
//! [`Vtpm::manufacture`] does for a sandbox what a platform's maker does in a factory: it makes the TPM's
//! state, its attestation key and the certificate. [`Vtpm::start`] then runs it for QEMU. Left out: anything
//! that would make it trustworthy to others; the host holds the root's key, and the verdict says so.

mod authority;
mod factory;
mod swtpm;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use coffer_sys_tpm::TpmError;

pub use authority::VtpmCa;
pub use swtpm::RunningVtpm;

/// The file in which swtpm keeps the permanent state.
const PERMANENT_STATE: &str = "tpm2-00.permall";

/// Why there is no software TPM.
#[derive(Debug, thiserror::Error)]
pub enum VtpmError {
    /// swtpm is not installed.
    #[error("swtpm is not installed; install it: apt-get install swtpm")]
    NotInstalled,
    /// A file or directory cannot be used.
    #[error("cannot {what} {}: {cause}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The directory holds a TPM already.
    #[error("{} holds a TPM already; use an empty directory, or remove it to make the TPM anew", .0.display())]
    AlreadyMade(PathBuf),
    /// The directory holds no TPM.
    #[error("{} holds no TPM; manufacture one there first", .0.display())]
    NotMade(PathBuf),
    /// The kernel does not take a socket path of this length.
    #[error("the socket path {} has {found} bytes; at most {limit} work; use a shorter directory", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// The kernel's bound.
        limit: usize,
        /// Its length.
        found: usize,
    },
    /// swtpm ended or could not be started.
    #[error("swtpm did not {what}: {why}; its log is {}", log.display())]
    Swtpm {
        /// What it should have done.
        what: &'static str,
        /// What happened.
        why: String,
        /// Where it says more.
        log: PathBuf,
    },
    /// The TPM did not do what it was asked.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// A structure of the TPM is not what it should be.
    #[error(transparent)]
    Structure(#[from] coffer_core_evidence::tpm::TpmError),
    /// The installation's root is damaged.
    #[error("{} is damaged: {why}; remove it to make a new root, and add that to the broker's trust anchors", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The random number generator failed.
    #[error("the system gives no random numbers")]
    Random,
}

/// A software TPM's state on disk, with a certified attestation key.
#[derive(Debug)]
pub struct Vtpm {
    state: PathBuf,
}

impl Vtpm {
    /// Makes a TPM in an empty or absent directory. Its certificate's subject names the sandbox.
    pub fn manufacture(ca: &VtpmCa, state: impl AsRef<Path>, sandbox: &str) -> Result<Self, VtpmError> {
        let state = state.as_ref();
        let made = Self { state: state.to_path_buf() };
        if made.is_made() {
            return Err(VtpmError::AlreadyMade(state.into()));
        }
        let create = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state);
        create.map_err(|cause| VtpmError::File {
            what: "create the directory",
            path: state.into(),
            cause,
        })?;
        factory::manufacture(ca, state, sandbox)?;
        match made.is_made() {
            true => Ok(made),
            false => Err(VtpmError::NotMade(made.state)),
        }
    }

    /// A TPM that was made before.
    pub fn open(state: impl AsRef<Path>) -> Result<Self, VtpmError> {
        let made = Self { state: state.as_ref().to_path_buf() };
        match made.is_made() {
            true => Ok(made),
            false => Err(VtpmError::NotMade(made.state)),
        }
    }

    /// Runs it with a control socket for QEMU's `-tpmdev emulator`, at a path of at most 107 bytes.
    ///
    /// swtpm dies with the *thread* that calls this, with QEMU's connection, and with the value returned.
    pub fn start(&self, control_socket: impl AsRef<Path>) -> Result<RunningVtpm, VtpmError> {
        swtpm::start(&self.state, control_socket.as_ref())
    }

    /// Runs it with a connection for commands of this process, for measuring and tests.
    pub fn connect(&self) -> Result<(RunningVtpm, coffer_sys_tpm::Tpm), VtpmError> {
        swtpm::connect(&self.state, &self.state)
    }

    fn is_made(&self) -> bool {
        self.state.join(PERMANENT_STATE).exists()
    }
}
