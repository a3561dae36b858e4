//! Attempts, decisions and releases: the rings, and what is released under which conditions.

use super::*;
use crate::inner::write;

fn id(number: usize) -> String {
    format!("{number:08}")
}

fn attempt(number: usize, refused: bool) -> JournalEntry {
    let body = number.to_string().into_bytes();
    JournalEntry::Attempt(AttemptEntry { id: id(number), refused, at_ms: AT * 1_000, body })
}

fn decision(attempt: usize, n: u64) -> JournalEntry {
    JournalEntry::Decision { attempt: id(attempt), body: n.to_string().into_bytes() }
}

fn journal(store: &Store, entries: Vec<JournalEntry>) -> Vec<Written> {
    let entries: Vec<_> = entries.into_iter().map(|entry| (TenantName::default(), entry)).collect();
    store.journal(&entries).unwrap()
}

/// Writes entries of which each must be kept.
fn keep(store: &Store, entries: Vec<JournalEntry>) {
    assert!(journal(store, entries).iter().all(|written| *written == Written::Kept));
}

fn opened() -> (tempfile::TempDir, Store) {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

#[test]
fn refused_attempts_cannot_push_out_the_others() {
    let (_folder, store) = opened();
    keep(&store, vec![attempt(0, false)]);
    keep(&store, (1..=750).map(|id| attempt(id, true)).collect());
    keep(&store, (751..=1_500).map(|id| attempt(id, true)).collect());
    let scope = own(&store);
    assert_eq!(scope.attempt_counts().unwrap(), (MAX_REFUSED, MAX_REFUSED + 1));
    assert!(scope.attempt("00000000").unwrap().is_some());
    assert!(scope.attempt("00000500").unwrap().is_none());
    assert!(scope.attempt("00000501").unwrap().is_some());
    let newest: Vec<String> = scope.attempts(2).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(newest, ["00001500", "00001499"]);
}

#[test]
fn all_attempts_are_a_ring_after_reopening_too() {
    let (folder, store) = opened();
    let limits = Limits { refused: 10, attempts: 100, decisions: 2 };
    store.set_limits(&TenantName::default(), limits);
    for batch in 0..11 {
        keep(&store, (0..10).map(|id| attempt(batch * 10 + id, false)).collect());
    }
    assert_eq!(own(&store).attempt_counts().unwrap(), (0, 100));
    assert!(
        own(&store).attempt(&id(9)).unwrap().is_none() && own(&store).attempt(&id(10)).unwrap().is_some()
    );
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    store.set_limits(&TenantName::default(), Limits { attempts: 50, ..limits });
    keep(&store, vec![attempt(500, false)]);
    assert_eq!(own(&store).attempt_counts().unwrap(), (0, 50), "a lower limit is met");
    let decided = journal(&store, (0..3).map(|n| decision(500, n)).collect());
    assert_eq!(decided, [Written::Kept, Written::Kept, Written::AttemptFull]);
}

#[test]
fn what_is_added_after_a_clock_went_back_is_not_the_oldest() {
    let (folder, store) = opened();
    store.set_limits(&TenantName::default(), Limits { refused: 5, attempts: 5, decisions: 9 });
    let at = |number: usize, at_ms| {
        JournalEntry::Attempt(AttemptEntry { id: id(number), refused: false, at_ms, body: b"b".to_vec() })
    };
    for number in 0..6 {
        keep(&store, vec![at(number, AT * 1_000)]);
    }
    keep(&store, vec![at(6, 5), at(7, -5)]);
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    store.set_limits(&TenantName::default(), Limits { refused: 5, attempts: 5, decisions: 9 });
    keep(&store, vec![at(8, 7)]);
    let kept: Vec<String> = own(&store).attempts(9).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(kept, [8, 7, 6, 5, 4].map(id));
}

#[test]
fn where_others_write_too_a_ring_has_some_slack_and_never_loses_what_it_should_keep() {
    let folder = tempfile::tempdir().unwrap();
    let engine = super::engines::shared(folder.path());
    let master = MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    let stores = [0, 1].map(|_| Store::open_with(engine.clone(), &master).unwrap());
    for store in &stores {
        store.set_limits(&TenantName::default(), Limits { refused: 50, attempts: 100, decisions: 9 });
    }
    for batch in 0..40 {
        keep(&stores[batch % 2], (0..50).map(|id| attempt(batch * 50 + id, batch % 4 == 3)).collect());
        let (refused, all) = own(&stores[0]).attempt_counts().unwrap();
        assert!(all >= 100.min((batch as u64 + 1) * 50) && all <= 100 + 2 * 256 + 50, "{all} are kept");
        assert!(refused <= 50 + 2 * 256 + 50);
    }
    assert!(stores[0].verify().unwrap().is_whole());
}

#[test]
fn pages_of_attempts_go_back_in_time_through_both_rings() {
    let (_folder, store) = opened();
    let at = |number: usize| {
        let (id, refused) = (id(number), number.is_multiple_of(3));
        JournalEntry::Attempt(AttemptEntry { id, refused, at_ms: number as i64 + 1, body: b"b".to_vec() })
    };
    keep(&store, (0..25).rev().map(at).collect());
    let (mut seen, mut before) = (Vec::new(), None::<String>);
    loop {
        let page = own(&store).attempts_page(before.as_deref(), 7).unwrap();
        seen.extend(page.attempts.into_iter().map(|(id, _)| id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).rev().map(id).collect::<Vec<_>>());
    for odd in ["", "x", "é", &"f".repeat(500)] {
        assert!(own(&store).attempts_page(Some(odd), 7).is_ok());
    }
}

#[test]
fn an_attempt_judged_again_takes_its_place_once() {
    let (_folder, store) = opened();
    keep(&store, vec![attempt(1, true), decision(1, 7), attempt(2, false)]);
    keep(&store, vec![attempt(1, false)]);
    let scope = own(&store);
    assert!(scope.decisions(&id(1)).unwrap()[0].equals(b"7"), "a decision went with the first judgement");
    assert_eq!(scope.attempt_counts().unwrap(), (0, 2));
    keep(&store, vec![attempt(1, false), attempt(1, true), decision(1, 8)]);
    assert_eq!(scope.attempt_counts().unwrap(), (1, 2));
    assert_eq!(scope.decisions(&id(1)).unwrap().len(), 2);
}

#[test]
fn decisions_are_kept_with_their_attempt_and_none_is_dropped_for_another() {
    let (_folder, store) = opened();
    keep(&store, vec![attempt(1, false), attempt(2, false)]);
    keep(&store, (0..MAX_DECISIONS).map(|n| decision(1, n)).collect());
    let more = vec![decision(1, MAX_DECISIONS), decision(2, 0)];
    assert_eq!(journal(&store, more), [Written::AttemptFull, Written::Kept]);
    let kept = own(&store).decisions(&id(1)).unwrap();
    assert_eq!(kept.len() as u64, MAX_DECISIONS);
    assert!(kept[0].equals(b"0") && kept[255].equals(b"255"));
    assert_eq!(own(&store).decisions(&id(2)).unwrap().len(), 1);
}

#[test]
fn a_decision_about_an_attempt_that_is_gone_is_not_said_to_be_written() {
    let (_folder, store) = opened();
    assert_eq!(journal(&store, vec![decision(1, 0)]), [Written::AttemptGone]);
    assert!(own(&store).decisions(&id(1)).unwrap().is_empty());
    keep(&store, vec![attempt(1, true), decision(1, 0)]);
    // What pushes the attempt out may come in the same batch, before or after.
    let batch = std::iter::once(decision(1, 1)).chain((2..=1_001).map(|id| attempt(id, true)));
    assert_eq!(journal(&store, batch.collect())[0], Written::AttemptGone);
    assert!(own(&store).decisions(&id(1)).unwrap().is_empty());
    assert!(own(&store).attempt(&id(1)).unwrap().is_none());
}

#[test]
fn evidence_is_a_ring_and_too_long_a_one_is_not_kept() {
    let (_folder, store) = opened();
    assert!(own(&store).evidence(&id(1)).unwrap().is_none());
    let mut now = 0;
    let mut evidence = |number: usize, body: &[u8]| {
        now += 1;
        JournalEntry::Evidence { attempt: id(number), at_ms: now, body: body.to_vec(), keep: 3 }
    };
    for number in 1..=5 {
        keep(&store, vec![attempt(number, false), evidence(number, b"what was sent")]);
    }
    let kept = |number: usize| own(&store).evidence(&id(number)).unwrap().is_some();
    assert_eq!((1..=5).map(kept).collect::<Vec<_>>(), [false, false, true, true, true]);
    // The same attempt again takes its place anew, and one that is too long takes none.
    keep(&store, vec![evidence(3, b"again")]);
    assert!(own(&store).evidence(&id(3)).unwrap().unwrap().equals(b"again"));
    keep(&store, vec![evidence(6, b"x")]);
    assert_eq!((3..=6).map(kept).collect::<Vec<_>>(), [true, false, true, true]);
    keep(&store, vec![evidence(6, &vec![0; MAX_EVIDENCE + 1])]);
    assert!(!kept(6) && kept(5));
}

/// A release of `path` in a given version, under the present revision.
fn release(store: &Store, attempt: usize, path: &str, version: Option<u64>, at: i64) -> JournalEntry {
    let revision = own(store).revision().unwrap();
    JournalEntry::Release {
        attempt: id(attempt),
        path: path.into(),
        version,
        revision,
        at,
        body: b"r".to_vec(),
    }
}

fn released(store: &Store, path: &str) -> Vec<u64> {
    let info = own(store).resource_info(path).unwrap().unwrap();
    info.versions.iter().map(|known| known.released).collect()
}

#[test]
fn a_version_is_released_to_as_many_attempts_as_it_may_be_and_to_each_again() {
    let (_folder, store) = opened();
    let value = secret(b"v");
    let new = NewResource { release_limit: Some(2), ..NewResource::stored(&value, AT) };
    own(&store).put_resource("a/b/c", new).unwrap();
    keep(&store, (1..=4).map(|number| attempt(number, false)).collect());
    let ask = |number| release(&store, number, "a/b/c", Some(1), AT);
    let became = journal(&store, vec![ask(1), ask(1), ask(2), ask(3), ask(2)]);
    use Written::{Kept, Spent};
    assert_eq!(became, [Kept, Kept, Kept, Spent, Kept]);
    assert_eq!(journal(&store, vec![ask(4), ask(1)]), [Spent, Kept]);
    assert_eq!(released(&store, "a/b/c"), [2]);
    assert!(own(&store).decisions(&id(3)).unwrap().is_empty(), "a refused release writes nothing");
    assert_eq!(own(&store).decisions(&id(1)).unwrap().len(), 3);
    assert_eq!(own(&store).resources(None, 9).unwrap()[0].released, 2);
    // A new version has its own count, and the old one keeps what was spent.
    own(&store).put_resource("a/b/c", new).unwrap();
    assert_eq!(journal(&store, vec![release(&store, 3, "a/b/c", Some(2), AT), ask(3)]), [Kept, Spent]);
    assert_eq!(released(&store, "a/b/c"), [1, 2]);
    // Deleted and stored again it is another version, and nothing is left of the old counts.
    own(&store).delete_resource("a/b/c").unwrap();
    own(&store).put_resource("a/b/c", new).unwrap();
    assert_eq!(journal(&store, vec![ask(1)]), [Written::Stale]);
    assert_eq!(released(&store, "a/b/c"), [0]);
    let left = store.inner.read(|view| view.count("releases", "", "\u{10ffff}")).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_release_without_a_limit_is_counted_and_one_from_elsewhere_is_fenced_too() {
    let (_folder, store) = opened();
    keep(&store, vec![attempt(1, false)]);
    let ask = |version| release(&store, 1, "default/key/1", version, AT);
    keep(&store, vec![ask(Some(1)), ask(Some(1)), ask(None)]);
    assert_eq!(released(&store, "default/key/1"), [2]);
    let (own_value, elsewhere) = (ask(Some(1)), ask(None));
    own(&store).put(Table::Revocations, "chip/1", b"lost").unwrap();
    assert_eq!(journal(&store, vec![own_value, elsewhere]), [Written::Stale; 2]);
    keep(&store, vec![ask(None)]);
}

#[test]
fn nothing_is_released_that_expired_was_revoked_deleted_or_decided_before_a_change() {
    let (_folder, store) = opened();
    let value = secret(b"v");
    let new = NewResource { expires_at: Some(AT + 10), ..NewResource::stored(&value, AT) };
    own(&store).put_resource("a/b/c", new).unwrap();
    keep(&store, vec![attempt(1, false)]);
    let ask = |at| release(&store, 1, "a/b/c", Some(1), at);
    let one = |entry| journal(&store, vec![entry])[0];
    assert_eq!(one(ask(AT + 9)), Written::Kept);
    assert_eq!(one(ask(AT + 10)), Written::Expired);
    assert_eq!(one(release(&store, 1, "a/b/c", Some(2), AT)), Written::Stale);
    assert_eq!(one(release(&store, 1, "a/b/none", Some(1), AT)), Written::Stale);
    assert_eq!(one(release(&store, 2, "a/b/c", Some(1), AT)), Written::AttemptGone);

    let before = ask(AT);
    own(&store).put(Table::Policies, "resource", b"another").unwrap();
    assert_eq!(one(before), Written::Stale);
    assert_eq!(one(ask(AT)), Written::Kept);
    let revoked = State::Revoked { at: AT, why: "lost".into() };
    own(&store).set_resource_state("a/b/c", Some(1), revoked).unwrap();
    assert_eq!(one(ask(AT)), Written::Revoked);
    own(&store).set_resource_state("a/b/c", Some(1), State::Active).unwrap();
    assert_eq!(one(ask(AT)), Written::Kept);
    own(&store).delete_resource("a/b/c").unwrap();
    assert_eq!(one(ask(AT)), Written::Stale);
    assert_eq!(own(&store).decisions(&id(1)).unwrap().len(), 3);
}

#[test]
fn a_release_that_cannot_be_written_down_is_not_counted() {
    let (_folder, store) = opened();
    store.set_limits(&TenantName::default(), Limits { decisions: 1, ..Limits::default() });
    let value = secret(b"v");
    let new = NewResource { release_limit: Some(5), ..NewResource::stored(&value, AT) };
    own(&store).put_resource("a/b/c", new).unwrap();
    keep(&store, vec![attempt(1, false), attempt(2, false)]);
    let ask = |number| release(&store, number, "a/b/c", Some(1), AT);
    assert_eq!(
        journal(&store, vec![decision(1, 0), ask(1), ask(2)]),
        [Written::Kept, Written::AttemptFull, Written::Kept]
    );
    assert_eq!(released(&store, "a/b/c"), [1]);
}

#[test]
fn damage_in_one_tenants_rows_fails_that_tenants_entries_only() {
    let (_folder, store) = opened();
    for name in ["a", "b", "c"] {
        store.create_tenant(&tenant(name), b"{}").unwrap();
        let scope = store.tenant(&tenant(name));
        scope.put_resource("a/b/c", NewResource::stored(&secret(b"v"), AT)).unwrap();
        assert_eq!(store.journal(&[(tenant(name), attempt(1, false))]).unwrap(), [Written::Kept]);
    }
    let entries = |tenant: &TenantName| {
        let revision = store.tenant(tenant).revision().unwrap_or(0);
        let release = JournalEntry::Release {
            attempt: id(1),
            path: "a/b/c".into(),
            version: Some(1),
            revision,
            at: AT,
            body: b"r".to_vec(),
        };
        [attempt(2, false), decision(1, 0), release].map(|entry| (tenant.clone(), entry))
    };
    let places = [("revisions", "a/now"), ("attempt-states", "b/00000001"), ("resources", "b/a/b/c")];
    write(&*store.inner.engine, |change| {
        places.iter().try_for_each(|(table, key)| change.put(table, key, b"damaged"))
    })
    .unwrap();
    let batch: Vec<_> = ["a", "b", "c"].into_iter().flat_map(|name| entries(&tenant(name))).collect();
    use Written::{Damaged, Kept};
    let became = store.journal(&batch).unwrap();
    assert_eq!(became, [Damaged, Damaged, Damaged, Kept, Damaged, Damaged, Kept, Kept, Kept]);
    assert_eq!(store.verify().unwrap().damaged, 3);
    assert!(store.tenant(&tenant("a")).attempt(&id(2)).unwrap().is_none());
}
