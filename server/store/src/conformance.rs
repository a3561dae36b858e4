//! What every engine must hold, as checks that the tests of engines call. Not for use outside of tests.
//!
//! A check panics where the engine breaks a promise, and gives the engine's error where it fails. Each wants an engine
//! without rows of its own and leaves none that another check would mind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;

use crate::engine::{Change, Engine, Order, View};
use crate::inner::write;
use crate::{
    AttemptEntry, JournalEntry, MasterKeyFile, NewResource, ResourceError, State, Store, StoreError, Table,
    Written, check_backup, restore,
};

/// The table of the checks on rows.
const ROWS: &str = "settings";
const OTHER: &str = "policies";

type Checked = Result<(), StoreError>;

/// Every check on rows and transactions. The engine has no rows afterwards.
pub fn rows(engine: &dyn Engine) -> Checked {
    values_are_kept_as_they_were_put(engine)?;
    keys_are_in_the_order_of_their_bytes(engine)?;
    ranges_end_where_they_are_told(engine)?;
    a_transaction_sees_its_own_changes(engine)?;
    a_failed_transaction_keeps_nothing_and_gives_its_error(engine)?;
    one_read_sees_one_state(engine)?;
    concurrent_counters_lose_nothing(engine)?;
    engine.check()
}

fn read<T>(
    engine: &dyn Engine,
    mut work: impl FnMut(&dyn View) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut result = None;
    engine.read(&mut |view| {
        result = Some(work(view)?);
        Ok(())
    })?;
    result.ok_or(StoreError::GivenUp)
}

fn put_all(engine: &dyn Engine, rows: &[(&str, &[u8])]) -> Checked {
    write(engine, |change| rows.iter().try_for_each(|(key, value)| change.put(ROWS, key, value)))
}

fn remove_all(engine: &dyn Engine) -> Checked {
    write(engine, |change| {
        for table in [ROWS, OTHER] {
            for (key, _) in change.range(table, "", "\u{10ffff}", Order::Ascending, usize::MAX)? {
                change.discard(table, &key)?;
            }
        }
        Ok(())
    })
}

fn keys(view: &(impl View + ?Sized), from: &str, until: &str, order: Order, limit: usize) -> Vec<String> {
    match view.range(ROWS, from, until, order, limit) {
        Ok(rows) => rows.into_iter().map(|(key, _)| key).collect(),
        Err(error) => panic!("a range failed: {error}"),
    }
}

fn values_are_kept_as_they_were_put(engine: &dyn Engine) -> Checked {
    let large = vec![0xa5; 2 << 20];
    let all: Vec<u8> = (0..=255).collect();
    let rows: [(&str, &[u8]); 6] = [
        ("t/plain", b"value"),
        ("t/empty", b""),
        ("t/bytes", &all),
        ("t/large", &large),
        ("t/with\0zero", b"zero"),
        ("/ünïcode/\u{10fffe}", b"unicode"),
    ];
    put_all(engine, &rows)?;
    read(engine, |view| {
        for (key, value) in rows {
            assert_eq!(view.get(ROWS, key)?.as_deref(), Some(value), "{key:?}");
        }
        assert_eq!(view.get(ROWS, "t/with")?, None, "a key ends where it ends");
        assert_eq!(view.get(OTHER, "t/plain")?, None, "tables are apart");
        let many = view.get_many(ROWS, &["t/none", "t/plain", "t/empty", "t/plain"])?;
        assert_eq!(many, [None, Some(b"value".to_vec()), Some(Vec::new()), Some(b"value".to_vec())]);
        assert!(view.get_many(ROWS, &[])?.is_empty());
        Ok(())
    })?;
    put_all(engine, &[("t/plain", b"another")])?;
    let removed = write(engine, |change| {
        let there = change.remove(ROWS, "t/empty")?;
        change.discard(ROWS, "t/never")?;
        change.discard(ROWS, "t/bytes")?;
        Ok((there, change.remove(ROWS, "t/never")?))
    })?;
    assert_eq!(removed, (true, false), "removing says whether it was there");
    read(engine, |view| {
        assert_eq!(view.get(ROWS, "t/plain")?, Some(b"another".to_vec()));
        assert_eq!((view.get(ROWS, "t/empty")?, view.get(ROWS, "t/bytes")?), (None, None));
        Ok(())
    })?;
    remove_all(engine)
}

fn keys_are_in_the_order_of_their_bytes(engine: &dyn Engine) -> Checked {
    // In the order of bytes, which no language's collation has.
    let expected = [
        "/a", "/b", "0", "A", "B-", "B0", "B\u{7f}", "a", "a\0", "a\0\0", "a\u{1}", "a/", "aa", "é",
        "\u{ffff}",
    ];
    let mut shuffled = expected;
    shuffled.reverse();
    shuffled.swap(0, 7);
    put_all(engine, &shuffled.map(|key| (key, key.as_bytes())))?;
    read(engine, |view| {
        assert_eq!(keys(view, "", "\u{10ffff}", Order::Ascending, usize::MAX), expected);
        let mut backwards = expected;
        backwards.reverse();
        assert_eq!(keys(view, "", "\u{10ffff}", Order::Descending, usize::MAX), backwards);
        Ok(())
    })?;
    remove_all(engine)
}

fn ranges_end_where_they_are_told(engine: &dyn Engine) -> Checked {
    let names = ["t/a", "t/b", "t/c", "t/d", "u/a"];
    put_all(engine, &names.map(|key| (key, b"v".as_slice())))?;
    let check = |view: &dyn View| {
        assert_eq!(keys(view, "t/b", "t/d", Order::Ascending, 9), ["t/b", "t/c"], "from with, until without");
        assert_eq!(keys(view, "t/", "t0", Order::Ascending, 2), ["t/a", "t/b"]);
        assert_eq!(keys(view, "t/", "t0", Order::Descending, 2), ["t/d", "t/c"]);
        assert!(keys(view, "t/", "t0", Order::Ascending, 0).is_empty());
        assert!(keys(view, "t/d", "t/b", Order::Ascending, 9).is_empty(), "an end before the beginning");
        assert!(keys(view, "t/b", "t/b", Order::Ascending, 9).is_empty());
        assert_eq!(view.count(ROWS, "t/", "t0")?, 4);
        assert_eq!(view.count(ROWS, "t/d", "t/b")?, 0);
        assert_eq!(view.count(OTHER, "", "\u{10ffff}")?, 0);
        Ok(())
    };
    read(engine, check)?;
    write(engine, |change| {
        check(&Through(change))?;
        Ok(())
    })?;
    remove_all(engine)
}

/// A transaction, for checks that read.
struct Through<'a>(&'a mut dyn Change);

impl View for Through<'_> {
    fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }

    fn range(
        &self,
        table: &'static str,
        from: &str,
        until: &str,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.0.range(table, from, until, order, limit)
    }

    fn count(&self, table: &'static str, from: &str, until: &str) -> Result<u64, StoreError> {
        self.0.count(table, from, until)
    }
}

fn a_transaction_sees_its_own_changes(engine: &dyn Engine) -> Checked {
    put_all(engine, &["t/a", "t/c", "t/e"].map(|key| (key, b"before".as_slice())))?;
    write(engine, |change| {
        change.put(ROWS, "t/b", b"new")?;
        change.put(ROWS, "t/c", b"changed")?;
        change.discard(ROWS, "t/e")?;
        assert!(change.remove(ROWS, "t/a")?);
        assert!(!change.remove(ROWS, "t/a")?, "it was removed already");
        assert_eq!(change.get(ROWS, "t/a")?, None);
        assert_eq!(change.get(ROWS, "t/b")?, Some(b"new".to_vec()));
        let many = change.get_many(ROWS, &["t/c", "t/e"])?;
        assert_eq!(many, [Some(b"changed".to_vec()), None]);
        assert_eq!(keys(&*change, "t/", "t0", Order::Ascending, 9), ["t/b", "t/c"]);
        assert_eq!(keys(&*change, "t/", "t0", Order::Descending, 1), ["t/c"]);
        assert_eq!(keys(&*change, "t/", "t0", Order::Ascending, 1), ["t/b"]);
        assert_eq!(change.count(ROWS, "t/", "t0")?, 2);
        change.put(ROWS, "t/a", b"again")?;
        assert_eq!(change.get(ROWS, "t/a")?, Some(b"again".to_vec()));
        Ok(())
    })?;
    read(engine, |view| {
        assert_eq!(keys(view, "t/", "t0", Order::Ascending, 9), ["t/a", "t/b", "t/c"]);
        assert_eq!(view.get(ROWS, "t/c")?, Some(b"changed".to_vec()));
        Ok(())
    })?;
    remove_all(engine)
}

fn a_failed_transaction_keeps_nothing_and_gives_its_error(engine: &dyn Engine) -> Checked {
    put_all(engine, &[("t/a", b"before")])?;
    let failed = write(engine, |change| {
        change.put(ROWS, "t/a", b"after")?;
        change.put(ROWS, "t/b", b"after")?;
        Err::<(), _>(StoreError::NoSuchTenant("conformance".to_owned()))
    });
    assert!(matches!(failed, Err(StoreError::NoSuchTenant(name)) if name == "conformance"));
    read(engine, |view| {
        assert_eq!(view.get(ROWS, "t/a")?, Some(b"before".to_vec()));
        assert_eq!(view.get(ROWS, "t/b")?, None);
        Ok(())
    })?;
    let failed = read(engine, |_| Err::<(), _>(StoreError::NoSuchTenant("conformance".to_owned())));
    assert!(matches!(failed, Err(StoreError::NoSuchTenant(_))));
    remove_all(engine)
}

fn one_read_sees_one_state(engine: &dyn Engine) -> Checked {
    put_all(engine, &[("t/a", b"1"), ("t/b", b"1")])?;
    read(engine, |view| {
        let before = view.get(ROWS, "t/a")?;
        // Another thread, because a transaction inside of a read may wait for it.
        thread::scope(|scope| {
            let written = scope.spawn(|| put_all(engine, &[("t/a", b"2"), ("t/b", b"2"), ("t/c", b"2")]));
            match written.join() {
                Ok(written) => written,
                Err(_) => panic!("the writing thread panicked"),
            }
        })?;
        assert_eq!((view.get(ROWS, "t/b")?, view.get(ROWS, "t/c")?), (before, None));
        assert_eq!(view.count(ROWS, "t/", "t0")?, 2);
        Ok(())
    })?;
    assert_eq!(read(engine, |view| view.get(ROWS, "t/b"))?, Some(b"2".to_vec()));
    remove_all(engine)
}

fn concurrent_counters_lose_nothing(engine: &dyn Engine) -> Checked {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 25;
    let number =
        |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    thread::scope(|scope| {
        let raise = || {
            for _ in 0..ROUNDS {
                write(engine, |change| {
                    // The second is how many rows there are, which is read as a range.
                    let next = number(change.get(ROWS, "t/counter")?).saturating_add(1);
                    change.put(ROWS, "t/counter", &next.to_be_bytes())?;
                    let rows = change.count(OTHER, "t/", "t0")?;
                    change.put(OTHER, &format!("t/{rows:08}"), b"")
                })?;
            }
            Ok::<(), StoreError>(())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(raise)).collect();
        for thread in threads {
            match thread.join() {
                Ok(raised) => raised?,
                Err(_) => panic!("a counting thread panicked"),
            }
        }
        Ok::<(), StoreError>(())
    })?;
    let expected = THREADS.saturating_mul(ROUNDS);
    assert_eq!(number(read(engine, |view| view.get(ROWS, "t/counter"))?), expected);
    assert_eq!(
        read(engine, |view| view.count(OTHER, "t/", "t0"))?,
        expected,
        "two writes did not see each other"
    );
    remove_all(engine)
}

/// Two stores, as of two replicas, on the same rows: both engines reach the same, which is empty. Counts are not
/// exceeded, what is revoked is released no more, and a decision of before a change is stale; `rounds` times.
pub fn replicas(
    one: Arc<dyn Engine>,
    two: Arc<dyn Engine>,
    master: &MasterKeyFile,
    rounds: u64,
) -> Result<(), ResourceError> {
    let stores = [Store::open_with(one, master)?, Store::open_with(two, master)?];
    let tenant = TenantName::default();
    let [first, second] = &stores;
    let value = SecretBytes::copy_of(b"released to three");
    let attempts: Vec<String> = (0..8).map(|number| format!("{number:032x}")).collect();
    let entry = |id: &String| {
        let entry = AttemptEntry { id: id.clone(), refused: false, at_ms: 1, body: b"attempt".to_vec() };
        (tenant.clone(), JournalEntry::Attempt(entry))
    };
    let made = first.journal(&attempts.iter().map(entry).collect::<Vec<_>>())?;
    assert!(made.iter().all(|written| *written == Written::Kept));
    for round in 0..rounds {
        let path = format!("default/counted/{round}");
        let new = NewResource { release_limit: Some(3), ..NewResource::stored(&value, 0) };
        let version = first.tenant(&tenant).put_resource(&path, new)?;
        let revision = second.tenant(&tenant).revision()?;
        let release = |attempt: &String| JournalEntry::Release {
            attempt: attempt.clone(),
            path: path.clone(),
            version: Some(version),
            revision,
            at: 0,
            body: b"released".to_vec(),
        };
        let kept = AtomicU64::new(0);
        thread::scope(|scope| {
            let halves = stores.iter().zip(attempts.chunks(4));
            let threads: Vec<_> = halves
                .map(|(store, half)| {
                    let (release, kept, tenant) = (&release, &kept, &tenant);
                    scope.spawn(move || {
                        for attempt in half {
                            // The second time it is the same attempt, which counts once.
                            for _ in 0..2 {
                                let written = store.journal(&[(tenant.clone(), release(attempt))])?;
                                match written.as_slice() {
                                    [Written::Kept] => kept.fetch_add(1, Ordering::SeqCst),
                                    [Written::Spent] => 0,
                                    other => panic!("a release became {other:?}"),
                                };
                            }
                        }
                        Ok::<(), StoreError>(())
                    })
                })
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(released) => released?,
                    Err(_) => panic!("a releasing thread panicked"),
                }
            }
            Ok::<(), StoreError>(())
        })?;
        assert_eq!(kept.into_inner(), 6, "three attempts, each of which asked twice");
        let info = second.tenant(&tenant).resource_info(&path)?;
        assert_eq!(info.and_then(|info| info.versions.first().map(|known| known.released)), Some(3));

        let one_more = |store: &Store, revision| {
            let entry = JournalEntry::Release {
                attempt: attempts.first().cloned().unwrap_or_default(),
                path: "default/free/1".to_owned(),
                version: Some(round.saturating_add(1)),
                revision,
                at: 0,
                body: b"released".to_vec(),
            };
            store.journal(&[(tenant.clone(), entry)])
        };
        let free = second.tenant(&tenant);
        let version = free.put_resource("default/free/1", NewResource::stored(&value, 0))?;
        assert_eq!(version, round.saturating_add(1));
        assert_eq!(one_more(first, revision)?, [Written::Kept]);
        second.tenant(&tenant).put(Table::Policies, "resource", b"changed")?;
        assert_eq!(one_more(first, revision)?, [Written::Stale], "a policy was replaced in between");
        let revision = first.tenant(&tenant).revision()?;
        assert_eq!(one_more(first, revision)?, [Written::Kept]);
        let revoked = State::Revoked { at: 1, why: "lost".to_owned() };
        assert!(second.tenant(&tenant).set_resource_state("default/free/1", Some(version), revoked)?);
        assert_eq!(one_more(first, revision)?, [Written::Revoked]);
    }
    Ok(())
}

/// A store that is copied out of one engine and into another, which is empty, is the same store.
pub fn copies(from: Arc<dyn Engine>, to: Arc<dyn Engine>, master: &MasterKeyFile) -> Result<(), StoreError> {
    let store = Store::open_with(from, master)?;
    let tenant: TenantName = match "copied".parse() {
        Ok(tenant) => tenant,
        Err(error) => panic!("{error}"),
    };
    store.create_tenant(&tenant, b"{}")?;
    // More than one page of rows.
    let names: Vec<String> = (0..1_200).map(|number| number.to_string()).collect();
    let rows: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"value".as_slice())).collect();
    store.tenant(&tenant).put_and_delete(Table::NamedValues, &rows, &[])?;
    let mut copy = Vec::new();
    let failed = |error: crate::BackupError| panic!("{error}");
    let made = store.backup(&mut copy).unwrap_or_else(failed);
    assert_eq!(made.master_key, crate::MasterKey::id(master));
    assert_eq!(check_backup(&mut copy.as_slice()).unwrap_or_else(failed), made);
    assert_eq!(restore(&*to, &mut copy.as_slice()).unwrap_or_else(failed), made);
    let other = Store::open_with(to, master)?;
    assert!(!other.was_created());
    assert_eq!(other.tenant(&tenant).count(Table::NamedValues)?, 1_200);
    let (before, after) = (store.verify()?, other.verify()?);
    assert!(before.is_whole() && before == after, "{before:?}, {after:?}");
    let mut again = Vec::new();
    other.backup(&mut again).unwrap_or_else(failed);
    assert_eq!(copy, again, "a copy of the copy is the same");
    Ok(())
}
