//! What opens, what is refused, and that refusing changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::inner::write;
use crate::store::META_FORMAT;
use crate::table::META;

const CANARY: &[u8] = b"a canary that is nowhere on the disk";

#[test]
fn what_was_stored_is_there_after_reopening_and_is_not_in_the_file() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    assert!(!store.was_created());
    let resource = own(&store).resource("default/key/1").unwrap().unwrap();
    assert!(resource.value.equals(CANARY));
    assert_eq!((resource.about.version, resource.about.bytes, resource.about.changed_at), (1, 36, AT));
    assert!(own(&store).get(Table::Policies, "resource").unwrap().unwrap().equals(b"package policy"));
    for file in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a canary"));
    }
}

#[test]
fn a_second_open_is_told_who_has_the_store() {
    let folder = filled();
    let _first = Store::open(folder.path()).unwrap();
    assert!(refusal(folder.path()).contains("in use by another broker"));
}

#[test]
fn a_wrong_or_missing_or_public_master_key_is_refused_and_nothing_is_changed() {
    let folder = filled();
    let (key, database) = (folder.path().join("master.key"), folder.path().join("store.redb"));
    let original = fs::read(&key).unwrap();

    fs::write(&key, [7; 32]).unwrap();
    let told = refusal(folder.path());
    assert!(told.contains("expected the master key file:") && told.contains("found file:"), "{told}");
    fs::write(&key, [7; 31]).unwrap();
    assert!(refusal(folder.path()).contains("31 bytes, expected 32"));
    fs::remove_file(&key).unwrap();
    assert!(refusal(folder.path()).contains("its master key"));
    assert!(!key.exists(), "a new master key was made for an old store");
    fs::write(&key, &original).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refusal(folder.path()).contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    assert!(database.exists());
    assert!(own(&Store::open(folder.path()).unwrap()).resource("default/key/1").unwrap().is_some());
}

#[test]
fn a_truncated_store_is_refused_and_not_made_anew() {
    let folder = filled();
    let path = folder.path().join("store.redb");
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, 64, 320, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let Err(error) = Store::open(folder.path()) else {
            panic!("{length} bytes of {} were opened", whole.len());
        };
        assert!(error.to_string().contains("is damaged"), "{length}: {error}");
        assert_eq!(fs::metadata(&path).unwrap().len(), length as u64, "the damaged file was changed");
    }
    fs::write(&path, &whole).unwrap();
    assert!(own(&Store::open(folder.path()).unwrap()).resource("default/key/1").unwrap().is_some());
}

#[test]
fn a_flipped_byte_never_gives_another_value() {
    let folder = filled();
    let path = folder.path().join("store.redb");
    let whole = fs::read(&path).unwrap();
    // Bytes in use are few in a sparse file: those that are not zero, and the header.
    let used: Vec<usize> = (320..whole.len()).filter(|index| whole[*index] != 0).collect();
    let mut refused = 0;
    for index in (0..320).step_by(3).chain(used.iter().copied().step_by(used.len() / 90 + 1)) {
        let mut changed = whole.clone();
        changed[index] ^= [0x10, 0x01, 0x80][index % 3];
        fs::write(&path, &changed).unwrap();
        let read = std::panic::catch_unwind(|| {
            let store = Store::open(folder.path())?;
            let value = own(&store).resource("default/key/1")?;
            let policy = own(&store).get(Table::Policies, "resource")?;
            Ok::<_, StoreError>((value, policy))
        });
        match read.unwrap_or_else(|_| panic!("byte {index}: it panicked")) {
            Ok((Some(resource), Some(policy))) => {
                assert!(resource.value.equals(CANARY), "byte {index}");
                assert!(policy.equals(b"package policy"), "byte {index}");
            }
            Ok(_) => panic!("byte {index}: something was lost and nobody was told"),
            Err(error) => {
                let told = error.to_string();
                assert!(
                    ["damaged", "format", "no store", "could not be read"]
                        .iter()
                        .any(|word| told.contains(word)),
                    "byte {index}: {told}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no flip reached the record");
}

#[test]
fn rows_cannot_be_swapped() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    own(&store).put(Table::Policies, "other", b"package policy # other").unwrap();
    store.create_tenant(&tenant("b"), b"{}").unwrap();
    let sealed = |key: &str| store.inner.read(|view| view.get("policies", key)).unwrap().unwrap();
    let (resource, other) = (sealed("default/resource"), sealed("default/other"));
    write(&*store.inner.engine, |change| {
        change.put("policies", "default/other", &resource)?;
        change.put("policies", "b/resource", &resource)?;
        change.put("settings", "default/other", &other)
    })
    .unwrap();
    assert!(matches!(own(&store).get(Table::Policies, "other"), Err(StoreError::Record { .. })));
    assert!(matches!(own(&store).get(Table::Settings, "other"), Err(StoreError::Record { .. })));
    assert!(matches!(
        store.tenant(&tenant("b")).get(Table::Policies, "resource"),
        Err(StoreError::Record { .. })
    ));
    assert!(own(&store).get(Table::Policies, "resource").unwrap().is_some());
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    write(&*store.inner.engine, |change| change.put(META, META_FORMAT, &3_u64.to_be_bytes())).unwrap();
    drop(store);
    assert!(refusal(folder.path()).contains("format 3"));
}

#[test]
fn a_database_of_another_program_is_refused_and_not_written_to() {
    let folder = filled();
    let path = folder.path().join("store.redb");
    fs::remove_file(&path).unwrap();
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, u64>::new("theirs");
    transaction.open_table(table).unwrap().insert("a", 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    assert!(refusal(folder.path()).contains("no format and no key"));
    assert!(fs::read(&path).unwrap().len() == before.len());
}

#[test]
fn a_store_that_was_published_before_it_was_filled_is_filled_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    drop(Store::embedded(folder.path()).unwrap());
    let store = Store::open(folder.path()).unwrap();
    assert!(store.was_created());
    own(&store).put(Table::Policies, "resource", b"p").unwrap();
}

#[test]
fn rows_without_a_store_are_not_made_one() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, created) = Store::embedded(folder.path()).unwrap();
    assert!(created);
    write(&*engine, |change| change.put("policies", "default/x", b"y")).unwrap();
    let master = MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    let Err(error) = Store::open_with(engine.clone(), &master) else { panic!("it was opened") };
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    write(&*engine, |change| change.discard("policies", "default/x")).unwrap();
    assert!(Store::open_with(engine, &master).unwrap().was_created());
}

#[test]
fn the_master_key_is_rotated_and_a_kill_between_its_steps_loses_nothing() {
    let folder = filled();
    let key = folder.path().join("master.key");
    let first = fs::read(&key).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let before = store.master_key_id().unwrap();
    store.rotate_master_file(folder.path()).unwrap();
    assert_ne!(store.master_key_id().unwrap(), before);
    drop(store);
    assert_ne!(fs::read(&key).unwrap(), first);
    let store = Store::open(folder.path()).unwrap();
    assert!(own(&store).resource("default/key/1").unwrap().is_some());

    // Killed after the store has the next key, before the file has its name.
    let next = folder.path().join("master.key.next");
    store.rotate_master(&MasterKeyFile::create(&next).unwrap()).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(own(&store).resource("default/key/1").unwrap().is_some() && !next.exists());
    drop(store);

    // Killed before the store has it: the old key opens, and the next rotation takes the waiting one.
    MasterKeyFile::create(&next).unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.rotate_master_file(folder.path()).unwrap();
    drop(store);
    assert!(Store::open(folder.path()).is_ok());
    fs::write(&key, first).unwrap();
    assert!(refusal(folder.path()).contains("does not open this store"));
}

#[test]
fn two_processes_that_make_a_store_at_once_have_the_same_one() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = Store::embedded(folder.path()).unwrap();
    let master = Arc::new(MasterKeyFile::create(&folder.path().join("master.key")).unwrap());
    let made: Vec<Store> = std::thread::scope(|scope| {
        let open = |_| scope.spawn(|| Store::open_with(engine.clone(), &*master).unwrap());
        let threads: Vec<_> = (0..4).map(open).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|store| store.was_created()).count(), 1);
    own(&made[0]).put(Table::Policies, "resource", b"p").unwrap();
    for store in &made {
        assert!(own(store).get(Table::Policies, "resource").unwrap().unwrap().equals(b"p"));
    }
}
