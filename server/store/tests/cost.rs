//! What a journal entry costs, printed: `cargo test -p coffer-server-store --release --test cost -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;
use coffer_server_store::{AttemptEntry, JournalEntry, NewResource, Store, Written};

const BATCH: usize = 64;
const BATCHES: usize = 100;

/// Nanoseconds that this thread was on a processor (`proc(5)`, `schedstat`).
fn on_processor() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn measure(what: &str, mut entry: impl FnMut(usize) -> JournalEntry, store: &Store) {
    let batches: Vec<Vec<_>> = (0..BATCHES)
        .map(|batch| {
            let entries = (0..BATCH).map(|nth| (TenantName::default(), entry(batch * BATCH + nth)));
            entries.collect()
        })
        .collect();
    let (begun, before) = (Instant::now(), on_processor());
    for batch in &batches {
        assert!(store.journal(batch).unwrap().iter().all(|written| *written == Written::Kept));
    }
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), on_processor() - before);
    let entries = (BATCH * BATCHES) as f64;
    println!(
        "{what}: {:.1} µs of processor and {:.1} µs in all an entry; {:.2} ms a batch of {BATCH}",
        cpu as f64 / 1e3 / entries,
        wall * 1e6 / entries,
        wall * 1e3 / BATCHES as f64,
    );
}

#[test]
#[ignore = "a measurement, not a claim"]
fn an_entry_of_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let scope = store.tenant(&TenantName::default());
    let value = SecretBytes::copy_of(&[7; 32]);
    for number in 0..BATCH {
        let plain = NewResource::stored(&value, 0);
        scope.put_resource(&format!("default/key/{number}"), plain).unwrap();
        let limited = NewResource { release_limit: Some(1_000_000), ..plain };
        scope.put_resource(&format!("default/counted/{number}"), limited).unwrap();
    }
    let revision = scope.revision().unwrap();
    let attempt = |number: usize| {
        let (id, body) = (format!("{number:032x}"), vec![b'a'; 2_000]);
        JournalEntry::Attempt(AttemptEntry { id, refused: false, at_ms: number as i64, body })
    };
    let release = |number: usize, path: String| JournalEntry::Release {
        attempt: format!("{number:032x}"),
        path,
        version: Some(1),
        revision,
        at: 0,
        body: vec![b'd'; 200],
    };
    measure("attempt", attempt, &store);
    measure("attempt in a full ring", |number| attempt(10_000 + number), &store);
    measure("release of one key", |number| release(10_000 + number, "default/key/0".into()), &store);
    let many = |number: usize| release(10_000 + number, format!("default/key/{}", number % BATCH));
    measure("release of 64 keys", many, &store);
    let counted = |number: usize| release(10_000 + number, format!("default/counted/{}", number % BATCH));
    measure("release of 64 counted keys", counted, &store);
    let (begun, before) = (Instant::now(), on_processor());
    for _ in 0..10_000 {
        assert!(scope.resource("default/key/1").unwrap().is_some());
    }
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), on_processor() - before);
    let path = folder.path().join("store.redb");
    let size = std::fs::metadata(&path).unwrap().len() >> 20;
    drop((scope, store));
    let begun = Instant::now();
    drop(Store::open(folder.path()).unwrap());
    println!("opening and closing a store of {size} MiB: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    println!("reading a resource: {:.1} µs of processor, {:.1} µs in all", cpu as f64 / 1e7, wall * 1e2);
}
