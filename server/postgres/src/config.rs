//! Where the database is and how it is spoken to; checked before anything is connected.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use coffer_core_secret::SecretBytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::PostgresError;

const DEFAULT_PORT: u16 = 5432;
/// What a file of a password may hold.
const MAX_PASSWORD_FILE: u64 = 64 << 10;
/// How many connections one replica may be given.
const MAX_CONNECTIONS: usize = 1_000;
/// PostgreSQL cuts longer names (NAMEDATALEN).
const MAX_NAME: usize = 63;

/// Where the database is and how it is spoken to.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://role@host:port/database` or `host=… user=… dbname=…`, without password; several hosts may be
    /// named, the one that takes writes is used.
    pub url: String,
    /// Where the role's password is.
    pub password: Option<Password>,
    /// How connections are protected.
    pub tls: Tls,
    /// The schema of the database that holds the tables.
    pub schema: String,
    /// What the server's lists of connections call this program.
    pub application_name: String,
    /// At most so many connections.
    pub connections: usize,
    /// What waits how long.
    pub timeouts: Timeouts,
    /// Who brings the schema up to date.
    pub migrate: Migrate,
}

impl PostgresConfig {
    /// The defaults, with a place.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            tls: Tls::Disable,
            schema: "coffer".into(),
            application_name: "coffer-broker".into(),
            connections: 8,
            timeouts: Timeouts::default(),
            migrate: Migrate::AtOpen,
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the place: it may hold a password that has not been refused yet.
        f.debug_struct("PostgresConfig").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Where a role's password is; read anew for each connection, so that it may be replaced while the broker runs.
#[derive(Clone, Debug)]
pub enum Password {
    /// A file that holds the password alone; a line end after it does not count.
    File(PathBuf),
    /// A file of lines `host:port:database:role:password`, as PostgreSQL's own programs read (libpq, section "The
    /// Password File").
    PassFile(PathBuf),
}

/// How connections are protected.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Not at all, so only a Unix socket or a loopback address is connected to.
    Disable,
    /// Not at all, over any network: who is on the path can read names, and answer in the server's place.
    InsecureDisable,
    /// TLS, with the server's certificate and its name verified (`verify-full`).
    Require {
        /// Who may have issued the server's certificate, in PEM.
        ca_file: PathBuf,
        /// What this program shows.
        client: Option<ClientCertificate>,
    },
}

/// A client's certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate and those above it.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// What waits how long.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to be made and ready.
    pub connect: Duration,
    /// For the answer to one statement.
    pub statement: Duration,
    /// For a connection that others use to become free.
    pub wait: Duration,
    /// From the start of a call, in which a transaction that failed for the moment is begun again.
    pub retry: Duration,
    /// From the start of a call, for connections and for what became of a commit whose answer was lost. A call of few
    /// statements takes no longer than this, or than `retry` and `statement` together.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            statement: Duration::from_secs(10),
            wait: Duration::from_secs(5),
            retry: Duration::from_secs(5),
            call: Duration::from_secs(20),
        }
    }
}

/// Who brings the schema up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// The first replica that opens it; the others wait for it.
    AtOpen,
    /// Whoever calls [`crate::Postgres::migrate`]; a schema that is not up to date is refused.
    Apart,
}

/// A configuration that was checked.
pub(crate) struct Target {
    config: Config,
    password: Option<Password>,
    pub(crate) tls: Option<MakeRustlsConnect>,
    /// In quotes, because `order` is a good name and a word of SQL.
    pub(crate) schema: String,
    pub(crate) connections: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) user: String,
    pub(crate) database: String,
    /// For a person, without credentials.
    pub(crate) place: String,
}

impl Target {
    pub(crate) fn new(from: &PostgresConfig) -> Result<Self, PostgresError> {
        // The parser's own words may hold a part of a password, so they are not passed on.
        let mut config = Config::from_str(&from.url).map_err(|_| PostgresError::Url)?;
        if config.get_password().is_some() {
            return Err(PostgresError::PasswordInUrl);
        }
        let setting = |name, expected| PostgresError::Setting { name, expected };
        let user = config
            .get_user()
            .ok_or(setting("url", "a role, as in postgres://role@host/database"))?
            .to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(setting("url", "a host, as in postgres://role@host/database"));
        }
        if !is_schema_name(&from.schema) {
            return Err(setting("schema", "a-z, 0-9 and _, at most 63, not a digit first and not pg_"));
        }
        if from.connections == 0 || from.connections > MAX_CONNECTIONS {
            return Err(setting("connections", "1 to 1000"));
        }
        let times = &from.timeouts;
        if [times.connect, times.statement, times.wait, times.call].iter().any(|time| time.as_millis() == 0) {
            return Err(setting("timeouts", "at least a millisecond each"));
        }
        let asks_for_tls = config.get_ssl_mode() == SslMode::Require;
        let tls = match &from.tls {
            Tls::Require { ca_file, client } => Some(connector(ca_file, client.as_ref())?),
            Tls::Disable | Tls::InsecureDisable if asks_for_tls => {
                return Err(setting("tls", "require with a CA file, because the url says sslmode=require"));
            }
            Tls::InsecureDisable => None,
            Tls::Disable => match far_host(&config) {
                Some(host) => return Err(PostgresError::PlainNetwork { host }),
                None => None,
            },
        };
        let place = format!("PostgreSQL database {database} at {}, schema {}", hosts(&config), from.schema);
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.ssl_negotiation(SslNegotiation::Postgres);
        config.application_name(&from.application_name);
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(times.connect);
        // A peer that is gone without a word is noticed, also on a connection that nobody uses.
        config.keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10));
        config.keepalives_retries(3).tcp_user_timeout(times.statement);
        Ok(Self {
            config,
            password: from.password.clone(),
            tls,
            schema: format!("\"{}\"", from.schema),
            connections: from.connections,
            timeouts: from.timeouts,
            user,
            database,
            place,
        })
    }

    /// What to connect with now; the password is read here. The driver keeps it until the connection is made.
    pub(crate) fn config(&self) -> Result<Config, PostgresError> {
        let mut config = self.config.clone();
        let password = match &self.password {
            None => return Ok(config),
            Some(Password::File(path)) => {
                let text = read_secret(path)?;
                let bytes = text.expose().as_slice();
                let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                SecretBytes::copy_of(bytes.strip_suffix(b"\r").unwrap_or(bytes))
            }
            Some(Password::PassFile(path)) => self.pass_file_password(path)?,
        };
        config.password(password.expose());
        Ok(config)
    }

    fn pass_file_password(&self, path: &Path) -> Result<SecretBytes, PostgresError> {
        let text = read_secret(path)?;
        let hosts = self.config.get_hosts();
        let port = self.config.get_ports().first().copied().unwrap_or(DEFAULT_PORT).to_string();
        let is_host = |pattern: &[u8]| {
            hosts.iter().any(|host| match host {
                Host::Tcp(name) => pattern == name.as_bytes(),
                Host::Unix(_) => pattern == b"localhost",
            })
        };
        for line in text.expose().split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.starts_with(b"#") {
                continue;
            }
            let Some(([host, for_port, database, user], password)) = pass_line(line) else { continue };
            let fits = |pattern: &[u8], value: &str| pattern == b"*" || pattern == value.as_bytes();
            if (host == b"*" || is_host(&host))
                && fits(&for_port, &port)
                && fits(&database, &self.database)
                && fits(&user, &self.user)
            {
                return Ok(password);
            }
        }
        Err(PostgresError::NoPassword { path: path.to_owned(), place: self.place.clone() })
    }
}

/// The fields of a line of a password file: parted by colons, a backslash takes the next byte as it is.
fn pass_line(line: &[u8]) -> Option<([Vec<u8>; 4], SecretBytes)> {
    let mut fields: [Vec<u8>; 4] = Default::default();
    let mut bytes = line.iter().copied();
    for field in &mut fields {
        loop {
            match bytes.next()? {
                b':' => break,
                b'\\' => field.push(bytes.next()?),
                byte => field.push(byte),
            }
        }
    }
    let mut password = Vec::with_capacity(bytes.len());
    while let Some(byte) = bytes.next() {
        password.push(if byte == b'\\' { bytes.next()? } else { byte });
    }
    Some((fields, SecretBytes::new(password)))
}

/// Reads a file that others must not be able to read.
fn read_secret(path: &Path) -> Result<SecretBytes, PostgresError> {
    let failed = |source| PostgresError::File { what: "cannot read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(PostgresError::Exposed { path: path.to_owned(), mode });
    }
    // Allocated once, so that no copy is left behind by growing.
    let length = usize::try_from(found.len().min(MAX_PASSWORD_FILE)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    file.take(MAX_PASSWORD_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(SecretBytes::new(bytes))
}

/// A schema's name that needs no quoting and that no other name can be mistaken for.
fn is_schema_name(name: &str) -> bool {
    let all = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    all && first && name.len() <= MAX_NAME && !name.starts_with("pg_")
}

/// A host that is not on this machine.
fn far_host(config: &Config) -> Option<String> {
    let named = config.get_hosts().iter().find_map(|host| match host {
        Host::Unix(_) => None,
        Host::Tcp(name) if name == "localhost" => None,
        Host::Tcp(name) if IpAddr::from_str(name).is_ok_and(|address| address.is_loopback()) => None,
        Host::Tcp(name) => Some(name.clone()),
    });
    let numbered = config.get_hostaddrs().iter().find(|address| !address.is_loopback());
    named.or_else(|| numbered.map(ToString::to_string))
}

fn hosts(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |index| ports.get(index).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
    let mut names: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(index)),
            Host::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), port(index)),
        })
        .collect();
    if names.is_empty() {
        names = config.get_hostaddrs().iter().map(|address| format!("{address}:{}", port(0))).collect();
    }
    names.join(", ")
}

/// TLS with the one provider of cryptography; names and chains are verified by rustls, as `verify-full` asks.
fn connector(ca_file: &Path, client: Option<&ClientCertificate>) -> Result<MakeRustlsConnect, PostgresError> {
    let bad = |path: &Path, why: String| PostgresError::TlsFile { path: path.to_owned(), why };
    let certificates = |path: &Path| {
        let pem = fs::read(path).map_err(|error| bad(path, error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let found = found.map_err(|error| bad(path, error.to_string()))?;
        if found.is_empty() {
            return Err(bad(path, "it holds no certificate".into()));
        }
        Ok(found)
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate).map_err(|error| bad(ca_file, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(ca_file, error.to_string()))?
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates(&client.certificate_file)?;
            let pem = read_secret(&client.key_file)?;
            let key = PrivateKeyDer::from_pem_slice(pem.expose())
                .map_err(|_| bad(&client.key_file, "it holds no private key".into()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| bad(&client.certificate_file, error.to_string()))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
