//! Copies: what is put back is what was there, and a copy that is not whole puts nothing back.

use std::sync::Arc;

use super::*;
use crate::inner::write;
use crate::table;

fn copy(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.backup(&mut bytes).unwrap();
    bytes
}

fn is_empty(engine: &dyn Engine) -> bool {
    let mut empty = true;
    engine
        .read(&mut |view| {
            for name in table::all().chain([table::META]) {
                empty &= crate::store::is_empty(view, name)?;
            }
            Ok(())
        })
        .unwrap();
    empty
}

fn target() -> (tempfile::TempDir, Arc<dyn Engine>) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Store::embedded(folder.path()).unwrap().0;
    (folder, engine)
}

#[test]
fn a_restored_store_opens_with_its_own_master_key_only() {
    let folder = filled();
    let bytes = copy(&Store::open(folder.path()).unwrap());
    assert!(!bytes.windows(8).any(|window| window == b"a canary"));
    let (place, engine) = target();
    restore(&*engine, &mut bytes.as_slice()).unwrap();
    let other = MasterKeyFile::create(&place.path().join("other.key")).unwrap();
    let refused = Store::open_with(engine.clone(), &other).err().unwrap();
    assert!(matches!(refused, StoreError::WrongMasterKey { .. }), "{refused}");
    drop(engine);
    std::fs::copy(folder.path().join("master.key"), place.path().join("master.key")).unwrap();
    let store = Store::open(place.path()).unwrap();
    assert!(
        own(&store)
            .resource("default/key/1")
            .unwrap()
            .unwrap()
            .value
            .equals(b"a canary that is nowhere on the disk")
    );
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn a_copy_with_any_byte_changed_or_missing_puts_nothing_back() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let bytes = copy(&store);
    let (_place, engine) = target();
    let step = bytes.len() / 60;
    let cuts = (0..bytes.len()).step_by(step).map(|end| bytes[..end].to_vec());
    let flips = (0..bytes.len()).step_by(step).chain(bytes.len() - 40..bytes.len()).map(|index| {
        let mut changed = bytes.clone();
        changed[index] ^= 0x04;
        changed
    });
    let longer = std::iter::once([bytes.as_slice(), b"x"].concat());
    for (number, wrong) in cuts.chain(flips).chain(longer).enumerate() {
        let error = check_backup(&mut wrong.as_slice()).expect_err("it was taken for whole");
        assert!(
            matches!(error, BackupError::NotACopy | BackupError::Form { .. } | BackupError::Damaged { .. }),
            "{error}"
        );
        if number % 10 == 0 {
            assert!(restore(&*engine, &mut wrong.as_slice()).is_err());
            assert!(is_empty(&*engine), "rows were left");
        }
    }
    restore(&*engine, &mut bytes.as_slice()).unwrap();
    let again = restore(&*engine, &mut bytes.as_slice());
    assert!(matches!(again, Err(BackupError::NotEmpty { .. })));
    let used = restore(&*store.inner.engine, &mut bytes.as_slice());
    assert!(matches!(used, Err(BackupError::NotEmpty { .. })));
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn a_restore_that_was_killed_is_no_store_and_the_next_one_begins_anew() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let bytes = copy(&store);
    let (place, engine) = target();
    write(&*engine, |change| {
        change.put(table::META, "restoring", b"token of the one before")?;
        change.put("policies", "default/leftover", b"of the one before")
    })
    .unwrap();
    let master = MasterKeyFile::open(&folder.path().join("master.key")).unwrap().unwrap();
    let refused = Store::open_with(engine.clone(), &master).err().unwrap();
    assert!(refused.to_string().contains("run the restore again"), "{refused}");
    restore(&*engine, &mut bytes.as_slice()).unwrap();
    let restored = Store::open_with(engine, &master).unwrap();
    assert!(own(&restored).get(Table::Policies, "leftover").unwrap().is_none());
    assert_eq!(copy(&restored), bytes);
    drop(place);
}

#[test]
fn a_restore_that_another_one_overtook_puts_nothing_back() {
    struct Meddling<'a>(&'a [u8], &'a dyn Engine);
    impl std::io::Read for Meddling<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.len() < 100 {
                write(self.1, |change| change.put(table::META, "restoring", b"another's token")).unwrap();
            }
            std::io::Read::read(&mut self.0, buffer)
        }
    }
    let folder = filled();
    let bytes = copy(&Store::open(folder.path()).unwrap());
    let (_place, engine) = target();
    let overtaken = restore(&*engine, &mut Meddling(&bytes, &*engine));
    assert!(matches!(overtaken, Err(BackupError::Overtaken { .. })));
}

#[test]
fn a_copy_that_cannot_be_written_is_told_to_be_so() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = filled();
    let failed = Store::open(folder.path()).unwrap().backup(&mut Full);
    assert!(matches!(failed, Err(BackupError::Stream { what: "written", .. })));
}

#[test]
fn a_length_that_is_a_lie_takes_no_memory() {
    let folder = filled();
    let bytes = copy(&Store::open(folder.path()).unwrap());
    let name = 8 + 4 + 2 + usize::from(u16::from_be_bytes([bytes[12], bytes[13]]));
    for length in [u32::MAX, 64 << 20, 4096] {
        let mut lie = bytes[..name].to_vec();
        lie.extend_from_slice(&[1, 4]);
        lie.extend_from_slice(b"meta");
        lie.push(2);
        lie.extend_from_slice(&1_u32.to_be_bytes());
        lie.push(b'k');
        lie.extend_from_slice(&length.to_be_bytes());
        assert!(matches!(check_backup(&mut lie.as_slice()), Err(BackupError::Damaged { .. })));
    }
}
