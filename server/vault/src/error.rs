//! What can go wrong with a Vault, told so that the operator knows the next step.

use std::io;
use std::path::PathBuf;

use coffer_server_source::SourceError;

/// A call failed. No variant holds a token, a credential or a value.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The settings cannot work.
    #[error("the Vault settings are wrong: {0}")]
    Config(String),
    /// A file with a credential cannot be read.
    #[error("cannot read {path}: {source}; the Vault login needs it")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file with a credential is not what it should be.
    #[error("{path} holds no usable credential: {why}")]
    Credential {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No answer.
    #[error("the Vault {url} cannot be reached: {why}; check that it runs, its address and its certificate")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        why: String,
    },
    /// The server is sealed.
    #[error("the Vault {url} is sealed; unseal it, nothing can be read until then")]
    Sealed {
        /// The server.
        url: String,
    },
    /// The server is there and does not work now.
    #[error("the Vault {url} answers {status} ({why}); it is overloaded or not ready, try again later")]
    Busy {
        /// The server.
        url: String,
        /// The status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// The server points elsewhere.
    #[error(
        "the Vault {url} answers with a redirect ({status}), which is not followed; \
         give the address of the active server or of a load balancer before it"
    )]
    Redirect {
        /// The server.
        url: String,
        /// The status.
        status: u16,
    },
    /// The login was refused.
    #[error("the Vault refuses the {method} login ({status}: {why}); check the role and renew {credential}")]
    Login {
        /// The method.
        method: &'static str,
        /// The status.
        status: u16,
        /// Its words.
        why: String,
        /// The file with the credential.
        credential: PathBuf,
    },
    /// Another call's login, for which this one waited, failed.
    #[error("{why} (found by another call at the same time)")]
    Waited {
        /// Why.
        why: String,
        /// Whether it may pass.
        temporary: bool,
    },
    /// The token may not do this.
    #[error(
        "the Vault does not allow it; the token's policy needs: \
         path \"{path}\" {{ capabilities = [\"{capability}\"] }}"
    )]
    Forbidden {
        /// The path in the API.
        path: String,
        /// What is needed there.
        capability: &'static str,
    },
    /// Nothing is mounted there.
    #[error("the Vault has no {engine} engine at {mount:?}; mount it, or correct the mount in the settings")]
    NoEngine {
        /// Which kind was expected.
        engine: &'static str,
        /// Where.
        mount: String,
    },
    /// The transit key is not there.
    #[error("the Vault's transit engine has no key {key:?}; create it (vault write -f {mount}/keys/{key})")]
    NoKey {
        /// The engine.
        mount: String,
        /// The key.
        key: String,
    },
    /// The ciphertext is not of this key, or is not whole.
    #[error("the Vault's transit key {key:?} does not open this ciphertext: {why}")]
    Ciphertext {
        /// The key.
        key: String,
        /// Its words.
        why: String,
    },
    /// Any other refusal.
    #[error("the Vault refuses {path}: {status} ({why})")]
    Refused {
        /// The path in the API.
        path: String,
        /// The status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// The answer is not what the API promises.
    #[error("the Vault's answer to {path} is not what its API promises: {why}")]
    Malformed {
        /// The path in the API.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// No URL can be made of it.
    #[error("the path {path:?} cannot be asked for: {why}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl VaultError {
    /// Whether the same call may succeed later without anybody changing settings.
    pub const fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Sealed { .. }
                | Self::Busy { .. }
                | Self::Waited { temporary: true, .. }
        )
    }

    pub(crate) fn into_source(self, name: &str) -> SourceError {
        let (name, why) = (name.to_owned(), self.to_string());
        match self {
            Self::Path { why, .. } => SourceError::Path { name, why: why.to_owned() },
            error if error.is_temporary() => SourceError::Unavailable { name, why },
            _ => SourceError::Refused { name, why },
        }
    }
}
