//! The bound, what is held, and full disks.

use super::registry::Registry;
use super::*;

async fn filled(cache: &Cache, registry: &Registry, length: usize, seed: u64) -> Result<Blob, CacheError> {
    let blob = blob(cache, registry, &content(length, seed)).await?;
    blob.fill().await?;
    Ok(blob)
}

#[tokio::test]
async fn the_longest_unused_goes_first_and_what_is_held_stays() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let cache = Cache::open(Settings { bound: 100_000, ..settings(folder.path()) }).unwrap();
    let held = *filled(&cache, &registry, 30_000, 1).await.unwrap().digest();
    let oldest = *filled(&cache, &registry, 30_000, 2).await.unwrap().digest();
    let younger = *filled(&cache, &registry, 30_000, 3).await.unwrap().digest();
    let hold = filled(&cache, &registry, 30_000, 1).await.unwrap();
    let newest = *filled(&cache, &registry, 30_000, 4).await.unwrap().digest();
    let left: Vec<_> = cache.list().unwrap().into_iter().map(|entry| (entry.digest, entry.held)).collect();
    assert_eq!(left, [(newest, false), (held, true), (younger, false)]);
    // Not only in this process, and not only against eviction by need.
    let other = super::cache(folder.path());
    assert_eq!(other.prune(0).unwrap(), [younger, newest]);
    assert_eq!(other.prune(0).unwrap(), []);
    drop(hold);
    assert_eq!(other.prune(0).unwrap(), [held]);
    assert!(!other.list().unwrap().iter().any(|entry| entry.digest == oldest));
}

#[tokio::test]
async fn what_is_too_large_or_has_no_room_is_refused_and_the_cache_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let cache = Cache::open(Settings { bound: 50_000, ..settings(folder.path()) }).unwrap();
    let hold = filled(&cache, &registry, 30_000, 1).await.unwrap();
    let before = cache.list().unwrap();
    let error = blob(&cache, &registry, &content(60_000, 2)).await.unwrap_err();
    assert_eq!(error.code(), "cache.too-large");
    let error = blob(&cache, &registry, &content(30_000, 3)).await.unwrap_err();
    assert_eq!(error.code(), "cache.full");
    assert!(error.to_string().contains("--cache-size"), "{error}");
    assert_eq!(cache.list().unwrap(), before);
    assert_eq!(partials(folder.path()), 0);
    drop(hold);
    filled(&cache, &registry, 30_000, 3).await.unwrap();
}

#[tokio::test]
async fn a_download_that_nobody_has_goes_after_the_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let cache = Cache::open(Settings { bound: 100_000, ..settings(folder.path()) }).unwrap();
    let begun = blob(&cache, &registry, &content(30_000, 1)).await.unwrap();
    begun.read(0, 10).await.unwrap();
    let partial = *begun.digest();
    drop(begun);
    let whole = *filled(&cache, &registry, 30_000, 2).await.unwrap().digest();
    let listed: Vec<_> =
        cache.list().unwrap().into_iter().map(|entry| (entry.digest, entry.present)).collect();
    assert_eq!(listed, [(whole, 30_000), (partial, PIECE)]);
    assert_eq!(cache.prune(0).unwrap(), [whole, partial]);
    assert_eq!(partials(folder.path()), 0);
}

#[tokio::test]
async fn a_blob_that_changed_on_the_disk_is_found_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let cache = cache(folder.path());
    let good = filled(&cache, &registry, 10_000, 1).await.unwrap();
    let bad = filled(&cache, &registry, 10_000, 2).await.unwrap();
    let path = bad.path().unwrap();
    let mut changed = std::fs::read(&path).unwrap();
    changed[5_000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, changed).unwrap();
    assert_eq!(cache.verify().unwrap(), [*bad.digest()]);
    assert_eq!(cache.verify().unwrap(), []);
    assert!(good.path().unwrap().exists() && !path.exists());
}

/// A file system that is small, for as long as this lives.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = nix::mount::mount(
            Some("none"),
            folder.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        );
        match mounted {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                println!("skipped: a small file system cannot be mounted here ({error})");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _test_over = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_after_what_nobody_holds_made_way() {
    let Some(small) = Small::mount("1m") else { return };
    let registry = Registry::start().await;
    let cache = cache(small.0.path());
    let unused = *filled(&cache, &registry, 500_000, 1).await.unwrap().digest();
    let hold = filled(&cache, &registry, 500_000, 2).await.unwrap();
    // The third one fits only where the first was.
    let third = filled(&cache, &registry, 400_000, 3).await.unwrap();
    assert!(!cache.list().unwrap().iter().any(|entry| entry.digest == unused));
    let before = cache.list().unwrap();
    let error = blob(&cache, &registry, &content(400_000, 4)).await.unwrap_err();
    assert_eq!(error.code(), "cache.no-space");
    assert_eq!(cache.list().unwrap(), before);
    assert_eq!((cache.verify().unwrap(), partials(small.0.path())), (vec![], 0));
    assert_eq!((file_of(&hold).len(), file_of(&third).len()), (500_000, 400_000));
}
