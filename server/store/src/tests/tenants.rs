//! Tenants are made with keys of their own, and removed with all that they had.

use super::*;
use crate::engine::Order;
use crate::inner::write;
use crate::table;

fn entry(id: &str) -> JournalEntry {
    JournalEntry::Attempt(AttemptEntry { id: id.into(), refused: false, at_ms: AT, body: b"b".to_vec() })
}

/// Some of everything.
fn fill(store: &Store, name: &TenantName) {
    let scope = store.tenant(name);
    for table in Table::ALL {
        scope.put(table, "n", name.as_str().as_bytes()).unwrap();
    }
    scope.withdraw(Table::Policies, "n").unwrap();
    let value = secret(b"v");
    let new = NewResource { release_limit: Some(2), ..NewResource::stored(&value, AT) };
    scope.put_resource("a/b/c", new).unwrap();
    scope.put_resource("a/b/d", NewResource::stored(&secret(b"v"), AT)).unwrap();
    scope.delete_resource("a/b/d").unwrap();
    let revision = scope.revision().unwrap();
    let release = JournalEntry::Release {
        attempt: "1".into(),
        path: "a/b/c".into(),
        version: Some(1),
        revision,
        at: AT,
        body: b"b".to_vec(),
    };
    let evidence = JournalEntry::Evidence { attempt: "1".into(), at_ms: AT, body: b"e".to_vec(), keep: 9 };
    let entries = [entry("1"), release, evidence].map(|entry| (name.clone(), entry));
    assert_eq!(store.journal(&entries).unwrap(), [Written::Kept; 3]);
    scope.rotate_key().unwrap();
    assert!(!scope.reseal(1).unwrap().done);
}

fn rows_of(store: &Store, name: &str) -> Vec<String> {
    let (from, until) = table::bounds(name);
    let mut found = Vec::new();
    for table in table::all() {
        let rows = store.inner.read(|view| view.range(table, &from, &until, Order::Ascending, 99)).unwrap();
        found.extend(rows.into_iter().map(|(key, _)| format!("{table}: {key}")));
    }
    found
}

#[test]
fn tenants_are_listed_with_their_settings_and_default_is_always_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let names = |store: &Store| -> Vec<String> {
        store.tenants().unwrap().into_iter().map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!(names(&store), ["default"]);
    store.create_tenant(&tenant("team-1"), b"{\"a\":1}").unwrap();
    store.create_tenant(&tenant("a"), b"{}").unwrap();
    assert_eq!(names(&store), ["a", "default", "team-1"]);
    assert!(matches!(store.create_tenant(&tenant("a"), b""), Err(StoreError::TenantExists(_))));
    assert!(matches!(store.create_tenant(&tenant("default"), b""), Err(StoreError::TenantExists(_))));
    assert!(matches!(store.remove_tenant(&tenant("default")), Err(StoreError::TenantStays(_))));
    assert!(store.tenant_exists(&tenant("default")).unwrap() && !store.tenant_exists(&tenant("b")).unwrap());

    let (settings, tag) = store.tenant_settings(&tenant("team-1")).unwrap().unwrap();
    assert!(settings.equals(b"{\"a\":1}"));
    let before = store.tenant(&tenant("team-1")).revision().unwrap();
    assert!(store.set_tenant_settings(&tenant("team-1"), Some(tag), b"{\"a\":2}").unwrap());
    assert!(!store.set_tenant_settings(&tenant("team-1"), Some(tag), b"{\"a\":3}").unwrap());
    assert_eq!(store.tenant(&tenant("team-1")).revision().unwrap(), before + 1);
    let (settings, tag) = store.tenant_settings(&tenant("default")).unwrap().unwrap();
    assert!(settings.equals(b"{}"));
    assert!(store.set_tenant_settings(&tenant("default"), Some(tag), b"{\"b\":1}").unwrap());
    assert_eq!(names(&store), ["a", "default", "team-1"]);
    assert!(store.tenant_settings(&tenant("b")).unwrap().is_none());
    let unknown = store.set_tenant_settings(&tenant("b"), None, b"{}");
    assert!(matches!(unknown, Err(StoreError::NoSuchTenant(_))));
    assert_eq!(names(&store), ["a", "default", "team-1"]);
}

#[test]
fn a_removed_tenant_leaves_no_row_and_a_new_one_of_its_name_begins_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (gone, stays) = (tenant("gone"), tenant("gone-not"));
    for name in [&gone, &stays] {
        store.create_tenant(name, b"{}").unwrap();
        fill(&store, name);
    }
    let (before, others) = (rows_of(&store, "gone"), rows_of(&store, "gone-not"));
    assert!(before.len() > 25, "{before:?}");
    assert!(store.remove_tenant(&gone).unwrap());
    assert!(!store.remove_tenant(&gone).unwrap());
    assert_eq!(rows_of(&store, "gone"), [""; 0]);
    assert_eq!(rows_of(&store, "gone-not"), others);
    assert!(!store.tenant_exists(&gone).unwrap());
    assert!(store.verify().unwrap().is_whole());
    let put = store.tenant(&gone).put(Table::Policies, "n", b"v");
    assert!(matches!(put, Err(StoreError::NoSuchTenant(_))));
    let journal = [(gone.clone(), entry("2")), (stays.clone(), entry("2"))];
    assert_eq!(store.journal(&journal).unwrap(), [Written::TenantGone, Written::Kept]);

    store.create_tenant(&gone, b"{}").unwrap();
    assert_eq!(store.tenant(&gone).count(Table::Settings).unwrap(), 0);
    fill(&store, &gone);
    let after = rows_of(&store, "gone");
    let differ: Vec<&String> = after.iter().filter(|row| !before.contains(row)).collect();
    assert_eq!(after.len(), before.len());
    assert!(differ.len() == 2 && differ.iter().all(|row| row.starts_with("tenant-keys")), "{differ:?}");
}

#[test]
fn a_removal_that_was_killed_is_unreadable_at_once_and_is_taken_up_again() {
    for by_opening in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let gone = tenant("gone");
        store.create_tenant(&gone, b"{}").unwrap();
        fill(&store, &gone);
        let leftovers = rows_of(&store, "gone");
        let copies: Vec<(&'static str, String, Vec<u8>)> = table::sealed_by_tenant()
            .flat_map(|table| {
                let (from, until) = table::bounds("gone");
                let rows = store.inner.read(|view| view.range(table, &from, &until, Order::Ascending, 99));
                rows.unwrap().into_iter().map(move |(key, value)| (table, key, value))
            })
            .collect();
        store.remove_tenant(&gone).unwrap();
        // As it is after the first step: no key, no state, all other rows.
        write(&*store.inner.engine, |change| {
            for (table, key, value) in &copies {
                change.put(table, key, value)?;
            }
            let mark = store.inner.keys.seal_own(table::REMOVALS, "/gone", b"")?;
            change.put(table::REMOVALS, "/gone", &mark)
        })
        .unwrap();
        assert!(leftovers.len() > copies.len());
        assert!(matches!(store.tenant(&gone).get(Table::Settings, "n"), Err(StoreError::Record { .. })));
        assert!(store.verify().unwrap().is_whole(), "what is being removed is not damage");
        let store = match by_opening {
            true => {
                drop(store);
                let store = Store::open(folder.path()).unwrap();
                assert_eq!(rows_of(&store, "gone"), [""; 0]);
                store
            }
            false => store,
        };
        store.create_tenant(&gone, b"{}").unwrap();
        assert_eq!(store.tenant(&gone).count(Table::Settings).unwrap(), 0);
        assert!(store.verify().unwrap().is_whole());
    }
}

#[test]
fn another_replica_writes_nothing_under_the_key_of_a_namesake() {
    let folder = tempfile::tempdir().unwrap();
    let engine = super::engines::shared(folder.path());
    let master = MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    let one = Store::open_with(engine.clone(), &master).unwrap();
    let two = Store::open_with(engine, &master).unwrap();
    let name = tenant("t");
    one.create_tenant(&name, b"{}").unwrap();
    two.tenant(&name).put(Table::Policies, "p", b"first").unwrap();
    one.remove_tenant(&name).unwrap();
    one.create_tenant(&name, b"{}").unwrap();
    assert!(two.tenant(&name).get(Table::Policies, "p").unwrap().is_none());
    two.tenant(&name).put(Table::Policies, "p", b"second").unwrap();
    assert!(one.tenant(&name).get(Table::Policies, "p").unwrap().unwrap().equals(b"second"));
    assert!(Store::verify(&one).unwrap().is_whole());
}
