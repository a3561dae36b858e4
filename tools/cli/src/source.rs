//! Where one judgement gets its documents: files that were named, then the cache of this workstation, then the
//! network.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use coffer_server_collateral::{CollateralService, FetchError, Hints, Listed, Settings};
use coffer_verify_api::{Collateral, CollateralKey, Document, Shelf};
use tempfile::TempDir;

use crate::output::progress;
use crate::{Context, block_on};

/// How long a person waits for one round of documents.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cache of this workstation, with the settings of `collateral.toml`.
pub(crate) fn open(context: &Context, offline: bool) -> Result<CollateralService> {
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

/// Documents for one judgement.
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

    /// What could not be had.
    pub(crate) fn missing(&self) -> &[CollateralKey] {
        &self.missing
    }

    /// The documents of the cache that were taken.
    pub(crate) fn listed(&self) -> Result<Vec<Listed>> {
        let listed = self.cache.list()?.into_iter();
        Ok(listed.filter(|listed| self.shelf.find(&listed.key).is_some()).collect())
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
                match why.as_ref() {
                    FetchError::Offline => {
                        eprintln!("{key}: not in the cache, and nothing is fetched offline");
                    }
                    why => eprintln!("{key}: {why}"),
                }
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
