//! The sections that name other machines and devices, in their typed forms.
//!
//! They stand in the configuration as tables, because the broker itself knows none of these parts. Each is read here,
//! whole, before anything is opened; what is unknown in one is refused by name.

mod postgres;
mod telemetry;

use std::path::PathBuf;
use std::time::Duration;

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;
use coffer_server_grpc::{ClientIdentity, Plaintext, PluginConfig};
use coffer_server_http::Pause;
use coffer_server_masterkey::MasterKeySource;
use coffer_server_pkcs11::TokenConfig;
use coffer_server_postgres::PostgresConfig;
use coffer_server_store::files;
use coffer_server_vault::{KvConfig, VaultConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::SetupError;

pub use telemetry::TelemetrySection;

/// Where the rows are: `[store]`.
#[derive(Clone, Debug)]
pub enum StoreSection {
    /// The file `store.redb` in the data folder.
    Embedded,
    /// A database that replicas share.
    Postgres(Box<PostgresConfig>),
}

impl StoreSection {
    /// Reads the section.
    pub fn read(table: &Table) -> Result<Self, SetupError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            postgres: Option<postgres::Form>,
        }
        let form: Form = form("store", table.clone())?;
        match form.postgres {
            None => Ok(Self::Embedded),
            Some(form) => Ok(Self::Postgres(Box::new(form.config()?))),
        }
    }

    /// What it is, for a person.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "the embedded store",
            Self::Postgres(_) => "PostgreSQL",
        }
    }
}

/// What the rows' key is sealed with: `[master_key]`. An empty section is the file `master.key` in the data folder.
pub fn master_key(table: &Table) -> Result<MasterKeySource, SetupError> {
    const SECTION: &str = "master_key";
    let wrong = |why: &str| SetupError::section(SECTION, why);
    let mut members = table.clone().into_iter();
    let (kind, value) = match (members.next(), members.next()) {
        (None, _) => return Ok(MasterKeySource::default()),
        (Some(only), None) => only,
        (Some(_), Some(_)) => {
            return Err(wrong("it names more than one; expected file, tpm, pkcs11 or vault_transit alone"));
        }
    };
    let Value::Table(value) = value else {
        return Err(wrong(
            "expected file, tpm, pkcs11 or vault_transit with its members, as in tpm = { pcrs = [7] }",
        ));
    };
    match kind.as_str() {
        "file" => Ok(MasterKeySource::File(form(SECTION, value)?)),
        "tpm" => Ok(MasterKeySource::Tpm(form(SECTION, value)?)),
        "pkcs11" => Ok(MasterKeySource::Pkcs11(form(SECTION, value)?)),
        "vault_transit" => Ok(MasterKeySource::VaultTransit(form(SECTION, with_login(SECTION, value)?)?)),
        other => {
            Err(wrong(&format!("unknown member {other:?}; expected file, tpm, pkcs11 or vault_transit")))
        }
    }
}

/// Where resources come from that are not in the store: one of `[[sources]]`.
#[derive(Clone, Debug)]
pub struct SourceSection {
    /// Its name, for logs.
    pub name: String,
    /// Whose guests it answers.
    pub tenant: TenantName,
    /// What paths of resources begin with.
    pub prefix: String,
    /// How long a value is given without asking again.
    pub keep: Duration,
    /// What it is.
    pub kind: SourceKind,
}

/// What a source is.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// A KV engine.
    Vault {
        /// The server.
        server: Box<VaultConfig>,
        /// The engine.
        engine: Box<KvConfig>,
    },
    /// A PKCS#11 token.
    Pkcs11 {
        /// The token.
        token: TokenConfig,
        /// What labels of objects begin with.
        label_prefix: String,
    },
}

impl SourceSection {
    /// Reads all of them.
    pub fn read(tables: &[Table]) -> Result<Vec<Self>, SetupError> {
        let all: Vec<Self> = tables.iter().map(Self::one).collect::<Result<_, _>>()?;
        for (index, one) in all.iter().enumerate() {
            let same = |other: &&Self| other.tenant == one.tenant && other.prefix == one.prefix;
            if let Some(other) = all.iter().take(index).find(same) {
                return Err(SetupError::section(
                    format!("sources.{}", one.name),
                    format!(
                        "{} answers for the same paths of the same tenant; expected another prefix",
                        other.name
                    ),
                ));
            }
        }
        Ok(all)
    }

    fn one(table: &Table) -> Result<Self, SetupError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            name: String,
            #[serde(default)]
            tenant: Option<TenantName>,
            prefix: String,
            #[serde(default)]
            keep: Pause,
            vault: Option<Table>,
            pkcs11: Option<Table>,
        }
        let form: Form = form(named("sources", table), table.clone())?;
        let section = format!("sources.{}", form.name);
        let kind = match (form.vault, form.pkcs11) {
            (Some(mut table), None) => {
                // Members of the engine stand beside those of the server.
                let engine: Table = ["mount", "field", "base64_suffix", "under"]
                    .iter()
                    .filter_map(|name| Some(((*name).to_owned(), table.remove(*name)?)))
                    .map(|(name, value)| (if name == "under" { "prefix".to_owned() } else { name }, value))
                    .collect();
                let server = Box::new(self::form(&*section, with_login(&section, table)?)?);
                SourceKind::Vault { server, engine: Box::new(self::form(&*section, engine)?) }
            }
            (None, Some(mut table)) => {
                let label_prefix = match table.remove("under") {
                    None => String::new(),
                    Some(Value::String(text)) => text,
                    Some(other) => {
                        let why = format!("under is a {}, expected a string", other.type_str());
                        return Err(SetupError::section(section, why));
                    }
                };
                SourceKind::Pkcs11 { token: self::form(&*section, table)?, label_prefix }
            }
            _ => return Err(SetupError::section(section, "expected exactly one of vault and pkcs11")),
        };
        if form.prefix.is_empty() || !form.prefix.ends_with('/') {
            let why = format!(
                "the prefix {:?} is not one; expected one that ends with '/', as in \"vault/\"",
                form.prefix
            );
            return Err(SetupError::section(section, why));
        }
        let tenant = form.tenant.unwrap_or_default();
        Ok(Self { name: form.name, tenant, prefix: form.prefix, keep: form.keep.0, kind })
    }
}

/// Who answers calls of other names than `resource`: one of `[[plugins]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSection {
    /// Its name in paths.
    pub name: String,
    /// Where it is.
    pub endpoint: String,
    /// The authority of its certificate, in PEM.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What the broker shows, in PEM.
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// Its key, in PEM.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
    /// Whose guests it answers; none means the tenant `default` only.
    #[serde(default)]
    pub tenants: Vec<TenantName>,
    /// How long it may take to answer.
    #[serde(default = "ten_seconds")]
    pub timeout: Pause,
    /// Whether cleartext may leave the machine.
    #[serde(default)]
    pub plaintext: PlaintextForm,
}

/// Whether cleartext may leave the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaintextForm {
    /// Only to a loopback address.
    #[default]
    LocalOnly,
    /// To anywhere: secrets can be read on the way.
    InsecureAllowed,
}

impl PluginSection {
    /// Reads all of them.
    pub fn read(tables: &[Table]) -> Result<Vec<Self>, SetupError> {
        tables.iter().map(|table| form(named("plugins", table), table.clone())).collect()
    }

    /// What its client is made of. Reads the files.
    pub fn config(&self) -> Result<PluginConfig, SetupError> {
        let pem = |path: &PathBuf| std::fs::read(path).map_err(SetupError::file("cannot read", path));
        let identity = match (&self.client_certificate, &self.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(ClientIdentity { chain_pem: pem(certificate)?, key_pem: private(key)? })
            }
            _ => {
                let why = "expected both client_certificate and client_key, or neither";
                return Err(SetupError::section(format!("plugins.{}", self.name), why));
            }
        };
        Ok(PluginConfig {
            name: self.name.clone(),
            endpoint: self.endpoint.clone(),
            authority_pem: self.ca.as_ref().map(pem).transpose()?,
            identity,
            plaintext: match self.plaintext {
                PlaintextForm::LocalOnly => Plaintext::LocalOnly,
                PlaintextForm::InsecureAllowed => Plaintext::InsecureAllowed,
            },
            timeout: self.timeout.0,
        })
    }
}

fn private(path: &std::path::Path) -> Result<SecretBytes, SetupError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    files::read_private(path)?.ok_or_else(|| SetupError::file("cannot read", path)(missing()))
}

fn ten_seconds() -> Pause {
    Pause(Duration::from_secs(10))
}

/// A section's name with the name that it gives itself.
fn named(section: &str, table: &Table) -> String {
    match table.get("name").and_then(Value::as_str) {
        Some(name) => format!("{section}.{name}"),
        None => section.to_owned(),
    }
}

fn form<T: DeserializeOwned>(section: impl Into<String>, table: Table) -> Result<T, SetupError> {
    T::deserialize(Value::Table(table))
        .map_err(|error| SetupError::section(section, error.to_string().trim_end().replace('\n', " ")))
}

/// Puts the login, which stands beside the other members, into the form that the client reads.
fn with_login(section: &str, mut table: Table) -> Result<Table, SetupError> {
    let mut found = [("token_file", "token-file"), ("approle", "approle"), ("kubernetes", "kubernetes")]
        .into_iter()
        .filter_map(|(ours, theirs)| Some((theirs.to_owned(), table.remove(ours)?)))
        .collect::<Table>();
    // A role's name is enough where the rest is as usual.
    if let Some(Value::String(role)) = found.get("kubernetes").cloned() {
        found.insert(
            "kubernetes".to_owned(),
            Value::Table(Table::from_iter([("role".to_owned(), Value::String(role))])),
        );
    }
    if found.len() != 1 || table.contains_key("auth") {
        let why = "expected exactly one of token_file, approle = { role_id, secret_id_file } and kubernetes = { role }";
        return Err(SetupError::section(section, why));
    }
    table.insert("auth".to_owned(), Value::Table(found));
    Ok(table)
}

#[cfg(test)]
#[path = "sections_tests.rs"]
mod tests;
