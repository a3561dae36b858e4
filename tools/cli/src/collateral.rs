//! `coffer collateral`: what judges need beside the evidence, in the cache of this workstation.
//!
//! The broker has a cache of its own; a bundle carries documents from one to the other, and to where no network is.

mod broker;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coffer_server_collateral::{EXAMPLE, Listed, State};
use coffer_verify_api::CollateralKey;
use serde_json::json;

use crate::Context;
use crate::judge::Judging;
use crate::output::{plain, table};
use crate::source::{Source, open};

/// Which cache, and what with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Work on the broker's cache instead of this workstation's.
    #[arg(long, global = true)]
    at_broker: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Fetch documents from their vendors into the cache: by key, or all that some evidence needs.
    ///
    /// Keys are as in `intel/tdx/tcb-info/b0c06f000000`; `coffer explain FILE --offline` names those that it misses.
    Fetch {
        /// The keys.
        #[arg(required_unless_present = "evidence")]
        keys: Vec<CollateralKey>,
        /// Evidence in a file: whatever its judgement asks for is fetched.
        #[arg(long, value_name = "FILE", conflicts_with = "keys")]
        evidence: Option<PathBuf>,
    },
    /// Put documents of yours into the cache.
    ///
    /// Read are bundles of `coffer collateral export`, the collateral JSON of quote libraries, single answers of the
    /// vendors' services, revocation lists, AMD's certificates and NVIDIA's manifests. Nothing is believed of them
    /// here: a judge checks each signature.
    Import {
        /// Files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Write documents as a bundle, for a machine without network.
    Export {
        /// The bundle: a tar if the name ends in .tar, a folder otherwise.
        out: PathBuf,
        /// Only these keys [default: all].
        keys: Vec<CollateralKey>,
    },
    /// List the documents in the cache and how long they are good.
    List,
    /// Remove a document from the cache.
    Rm {
        /// Its key.
        key: CollateralKey,
    },
    /// Show the settings file with every default, to be saved as `collateral.toml` in COFFER_HOME.
    Settings,
}

pub(crate) fn run(context: &Context, options: Options) -> Result<()> {
    if options.at_broker {
        return broker::run(context, options.command);
    }
    match options.command {
        Command::Fetch { keys, evidence } => fetch(context, &keys, evidence.as_deref()),
        Command::Import { paths } => {
            let cache = open(context, false)?;
            let mut listed = Vec::new();
            for path in &paths {
                listed.extend(
                    cache.import(path).with_context(|| format!("{} was not imported", path.display()))?,
                );
            }
            context
                .output
                .show(&listed, |listed| format!("{}\nimported {}", rows(listed), count(listed.len())))
        }
        Command::Export { out, keys } => {
            let keys = (!keys.is_empty()).then_some(keys.as_slice());
            let written = open(context, true)?.export(&out, keys)?;
            context.output.show(&json!({"written": written, "to": out}), |_| {
                format!("wrote {} to {}", count(written), out.display())
            })
        }
        Command::List => {
            let listed = open(context, true)?.list()?;
            context.output.show(&listed, |listed| rows(listed))
        }
        Command::Rm { key } => {
            if !open(context, true)?.remove(&key)? {
                bail!("{key} is not in the cache; `coffer collateral list` shows what is");
            }
            context.output.show(&json!({"removed": key}), |_| format!("removed {key}"))
        }
        Command::Settings => plain(EXAMPLE),
    }
}

fn fetch(context: &Context, keys: &[CollateralKey], evidence: Option<&Path>) -> Result<()> {
    let mut source = Source::open(context, false, &[])?;
    match evidence {
        Some(file) => {
            crate::judge::examine(file, &Judging::default(), &mut source)?;
        }
        None => {
            source.fetch(keys)?;
        }
    }
    let listed = source.listed()?;
    context.output.show(&listed, |listed| rows(listed))?;
    match source.missing().len() {
        0 => Ok(()),
        missing => bail!("{} could not be fetched", count(missing)),
    }
}

fn count(documents: usize) -> String {
    if documents == 1 { "1 document".into() } else { format!("{documents} documents") }
}

fn rows(listed: &[Listed]) -> String {
    let row = |one: &Listed| {
        let until = one.valid_until.map_or_else(|| "-".into(), |until| until.to_string());
        let state = match one.state {
            State::Fresh => "fresh",
            State::Due => "due",
            State::Ended => "ended",
        };
        let origin = if one.imported { format!("imported: {}", one.origin) } else { one.origin.clone() };
        vec![one.key.to_string(), state.into(), until, one.fetched.to_string(), one.bytes.to_string(), origin]
    };
    table(
        &["KEY", "STATE", "VALID UNTIL", "FETCHED", "BYTES", "ORIGIN"],
        &listed.iter().map(row).collect::<Vec<_>>(),
    )
}
