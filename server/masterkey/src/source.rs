//! What an operator says about the master key.

use std::path::{Path, PathBuf};

use coffer_server_pkcs11::{Method, TokenConfig};
use coffer_server_vault::{Auth, VaultConfig};
use serde::{Deserialize, Serialize};

/// Where the master key is: `{ file = {…} }`, `{ tpm = {…} }`, `{ pkcs11 = {…} }` or `{ vault-transit = {…} }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MasterKeySource {
    /// A file.
    File(FileSource),
    /// A TPM 2.0.
    Tpm(TpmSource),
    /// A PKCS#11 token.
    Pkcs11(TokenSource),
    /// The transit engine of a Vault or OpenBao.
    VaultTransit(TransitSource),
}

/// A file of 32 bytes that only its owner may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// The file; `master.key` beside the data if not given.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// A TPM, and the file with the key that it sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TpmSource {
    /// The device; `/dev/tpmrm0` if neither it nor a socket is given.
    #[serde(default)]
    pub device: Option<PathBuf>,
    /// The data socket of a software TPM.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The file with the sealed key; `master.tpm` beside the data if not given.
    #[serde(default)]
    pub blob: Option<PathBuf>,
    /// The SHA-256 registers to whose values, at the time when the key is made, it is sealed.
    #[serde(default)]
    pub pcrs: Vec<u8>,
}

/// A key in a PKCS#11 token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSource {
    /// The module.
    pub module: PathBuf,
    /// The token's label.
    #[serde(default)]
    pub token: Option<String>,
    /// The token's slot, where labels are not unique.
    #[serde(default)]
    pub slot: Option<u64>,
    /// The key: its label, or `id:` and its id in hexadecimal.
    pub key: String,
    /// The file that holds the user's PIN.
    pub pin_file: PathBuf,
    /// How the key wraps.
    #[serde(default)]
    pub method: Method,
}

/// A key in a transit engine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TransitSource {
    /// The server.
    pub url: String,
    /// The namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Where the engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
    /// The key.
    pub key: String,
    /// How to get a token.
    pub auth: Auth,
    /// The authorities to believe, in PEM.
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
}

impl Default for MasterKeySource {
    fn default() -> Self {
        Self::File(FileSource::default())
    }
}

impl TokenSource {
    pub(crate) fn token(&self) -> TokenConfig {
        TokenConfig {
            module: self.module.clone(),
            token: self.token.clone(),
            slot: self.slot,
            pin_file: self.pin_file.clone(),
        }
    }
}

impl TransitSource {
    pub(crate) fn vault(&self) -> VaultConfig {
        VaultConfig {
            url: self.url.clone(),
            namespace: self.namespace.clone(),
            auth: self.auth.clone(),
            ca: self.ca.clone(),
            client_certificate: self.client_certificate.clone(),
            client_key: self.client_key.clone(),
            timeout: self.timeout,
            attempts: 3,
        }
    }
}

/// A file that was named, or the usual one. A relative name is one beside the data.
pub(crate) fn file(named: Option<&Path>, data: &Path, usual: &str) -> PathBuf {
    data.join(named.unwrap_or(Path::new(usual)))
}

fn transit() -> String {
    "transit".into()
}

fn ten() -> u64 {
    10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Config {
        master: MasterKeySource,
    }

    fn read(text: &str) -> Result<MasterKeySource, String> {
        let read = toml::from_str::<Config>(&format!("master = {text}"));
        read.map(|config| config.master).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_is_read_and_what_is_unknown_is_refused() {
        assert_eq!(read("{ file = {} }").unwrap(), MasterKeySource::default());
        let tpm = read("{ tpm = { pcrs = [7, 11] } }").unwrap();
        assert!(matches!(tpm, MasterKeySource::Tpm(TpmSource { pcrs, .. }) if pcrs == [7, 11]));
        let token = "{ pkcs11 = { module = \"/m.so\", token = \"t\", key = \"k\", pin_file = \"/p\" } }";
        assert!(matches!(read(token).unwrap(), MasterKeySource::Pkcs11(_)));
        let transit =
            "{ vault-transit = { url = \"https://v\", key = \"k\", auth = { token-file = \"/t\" } } }";
        let MasterKeySource::VaultTransit(transit) = read(transit).unwrap() else { panic!("another kind") };
        assert_eq!((transit.mount.as_str(), transit.timeout), ("transit", 10));
        for text in [
            "{ file = { key = \"00\" } }",
            "{ tpm = { insecure = true } }",
            "{ tpm = { pcrs = [256] } }",
            "{ pkcs11 = { module = \"/m.so\", token = \"t\", key = \"k\", pin = \"1\" } }",
            "{ hsm = {} }",
            "{ file = {}, tpm = {} }",
        ] {
            assert!(read(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_relative_file_is_beside_the_data() {
        let data = Path::new("/var/lib/coffer");
        assert_eq!(file(None, data, "master.tpm"), Path::new("/var/lib/coffer/master.tpm"));
        assert_eq!(file(Some(Path::new("k")), data, "x"), Path::new("/var/lib/coffer/k"));
        assert_eq!(file(Some(Path::new("/k")), data, "x"), Path::new("/k"));
    }
}
