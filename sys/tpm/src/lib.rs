//! TPM 2.0 commands to a device file or a software TPM's socket.
//!
//! Layouts follow the TPM 2.0 Library, Part 3: Commands. Responses are hostile: the guest's TPM belongs to
//! the host. Left out: owners' passwords, and every command that Coffer does not use.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod ak;
mod command;
mod keys;
mod nv;
mod pcr;
mod rc;
pub mod sealing;
mod sealing_error;
mod session;
mod transport;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_core_evidence::tpm::TpmError as StructureError;

use command::{Command, Response};
pub use keys::Key;
pub use nv::NvPublic;
pub use rc::ResponseCode;
use transport::Transport;

/// A hierarchy's permanent handle (Part 2, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// `TPM_RH_OWNER`.
    Owner,
    /// `TPM_RH_ENDORSEMENT`.
    Endorsement,
    /// `TPM_RH_PLATFORM`.
    Platform,
}

impl Hierarchy {
    const fn handle(self) -> u32 {
        match self {
            Self::Owner => 0x4000_0001,
            Self::Endorsement => 0x4000_000b,
            Self::Platform => 0x4000_000c,
        }
    }
}

/// Whether a TPM starts afresh or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupType {
    /// `TPM_SU_CLEAR`.
    Clear,
    /// `TPM_SU_STATE`.
    State,
}

impl StartupType {
    const fn id(self) -> u16 {
        match self {
            Self::Clear => 0,
            Self::State => 1,
        }
    }
}

/// Why a TPM did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The device or socket cannot be opened.
    #[error("cannot open the TPM at {}: {cause}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The device or socket failed during an exchange.
    #[error("{command}: the TPM does not answer: {cause}")]
    Io {
        /// The command.
        command: &'static str,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The TPM refused.
    #[error("{command}: the TPM refused: {code}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Its answer.
        code: ResponseCode,
    },
    /// The response is not one to the command.
    #[error("{command}: the response is malformed: {what}")]
    Malformed {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A structure in the response is not what the library specification says.
    #[error("{command}: {cause}")]
    Structure {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        #[source]
        cause: StructureError,
    },
    /// What should be sent does not fit a command.
    #[error("{command}: {what} is too long: at most {limit} bytes, found {found}")]
    TooLong {
        /// The command.
        command: &'static str,
        /// What.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// The TPM has no certified attestation key where platforms put it.
    #[error(
        "the TPM holds no attestation key template at NV {ecc:#010x} or {rsa:#010x}; \
         the platform must provide one (on this host: start the machine with Coffer's own vTPM)"
    )]
    NoAttestationKey {
        /// Where an ECC template would be.
        ecc: u32,
        /// Where an RSA template would be.
        rsa: u32,
    },
}

impl TpmError {
    /// The TPM's refusal, if it is one.
    pub const fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A TPM to which commands can be sent.
pub struct Tpm {
    transport: Transport,
}

impl Tpm {
    /// Opens a device file, as in `/dev/tpmrm0`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TpmError> {
        Transport::device(path.as_ref()).map(|transport| Self { transport })
    }

    /// Connects to the data socket of a software TPM.
    pub fn connect_unix(path: impl AsRef<Path>) -> Result<Self, TpmError> {
        Transport::socket(path.as_ref()).map(|transport| Self { transport })
    }

    /// Takes a stream that is already connected to a software TPM.
    pub fn from_stream(stream: UnixStream) -> Result<Self, TpmError> {
        Transport::stream(stream)
            .map(|transport| Self { transport })
            .map_err(|cause| TpmError::Io { command: "connecting", cause })
    }

    /// TPM2_Startup. A TPM that was started already is left as it is.
    pub fn startup(&mut self, kind: StartupType) -> Result<(), TpmError> {
        match self.run(&Command::new("TPM2_Startup", 0x144).u16(kind.id())) {
            Err(TpmError::Refused { code, .. }) if code.is_already_started() => Ok(()),
            other => other.map(drop),
        }
    }

    /// TPM2_Shutdown.
    pub fn shutdown(&mut self, kind: StartupType) -> Result<(), TpmError> {
        self.run(&Command::new("TPM2_Shutdown", 0x145).u16(kind.id())).map(drop)
    }

    /// TPM2_GetRandom. A TPM may give fewer bytes than asked in one go, so it is asked until there are enough.
    pub fn get_random(&mut self, count: usize) -> Result<Vec<u8>, TpmError> {
        let mut random = Vec::new();
        while random.len() < count {
            let missing = count.saturating_sub(random.len()).min(32);
            let command = Command::new("TPM2_GetRandom", 0x17b).u16(u16::try_from(missing).unwrap_or(32));
            let response = self.run(&command)?;
            let mut parameters = response.parameters();
            let bytes = parameters.sized()?;
            if bytes.is_empty() || bytes.len() > missing {
                return Err(parameters.malformed("it has no random bytes, or more than asked"));
            }
            random.extend_from_slice(bytes);
            parameters.end()?;
        }
        Ok(random)
    }

    /// One command, repeated for as long as the TPM asks for that, within bounds.
    fn run(&mut self, command: &Command) -> Result<Response, TpmError> {
        const ATTEMPTS: u32 = 60;
        let bytes = command.to_bytes()?;
        let mut wait = Duration::from_millis(5);
        for _ in 1..ATTEMPTS {
            let answer = self.transport.exchange(command.name(), &bytes)?;
            match Response::parse(command, answer) {
                Err(TpmError::Refused { code, .. }) if code.asks_to_repeat() => std::thread::sleep(wait),
                other => return other,
            }
            wait = wait.saturating_mul(2).min(Duration::from_millis(250));
        }
        Response::parse(command, self.transport.exchange(command.name(), &bytes)?)
    }
}

#[cfg(test)]
mod tests;
