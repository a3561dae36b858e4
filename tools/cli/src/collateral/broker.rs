//! The same commands on the cache of the broker.

use anyhow::{Context as _, Result, bail};
use coffer_core_admin::CollateralDocument;
use serde_json::json;

use super::{Command, count};
use crate::output::table;
use crate::{Context, block_on};

pub(super) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = context.home.broker_access(&context.broker)?.admin()?;
    match command {
        Command::Fetch { evidence: Some(_), .. } => {
            bail!(
                "--evidence is judged here; fetch for it here, export a bundle, and import that at the broker"
            )
        }
        Command::Fetch { keys, .. } => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let results = block_on(async { Ok(admin.fetch_collateral(&keys).await?) })?;
            let failed: Vec<String> = results
                .iter()
                .filter_map(|one| one.error.as_ref().map(|error| format!("{}: {error}", one.key)))
                .collect();
            context.output.show(&results, |results| {
                rows(&results.iter().filter_map(|one| one.document.clone()).collect::<Vec<_>>())
            })?;
            match failed.as_slice() {
                [] => Ok(()),
                failed => bail!("the broker could not fetch {}:\n{}", count(failed.len()), failed.join("\n")),
            }
        }
        Command::Import { paths } => {
            let mut documents = Vec::new();
            for path in &paths {
                let file = std::fs::read(path).with_context(|| {
                    format!("{} cannot be read; a folder is first made a bundle", path.display())
                })?;
                documents.extend(block_on(async { Ok(admin.import_collateral(file).await?) })?);
            }
            context.output.show(&documents, |documents| {
                format!("{}\nimported {}", rows(documents), count(documents.len()))
            })
        }
        Command::Export { out, keys } => {
            if !keys.is_empty() {
                bail!("the broker's cache is exported whole; leave the keys out");
            }
            let bundle = block_on(async { Ok(admin.export_collateral().await?) })?;
            std::fs::write(&out, &bundle).with_context(|| format!("{} cannot be written", out.display()))?;
            context.output.show(&json!({"to": out, "bytes": bundle.len()}), |_| {
                format!("wrote the broker's cache to {} (a tar)", out.display())
            })
        }
        Command::List => {
            let list = block_on(async { Ok(admin.list_collateral().await?) })?;
            context.output.show(&list, |list| {
                let offline = if list.offline { "the broker is offline: it fetches nothing\n" } else { "" };
                format!("{offline}{}", rows(&list.documents))
            })
        }
        Command::Rm { key } => {
            block_on(async { Ok(admin.remove_collateral(&key.to_string()).await?) })?;
            context.output.show(&json!({"removed": key}), |_| format!("removed {key}"))
        }
        Command::Settings => bail!("the broker's settings are in its own broker.toml; this is only for here"),
    }
}

fn rows(documents: &[CollateralDocument]) -> String {
    let row = |one: &CollateralDocument| {
        let until = one.valid_until.clone().unwrap_or_else(|| "-".into());
        let origin = if one.imported { format!("imported: {}", one.origin) } else { one.origin.clone() };
        vec![one.key.clone(), one.state.clone(), until, one.fetched.clone(), one.bytes.to_string(), origin]
    };
    table(
        &["KEY", "STATE", "VALID UNTIL", "FETCHED", "BYTES", "ORIGIN"],
        &documents.iter().map(row).collect::<Vec<_>>(),
    )
}
