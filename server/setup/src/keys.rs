//! New keys for a store that is there: another master key, and new data keys for all rows.

use std::path::Path;

use coffer_core_admin::TenantName;
use coffer_server_http::BrokerConfig;
use coffer_server_masterkey::MasterKeySource;
use coffer_server_store::{MasterKey, Scope};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::SetupError;
use crate::assemble::{Absent, open_store};
use crate::progress::Progress;
use crate::sections::{self, StoreSection};

/// How many records one transaction moves.
const STEP: usize = 500;

/// What a change of the master key did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The name of the key that closed the store before.
    pub from: String,
    /// The name of the one that closes it now.
    pub to: String,
    /// Where that is.
    pub place: String,
    /// Whether the configuration names the old one still.
    pub change_configuration: bool,
}

/// What sealing rows anew did, for one tenant; the cluster's own rows have no tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resealed {
    /// The tenant.
    pub tenant: Option<TenantName>,
    /// The epoch of its new key.
    pub epoch: u32,
    /// How many records were moved to it.
    pub moved: u64,
    /// How many did not open and stayed as they were.
    pub damaged: u64,
}

/// Closes the store with another master key. `to` is a file with a `[master_key]` section; without one, a store whose
/// key is the file `master.key` gets a new one there.
pub fn rotate_master_key(config: &BrokerConfig, to: Option<&Path>) -> Result<Rotated, SetupError> {
    let (section, old) = (StoreSection::read(&config.store)?, sections::master_key(&config.master_key)?);
    let Some(to) = to else {
        if !matches!(section, StoreSection::Embedded) || old != MasterKeySource::default() {
            let why = "only the file master.key of an embedded store is replaced in place; \
                       name a file with the new [master_key] section (--to)";
            return Err(SetupError::section("master_key", why));
        }
        let opened = open_store(config, Absent::Refuse)?;
        let from = opened.store.master_key_id()?;
        opened.store.rotate_master_file(&config.data_dir)?;
        let to = opened.store.master_key_id()?;
        return Ok(Rotated { from, to, place: opened.place, change_configuration: false });
    };
    let new = new_section(to)?;
    let opened = open_store(config, Absent::Refuse)?;
    let from = opened.store.master_key_id()?;
    let master: Box<dyn MasterKey> = match coffer_server_masterkey::open(&new, &config.data_dir)? {
        Some(master) if master.id() == from => return Err(SetupError::SameMasterKey(from)),
        Some(master) => master,
        None => coffer_server_masterkey::create(&new, &config.data_dir)?,
    };
    opened.store.rotate_master(&*master)?;
    Ok(Rotated { from, to: master.id(), place: master.place(), change_configuration: true })
}

fn new_section(path: &Path) -> Result<MasterKeySource, SetupError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        master_key: Table,
    }
    let text = std::fs::read_to_string(path).map_err(SetupError::file("cannot read", path))?;
    let wrong = |why: String| SetupError::Configuration { path: path.to_path_buf(), why };
    let form: Form = toml::from_str(&text)
        .map_err(|error| wrong(format!("expected a [master_key] section alone: {}", error.message())))?;
    if form.master_key.is_empty() {
        return Err(wrong("expected [master_key] to name file, tpm, pkcs11 or vault_transit".to_owned()));
    }
    sections::master_key(&form.master_key)
}

/// Makes a new data key for the cluster and each tenant, or for one tenant, and moves all their rows to it.
pub fn reseal(
    config: &BrokerConfig,
    only: Option<&TenantName>,
    progress: &mut Progress<'_>,
) -> Result<Vec<Resealed>, SetupError> {
    let store = open_store(config, Absent::Refuse)?.store;
    let mut scopes: Vec<(Option<TenantName>, Scope)> = Vec::new();
    match only {
        Some(tenant) => scopes.push((Some(tenant.clone()), store.tenant(tenant))),
        None => {
            scopes.push((None, store.cluster()));
            for (tenant, _) in store.tenants()? {
                let scope = store.tenant(&tenant);
                scopes.push((Some(tenant), scope));
            }
        }
    }
    let mut all = Vec::new();
    let mut looked_at = 0_u64;
    for (tenant, scope) in scopes {
        let mut one = Resealed { tenant, epoch: scope.rotate_key()?, moved: 0, damaged: 0 };
        loop {
            let step = scope.reseal(STEP)?;
            one.moved = one.moved.saturating_add(step.moved);
            one.damaged = one.damaged.saturating_add(step.damaged);
            looked_at = looked_at.saturating_add(step.looked_at);
            progress.done(looked_at, "records");
            if step.done {
                break;
            }
        }
        all.push(one);
    }
    Ok(all)
}
