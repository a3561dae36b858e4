//! Why a sealed secret is not opened, and what workload or host is told of it.

use coffer_core_channel::Refusal;
use coffer_core_sealed_secret::SealedSecretError;
use coffer_guest_attest::AttestError;
use coffer_sys_mount::MountError;
use hyper::StatusCode;

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
    #[error("the secret needs {uri}: {why}")]
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
    /// A secret cannot be put where init-data wants it.
    #[error("the secret for {place}: {why}")]
    Delivery {
        /// The variable or file.
        place: String,
        /// Why not.
        why: Box<UnsealError>,
    },
    /// The address is none.
    #[error("{uri:?} is no address of a resource: {why}")]
    Address {
        /// As it is written.
        uri: String,
        /// Why not.
        why: String,
    },
    /// The image has something else at the path.
    #[error(
        "nothing can be put at {path}: a part of the path is no folder in the image, or the file is none"
    )]
    Place {
        /// Where.
        path: String,
    },
    /// The kernel.
    #[error("{0}")]
    Mount(MountError),
    /// The secret is no value that a variable can have.
    #[error("the secret is not text without NUL, so no variable of an environment can hold it")]
    NotText,
    /// Nobody is attested to, so there are no keys.
    #[error("there is no broker in this guest's init-data, so there is no key that opens it")]
    NoBroker,
}

impl UnsealError {
    pub(crate) fn at(place: &str, why: Self) -> Self {
        Self::Delivery { place: place.to_owned(), why: Box::new(why) }
    }

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
            Self::Delivery { why, .. } => return Refusal { message: self.to_string(), ..why.refusal() },
            Self::Address { .. } => {
                ("secret.address", "Write the resource's address as kbs:///repository/type/tag in init-data.")
            }
            Self::Place { .. } => (
                "secret.path",
                "Name another path in init-data, or take the link or folder out of the image.",
            ),
            Self::Mount(_) => ("secret.file", "Start the machine again."),
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
