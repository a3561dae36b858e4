//! Why an image cannot be used.

use std::io;
use std::path::PathBuf;

use coffer_core_channel::Refusal;
use coffer_core_digest::Digest;
use coffer_core_oci::SealedBlockError;
use coffer_core_oci::config::ConfigError;
use coffer_core_oci::manifest::ManifestError;
use coffer_core_seal::ocicrypt::OcicryptError;
use coffer_guest_attest::AttestError;
use coffer_sys_dm::DmError;
use coffer_sys_mount::MountError;
use coffer_sys_nbd::NbdError;

/// Why an image cannot be used; boxed, because it carries what was expected and found.
pub type ImageError = Box<ImageFault>;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// The reference cannot be read.
    #[error("the image's reference cannot be used: {why}")]
    Reference {
        /// Why.
        why: String,
    },
    /// The registry does not answer.
    #[error("the registry {registry} does not answer: {why}")]
    Unreachable {
        /// Which.
        registry: String,
        /// Why.
        why: String,
    },
    /// Nobody vouches for the registry's certificate.
    #[error("no public root and none in init-data vouches for the registry {registry}: {why}")]
    Certificate {
        /// Which.
        registry: String,
        /// Why.
        why: String,
    },
    /// The registry answers otherwise than asked.
    #[error("the registry {registry} answers {what} with HTTP {status}")]
    Status {
        /// Which.
        registry: String,
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
    },
    /// The source has no such content.
    #[error("{source_name} does not have {what}")]
    Missing {
        /// The source.
        source_name: String,
        /// What was asked for.
        what: String,
    },
    /// The channel to the host broke.
    #[error("the host's blobs cannot be read: {why}")]
    Channel {
        /// Why.
        why: String,
    },
    /// The content is not what its digest says.
    #[error("{what} is not what its digest says")]
    Digest {
        /// What.
        what: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("{what} has another size than its descriptor says")]
    Size {
        /// What.
        what: String,
        /// The size in the descriptor, or the limit.
        expected: u64,
        /// How many bytes came, at least.
        found: u64,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The sealed block's parameters cannot be used.
    #[error(transparent)]
    Sealed(#[from] SealedBlockError),
    /// A layer of a kind that is not known.
    #[error("layer {index} has media type {found:?}, which cannot be run")]
    Layer {
        /// Its number, from 0.
        index: usize,
        /// Its media type.
        found: String,
    },
    /// Not the image that the gate authorized.
    #[error("the image is not the one that was authorized")]
    NotAuthorized {
        /// The authorized manifest.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// The image is encrypted, and there is no broker.
    #[error("the image is encrypted with {key:?}, and init-data names no broker to ask for the key")]
    NoBroker {
        /// The key.
        key: String,
    },
    /// The key's name is no resource.
    #[error("the image names its key {key:?}, which is no resource: {why}")]
    KeyName {
        /// The name.
        key: String,
        /// Why.
        why: String,
    },
    /// The broker did not give the key.
    #[error("the image's key {key}: {cause}")]
    Key {
        /// The key.
        key: String,
        /// Why.
        cause: Box<AttestError>,
    },
    /// The key does not open the image.
    #[error("the key {key} does not open the image: {why}")]
    WrongKey {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// An encrypted layer cannot be opened.
    #[error("layer {index}: {cause}")]
    Ocicrypt {
        /// Its number, from 0.
        index: usize,
        /// Why.
        cause: OcicryptError,
    },
    /// A layer's archive cannot be unpacked.
    #[error("layer {index} cannot be unpacked at {path:?}: {why}")]
    Unpack {
        /// Its number, from 0.
        index: usize,
        /// The entry.
        path: String,
        /// Why.
        why: String,
    },
    /// A byte of the sealed image was changed.
    #[error("the sealed image was changed: {}", block.as_deref().unwrap_or("a block does not match the signed root hash"))]
    Corrupt {
        /// The kernel's words about the block, if it said any.
        block: Option<String>,
        /// The root hash that the signed manifest names.
        root: Digest,
    },
    /// A device could not be mapped.
    #[error("the sealed image cannot be mapped: {0}")]
    Device(#[from] DmError),
    /// The device whose blocks come from the registry could not be had.
    #[error("the sealed image cannot be mapped: {0}")]
    Remote(#[from] NbdError),
    /// A disk is not there, or a file system cannot be mounted.
    #[error("the image cannot be mounted: {0}")]
    Mount(#[from] MountError),
    /// A file operation failed.
    #[error("{what} {}: {cause}", path.display())]
    File {
        /// What was done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// The configuration has nothing to run.
    #[error("the image has no command and none was asked for")]
    NoCommand,
}

impl ImageFault {
    pub(crate) fn file(what: &'static str, path: &std::path::Path, cause: io::Error) -> ImageError {
        Box::new(Self::File { what, path: path.to_owned(), cause })
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> String {
        let code = match self {
            Self::Reference { .. } => "image.reference",
            Self::Unreachable { .. } => "image.registry.unreachable",
            Self::Certificate { .. } => "image.registry.certificate",
            Self::Status { status: 401 | 403, .. } => "image.registry.denied",
            Self::Status { .. } => "image.registry.status",
            Self::Missing { .. } => "image.blob.missing",
            Self::Channel { .. } => "image.channel",
            Self::Digest { .. } => "image.blob.digest",
            Self::Size { .. } => "image.blob.size",
            Self::Manifest(_) => "image.manifest",
            Self::Config(_) => "image.config",
            Self::Sealed(_) => "image.sealed",
            Self::Layer { .. } => "image.layer.kind",
            Self::NotAuthorized { .. } => "image.digest",
            Self::NoBroker { .. } => "image.key.no-broker",
            Self::KeyName { .. } => "image.key.name",
            Self::Key { cause, .. } => return cause.code(),
            Self::WrongKey { .. } | Self::Ocicrypt { cause: OcicryptError::WrongKey(_), .. } => {
                "image.key.wrong"
            }
            Self::Ocicrypt { cause: OcicryptError::Changed, .. } => "image.layer.changed",
            Self::Ocicrypt { .. } => "image.layer.encryption",
            Self::Unpack { .. } => "image.layer.unpack",
            Self::Corrupt { .. } => "image.corrupt",
            Self::Device(_) | Self::Remote(_) => "image.device",
            Self::Mount(_) => "image.mount",
            Self::File { .. } => "image.file",
            Self::NoCommand => "image.no-command",
        };
        code.to_owned()
    }

    /// What the host is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        if let Self::Key { cause, .. } = self {
            let mut refusal = cause.refusal();
            refusal.message = self.to_string();
            return refusal;
        }
        let (expected, found) = match self {
            Self::Digest { expected, found, .. } | Self::NotAuthorized { expected, found } => {
                (Some(expected.to_string()), Some(found.to_string()))
            }
            Self::Size { expected, found, .. } => {
                (Some(format!("{expected} bytes")), Some(format!("{found} bytes or more")))
            }
            Self::Corrupt { root, .. } => (Some(format!("blocks under the root hash {root}")), None),
            _ => (None, None),
        };
        Refusal {
            code: self.code(),
            message: self.to_string(),
            expected,
            found,
            remedy: Some(self.remedy().to_owned()),
            attempt: None,
        }
    }

    const fn remedy(&self) -> &'static str {
        match self {
            Self::Reference { .. } => "Correct the image's reference.",
            Self::Unreachable { .. } => {
                "Make sure that the guest's network reaches the registry, or let the host fetch the image."
            }
            Self::Certificate { .. } => {
                "Put the registry's root into init-data (`coffer init-data --registry-ca FILE`), or let the host \
                 fetch the image: its digest and signature are checked all the same."
            }
            Self::Status { status: 401 | 403, .. } => {
                "Correct the reference, or put the registry's credentials into the broker and their address into \
                 init-data (`coffer init-data --registry-auth kbs:///…`)."
            }
            Self::Status { .. } => "Correct the reference; if the registry is busy, try again later.",
            Self::Missing { .. } => "Fetch the whole image again, with its signatures.",
            Self::Channel { .. } => "Start the sandbox again; if it happens twice, read the launcher's log.",
            Self::Digest { .. } | Self::Size { .. } => {
                "The content was changed or cut on its way. Fetch the image again; if it happens twice, do not trust \
                 where it comes from."
            }
            Self::Manifest(_) | Self::Config(_) | Self::Layer { .. } | Self::Unpack { .. } => {
                "Build the image again with a tool that writes OCI images."
            }
            Self::Sealed(_) => "Seal the image again with `coffer image seal`.",
            Self::NotAuthorized { .. } => "Ask for the image that init-data pins.",
            Self::NoBroker { .. } => "Name a broker in init-data, or run an image that is not encrypted.",
            Self::KeyName { .. } => "Seal the image again with a key kbs:///repository/type/tag.",
            Self::Key { .. } => "Read the broker's log.",
            Self::WrongKey { .. } | Self::Ocicrypt { .. } => {
                "Put the key with which the image was encrypted into the broker, or encrypt the image again."
            }
            Self::Corrupt { .. } => {
                "The host's copy differs from what was sealed. Fetch it again; if it happens twice, do not trust the \
                 host's storage."
            }
            Self::Device(_) | Self::Remote(_) | Self::Mount(_) | Self::File { .. } => {
                "Give the guest more memory, or build its image again with all its modules (`coffer guest build`)."
            }
            Self::NoCommand => "Give the command after `--`, and allow it in init-data.",
        }
    }
}

macro_rules! boxed {
    ($($cause:ty),*) => {$(
        impl From<$cause> for ImageError {
            fn from(cause: $cause) -> Self {
                Box::new(cause.into())
            }
        }
    )*};
}

boxed!(ManifestError, ConfigError, SealedBlockError, DmError, MountError, NbdError);
