//! The embedded engine keeps the promises of every engine.

use std::sync::Arc;

use super::*;
use crate::conformance;

/// The embedded engine, as if other processes wrote to it too.
pub(super) struct Shared(pub(super) Arc<dyn Engine>);

impl Engine for Shared {
    fn read(&self, work: &mut dyn FnMut(&dyn View) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0.read(work)
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Run twice, as an engine does that met another transaction.
        let mut first = true;
        let given_up = self.0.write(&mut |change| {
            work(change)?;
            Err(StoreError::GivenUp)
        });
        match given_up {
            Err(StoreError::GivenUp) => {}
            other => return other,
        }
        self.0.write(&mut |change| {
            assert!(std::mem::take(&mut first));
            work(change)
        })
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.0.check()
    }
}

pub(super) fn shared(folder: &Path) -> Arc<dyn Engine> {
    Arc::new(Shared(Store::embedded(folder).unwrap().0))
}

fn master(folder: &Path) -> MasterKeyFile {
    MasterKeyFile::create(&folder.join("master.key")).unwrap()
}

#[test]
fn rows_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    conformance::rows(&*Store::embedded(folder.path()).unwrap().0).unwrap();
}

#[test]
fn transactions_that_are_run_again_begin_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = shared(folder.path());
    conformance::replicas(engine.clone(), engine, &master(folder.path()), 3).unwrap();
}

#[test]
fn replicas_exceed_no_count_and_release_nothing_stale() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Store::embedded(folder.path()).unwrap().0;
    conformance::replicas(engine.clone(), engine, &master(folder.path()), 5).unwrap();
}

#[test]
fn a_copy_is_the_same_store() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (Store::embedded(folder.path()).unwrap().0, Store::embedded(other.path()).unwrap().0);
    conformance::copies(from, to, &master(folder.path())).unwrap();
}
