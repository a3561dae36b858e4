//! What a broker is told before it starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_server_identity::IssuerSettings;
use coffer_server_limits::TrustedProxies;
use serde::Deserialize;

/// The port that KBS servers use.
pub const DEFAULT_PORT: u16 = 8443;

/// A commented example, which is also the default.
pub const EXAMPLE: &str = include_str!("../broker.example.toml");

/// A broker's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// Proxies in front of the broker, whose `X-Forwarded-For` says who the client is.
    pub trusted_proxies: TrustedProxies,
    /// How many connections are served at once; more wait.
    pub max_connections: usize,
    /// Of how many attempts the evidence is kept, so that a changed policy can be tried on it. Zero: of none.
    pub keep_evidence: u64,
    /// Whether tokens carry the devices' raw evidence, as upstream's do. Such tokens are long.
    pub verbose_token: bool,
    /// What judges ask for beyond signatures.
    pub judges: JudgeOptions,
    /// Who may ask the attestation service alone for results.
    pub attestation_service: ServiceAccess,
    /// What each tenant may have, where it differs from the defaults; an operator can change it for one tenant.
    pub quotas: BTreeMap<String, serde_json::Value>,
    /// OpenID issuers whose tokens operators and tenants' admins may use.
    pub admin_issuers: Vec<IssuerSettings>,
    /// A file of certificates (PEM) that are trusted beside the public ones when issuers' keys are fetched. Empty: none.
    pub admin_issuer_ca: PathBuf,
    /// The certificate that is shown to clients, and whose clients' certificates are believed.
    pub tls: TlsFiles,
    /// Where the attestation service and the reference values answer over gRPC. None: nowhere.
    pub grpc: GrpcListen,
    /// How long the broker goes on serving after it said that it is not ready, so that load balancers see it.
    pub drain: Pause,
    /// Where the rows are. Read by the program: see `server/setup`.
    pub store: toml::Table,
    /// What the rows' key is sealed with. Read by the program.
    pub master_key: toml::Table,
    /// Vaults that resources come from. Read by the program.
    pub sources: Vec<toml::Table>,
    /// Plugins. Read by the program.
    pub plugins: Vec<toml::Table>,
    /// Where traces go. Read by the program.
    pub telemetry: toml::Table,
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

/// Who may ask the attestation service alone for results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceAccess {
    /// Admins of the tenant, with any role.
    #[default]
    Admins,
    /// Everybody who reaches the broker, as with upstream's.
    Public,
}

/// Certificates in files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The chain (PEM), the broker's own first. Empty: a certificate of the broker's own authority.
    pub certificate: PathBuf,
    /// Its private key (PEM, mode 0600).
    pub key: PathBuf,
    /// The authorities (PEM) of admins' client certificates. Empty: no client is asked for one.
    pub client_ca: PathBuf,
}

/// Where gRPC is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcListen {
    /// The address. None: nowhere.
    pub listen: Option<SocketAddr>,
}

/// A time as people write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pause(pub Duration);

impl TryFrom<String> for Pause {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time; write it as in \"10s\"");
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match unit {
            "s" => Ok(Self(Duration::from_secs(number))),
            "ms" => Ok(Self(Duration::from_millis(number))),
            "m" => Ok(Self(Duration::from_secs(number.saturating_mul(60)))),
            _ => Err(wrong()),
        }
    }
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
            trusted_proxies: TrustedProxies::default(),
            max_connections: 1024,
            keep_evidence: 0,
            verbose_token: false,
            judges: JudgeOptions::default(),
            attestation_service: ServiceAccess::default(),
            quotas: BTreeMap::new(),
            admin_issuers: Vec::new(),
            admin_issuer_ca: PathBuf::new(),
            tls: TlsFiles::default(),
            grpc: GrpcListen::default(),
            drain: Pause::default(),
            store: toml::Table::new(),
            master_key: toml::Table::new(),
            sources: Vec::new(),
            plugins: Vec::new(),
            telemetry: toml::Table::new(),
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

    /// The certificates for fetching issuers' keys, if there are some.
    pub(crate) fn admin_issuer_ca(&self) -> Option<PathBuf> {
        Some(self.admin_issuer_ca.clone()).filter(|path| !path.as_os_str().is_empty())
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
        assert_eq!(BrokerConfig::from_toml(EXAMPLE).unwrap(), BrokerConfig::default());
    }

    #[test]
    fn a_misspelt_member_is_refused_by_name() {
        let error = BrokerConfig::from_toml("data-dir = \"/x\"").err().map(|error| error.to_string());
        assert!(error.unwrap_or_default().contains("data-dir"));
    }
}
