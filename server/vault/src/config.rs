//! What an operator says about a Vault.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A server and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// `https://vault.example:8200`. Plain `http` only to a loopback address.
    pub url: String,
    /// The namespace (Vault Enterprise, OpenBao), as `team/a`.
    #[serde(default)]
    pub namespace: Option<String>,
    /// How to get a token.
    pub auth: Auth,
    /// The authorities to believe, in PEM; without it those of the public Web.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Our certificate chain in PEM, where the server asks for one.
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
    /// How long one attempt may take, in seconds.
    #[serde(default = "ten")]
    pub timeout: u64,
    /// How often a call that changes nothing is tried.
    #[serde(default = "three")]
    pub attempts: u32,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Auth {
    /// A file that holds a token, as Vault Agent writes it.
    TokenFile(PathBuf),
    /// AppRole.
    Approle {
        /// Where the method is mounted.
        #[serde(default = "approle")]
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// The file that holds the secret id.
        secret_id_file: PathBuf,
    },
    /// A Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted.
        #[serde(default = "kubernetes")]
        mount: String,
        /// The role.
        role: String,
        /// The file that holds the service account's token.
        #[serde(default = "service_account")]
        jwt_file: PathBuf,
    },
}

/// How resources are found in a KV engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KvConfig {
    /// Where the engine is mounted.
    #[serde(default = "secret")]
    pub mount: String,
    /// What stands before each path, as `coffer/prod`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The field to give. Without it the whole secret is given, as JSON.
    #[serde(default)]
    pub field: Option<String>,
    /// A field whose name ends so is base64 and given decoded; `field` is also looked for with it.
    #[serde(default)]
    pub base64_suffix: Option<String>,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self { mount: secret(), prefix: None, field: None, base64_suffix: None }
    }
}

fn ten() -> u64 {
    10
}

fn three() -> u32 {
    3
}

fn approle() -> String {
    "approle".into()
}

fn kubernetes() -> String {
    "kubernetes".into()
}

fn secret() -> String {
    "secret".into()
}

fn service_account() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_unknown_is_refused() {
        let text = "url = \"https://v:8200\"\n[auth.approle]\nrole_id = \"r\"\nsecret_id_file = \"/s\"\n";
        let config: VaultConfig = toml::from_str(text).unwrap();
        assert_eq!((config.timeout, config.attempts), (10, 3));
        assert!(matches!(&config.auth, Auth::Approle { mount, .. } if mount == "approle"));
        let config: VaultConfig =
            toml::from_str("url = \"https://v:8200\"\nauth = { token-file = \"/t\" }").unwrap();
        assert_eq!(config.auth, Auth::TokenFile("/t".into()));
        let text = "url = \"https://v\"\ninsecure = true\nauth = { token-file = \"/t\" }";
        assert!(toml::from_str::<VaultConfig>(text).is_err());
        assert!(toml::from_str::<VaultConfig>("url = \"https://v\"\nauth = { token = \"hvs\" }").is_err());
        assert!(toml::from_str::<KvConfig>("mount = \"kv\"\nversion = 1").is_err());
    }
}
