//! Where this user's things are: the guest, the local broker, and how to reach a broker.
//!
//! `COFFER_HOME` (default `$XDG_DATA_HOME/coffer`, then `~/.local/share/coffer`) holds `guest/`, `broker/`,
//! `vtpm-ca/`, `cache/`, `blobs/`, `registries.toml` and `client.toml`. Nothing here is read from the current folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use coffer_tools_client::{AdminClient, TenantName};
use serde::{Deserialize, Serialize};

/// The folder of this user's things.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

/// `client.toml`: the broker that commands talk to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    /// `https://host:port`.
    pub(crate) url: Option<String>,
    /// The certificate authority that the broker's certificate must come from (PEM file).
    pub(crate) ca: Option<PathBuf>,
    /// The private key of an admin (PEM file, mode 0600).
    pub(crate) admin_key: Option<PathBuf>,
    /// A file that holds the admin's token of an OpenID issuer, in place of a key.
    pub(crate) token_file: Option<PathBuf>,
    /// The tenant; if there is none, that of the address.
    pub(crate) tenant: Option<TenantName>,
}

/// What the command line or the environment says of the broker; it goes before `client.toml`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct BrokerArgs {
    /// The broker's address, as in https://127.0.0.1:8443. Default: client.toml, then the local broker.
    #[arg(long, env = "COFFER_BROKER", global = true, value_name = "URL", help_heading = "Broker")]
    broker: Option<String>,
    /// The broker's certificate authority, pinned (PEM file).
    #[arg(long, env = "COFFER_BROKER_CA", global = true, value_name = "FILE", help_heading = "Broker")]
    broker_ca: Option<PathBuf>,
    /// An admin's private key (PEM file).
    #[arg(long, env = "COFFER_ADMIN_KEY", global = true, value_name = "FILE", help_heading = "Broker")]
    admin_key: Option<PathBuf>,
    /// A file with an admin's token of an OpenID issuer, in place of a key; read at each call.
    #[arg(long, env = "COFFER_TOKEN_FILE", global = true, value_name = "FILE", help_heading = "Broker")]
    token_file: Option<PathBuf>,
    /// The tenant whose things are meant. Default: client.toml, then the address's own.
    #[arg(long, env = "COFFER_TENANT", global = true, value_name = "NAME", help_heading = "Broker")]
    tenant: Option<TenantName>,
}

/// How an admin shows who they are.
#[derive(Clone, Debug)]
enum Credential {
    /// The private key's file.
    Key(PathBuf),
    /// The token's file.
    Token(PathBuf),
}

/// How to reach a broker, complete.
#[derive(Clone, Debug)]
pub(crate) struct BrokerAccess {
    /// `https://host:port`.
    pub(crate) url: String,
    /// The pinned authority's certificate, PEM.
    pub(crate) ca_pem: String,
    credential: Credential,
    tenant: Option<TenantName>,
}

impl BrokerAccess {
    /// The address for guests: with the tenant in its path, if one was named.
    pub(crate) fn guest_url(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{}/t/{tenant}", self.url),
            None => self.url.clone(),
        }
    }

    /// A client with the admin's key or token, at the tenant that was named.
    pub(crate) fn admin(&self) -> Result<AdminClient> {
        let admin = match &self.credential {
            Credential::Token(file) => AdminClient::with_token_file(&self.url, &self.ca_pem, file)?,
            Credential::Key(file) => {
                let key = std::fs::read_to_string(file)
                    .with_context(|| format!("the admin's key {} cannot be read", file.display()))?;
                AdminClient::new(&self.url, &self.ca_pem, &key)?
            }
        };
        Ok(match &self.tenant {
            Some(tenant) => admin.with_tenant(tenant),
            None => admin,
        })
    }
}

impl Home {
    /// From `--home`, `COFFER_HOME` or the usual place.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self> {
        if let Some(path) = given {
            return Ok(Self(std::path::absolute(path)?));
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        let data =
            data.or_else(home).ok_or_else(|| anyhow!("HOME is not set; set COFFER_HOME to a folder"))?;
        Ok(Self(data.join("coffer")))
    }

    /// The built guest.
    pub(crate) fn guest(&self) -> PathBuf {
        self.0.join("guest")
    }

    /// The local broker's data.
    pub(crate) fn broker(&self) -> PathBuf {
        self.0.join("broker")
    }

    /// The root that certifies this installation's software TPMs.
    pub(crate) fn vtpm_ca(&self) -> PathBuf {
        self.0.join("vtpm-ca")
    }

    /// What can be fetched or made again.
    pub(crate) fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The cache of images' blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// How this host reaches registries.
    pub(crate) fn registries(&self) -> PathBuf {
        self.0.join("registries.toml")
    }

    /// The cache of collateral.
    pub(crate) fn collateral(&self) -> PathBuf {
        self.0.join("collateral")
    }

    /// Where collateral comes from.
    pub(crate) fn collateral_settings(&self) -> PathBuf {
        self.0.join("collateral.toml")
    }

    fn client(&self) -> Result<Client> {
        let path = self.0.join("client.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Client::default()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// The broker to talk to.
    pub(crate) fn broker_access(&self, args: &BrokerArgs) -> Result<BrokerAccess> {
        let client = self.client()?;
        let local = self.broker();
        let url = args.broker.clone().or(client.url).or_else(|| self.local_url());
        let Some(url) = url else {
            bail!(
                "no broker is known; start one here with `coffer broker`, or name one with --broker, --broker-ca \
                 and --admin-key"
            );
        };
        let ca = args.broker_ca.clone().or(client.ca).unwrap_or_else(|| local.join("tls/ca.pem"));
        let credential = match (&args.token_file, &args.admin_key, client.token_file, client.admin_key) {
            (Some(_), Some(_), ..) => bail!(
                "an admin's key and a token are both named; give one of --admin-key (COFFER_ADMIN_KEY) and \
                 --token-file (COFFER_TOKEN_FILE)"
            ),
            (None, None, Some(_), Some(_)) => {
                bail!("client.toml names both `admin_key` and `token_file`; keep one")
            }
            (Some(file), None, ..) => Credential::Token(file.clone()),
            (None, Some(file), ..) => Credential::Key(file.clone()),
            (None, None, Some(file), None) => Credential::Token(file),
            (None, None, None, file) => Credential::Key(file.unwrap_or_else(|| local.join("admin.key"))),
        };
        let tenant = args.tenant.clone().or(client.tenant);
        let ca_pem = std::fs::read_to_string(&ca)
            .with_context(|| format!("the broker's certificate authority {} cannot be read", ca.display()))?;
        Ok(BrokerAccess { url: url.trim_end_matches('/').to_string(), ca_pem, credential, tenant })
    }

    /// The address that the local broker wrote when it began to listen.
    fn local_url(&self) -> Option<String> {
        std::fs::read_to_string(self.broker().join("url")).ok().map(|url| url.trim().to_string())
    }
}
