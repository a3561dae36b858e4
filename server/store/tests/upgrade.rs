//! Claim: a store that the first release made opens with all that was in it, however often its upgrade was killed.
#![allow(clippy::unwrap_used)]

mod format1;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;
use coffer_server_store::{
    AttemptEntry, JournalEntry, MasterKeyFile, NewResource, Scope, Store, StoreError, Table, Written,
};

const FOLDER: &str = "COFFER_TEST_UPGRADE_FOLDER";
const AT: i64 = 1_800_000_000;
const KILLS: u32 = 10;

type Content = BTreeMap<String, Vec<u8>>;

/// Some of everything that the first format had.
fn fill(folder: &Path) {
    use format1::{AttemptEntry, JournalEntry, Table};
    let store = format1::Store::open(folder).unwrap();
    for (number, table) in TABLES.iter().map(|(old, _)| *old).enumerate() {
        for name in ["one", "two/three", "gone", "ünïcode"] {
            store.put(table, name, format!("{number} {name}").as_bytes()).unwrap();
        }
        store.withdraw(table, "gone").unwrap();
    }
    store.put(Table::Keys, "challenge/00000001", &[1; 32]).unwrap();
    store.put(Table::Keys, "admin/abc", b"a public key").unwrap();
    for number in 0..30_usize {
        let path = format!("default/key/{number}");
        for version in 0..=number % 3 {
            let value = format!("{number} in version {version}").repeat(number * 20);
            store.put_resource(&path, &SecretBytes::copy_of(value.as_bytes()), AT + number as i64).unwrap();
        }
    }
    store.delete_resource("default/key/7").unwrap();
    let mut entries = Vec::new();
    for number in 0..1_300_usize {
        let body = format!("attempt {number}").repeat(20).into_bytes();
        entries.push(JournalEntry::Attempt(AttemptEntry { id: id(number), refused: number % 5 != 0, body }));
        for nth in 0..number % 4 {
            let body = format!("decision {nth} on {number}").into_bytes();
            entries.push(JournalEntry::Decision { attempt: id(number), body });
        }
        if number % 100 == 0 {
            let body = vec![7; 100_000 + number];
            entries.push(JournalEntry::Evidence { attempt: id(number), body, keep: 8 });
        }
    }
    drop(store.journal(&entries).unwrap());
    // Judged again: another place in the other ring.
    let again = AttemptEntry { id: id(500), refused: true, body: b"again".to_vec() };
    drop(store.journal(&[JournalEntry::Attempt(again)]).unwrap());
}

fn id(number: usize) -> String {
    format!("{number:032x}")
}

const TABLES: [(format1::Table, Table); 7] = [
    (format1::Table::Policies, Table::Policies),
    (format1::Table::ReferenceValues, Table::ReferenceValues),
    (format1::Table::TrustAnchors, Table::TrustAnchors),
    (format1::Table::Keys, Table::Keys),
    (format1::Table::AttestationPolicies, Table::AttestationPolicies),
    (format1::Table::NamedValues, Table::NamedValues),
    (format1::Table::Settings, Table::Settings),
];

fn before(folder: &Path) -> Content {
    let store = format1::Store::open(folder).unwrap();
    let mut content = Content::new();
    for (old, new) in TABLES {
        for (name, value) in store.list(old).unwrap() {
            content.insert(format!("{}: {name}", new.name()), value.expose().clone());
        }
        for name in ["one", "gone"] {
            let withdrawn = store.was_withdrawn(old, name).unwrap();
            content.insert(format!("withdrawn {}: {name}", new.name()), vec![u8::from(withdrawn)]);
        }
    }
    for about in store.resources().unwrap() {
        let found = store.resource(&about.path).unwrap().unwrap();
        let text = format!("{} {} {}: ", about.version, about.changed_at, about.bytes);
        content.insert(format!("resource {}", about.path), [text.as_bytes(), found.value.expose()].concat());
    }
    for (place, (id, body)) in store.attempts(usize::MAX).unwrap().into_iter().enumerate() {
        content.insert(format!("attempt {place:05} {id}"), body.expose().clone());
        for (nth, body) in store.decisions(&id).unwrap().into_iter().enumerate() {
            content.insert(format!("decision {id} {nth}"), body.expose().clone());
        }
        if let Some(body) = store.evidence(&id).unwrap() {
            content.insert(format!("evidence {id}"), body.expose().clone());
        }
    }
    let counts = store.attempt_counts().unwrap();
    content.insert("counts".to_owned(), format!("{counts:?}").into_bytes());
    content
}

fn own(store: &Store) -> Scope {
    store.tenant(&TenantName::default())
}

fn after(store: &Store) -> Content {
    let scope = own(store);
    let mut content = Content::new();
    for (_, table) in TABLES {
        for (name, value) in scope.list(table).unwrap() {
            content.insert(format!("{}: {name}", table.name()), value.expose().clone());
        }
        for (name, value) in store.cluster().list(table).unwrap() {
            assert!(name.starts_with("challenge/"), "{name} is the cluster's");
            content.insert(format!("{}: {name}", table.name()), value.expose().clone());
        }
        for name in ["one", "gone"] {
            let withdrawn = scope.was_withdrawn(table, name).unwrap();
            content.insert(format!("withdrawn {}: {name}", table.name()), vec![u8::from(withdrawn)]);
        }
    }
    for about in scope.resources(None, usize::MAX).unwrap() {
        let found = scope.resource(&about.path).unwrap().unwrap();
        let text = format!("{} {} {}: ", about.version, about.changed_at, about.bytes);
        content.insert(format!("resource {}", about.path), [text.as_bytes(), found.value.expose()].concat());
    }
    for (place, (id, body)) in scope.attempts(usize::MAX).unwrap().into_iter().enumerate() {
        content.insert(format!("attempt {place:05} {id}"), body.expose().clone());
        for (nth, body) in scope.decisions(&id).unwrap().into_iter().enumerate() {
            content.insert(format!("decision {id} {nth}"), body.expose().clone());
        }
        if let Some(body) = scope.evidence(&id).unwrap() {
            content.insert(format!("evidence {id}"), body.expose().clone());
        }
    }
    let counts = scope.attempt_counts().unwrap();
    content.insert("counts".to_owned(), format!("{counts:?}").into_bytes());
    content
}

fn assert_same(found: &Content, expected: &Content) {
    let differ: Vec<&String> =
        expected.keys().chain(found.keys()).filter(|key| found.get(*key) != expected.get(*key)).collect();
    assert!(differ.is_empty(), "{} differ, as {:?}", differ.len(), &differ[..differ.len().min(5)]);
}

fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["store.redb", "master.key"] {
        fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// The child. As a test of its own it does nothing.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    println!("\nbegins");
    drop(Store::open(Path::new(&folder)).unwrap());
    println!("\nended");
}

#[test]
fn a_store_of_the_first_release_is_upgraded_with_all_that_was_in_it_and_a_kill_loses_nothing() {
    let original = tempfile::tempdir().unwrap();
    fill(original.path());
    let expected = before(original.path());
    assert!(expected.len() > 2_500, "{} things", expected.len());
    let bytes = fs::read(original.path().join("store.redb")).unwrap();

    let folder = copied(original.path());
    let begun = Instant::now();
    let store = Store::open(folder.path()).unwrap();
    let took = begun.elapsed();
    assert_same(&after(&store), &expected);
    assert!(store.verify().unwrap().is_whole());
    let aside = folder.path().join("store.redb.format-1");
    assert!(aside.exists(), "the old file is kept");
    // What is written now comes after what was there, and versions go on.
    let entry = AttemptEntry { id: id(9_999), refused: false, at_ms: AT * 1_000, body: b"new".to_vec() };
    let decision = JournalEntry::Decision { attempt: id(1_299), body: b"new".to_vec() };
    let entries = [JournalEntry::Attempt(entry), decision].map(|entry| (TenantName::default(), entry));
    assert_eq!(store.journal(&entries).unwrap(), [Written::Kept; 2]);
    assert_eq!(own(&store).attempts(1).unwrap()[0].0, id(9_999));
    assert_eq!(own(&store).decisions(&id(1_299)).unwrap().len(), 4);
    let value = SecretBytes::copy_of(b"v");
    assert_eq!(own(&store).put_resource("default/key/2", NewResource::stored(&value, AT)).unwrap(), 4);
    drop(store);
    drop(Store::open(folder.path()).unwrap());

    for kill in 0..KILLS {
        let folder = copied(original.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next().is_some_and(|line| line.unwrap() != "begins") {}
        // Spread over the time that an upgrade takes; where exactly does not matter.
        let until = Instant::now() + took * kill / KILLS;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_same(&after(&store), &expected);
        let kept = fs::read(folder.path().join("store.redb.format-1")).unwrap();
        assert_eq!(kept.len(), bytes.len(), "the old file was changed");
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "something was left: {names:?}");
    }
}

#[test]
fn an_upgrade_that_cannot_be_made_changes_nothing() {
    let original = tempfile::tempdir().unwrap();
    drop(format1::Store::open(original.path()).unwrap());
    let told = |folder: &Path| match Store::open(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    // Another master key.
    let folder = copied(original.path());
    fs::write(folder.path().join("master.key"), [7; 32]).unwrap();
    assert!(told(folder.path()).contains("does not open this store"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was made");
    // Another file of the name that the old one is to have.
    let folder = copied(original.path());
    fs::write(folder.path().join("store.redb.format-1"), b"somebody's").unwrap();
    assert!(told(folder.path()).contains("another file has that name"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    fs::remove_file(folder.path().join("store.redb.format-1")).unwrap();
    drop(Store::open(folder.path()).unwrap());
    // Another kind of master key.
    let folder = copied(original.path());
    let engine = Store::embedded(folder.path()).unwrap().0;
    let master = MasterKeyFile::open(&folder.path().join("master.key")).unwrap().unwrap();
    assert!(matches!(Store::open_with(engine, &master), Err(StoreError::UpgradeFirst { .. })));
    // And the first release refuses what is newer than it.
    let folder = copied(original.path());
    drop(Store::open(folder.path()).unwrap());
    let Err(refused) = format1::Store::open(folder.path()) else { panic!("it was opened") };
    assert!(refused.to_string().contains("format 2"), "{refused}");
}
