//! Sealed secrets opened for the workload, with the same rule as resources: what init-data does not name for it, be it
//! the signer's key or the resource behind, is not asked for. There is no way around the signature.

use coffer_core_channel::Refusal;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_sealed_secret::{KeyId, SealedSecretError, Unverified, is_sealed, signer_key};
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::AttestError;
use hyper::StatusCode;

use crate::Hub;

/// Why a sealed secret is not opened.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is none, or was changed, or its keys are other ones.
    #[error("{0}")]
    Sealed(#[from] SealedSecretError),
    /// Its key would be in a file, which nobody vouches for.
    #[error("the sealed secret's key (kid) is the file {name:?}; this guest takes keys from the broker only")]
    KeyFile {
        /// The file.
        name: String,
    },
    /// Init-data does not name a resource that is needed.
    #[error("the sealed secret needs {uri}, which init-data does not name for this workload")]
    Denied {
        /// The resource.
        uri: String,
    },
    /// The broker did not give a resource that is needed.
    #[error("the sealed secret needs {uri}: {why}")]
    Resource {
        /// The resource.
        uri: String,
        /// Why not.
        why: AttestError,
    },
    /// A variable of the environment cannot be opened.
    #[error("the environment's variable {name:?} is a sealed secret that cannot be opened: {why}")]
    Variable {
        /// The variable's name.
        name: String,
        /// Why not.
        why: Box<UnsealError>,
    },
    /// The secret is no value that a variable can have.
    #[error("the secret is not text without NUL, so no variable of an environment can hold it")]
    NotText,
    /// Nobody is attested to, so there are no keys.
    #[error("there is no broker in this guest's init-data, so there is no key that opens it")]
    NoBroker,
}

impl UnsealError {
    /// What workload or host is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (code, remedy) = match self {
            Self::Sealed(why) => (why.code(), "Seal it again with `coffer secret seal`."),
            Self::KeyFile { .. } => (
                "sealed-secret.key-file",
                "Put the public key into the broker, and seal with --key-id kbs:///repository/type/tag.",
            ),
            Self::Denied { .. } => (
                "sealed-secret.denied",
                "Name the signer's key and the resource in `resources` in coffer.toml of the init-data \
                 (`coffer init-data --resource`), and measure again.",
            ),
            Self::NotText => ("sealed-secret.not-text", "Let the workload post it to /cdh/unseal instead."),
            Self::NoBroker => ("sealed-secret.no-broker", "Name a broker in init-data, and measure again."),
            Self::Resource { why, .. } => return Refusal { message: self.to_string(), ..why.refusal() },
            Self::Variable { why, .. } => return Refusal { message: self.to_string(), ..why.refusal() },
        };
        Refusal {
            code: code.into(),
            message: self.to_string(),
            expected: None,
            found: None,
            remedy: Some(remedy.into()),
            attempt: None,
        }
    }

    /// The status of the answer to the workload, but for what the broker said.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Denied { .. } | Self::KeyFile { .. } => StatusCode::FORBIDDEN,
            Self::Sealed(SealedSecretError::Randomness(_) | SealedSecretError::Provider(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Resource { .. } | Self::NoBroker => StatusCode::BAD_GATEWAY,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Hub {
    /// Opens a sealed secret: fetches the signer's key, verifies, fetches what is named, opens.
    ///
    /// # Errors
    /// When anything of it is refused; the secret is then nowhere.
    pub async fn unseal(&self, text: &str) -> Result<SecretBytes, UnsealError> {
        let sealed = Unverified::parse(text)?;
        let key = match sealed.key_id() {
            KeyId::Resource(path) => signer_key(self.named(path).await?.expose())?,
            KeyId::File(name) => return Err(UnsealError::KeyFile { name: name.clone() }),
        };
        let sealed = sealed.verify(&key)?;
        let resource = self.named(sealed.resource()).await?;
        Ok(sealed.open(resource)?)
    }

    /// Opens the sealed secrets among an environment's values.
    ///
    /// # Errors
    /// Names the variable whose value is not opened.
    pub async fn unseal_environment(&self, mut entries: Vec<String>) -> Result<Vec<String>, UnsealError> {
        for entry in &mut entries {
            let Some((name, value)) = entry.split_once('=').filter(|(_, value)| is_sealed(value)) else {
                continue;
            };
            let opened = self.unseal(value).await.and_then(|secret| variable(name, &secret));
            let opened =
                opened.map_err(|why| UnsealError::Variable { name: name.to_owned(), why: Box::new(why) });
            *entry = opened?;
        }
        Ok(entries)
    }

    /// A resource of the broker, if init-data names it.
    async fn named(&self, path: &ResourcePath) -> Result<SecretBytes, UnsealError> {
        if !self.resources.contains(path) {
            return Err(UnsealError::Denied { uri: path.to_uri() });
        }
        let value = self.keys.resource(path).await;
        value.map_err(|why| UnsealError::Resource { uri: path.to_uri(), why })
    }
}

/// Refuses an environment with sealed secrets in a guest that has no keys: a workload must not start with the sealed
/// text in the secret's place.
///
/// # Errors
/// Names the first variable.
pub fn refuse_sealed(entries: &[String]) -> Result<(), UnsealError> {
    let sealed = entries.iter().filter_map(|entry| entry.split_once('=')).find(|(_, value)| is_sealed(value));
    match sealed {
        None => Ok(()),
        Some((name, _)) => {
            let why = Box::new(UnsealError::NoBroker);
            Err(UnsealError::Variable { name: name.to_owned(), why })
        }
    }
}

fn variable(name: &str, secret: &SecretBytes) -> Result<String, UnsealError> {
    match std::str::from_utf8(secret.expose()) {
        Ok(text) if !text.contains('\0') => Ok(format!("{name}={text}")),
        _ => Err(UnsealError::NotText),
    }
}
