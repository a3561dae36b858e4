//! Claims about the store: what it gives back, what it refuses to open, and that refusing changes nothing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const AT: i64 = 1_800_000_000;

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_of(bytes)
}

/// A closed store with one resource and one policy.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(store.was_created());
    store.put_resource("default/key/1", &secret(b"a canary that is nowhere on the disk"), AT).unwrap();
    store.put(Table::Policies, "resource", b"package policy").unwrap();
    folder
}

fn refusal(folder: &Path) -> String {
    match Store::open(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_was_stored_is_there_after_reopening_and_is_not_in_the_file() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    assert!(!store.was_created());
    let resource = store.resource("default/key/1").unwrap().unwrap();
    assert!(resource.value.equals(b"a canary that is nowhere on the disk"));
    assert_eq!((resource.about.version, resource.about.bytes, resource.about.changed_at), (1, 36, AT));
    assert!(store.get(Table::Policies, "resource").unwrap().unwrap().equals(b"package policy"));
    for file in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a canary"));
    }
}

#[test]
fn replacing_counts_versions_and_deleting_forgets() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.put_resource("default/key/1", &secret(b"2"), AT + 1).unwrap(), 2);
    assert_eq!(store.resources().unwrap()[0].version, 2);
    assert!(store.delete_resource("default/key/1").unwrap());
    assert!(!store.delete_resource("default/key/1").unwrap());
    assert!(store.resource("default/key/1").unwrap().is_none());
    assert_eq!(store.resource_count().unwrap(), 0);
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
    assert!(refusal(folder.path()).contains("does not open this store"));
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
    assert!(Store::open(folder.path()).unwrap().resource("default/key/1").unwrap().is_some());
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
    assert!(Store::open(folder.path()).unwrap().resource("default/key/1").unwrap().is_some());
}

#[test]
fn a_flipped_byte_never_gives_another_value() {
    let folder = filled();
    let path = folder.path().join("store.redb");
    let whole = fs::read(&path).unwrap();
    // Bytes in use are few in a sparse file: those that are not zero.
    let used: Vec<usize> = (0..whole.len()).filter(|index| whole[*index] != 0).collect();
    let mut refused = 0;
    for index in used.iter().step_by(used.len() / 150 + 1) {
        let mut changed = whole.clone();
        changed[*index] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        let read = std::panic::catch_unwind(|| Store::open(folder.path())?.resource("default/key/1"));
        match read {
            Ok(Ok(Some(resource))) => assert!(resource.value.equals(b"a canary that is nowhere on the disk")),
            _ => refused += 1,
        }
    }
    assert!(refused > 0, "no flip reached the record");
}

#[test]
fn rows_cannot_be_swapped() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    store.put(Table::Policies, "other", b"package policy # other").unwrap();
    let transaction = store.database.begin_write().unwrap();
    {
        let mut rows = transaction.open_table(Table::Policies.definition()).unwrap();
        let other = rows.get("other").unwrap().unwrap().value().to_vec();
        rows.insert("resource", other.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    let error = store.get(Table::Policies, "resource").err().unwrap().to_string();
    assert!(error.contains("moved"), "{error}");
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(META_FORMAT, 2_u64.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(store);
    assert!(refusal(folder.path()).contains("format 2"));
}

fn attempt(id: usize, refused: bool) -> JournalEntry {
    JournalEntry::Attempt(AttemptEntry { id: format!("{id:08}"), refused, body: id.to_string().into_bytes() })
}

/// Writes entries of which each must be kept.
fn keep(store: &Store, entries: &[JournalEntry]) {
    assert!(store.journal(entries).unwrap().iter().all(|written| *written == Written::Kept));
}

fn decision(attempt: usize, n: u64) -> JournalEntry {
    JournalEntry::Decision { attempt: format!("{attempt:08}"), body: n.to_string().into_bytes() }
}

#[test]
fn refused_attempts_cannot_push_out_the_others() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    keep(&store, &[attempt(0, false)]);
    let flood: Vec<JournalEntry> = (1..=1_500).map(|id| attempt(id, true)).collect();
    keep(&store, &flood);
    assert_eq!(store.attempt_counts().unwrap(), (MAX_REFUSED, MAX_REFUSED + 1));
    assert!(store.attempt("00000000").unwrap().is_some());
    assert!(store.attempt("00000500").unwrap().is_none());
    assert!(store.attempt("00000501").unwrap().is_some());
    let newest: Vec<String> = store.attempts(2).unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(newest, ["00001500", "00001499"]);
}

#[test]
fn all_attempts_are_a_ring() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    for batch in 0..11 {
        let entries: Vec<JournalEntry> = (0..1_000).map(|id| attempt(batch * 1_000 + id, false)).collect();
        keep(&store, &entries);
    }
    assert_eq!(store.attempt_counts().unwrap(), (0, MAX_ATTEMPTS));
    assert!(store.attempt("00000999").unwrap().is_none());
    assert!(store.attempt("00001000").unwrap().is_some());
}

#[test]
fn an_attempt_judged_again_takes_its_place_once() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    keep(&store, &[attempt(1, true), decision(1, 7), attempt(2, false)]);
    keep(&store, &[attempt(1, false)]);
    assert!(store.decisions("00000001").unwrap()[0].equals(b"7"), "a decision went with the first judgement");
    assert_eq!(store.attempt_counts().unwrap(), (0, 2));
    assert_eq!(store.attempts(10).unwrap()[0].0, "00000001");
}

#[test]
fn decisions_are_kept_with_their_attempt_and_none_is_dropped_for_another() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    keep(&store, &[attempt(1, false), attempt(2, false)]);
    let many: Vec<JournalEntry> = (0..MAX_DECISIONS).map(|n| decision(1, n)).collect();
    keep(&store, &many);
    let more = [decision(1, MAX_DECISIONS), decision(2, 0)];
    assert_eq!(store.journal(&more).unwrap(), [Written::AttemptFull, Written::Kept]);
    let kept = store.decisions("00000001").unwrap();
    assert_eq!(kept.len() as u64, MAX_DECISIONS);
    assert!(kept[0].equals(b"0"));
    assert_eq!(store.decisions("00000002").unwrap().len(), 1);
}

#[test]
fn a_decision_about_an_attempt_that_is_gone_is_not_said_to_be_written() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.journal(&[decision(1, 0)]).unwrap(), [Written::AttemptGone]);
    assert!(store.decisions("00000001").unwrap().is_empty());
    keep(&store, &[attempt(1, true), decision(1, 0)]);
    let flood: Vec<JournalEntry> = (2..=1_001).map(|id| attempt(id, true)).collect();
    // What pushes the attempt out may come in the same batch, before or after.
    let batch: Vec<JournalEntry> = std::iter::once(decision(1, 1)).chain(flood).collect();
    assert_eq!(store.journal(&batch).unwrap()[0], Written::AttemptGone);
    assert!(store.decisions("00000001").unwrap().is_empty());
}

#[test]
fn what_was_withdrawn_is_remembered_by_its_table_and_name() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let withdrawn = |table, name| store.was_withdrawn(table, name).unwrap();
    store.put(Table::TrustAnchors, "lab", b"a root").unwrap();
    assert!(!withdrawn(Table::TrustAnchors, "lab"));
    assert!(store.withdraw(Table::TrustAnchors, "lab").unwrap());
    assert!(!store.withdraw(Table::TrustAnchors, "never").unwrap());
    assert!(store.get(Table::TrustAnchors, "lab").unwrap().is_none());
    assert!(withdrawn(Table::TrustAnchors, "lab"));
    assert!(!withdrawn(Table::TrustAnchors, "never") && !withdrawn(Table::Policies, "lab"));
}

#[test]
fn a_store_of_before_withdrawals_opens_and_takes_them() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let transaction = store.database.begin_write().unwrap();
    assert!(transaction.delete_table(WITHDRAWN).unwrap());
    transaction.commit().unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(!store.was_withdrawn(Table::Policies, "resource").unwrap());
    assert!(store.withdraw(Table::Policies, "resource").unwrap());
    assert!(store.was_withdrawn(Table::Policies, "resource").unwrap());
}

#[test]
fn a_store_of_before_a_table_reads_it_as_empty_and_makes_it_when_it_is_written() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let transaction = store.database.begin_write().unwrap();
    assert!(transaction.delete_table(Table::Settings.definition()).unwrap());
    transaction.commit().unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(store.get(Table::Settings, "platform").unwrap().is_none());
    assert!(store.list(Table::Settings).unwrap().is_empty());
    assert_eq!(store.count(Table::Settings).unwrap(), 0);
    store.put(Table::Settings, "platform", b"{}").unwrap();
    assert_eq!(store.count(Table::Settings).unwrap(), 1);
}

#[test]
fn evidence_is_a_ring_and_too_long_a_one_is_not_kept() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    assert!(store.evidence("00000001").unwrap().is_none());
    let evidence = |id: usize, body: &[u8]| JournalEntry::Evidence {
        attempt: format!("{id:08}"),
        body: body.to_vec(),
        keep: 3,
    };
    for id in 1..=5 {
        keep(&store, &[attempt(id, false), evidence(id, b"what was sent")]);
    }
    let kept = |id: usize| store.evidence(&format!("{id:08}")).unwrap().is_some();
    assert_eq!((1..=5).map(kept).collect::<Vec<_>>(), [false, false, true, true, true]);
    // The same attempt again takes its place anew, and one that is too long takes none.
    keep(&store, &[evidence(3, b"again")]);
    assert!(store.evidence("00000003").unwrap().unwrap().equals(b"again"));
    keep(&store, &[evidence(6, b"x")]);
    assert_eq!((3..=6).map(kept).collect::<Vec<_>>(), [true, false, true, true]);
    keep(&store, &[evidence(6, &vec![0; MAX_EVIDENCE + 1])]);
    assert!(!kept(6) && kept(5));
}
