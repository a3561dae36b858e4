//! New data keys: records move while the tenant is served, and no record is lost with an older key.

use super::*;
use crate::engine::Order;
use crate::seal::epoch_of;
use crate::table;

/// The epochs of a tenant's records, and the epochs that it has keys of.
fn epochs(store: &Store, name: &str) -> (Vec<u32>, Vec<u32>) {
    let (from, until) = table::bounds(name);
    let rows =
        |table| store.inner.read(|view| view.range(table, &from, &until, Order::Ascending, 9_999)).unwrap();
    let mut found: Vec<u32> =
        table::sealed_by_tenant().flat_map(rows).map(|(_, sealed)| epoch_of(&sealed).unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    let name = |key: &str| key.rsplit('/').next().unwrap().parse().unwrap();
    (found, rows(table::TENANT_KEYS).iter().map(|(key, _)| name(key)).collect())
}

/// Steps until all are moved; gives their sum.
fn reseal(scope: &Scope) -> Progress {
    let mut sum = scope.reseal(10_000).unwrap();
    while !sum.done {
        let step = scope.reseal(10_000).unwrap();
        sum = Progress {
            looked_at: sum.looked_at + step.looked_at,
            moved: sum.moved + step.moved,
            damaged: sum.damaged + step.damaged,
            ..step
        };
    }
    sum
}

#[test]
fn records_move_to_the_new_key_in_steps_and_the_old_one_goes_last() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    for number in 0..40 {
        scope.put(Table::NamedValues, &format!("n{number}"), b"old").unwrap();
    }
    let (old, _) = epochs(&store, "default");
    let new = store.rotate_tenant_key(&TenantName::default()).unwrap();
    scope.put(Table::NamedValues, "n0", b"new").unwrap();
    assert_eq!(epochs(&store, "default"), (vec![old[0], new], vec![old[0], new]));
    let mut steps = 0;
    loop {
        let progress = store.reseal(&TenantName::default(), 7).unwrap();
        assert!(progress.looked_at <= 7 && progress.damaged == 0 && progress.epoch == new);
        steps += 1;
        // Written meanwhile, before and behind the place where the pass is.
        scope.put(Table::NamedValues, &format!("m{steps}"), b"new").unwrap();
        scope.put(Table::Settings, &format!("s{steps}"), b"new").unwrap();
        if progress.done {
            break;
        }
        assert_eq!(epochs(&store, "default").1, [old[0], new], "a key went before its records");
    }
    assert!(steps > 5);
    assert_eq!(epochs(&store, "default"), (vec![new], vec![new]));
    assert!(store.verify().unwrap().is_whole());
    assert!(scope.get(Table::NamedValues, "n39").unwrap().unwrap().equals(b"old"));
    assert!(scope.resource("default/key/1").unwrap().is_some());
    drop((scope, store));
    let store = Store::open(folder.path()).unwrap();
    assert!(store.verify().unwrap().is_whole());
    assert!(reseal(&own(&store)).done);
}

#[test]
fn a_pass_goes_on_after_a_restart_and_begins_again_for_a_newer_key() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    for number in 0..20 {
        own(&store).put(Table::NamedValues, &format!("n{number}"), b"v").unwrap();
    }
    store.rotate_tenant_key(&TenantName::default()).unwrap();
    assert_eq!(store.reseal(&TenantName::default(), 15).unwrap().moved, 15);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let second = store.reseal(&TenantName::default(), 3).unwrap();
    assert_eq!((second.looked_at, second.moved), (3, 3), "it did not go on where it was");
    let newest = store.rotate_tenant_key(&TenantName::default()).unwrap();
    let all = reseal(&own(&store));
    assert!(all.done && all.moved == all.looked_at, "{all:?}");
    assert_eq!(epochs(&store, "default"), (vec![newest], vec![newest]));
}

#[test]
fn another_replica_learns_a_new_key_and_never_writes_under_a_dropped_one() {
    let folder = tempfile::tempdir().unwrap();
    let engine = super::engines::shared(folder.path());
    let master = MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    let one = Store::open_with(engine.clone(), &master).unwrap();
    let two = Store::open_with(engine, &master).unwrap();
    let name = TenantName::default();
    own(&two).put(Table::Policies, "p", b"1").unwrap();
    let epoch = one.rotate_tenant_key(&name).unwrap();
    assert!(reseal(&own(&one)).done);
    own(&two).put(Table::Policies, "q", b"2").unwrap();
    let attempt = AttemptEntry { id: "1".into(), refused: false, at_ms: AT, body: b"b".to_vec() };
    assert_eq!(two.journal(&[(name.clone(), JournalEntry::Attempt(attempt))]).unwrap(), [Written::Kept]);
    assert_eq!(epochs(&one, "default"), (vec![epoch], vec![epoch]));
    assert!(own(&two).get(Table::Policies, "p").unwrap().unwrap().equals(b"1"));
    assert!(own(&one).get(Table::Policies, "q").unwrap().unwrap().equals(b"2"));
}

#[test]
fn the_clusters_records_move_too() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    store.create_tenant(&tenant("a"), b"{\"a\":1}").unwrap();
    store.cluster().put(Table::Keys, "challenge/1", b"k").unwrap();
    let epoch = store.cluster().rotate_key().unwrap();
    assert!(reseal(&store.cluster()).done);
    assert_eq!(epochs(&store, ""), (vec![epoch], vec![epoch]));
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(store.cluster().get(Table::Keys, "challenge/1").unwrap().unwrap().equals(b"k"));
    assert!(store.tenants().unwrap()[0].1.equals(b"{\"a\":1}"));
}

#[test]
fn large_values_move_a_few_at_a_time() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    for number in 0..20 {
        own(&store).put_resource(&format!("a/b/{number}"), NewResource::stored(&secret(b"v"), AT)).unwrap();
    }
    let epoch = own(&store).rotate_key().unwrap();
    let (mut steps, mut done) = (0, false);
    while !done {
        done = own(&store).reseal(1_000).unwrap().done;
        steps += 1;
    }
    assert!(steps > 2, "all values were in memory together");
    assert_eq!(epochs(&store, "default"), (vec![epoch], vec![epoch]));
    assert!(store.verify().unwrap().is_whole());
}

#[test]
fn a_record_that_does_not_open_is_counted_and_does_not_stop_the_others() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    crate::inner::write(&*store.inner.engine, |change| change.put("policies", "default/a", b"damaged"))
        .unwrap();
    store.rotate_tenant_key(&TenantName::default()).unwrap();
    let progress = reseal(&own(&store));
    assert!(progress.done && progress.damaged == 1 && progress.moved > 0);
    assert!(own(&store).resource("default/key/1").unwrap().is_some());
}

#[test]
fn what_older_keys_seal_is_counted_and_falls_to_nothing_as_it_is_moved() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    for number in 0..450 {
        scope.put(Table::NamedValues, &format!("n{number}"), b"old").unwrap();
    }
    let old = scope.left_to_reseal(u64::MAX).unwrap();
    assert_eq!((old.older_keys, old.records, old.counted), (0, 0, true), "nothing was rotated");
    let (from, until) = table::bounds("default");
    let count = |name| store.inner.read(|view| view.count(name, &from, &until)).unwrap();
    let rows: u64 = table::sealed_by_tenant().map(count).sum();
    let epoch = store.rotate_tenant_key(&TenantName::default()).unwrap();
    let all = Left { epoch, older_keys: 1, records: rows, looked_at: rows, counted: true };
    assert_eq!(scope.left_to_reseal(u64::MAX).unwrap(), all);
    assert_eq!(scope.left_to_reseal(rows + 1).unwrap(), all);
    assert_eq!(scope.left_to_reseal(7).unwrap(), Left { records: 7, looked_at: 7, counted: false, ..all });
    scope.put(Table::NamedValues, "n0", b"new").unwrap();
    assert_eq!(scope.left_to_reseal(u64::MAX).unwrap().records, rows - 1);
    let mut before = rows;
    while !scope.reseal(60).unwrap().done {
        let left = scope.left_to_reseal(u64::MAX).unwrap();
        assert!(left.records < before && left.older_keys == 1, "{left:?} after {before}");
        before = left.records;
    }
    assert_eq!(scope.left_to_reseal(0).unwrap(), Left { older_keys: 0, records: 0, looked_at: 0, ..all });
    store.create_tenant(&tenant("a"), b"").unwrap();
    store.remove_tenant(&tenant("a")).unwrap();
    assert!(matches!(store.tenant(&tenant("a")).left_to_reseal(1), Err(StoreError::NoSuchTenant(_))));
}
