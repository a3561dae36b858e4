//! The parts that a configuration names, opened: engine, master key, store, sources, plugins.

use std::path::Path;
use std::sync::Arc;

use coffer_server_grpc::PluginClient;
use coffer_server_http::{BrokerConfig, Parts, Plugin, SourceRoute};
use coffer_server_masterkey::MasterKeySource;
use coffer_server_pkcs11::{PkcsSource, Token};
use coffer_server_postgres::Postgres;
use coffer_server_source::{Cached, Kept, Source};
use coffer_server_store::{Engine, MasterKey, Order, Store, StoreError};
use coffer_server_vault::{Vault, VaultSource};

use crate::SetupError;
use crate::sections::{self, PluginSection, SourceKind, SourceSection, StoreSection, TelemetrySection};

/// The table that every store has a row in, and nothing else.
const META: &str = "meta";
/// The embedded engine's file.
pub(crate) const EMBEDDED_FILE: &str = "store.redb";

/// What a broker is opened on, and what must go on beside it.
pub struct Assembly {
    /// For [`coffer_server_http::Broker::open_on`].
    pub parts: Parts,
    /// Where the master key is, for a person.
    pub master_key: String,
    vaults: Vec<(String, Vault)>,
}

/// Opens what the configuration names. All sections are read before anything is opened; a store, and the key it is
/// closed with, are made where there is none.
pub fn assemble(config: &BrokerConfig) -> Result<Assembly, SetupError> {
    let sections = SourceSection::read(&config.sources)?;
    let plugins = plugins(config)?;
    TelemetrySection::read(&config.telemetry)?;
    let opened = open_store(config, Absent::Make)?;
    let mut parts = Parts::new(Arc::new(opened.store));
    let mut vaults = Vec::new();
    for section in sections {
        let route = source(&section, &mut vaults)?;
        parts.sources.push(route);
    }
    parts.plugins = plugins;
    Ok(Assembly { parts, master_key: opened.place, vaults })
}

impl Assembly {
    /// Keeps the logins at vaults alive, on the runtime that this is called in, until that ends.
    pub fn keep_alive(&self) {
        for (name, vault) in &self.vaults {
            let (name, vault) = (name.clone(), vault.clone());
            tokio::spawn(async move {
                if let Err(error) = vault.check().await {
                    // The broker serves what does not come from there; the login is tried again at each call.
                    tracing::warn!(source = %name, %error, "a vault cannot be used now");
                }
                vault.keep_alive().await;
            });
        }
    }
}

/// What to do where there is no store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Make one.
    Make,
    /// Say so.
    Refuse,
}

/// An open store, and where its master key is.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) place: String,
}

pub(crate) fn open_store(config: &BrokerConfig, absent: Absent) -> Result<Opened, SetupError> {
    let data = &config.data_dir;
    let (section, key) = (StoreSection::read(&config.store)?, sections::master_key(&config.master_key)?);
    if absent == Absent::Refuse && matches!(section, StoreSection::Embedded) && !has_embedded(data) {
        return Err(SetupError::NoStore(data.clone()));
    }
    if matches!(section, StoreSection::Embedded) && key == MasterKeySource::default() {
        // This way takes up upgrades and rotations that were cut off.
        let place = format!("the file {}", data.join("master.key").display());
        return Ok(Opened { store: Store::open(data)?, place });
    }
    let engine = open_engine(&section, data)?;
    if absent == Absent::Refuse && is_empty(&*engine)? {
        return Err(SetupError::NoStore(data.clone()));
    }
    let master = master(&*engine, &key, data)?;
    let place = master.place();
    Ok(Opened { store: Store::open_with(engine, &*master)?, place })
}

pub(crate) fn has_embedded(data: &Path) -> bool {
    data.join(EMBEDDED_FILE).exists()
}

pub(crate) fn open_engine(section: &StoreSection, data: &Path) -> Result<Arc<dyn Engine>, SetupError> {
    match section {
        StoreSection::Embedded => Ok(Store::embedded(data)?.0),
        StoreSection::Postgres(config) => Ok(Arc::new(Postgres::open(config)?)),
    }
}

/// The key that the configuration names. It is made only for an engine without a store: another key for rows that are
/// there would open none of them.
fn master(engine: &dyn Engine, key: &MasterKeySource, data: &Path) -> Result<Box<dyn MasterKey>, SetupError> {
    match coffer_server_masterkey::open(key, data)? {
        Some(master) => Ok(master),
        None if is_empty(engine)? => {
            coffer_server_store::files::create_private_folder(data)?;
            Ok(coffer_server_masterkey::create(key, data)?)
        }
        None => Err(SetupError::MasterKeyMissing { place: engine.place() }),
    }
}

/// Whether there is no store in an engine, nor the beginning of one.
pub(crate) fn is_empty(engine: &dyn Engine) -> Result<bool, StoreError> {
    let mut empty = false;
    engine.read(&mut |view| {
        empty = view.range(META, "", "\u{10ffff}", Order::Ascending, 1)?.is_empty();
        Ok(())
    })?;
    Ok(empty)
}

fn source(section: &SourceSection, vaults: &mut Vec<(String, Vault)>) -> Result<SourceRoute, SetupError> {
    let name = &section.name;
    let source: Arc<dyn Source> = match &section.kind {
        SourceKind::Vault { server, engine } => {
            let wrong = |source| SetupError::Vault { name: name.clone(), source };
            let vault = Vault::new(server).map_err(wrong)?;
            let source = VaultSource::new(name, &vault, engine).map_err(wrong)?;
            vaults.push((name.clone(), vault));
            Arc::new(source)
        }
        SourceKind::Pkcs11 { token, label_prefix } => {
            let wrong = |source| SetupError::Token { name: name.clone(), source };
            Arc::new(PkcsSource::new(name, &Token::open(token).map_err(wrong)?, label_prefix))
        }
    };
    let source = match section.keep.is_zero() {
        true => source,
        false => Arc::new(Cached::new(source, Kept::for_time(section.keep))),
    };
    Ok(SourceRoute { tenant: section.tenant.clone(), prefix: section.prefix.clone(), source })
}

fn plugins(config: &BrokerConfig) -> Result<Vec<Plugin>, SetupError> {
    let mut plugins = Vec::new();
    for section in PluginSection::read(&config.plugins)? {
        let client = PluginClient::connect(&section.config()?)?;
        plugins.push(Plugin { client, tenants: section.tenants });
    }
    Ok(plugins)
}
