//! `coffer collateral`: what judges need beside the evidence, in the cache of this workstation.
//!
//! The broker has a cache of its own; a bundle carries documents from one to the other, and to where no network is.

mod broker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use coffer_server_collateral::{CollateralService, EXAMPLE, Hints, Listed, Settings, State};
use coffer_verify_api::{Collateral, CollateralKey, Document, Shelf};
use serde_json::json;
use tempfile::TempDir;

use crate::judge::Judging;
use crate::output::{progress, table};
use crate::{Context, block_on};

/// How long a person waits for one round of documents.
const PATIENCE: Duration = Duration::from_secs(60);

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
        Command::Settings => {
            print!("{EXAMPLE}");
            Ok(())
        }
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
    if !source.missing.is_empty() {
        bail!("{} could not be fetched", count(source.missing.len()));
    }
    let fetched: Vec<&CollateralKey> = source.shelf.iter().map(|(key, _)| key).collect();
    let listed: Vec<Listed> =
        source.cache.list()?.into_iter().filter(|listed| fetched.contains(&&listed.key)).collect();
    context.output.show(&listed, |listed| rows(listed))
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

/// The cache of this workstation, with the settings of `collateral.toml`.
fn open(context: &Context, offline: bool) -> Result<CollateralService> {
    let path = context.home.collateral_settings();
    let mut settings = match std::fs::read_to_string(&path) {
        Ok(text) => {
            Settings::from_toml(&text).with_context(|| format!("{} is not as expected", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    settings.offline |= offline;
    let folder = match settings.folder.as_os_str().is_empty() {
        true => context.home.collateral(),
        false => settings.folder.clone(),
    };
    Ok(CollateralService::open(&folder, settings)?)
}

/// Documents for one judgement: files that were named, then the cache, then the network.
pub(crate) struct Source {
    cache: CollateralService,
    /// What was named for this once is not put into the cache.
    named: Option<(CollateralService, TempDir)>,
    shelf: Shelf,
    missing: Vec<CollateralKey>,
    /// Certificates of the evidence, for documents that are asked for by certificate.
    pub(crate) hints: Hints,
}

impl Source {
    pub(crate) fn open(context: &Context, offline: bool, paths: &[PathBuf]) -> Result<Self> {
        let named = match paths {
            [] => None,
            paths => {
                let folder = tempfile::tempdir()?;
                let settings = Settings { offline: true, ..Settings::default() };
                let service = CollateralService::open(folder.path(), settings)?;
                for path in paths {
                    service.import(path).with_context(|| format!("{} is no collateral", path.display()))?;
                }
                Some((service, folder))
            }
        };
        let cache = open(context, offline)?;
        Ok(Self { cache, named, shelf: Shelf::default(), missing: Vec::new(), hints: Hints::default() })
    }

    /// Gets what it can, and says whether that is more than before. What is not to be had is told to the person.
    pub(crate) fn fetch(&mut self, keys: &[CollateralKey]) -> Result<bool> {
        let mut wanted: Vec<CollateralKey> =
            keys.iter().filter(|key| self.shelf.find(key).is_none()).cloned().collect();
        let mut more = false;
        if let Some((named, _)) = &self.named {
            let gathered = block_on(async { Ok(named.gather(&wanted, &self.hints, PATIENCE).await) })?;
            more |= take(&mut self.shelf, &gathered.shelf);
            wanted = gathered.missing.into_iter().map(|(key, _)| key).collect();
        }
        if wanted.is_empty() {
            return Ok(more);
        }
        let bar = progress("fetching collateral", None);
        let gathered = block_on(async { Ok(self.cache.gather(&wanted, &self.hints, PATIENCE).await) });
        bar.finish_and_clear();
        let gathered = gathered?;
        more |= take(&mut self.shelf, &gathered.shelf);
        for (key, why) in gathered.missing {
            if !self.missing.contains(&key) {
                eprintln!("{key}: {why}");
                self.missing.push(key);
            }
        }
        Ok(more)
    }
}

fn take(shelf: &mut Shelf, found: &Shelf) -> bool {
    let mut more = false;
    for (key, document) in found.iter() {
        shelf.put(key.clone(), Arc::clone(document));
        more = true;
    }
    more
}

impl Collateral for Source {
    fn find(&self, key: &CollateralKey) -> Option<Arc<Document>> {
        self.shelf.find(key)
    }
}
