//! What a broker is told before it starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The port that KBS servers use.
pub const DEFAULT_PORT: u16 = 8443;

/// A commented example, which is also the default.
pub const EXAMPLE: &str = include_str!("../broker.example.toml");

/// A broker's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// The folder of the store, the keys and the certificates. Made if it is not there.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names and addresses of the certificate beside 127.0.0.1, ::1, localhost and 10.0.2.2.
    pub extra_names: Vec<String>,
    /// Roots that certify attestation keys. One whose name the store does not know is put there at the start; one
    /// that an admin removed stays removed.
    pub trust_anchors: Vec<TrustAnchorFile>,
    /// How many connections are served at once; more wait.
    pub max_connections: usize,
    /// Of how many attempts the evidence is kept, so that a changed policy can be tried on it. Zero: of none.
    pub keep_evidence: u64,
    /// Whether tokens carry the devices' raw evidence, as upstream's do. Such tokens are long.
    pub verbose_token: bool,
    /// What judges ask for beyond signatures.
    pub judges: JudgeOptions,
    /// Where collateral comes from. An empty folder is `collateral` in the data folder.
    pub collateral: coffer_server_collateral::Settings,
}

/// What judges ask for beyond signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeOptions {
    /// AMD's revocation lists.
    pub amd_revocation: Revocation,
    /// NVIDIA's word on certificates (OCSP).
    pub nvidia_revocation: Revocation,
}

/// Whether a judge does without what a vendor says of revoked certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revocation {
    /// Without it the evidence cannot be judged.
    #[default]
    Required,
    /// It is heeded where it is at hand.
    IfPresent,
}

/// A root certificate in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustAnchorFile {
    /// Its name.
    pub name: String,
    /// One certificate, PEM.
    pub certificate: PathBuf,
    /// Whether what it certifies is hardware. A software TPM's root must say false.
    pub hardware: bool,
}

/// The configuration's text is not one.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not as expected: {0}")]
pub struct ConfigError(String);

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::new(Path::new("/var/lib/coffer-broker"))
    }
}

impl BrokerConfig {
    /// The defaults, with this folder.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_path_buf(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            extra_names: Vec::new(),
            trust_anchors: Vec::new(),
            max_connections: 1024,
            keep_evidence: 0,
            verbose_token: false,
            judges: JudgeOptions::default(),
            collateral: coffer_server_collateral::Settings::default(),
        }
    }

    /// The folder of the cache of collateral.
    pub fn collateral_folder(&self) -> PathBuf {
        match self.collateral.folder.as_os_str().is_empty() {
            true => self.data_dir.join("collateral"),
            false => self.collateral.folder.clone(),
        }
    }

    /// Reads TOML; a member that is not known is refused.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_example_is_the_default() {
        assert_eq!(BrokerConfig::from_toml(EXAMPLE).ok(), Some(BrokerConfig::default()));
    }

    #[test]
    fn a_misspelt_member_is_refused_by_name() {
        let error = BrokerConfig::from_toml("data-dir = \"/x\"").err().map(|error| error.to_string());
        assert!(error.unwrap_or_default().contains("data-dir"));
    }
}
