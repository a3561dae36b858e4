//! The first start, apart from serving: folder, configuration, store, keys and authority.

use std::path::{Path, PathBuf};

use coffer_server_http::{Broker, BrokerConfig, EXAMPLE};
use coffer_server_store::files;
use serde::Serialize;

use crate::SetupError;
use crate::assemble::assemble;

/// What was made, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Initialized {
    /// The configuration that was written; none if none was asked for, or it was there.
    pub configuration: Option<PathBuf>,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The admin's private key, if it was made here.
    pub admin_key: Option<PathBuf>,
    /// The certificate that clients pin.
    pub ca_certificate: PathBuf,
    /// Where the master key is.
    pub master_key: String,
    /// Whether there was a store already, which is as it was.
    pub was_there: bool,
    /// What to do next, for a person.
    pub next: Vec<String>,
}

/// Writes the configuration if `file` is not there, and makes the store, the admin's key and the authority if they are
/// not there. What is there stays as it is.
pub fn init(config: BrokerConfig, file: Option<&Path>) -> Result<Initialized, SetupError> {
    let data_dir = config.data_dir.clone();
    files::create_private_folder(&data_dir)?;
    let configuration = match file {
        Some(path) if !path.exists() => {
            files::create_public(path, commented(&config).as_bytes())?;
            Some(path.to_path_buf())
        }
        _ => None,
    };
    let assembly = assemble(&config)?;
    let (master_key, place) = (assembly.master_key, assembly.parts.store.place());
    let broker = Broker::open_on(config, assembly.parts)?;
    let made = broker.first_start();
    let admin_key = made.map(|made| made.admin_key.clone()).filter(|path| path.exists());
    let ca_certificate = data_dir.join("tls/ca.pem");
    let mut next = Vec::new();
    if let Some(key) = &admin_key {
        next.push(format!(
            "give {} to the admin and take it off this machine: it opens this broker to whoever has it",
            key.display()
        ));
    }
    if made.is_some() {
        next.push(format!("keep a copy of the master key ({master_key}) apart from the store: without it the store cannot be read"));
    }
    next.push(format!("give {} to clients, which pin it", ca_certificate.display()));
    next.push(match file {
        Some(path) => format!("start the broker: coffer-broker serve --config {}", path.display()),
        None => format!("start the broker: coffer-broker serve --data {}", data_dir.display()),
    });
    tracing::debug!(store = place, "the store is there");
    Ok(Initialized {
        configuration,
        data_dir,
        admin_key,
        ca_certificate,
        master_key,
        was_there: made.is_none(),
        next,
    })
}

/// The commented example, with this folder and this address.
fn commented(config: &BrokerConfig) -> String {
    let usual = BrokerConfig::default();
    let quoted = |text: String| toml::Value::String(text).to_string();
    let line = |name: &str, value: String| format!("\n{name} = {}\n", quoted(value));
    let pairs = [
        ("data_dir", usual.data_dir.display().to_string(), config.data_dir.display().to_string()),
        ("listen", usual.listen.to_string(), config.listen.to_string()),
    ];
    pairs.into_iter().fold(EXAMPLE.to_owned(), |text, (name, old, new)| {
        text.replacen(&line(name, old), &line(name, new), 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_configuration_is_the_example_with_this_folder_and_address() {
        let mut config = BrokerConfig::new(Path::new("/srv/a \"b\""));
        config.listen = "0.0.0.0:9".parse().unwrap();
        assert_eq!(BrokerConfig::from_toml(&commented(&config)).unwrap(), config);
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("broker.toml"));
        let made = init(BrokerConfig::new(&data), Some(&file)).unwrap();
        assert_eq!(made.configuration.as_deref(), Some(file.as_path()));
        assert!(made.admin_key.is_some() && !made.was_there);
        let all =
            || ["master.key", "admin.key", "tls/ca.pem"].map(|name| std::fs::read(data.join(name)).unwrap());
        let before = (all(), std::fs::read(&file).unwrap());
        let again = init(BrokerConfig::new(&data), Some(&file)).unwrap();
        assert!(again.was_there && again.configuration.is_none());
        assert_eq!(before, (all(), std::fs::read(&file).unwrap()));
    }
}
