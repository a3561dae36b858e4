//! `coffer.toml`: the broker that the guest trusts, the containers that it may run, the volumes that it opens.
//!
//! INVARIANT: each container is pinned, by its manifest's digest or by the keys that sign it. What weakens the
//! guest is named `insecure-…`, and members that are not known are refused.

mod owner;
mod scratch;
mod secret;
mod volume;
mod write;

use serde::Deserialize;

use crate::{Digest, toml_text};

pub use scratch::{Overlay, Scratch};
pub use secret::{Secret, SecretFile, SecretPlace, SecretSource};
pub use volume::{Ephemeral, Persistent, Rollback, SealedData, Volume, VolumeAccess, VolumeKind};
use volume::{check_path, within};
pub use write::RegistryAccess;

/// Why the entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not the TOML of the form.
    #[error("coffer.toml is not what its form says: {0}")]
    Toml(String),
    /// Attestation is required, but there is nobody to attest to.
    #[error("coffer.toml requires attestation but names no [broker]")]
    NoBroker,
    /// The broker's address is not HTTPS.
    #[error("the broker's url is {found:?}; expected https://host[:port][/t/tenant]")]
    BrokerUrl {
        /// What was found.
        found: String,
    },
    /// The broker's certificate is not PEM.
    #[error("the broker's certificate is not PEM (BEGIN CERTIFICATE)")]
    BrokerCertificate,
    /// A registry's root is not PEM.
    #[error("a registry's root is not a certificate in PEM (BEGIN CERTIFICATE)")]
    RegistryRoot,
    /// An address of credentials, or a proxy, has other characters than addresses have.
    #[error(
        "{found:?} is no address of registries' credentials, and no proxy; expected kbs:///… or http://host:port"
    )]
    RegistryAccess {
        /// What was found.
        found: String,
    },
    /// Neither digest nor signers.
    #[error("container {image:?} is not pinned; expected a digest, or signature = \"required\" with signers")]
    Unpinned {
        /// The container.
        image: String,
    },
    /// The rule and the pins contradict each other.
    #[error("container {image:?} contradicts itself: {why}")]
    Contradiction {
        /// The container.
        image: String,
        /// How.
        why: &'static str,
    },
    /// A signer is not a public key.
    #[error("a signer of container {image:?} is not a public key in PEM (BEGIN PUBLIC KEY)")]
    Signer {
        /// The container.
        image: String,
    },
    /// A member has a value that it cannot have.
    #[error("container {image:?} has a {member} that is not usable: {found:?}; expected {expected}")]
    Value {
        /// The container.
        image: String,
        /// The member.
        member: &'static str,
        /// The form.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// Volumes with keys, without a broker.
    #[error(
        "there are volumes with keys, and attestation = \"insecure-none\" leaves nobody to have their keys from"
    )]
    VolumeWithoutAttestation,
    /// A volume has a value that it cannot have.
    #[error("volume {name:?} has a {member} that is not usable: {found:?}; expected {expected}")]
    Volume {
        /// The volume.
        name: String,
        /// The member.
        member: &'static str,
        /// The form.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl ConfigError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Toml(_) => "init-data.coffer.malformed",
            Self::NoBroker => "init-data.broker.missing",
            Self::BrokerUrl { .. } => "init-data.broker.url",
            Self::BrokerCertificate => "init-data.broker.certificate",
            Self::RegistryRoot => "init-data.registry-root",
            Self::RegistryAccess { .. } => "init-data.registry-access",
            Self::Unpinned { .. } => "init-data.container.unpinned",
            Self::Contradiction { .. } => "init-data.container.contradiction",
            Self::Signer { .. } => "init-data.container.signer",
            Self::Value { .. } => "init-data.container.value",
            Self::VolumeWithoutAttestation | Self::Volume { .. } => "init-data.volume.value",
        }
    }
}

/// What the guest may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestConfig {
    /// Whether anything runs without attestation.
    pub attestation: Attestation,
    /// Who judges the evidence and releases keys.
    #[serde(default)]
    pub broker: Option<Broker>,
    /// The containers that may run. None means that none may.
    #[serde(default)]
    pub containers: Vec<AllowedContainer>,
    /// The disks that the host attaches. The container starts with all of them, or not at all.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Where the container's writable layer lies.
    #[serde(default)]
    pub scratch: Scratch,
}

/// Whether anything runs without attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attestation {
    /// Nothing runs before the broker has accepted the evidence.
    Required,
    /// Nobody is asked, and there are no keys. For experiments only.
    InsecureNone,
}

/// The broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `https://host[:port]`, and `/t/` with the tenant's name where the host does not say which it is.
    pub url: String,
    /// The PEM certificate that its TLS chain must end in. No other authority is asked.
    pub certificate: String,
}

/// How a container's image is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureRule {
    /// One of `signers` must have signed the manifest's digest.
    Required,
    /// The digest alone pins the image.
    DigestOnly,
}

/// A container that may run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedContainer {
    /// The image's name as it is asked for.
    pub image: String,
    /// How the image is pinned.
    pub signature: SignatureRule,
    /// The manifest's digest. Without one, any image that a signer signed for this name may run.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Public keys in PEM, one of which must have signed.
    #[serde(default)]
    pub signers: Vec<String>,
    /// The arguments that must be asked for. Without them, only the image's own may run.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// The environment variables (`K=V`) that may be added to the image's.
    #[serde(default)]
    pub env: Vec<String>,
    /// The resources (`kbs:///repository/type/tag`) that the workload may ask the guest's local API for, and no
    /// others. What the broker's policy says of them comes on top.
    #[serde(default)]
    pub resources: Vec<String>,
    /// The secrets that the guest puts into its environment and files before it starts.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Whether the workload gets evidence over data of its own and the guest's token. With them it can attest as
    /// this guest, and so obtain everything that the broker gives this guest.
    #[serde(default)]
    pub evidence: Permission,
    /// Whether the host's input reaches the workload.
    #[serde(default)]
    pub stdin: Permission,
    /// Whether the workload may be given a terminal.
    #[serde(default)]
    pub terminal: Permission,
}

/// Whether the owner allows something. What is not written is denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// It is refused.
    #[default]
    Denied,
    /// It may happen.
    Allowed,
}

impl Permission {
    /// The word in `coffer.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Allowed => "allowed",
        }
    }
}

impl GuestConfig {
    /// Reads and checks the entry's text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml_text::read(text).map_err(ConfigError::Toml)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what a value that was put together by hand must hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        match (&self.broker, self.attestation) {
            (Some(broker), _) => broker.check()?,
            (None, Attestation::Required) => return Err(ConfigError::NoBroker),
            (None, Attestation::InsecureNone) => {}
        }
        if self.attestation == Attestation::InsecureNone
            && self.volumes.iter().any(|volume| volume.key().is_some())
        {
            return Err(ConfigError::VolumeWithoutAttestation);
        }
        volume::check(&self.volumes)?;
        self.containers.iter().try_for_each(|container| {
            container.check()?;
            self.check_secrets(container)
        })
    }

    /// Checks secrets, alone and beside each other, the environment and the volumes.
    fn check_secrets(&self, container: &AllowedContainer) -> Result<(), ConfigError> {
        let contradiction = |why| Err(ConfigError::Contradiction { image: container.image.clone(), why });
        if self.attestation == Attestation::InsecureNone && !container.secrets.is_empty() {
            return contradiction(
                "there are secrets, and attestation = \"insecure-none\" leaves nobody to have them from",
            );
        }
        for (number, secret) in container.secrets.iter().enumerate() {
            if let Some((member, expected, found)) = secret.fault() {
                return Err(ConfigError::Value {
                    image: container.image.clone(),
                    member,
                    expected,
                    found: found.chars().take(64).collect(),
                });
            }
            let before = container.secrets.iter().take(number);
            match &secret.place {
                SecretPlace::Env(name) => {
                    let is_it =
                        |entry: &String| entry.split_once('=').is_some_and(|(other, _)| other == name);
                    if container.env.iter().any(is_it)
                        || before.clone().any(|other| other.place == secret.place)
                    {
                        return contradiction("a secret's variable is there twice");
                    }
                }
                SecretPlace::File(file) => {
                    let mut files = before.filter_map(Secret::file);
                    if files.any(|other| within(&file.path, &other.path)) {
                        return contradiction("a secret's file is another's, or within it");
                    }
                    if self.volumes.iter().any(|volume| within(&file.path, &volume.path)) {
                        return contradiction("a secret's file lies in a volume, or a volume in it");
                    }
                }
            }
        }
        Ok(())
    }
}

impl Broker {
    fn check(&self) -> Result<(), ConfigError> {
        let host = self.url.strip_prefix("https://").unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\@'`<>".contains(&byte);
        if host.is_empty() || host.starts_with('/') || !self.url.bytes().all(plain) {
            return Err(ConfigError::BrokerUrl { found: self.url.chars().take(64).collect() });
        }
        match is_pem(&self.certificate, "CERTIFICATE") {
            true => Ok(()),
            false => Err(ConfigError::BrokerCertificate),
        }
    }
}

impl AllowedContainer {
    fn check(&self) -> Result<(), ConfigError> {
        let image = || self.image.chars().take(128).collect::<String>();
        let value = |member, expected, found: &str| {
            Err(ConfigError::Value {
                image: image(),
                member,
                expected,
                found: found.chars().take(64).collect(),
            })
        };
        if self.image.is_empty() || !self.image.bytes().all(|byte| byte.is_ascii_graphic()) {
            return value("image", "a reference without spaces", &self.image);
        }
        if self.digest.is_none() && self.signers.is_empty() {
            return Err(ConfigError::Unpinned { image: image() });
        }
        let contradiction = |why| Err(ConfigError::Contradiction { image: image(), why });
        match self.signature {
            SignatureRule::Required if self.signers.is_empty() => {
                return contradiction("signature = \"required\" but there are no signers");
            }
            SignatureRule::DigestOnly if !self.signers.is_empty() => {
                return contradiction("signature = \"digest-only\" but there are signers");
            }
            SignatureRule::Required | SignatureRule::DigestOnly => {}
        }
        if !self.signers.iter().all(|signer| is_pem(signer, "PUBLIC KEY")) {
            return Err(ConfigError::Signer { image: image() });
        }
        if let Some(digest) = self.digest.filter(|digest| digest.algorithm() == crate::Algorithm::Sha1) {
            return value("digest", "sha256, sha384 or sha512", &digest.to_string());
        }
        let named = |entry: &String| entry.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        if let Some(entry) = self.env.iter().find(|entry| !named(entry)) {
            return value("env", "NAME=VALUE", entry);
        }
        let usable = |uri: &&String| uri.starts_with("kbs:///") && uri.split('/').count() == 6;
        match self.resources.iter().find(|uri| !usable(uri)) {
            Some(uri) => value("resources", "kbs:///repository/type/tag", uri),
            None => Ok(()),
        }
    }
}

fn is_pem(text: &str, label: &str) -> bool {
    let text = text.trim();
    text.starts_with(&format!("-----BEGIN {label}-----")) && text.ends_with(&format!("-----END {label}-----"))
}
