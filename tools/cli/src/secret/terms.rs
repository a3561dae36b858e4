//! Secrets in the broker: stored or made on terms, listed, revoked, restored.

use std::path::Path;

use anyhow::Result;
use coffer_core_admin::{
    GenerateResource, ResourceInfo, ResourceOrigin, ResourceState, ResourceStored, ResourceTerms,
    ResourceVersion, SetResourceState,
};
use serde_json::json;

use super::{path_of, read_secret};
use crate::output::table;
use crate::when::Expiry;
use crate::{Context, block_on};

pub(super) const PUT_HELP: &str = "\
  coffer secret put kbs:///default/database/password --file password.txt
  printf %s \"$TOKEN\" | coffer secret put kbs:///default/token/1 --expires-in 30d
  coffer secret put kbs:///default/enrol/1 --file enrol.bin --once
  coffer secret put kbs:///default/database/password --file new.txt --if-version 3

Guests get the newest version that is neither revoked nor expired. Older versions are kept up to a bound.";

pub(super) const GENERATE_HELP: &str = "\
  coffer secret generate kbs:///default/disk-key/1
  coffer secret generate kbs:///default/session/1 --bytes 64 --release-limit 3

There is no call that gives the value to an admin; whoever loses the broker's store loses the key.";

/// On what terms a secret is released.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Terms {
    #[command(flatten)]
    expiry: Expiry,
    /// To how many attested guests it is released at most. Asking twice with one attestation counts once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    release_limit: Option<u64>,
    /// To one attested guest only: the same as --release-limit 1.
    #[arg(long, conflicts_with = "release_limit")]
    once: bool,
    /// Only if this is the present version; 0 only if there is none.
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

impl Terms {
    fn read(&self) -> Result<ResourceTerms> {
        let release_limit = if self.once { Some(1) } else { self.release_limit };
        Ok(ResourceTerms { expires_at: self.expiry.time()?, release_limit, if_version: self.if_version })
    }
}

/// What is revoked, and why.
#[derive(clap::Args)]
pub(crate) struct Revoke {
    /// Its address.
    uri: String,
    /// Which version; all if none is named.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Why; shown to auditors.
    #[arg(long)]
    reason: String,
}

/// What is released again as policy says.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// Its address.
    uri: String,
    /// Which version; all if none is named.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
}

pub(super) fn put(context: &Context, uri: &str, file: Option<&Path>, terms: &Terms) -> Result<()> {
    let path = path_of(uri)?;
    let terms = terms.read()?;
    let admin = context.admin()?;
    let value = read_secret(file)?;
    let stored = block_on(async { Ok(admin.put_resource_on(&path, value, &terms).await?) })?;
    told(context, "stored", uri, &stored)
}

pub(super) fn generate(context: &Context, uri: &str, bytes: u32, terms: &Terms) -> Result<()> {
    let path = path_of(uri)?;
    let ResourceTerms { expires_at, release_limit, if_version } = terms.read()?;
    let wanted = GenerateResource { bytes: Some(bytes), expires_at, release_limit, if_version };
    let admin = context.admin()?;
    let stored = block_on(async { Ok(admin.generate_resource(&path, &wanted).await?) })?;
    told(context, "generated", uri, &stored)
}

fn told(context: &Context, what: &str, uri: &str, stored: &ResourceStored) -> Result<()> {
    let version = stored.version;
    context
        .output
        .show(&json!({what: uri, "version": version}), |_| format!("{what} {uri} (version {version})"))
}

pub(super) fn list(context: &Context) -> Result<()> {
    let admin = context.admin()?;
    let list = block_on(async { Ok(admin.list_resources().await?) })?;
    context.output.show(&list, |list| {
        let row = |one: &ResourceInfo| {
            let mut row = vec![format!("kbs:///{}", one.path)];
            row.extend(cells(one));
            row
        };
        let heading = ["ADDRESS", "VERSION", "BYTES", "STATE", "RELEASED", "EXPIRES", "ORIGIN", "CHANGED"];
        table(&heading, &list.iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) fn show(context: &Context, uri: &str) -> Result<()> {
    let path = path_of(uri)?;
    let admin = context.admin()?;
    let found = block_on(async { Ok(admin.resource_versions(&path).await?) })?;
    context.output.show(&found, |found| {
        let row = |one: &ResourceVersion| {
            let mut row = cells(&one.info).to_vec();
            row.push(one.revoked_at.clone().unwrap_or_else(|| "-".into()));
            row.push(one.reason.clone().unwrap_or_else(|| "-".into()));
            row
        };
        let heading =
            ["VERSION", "BYTES", "STATE", "RELEASED", "EXPIRES", "ORIGIN", "CHANGED", "REVOKED", "REASON"];
        table(&heading, &found.versions.iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) fn revoke(context: &Context, options: Revoke) -> Result<()> {
    let Revoke { uri, version, reason } = options;
    set_state(context, &uri, SetResourceState { state: ResourceState::Revoked, version, reason })?;
    context.output.show(&json!({"revoked": uri, "version": version}), |_| {
        format!("revoked {}: nobody gets it any more; who has it keeps it", named(&uri, version))
    })
}

pub(super) fn restore(context: &Context, options: &Restore) -> Result<()> {
    let Restore { uri, version } = options;
    let state = SetResourceState { state: ResourceState::Active, version: *version, reason: String::new() };
    set_state(context, uri, state)?;
    context.output.show(&json!({"restored": uri, "version": version}), |_| {
        format!("restored {}: policy decides about it again", named(uri, *version))
    })
}

fn set_state(context: &Context, uri: &str, state: SetResourceState) -> Result<()> {
    let path = path_of(uri)?;
    let admin = context.admin()?;
    block_on(async { Ok(admin.set_resource_state(&path, &state).await?) })
}

fn named(uri: &str, version: Option<u64>) -> String {
    version.map_or_else(|| uri.to_owned(), |version| format!("version {version} of {uri}"))
}

fn cells(one: &ResourceInfo) -> [String; 7] {
    let state = match one.state {
        ResourceState::Active => "active",
        ResourceState::Revoked => "revoked",
    };
    let origin = match one.origin {
        ResourceOrigin::Stored => "stored",
        ResourceOrigin::Generated => "generated",
    };
    // Releases are counted where there is a limit only.
    let released =
        one.release_limit.map_or_else(|| "-".to_owned(), |limit| format!("{}/{limit}", one.released));
    [
        one.version.to_string(),
        one.bytes.to_string(),
        state.to_owned(),
        released,
        one.expires_at.clone().unwrap_or_else(|| "-".into()),
        origin.to_owned(),
        one.changed_at.clone(),
    ]
}
