//! Tests of keyrings: several on one table, counts that are never too low, and tables that fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{MAX_USES, MemoryTable, TableFault};

const NOW: Moment = Moment(1_700_000_000_123);

fn name() -> KeyName {
    KeyName::parse("lake").unwrap()
}

fn shared() -> Arc<MemoryTable> {
    let table = Arc::new(MemoryTable::default());
    Keyring::new(table.clone()).create(&name(), KeyOptions::default(), NOW).unwrap();
    table
}

fn uses(table: &Arc<MemoryTable>) -> u64 {
    Keyring::new(table.clone()).hold(&name()).unwrap().key().versions().next().unwrap().uses
}

fn wrap(ring: &Keyring) -> Result<Wrapped, WrapError> {
    ring.wrap(&mut ring.hold(&name())?, None, &Binding::default(), b"data key")
}

/// A table that does as it is told before it does its work.
struct Told<F>(Arc<MemoryTable>, F);

impl<F: Fn() -> Result<Replaced, TableFault> + Send + Sync> KeyTable for Told<F> {
    fn names(&self) -> Result<Vec<String>, TableFault> {
        self.0.names()
    }

    fn read(&self, name: &KeyName) -> Result<Option<SecretBytes>, TableFault> {
        self.0.read(name)
    }

    fn replace(
        &self,
        name: &KeyName,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Replaced, TableFault> {
        match (self.1)()? {
            Replaced::Done => self.0.replace(name, expected, new),
            Replaced::Changed => Ok(Replaced::Changed),
        }
    }
}

#[test]
fn a_name_is_taken_once() {
    let ring = Keyring::new(shared());
    assert!(matches!(ring.create(&name(), KeyOptions::default(), NOW), Err(WrapError::Exists(_))));
    assert_eq!(ring.names().unwrap(), ["lake"]);
}

#[test]
fn replicas_that_wrap_at_once_count_every_use_and_waste_at_most_a_block_each() {
    let table = shared();
    let (replicas, threads, each) = (3u64, 2u64, 5_000u64);
    std::thread::scope(|scope| {
        for _ in 0..replicas {
            let ring = Arc::new(Keyring::new(table.clone()));
            for _ in 0..threads {
                let ring = ring.clone();
                scope.spawn(move || {
                    for _ in 0..each {
                        wrap(&ring).unwrap();
                    }
                });
            }
        }
    });
    let made = replicas * threads * each;
    let counted = uses(&table);
    assert!(counted >= made, "{counted} counted of {made}");
    assert!(counted <= made + replicas * threads * BLOCK, "{counted} counted of {made}");
}

#[test]
fn a_restart_forgets_no_use() {
    let table = shared();
    for round in 1..=5 {
        wrap(&Keyring::new(table.clone())).unwrap();
        assert_eq!(uses(&table), round * BLOCK);
    }
}

#[test]
fn a_spent_version_wraps_nothing_until_the_key_is_rotated() {
    let table = shared();
    let ring = Keyring::new(table);
    ring.change(&name(), |key| {
        key.versions[0].uses = MAX_USES - 3;
        Ok(())
    })
    .unwrap();
    for _ in 0..3 {
        wrap(&ring).unwrap();
    }
    assert!(matches!(wrap(&ring), Err(WrapError::Spent { version: 1, .. })));
    ring.rotate(&name(), NOW).unwrap();
    assert_eq!(wrap(&ring).unwrap().version, 2);
}

#[test]
fn no_use_is_spent_that_was_not_made_durable() {
    let table = shared();
    let fault = || Err(TableFault("the disk is full".into()));
    let ring = Keyring::new(Arc::new(Told(table.clone(), fault)));
    assert!(matches!(wrap(&ring), Err(WrapError::Unavailable(_))));
    assert!(ring.leases.lock().unwrap().is_empty());
    assert!(matches!(ring.rotate(&name(), NOW), Err(WrapError::Unavailable(_))));
    assert_eq!(uses(&table), 0);
}

#[test]
fn a_race_is_run_again_and_not_for_ever() {
    let table = shared();
    let tries = AtomicUsize::new(0);
    let third = move || match tries.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Ok(Replaced::Changed),
        _ => Ok(Replaced::Done),
    };
    let ring = Keyring::new(Arc::new(Told(table.clone(), third)));
    assert_eq!(wrap(&ring).unwrap().version, 1);
    let ring = Keyring::new(Arc::new(Told(table, || Ok(Replaced::Changed))));
    assert!(matches!(wrap(&ring), Err(WrapError::Contended(_))));
    assert!(matches!(ring.rotate(&name(), NOW), Err(WrapError::Contended(_))));
}

#[test]
fn what_one_replica_disables_no_other_uses() {
    let table = shared();
    let (here, there) = (Keyring::new(table.clone()), Keyring::new(table));
    let wrapped = wrap(&here).unwrap();
    there.set_state(&name(), 1, VersionState::Disabled).unwrap();
    assert!(matches!(wrap(&here), Err(WrapError::Disabled { .. })));
    let opened = here.hold(&name()).unwrap().key().unwrap(&wrapped, &Binding::default());
    assert!(matches!(opened, Err(WrapError::Disabled { .. })));
}

#[test]
fn rewrapping_takes_the_latest_version_and_leaves_what_is_latest() {
    let ring = Keyring::new(shared());
    let first = wrap(&ring).unwrap();
    let mut held = ring.hold(&name()).unwrap();
    assert_eq!(ring.rewrap(&mut held, &first, None, &Binding::default()).unwrap(), first);
    ring.rotate(&name(), NOW).unwrap();
    let mut held = ring.hold(&name()).unwrap();
    let second = ring.rewrap(&mut held, &first, None, &Binding::default()).unwrap();
    assert_eq!(second.version, 2);
    assert_eq!(held.key().unwrap(&second, &Binding::default()).unwrap().expose(), b"data key");
    let mut broken = second;
    broken.sealed[20] ^= 1;
    assert!(ring.rewrap(&mut held, &broken, None, &Binding::default()).is_err());
}

#[test]
fn a_generated_key_is_the_one_that_is_wrapped() {
    let ring = Keyring::new(shared());
    let mut held = ring.hold(&name()).unwrap();
    let (plain, wrapped) = ring.generate(&mut held, 32, None, &Binding::default()).unwrap();
    let (other, _) = ring.generate(&mut held, 32, None, &Binding::default()).unwrap();
    assert!(held.key().unwrap(&wrapped, &Binding::default()).unwrap().equals(plain.expose()));
    assert!(!other.equals(plain.expose()));
}

#[test]
fn a_key_is_deleted_only_where_that_is_allowed() {
    let ring = Keyring::new(shared());
    assert!(matches!(ring.delete(&name()), Err(WrapError::DeletionRefused(_))));
    ring.configure(&name(), &Change { deletion: Some(Deletion::Allowed), ..Change::default() }).unwrap();
    let old = wrap(&ring).unwrap();
    ring.delete(&name()).unwrap();
    assert!(matches!(ring.delete(&name()), Err(WrapError::NotFound(_))));
    // A new key of the same name is another key, and has its own count.
    ring.create(&name(), KeyOptions::default(), NOW).unwrap();
    wrap(&ring).unwrap();
    let held = ring.hold(&name()).unwrap();
    assert_eq!(held.key().versions().next().unwrap().uses, BLOCK);
    assert!(held.key().unwrap(&old, &Binding::default()).is_err());
}
