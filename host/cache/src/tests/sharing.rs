//! Downloads that are interrupted, and those that several have.

use std::process::{Command, Stdio};

use coffer_core_digest::Digest;

use super::registry::{Answer, Registry};
use super::*;
use crate::folder::{Folder, Opened};

/// Set for a process that fills a blob: the folder, the registry's address, the digest and the size.
const FILLER: &str = "COFFER_TEST_FILLER";

/// Every piece that counts is as in `content`.
fn counted_pieces_are_right(folder: &std::path::Path, digest: &Digest, content: &[u8]) -> u64 {
    let inside = Folder::open(folder, 1 << 30).unwrap();
    let Opened::Partial(data, pieces) = inside.open_blob(digest, content.len() as u64, PIECE).unwrap() else {
        return content.len() as u64;
    };
    for index in (0..pieces.count()).filter(|index| pieces.has(*index).unwrap()) {
        let (start, length) = pieces.place(index);
        let mut found = vec![0; length as usize];
        std::os::unix::fs::FileExt::read_exact_at(&data, &mut found, start).unwrap();
        assert_eq!(found, content[start as usize..][..length as usize], "piece {index}");
    }
    pieces.present().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_interruptions_at_random_points_lose_nothing_that_counted_and_corrupt_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    // Making a client reads the system's roots, which takes longer than a round.
    let remote = cache(folder.path()).remote(&registry.reference(), true).unwrap();
    let mut chance = Chance(20);
    let mut seed = 1000;
    let mut interrupted = 0;
    while interrupted < 200 {
        // As many blobs as it takes; each is interrupted until it is whole.
        seed += 1;
        let content = content(100_000, seed);
        let digest = registry.put_blob(&content);
        let mut before = 0;
        loop {
            let behaviour = chance.below(4);
            let at = chance.below(8000) as usize;
            let bad = chance.below(12) as usize;
            let begun = registry.requests().len();
            registry.behave(move |request| match (request.number - begun == bad, behaviour) {
                (true, 0) => Answer::Truncate(at),
                (true, 1) => Answer::Status(500, ""),
                _ => Answer::Serve,
            });
            let until = registry.sent() + chance.below(30_000);
            let cache = cache(folder.path());
            let blob = cache.blob(&remote, &digest, content.len() as u64).await.unwrap();
            tokio::select! {
                filled = blob.fill() => filled.unwrap(),
                () = registry.has_sent(until) => interrupted += 1,
            }
            if blob.is_whole() {
                assert_eq!(file_of(&blob), content);
                break;
            }
            drop((blob, cache));
            let counted = counted_pieces_are_right(folder.path(), &digest, &content);
            assert!(counted >= before, "{counted} bytes count, and {before} counted before");
            before = counted;
        }
    }
    assert_eq!(cache(folder.path()).verify().unwrap(), []);
    assert_eq!(partials(folder.path()), 0);
}

/// Not a test of its own: the process that others start and kill.
#[test]
fn filler() {
    let Ok(told) = std::env::var(FILLER) else { return };
    let words: Vec<&str> = told.split(' ').collect();
    let [folder, address, digest, size] = words[..] else { panic!("four words") };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let cache = cache(Path::new(folder));
        let remote = cache.remote(&format!("{address}/a/b:v1").parse().unwrap(), true).unwrap();
        let blob = cache.blob(&remote, &digest.parse().unwrap(), size.parse().unwrap()).await.unwrap();
        blob.fill().await.unwrap();
        assert!(blob.is_whole());
    });
}

fn start_filler(folder: &Path, registry: &Registry, digest: &Digest, size: usize) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::sharing::filler", "--nocapture"])
        .env(FILLER, format!("{} {} {digest} {size}", folder.display(), registry.address))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_lose_at_most_the_pieces_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(400_000, 21);
    let digest = registry.put_blob(&content);
    let mut chance = Chance(22);
    let mut before = 0;
    for _ in 0..12 {
        let mut process = start_filler(folder.path(), &registry, &digest, content.len());
        registry.has_sent(registry.sent() + 1 + chance.below(30_000)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        let counted = counted_pieces_are_right(folder.path(), &digest, &content);
        assert!(counted >= before);
        before = counted;
        if counted == content.len() as u64 {
            break;
        }
    }
    let already = counted_pieces_are_right(folder.path(), &digest, &content);
    let sent = registry.sent();
    let blob = blob(&cache(folder.path()), &registry, &content).await.unwrap();
    blob.fill().await.unwrap();
    assert_eq!(file_of(&blob), content);
    assert_eq!(registry.sent() - sent, content.len() as u64 - already, "only what was missing is fetched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_and_two_caches_of_this_one_share_one_download() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(1_000_000, 23);
    let digest = registry.put_blob(&content);
    let processes: Vec<_> =
        (0..3).map(|_| start_filler(folder.path(), &registry, &digest, content.len())).collect();
    let (one, two) = (cache(folder.path()), cache(folder.path()));
    let first = blob(&one, &registry, &content).await.unwrap();
    let second = blob(&two, &registry, &content).await.unwrap();
    let same = blob(&two, &registry, &content).await.unwrap();
    let (a, b, c, read) = tokio::join!(first.fill(), second.fill(), same.fill(), same.read(777_777, 100));
    [a, b, c].into_iter().for_each(Result::unwrap);
    assert_eq!(read.unwrap(), content[777_777..777_877]);
    for mut process in processes {
        let ended = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
        assert!(ended.success());
    }
    assert_eq!(registry.sent(), content.len() as u64, "every byte came once");
    assert_eq!(file_of(&first), content);
    assert_eq!(one.list().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_that_share_a_registry_without_ranges_read_it_through_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    registry.behave(|_| Answer::NoRanges);
    let content = content(300_000, 24);
    let (one, two) = (cache(folder.path()), cache(folder.path()));
    let (first, second) =
        (blob(&one, &registry, &content).await.unwrap(), blob(&two, &registry, &content).await.unwrap());
    let (a, b) = tokio::join!(first.fill(), second.fill());
    [a, b].into_iter().for_each(Result::unwrap);
    assert_eq!(file_of(&second), content);
    assert!(registry.requests().len() <= 2, "{} bodies for one blob", registry.requests().len());
}

#[tokio::test]
async fn a_download_that_another_process_threw_away_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let content = content(20_000, 25);
    let other = super::content(20_000, 26);
    registry.behave(move |_| Answer::Other(other.clone()));
    let (one, two) = (cache(folder.path()), cache(folder.path()));
    let first = blob(&one, &registry, &content).await.unwrap();
    let second = blob(&two, &registry, &content).await.unwrap();
    assert!(matches!(first.fill().await, Err(CacheError::Digest { .. })));
    assert!(matches!(second.fill().await, Err(CacheError::Discarded { .. })));
}
