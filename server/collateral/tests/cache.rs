//! Claims about the folder: damage, a disk that is full, and processes that are killed cost a fetch and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_server_collateral::{CollateralService, Hints, Settings};
use coffer_verify_api::{Collateral, CollateralKey, Document};
use jiff::SignedDuration;

use lab::{Bench, Source, WAIT, tcb_info, tdx};

fn offline() -> Settings {
    Settings { offline: true, ..Settings::default() }
}

fn info(number: u16) -> (CollateralKey, Document) {
    let [high, low] = number.to_be_bytes();
    let fmspc = [0, 0, 0, 0, high, low];
    let body = tcb_info("TDX", &hex::encode(fmspc), "2030-01-01T00:00:00Z");
    (CollateralKey::TdxTcbInfo(fmspc), Document::new(body.into_bytes(), Vec::new()))
}

fn put(service: &CollateralService, number: u16) {
    let (key, document) = info(number);
    service.put(key, document, "a test", None).unwrap().unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_or_cut_counts_as_absent() {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    assert!(bench.service.gather(&[tdx()], &Hints::default(), WAIT).await.missing.is_empty());
    let file = files(bench.folder.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let found = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        bench.reopened(offline()).stored(&tdx()).is_some()
    };
    assert!(found(&whole));
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(!found(&changed), "byte {at}");
        assert!(!found(&whole[..at]), "cut at {at}");
    }
    assert!(!found(&[whole.as_slice(), b"\n"].concat()));
    // It is fetched again, and then whole.
    let again = bench.reopened(source.settings());
    assert!(again.gather(&[tdx()], &Hints::default(), WAIT).await.missing.is_empty());
    assert_eq!(source.times(), 2);
    assert!(bench.reopened(offline()).stored(&tdx()).is_some());
}

#[test]
fn a_file_under_another_documents_name_is_not_that_document() {
    let bench = Bench::new(offline());
    put(&bench.service, 1);
    put(&bench.service, 2);
    let all = files(bench.folder.path());
    fs::copy(&all[0], &all[1]).unwrap();
    let service = bench.reopened(offline());
    assert!(service.stored(&info(1).0).is_some());
    assert!(service.stored(&info(2).0).is_none());
    assert_eq!(service.list().unwrap().len(), 1);
}

#[test]
fn documents_of_the_wrong_kind_are_not_put() {
    let bench = Bench::new(offline());
    let (_, document) = info(1);
    let refused =
        |key: CollateralKey| bench.service.put(key, document.clone(), "a test", None).unwrap().unwrap_err();
    assert!(refused(info(2).0).contains("not of TDX for 000000000002"));
    assert!(refused(CollateralKey::SgxTcbInfo([0, 0, 0, 0, 0, 1])).contains("TCB info of TDX"));
    assert!(refused(CollateralKey::IntelRootCrl).contains("a revocation list in DER"));
    assert!(refused(CollateralKey::NvidiaRim("NV_1".into())).contains("a manifest in XML"));
    assert_eq!(bench.service.list().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_drops_the_oldest_fetched_document_and_never_an_imported_one() {
    let source = Source::start().await;
    let settings = Settings { max_disk: 8 << 10, ..source.settings() };
    let bench = Bench::new(settings);
    put(&bench.service, 9999);
    for number in 0..20_u16 {
        let key = info(number).0;
        assert!(bench.service.gather(&[key], &Hints::default(), WAIT).await.missing.is_empty());
        bench.clock.forward(SignedDuration::from_secs(1));
    }
    let size: u64 = files(bench.folder.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(size <= 8 << 10, "{size}");
    let left: Vec<CollateralKey> =
        bench.service.list().unwrap().into_iter().map(|listed| listed.key).collect();
    assert!(left.contains(&info(9999).0) && left.contains(&info(19).0) && !left.contains(&info(0).0));
    // What an owner imports is refused by name when it does not fit.
    let (key, _) = info(500);
    let long = tcb_info("TDX", "0000000001f4", "2030-01-01T00:00:00Z").replace("00ff", &"0".repeat(9000));
    let error =
        bench.service.put(key, Document::new(long.into_bytes(), Vec::new()), "a test", None).unwrap_err();
    assert!(error.to_string().contains("the cache has room for 8192"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_costs_no_answer() {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    // A folder that is gone takes no file, whoever the test runs as.
    fs::remove_dir_all(bench.folder.path()).unwrap();
    assert!(bench.service.gather(&[tdx()], &Hints::default(), WAIT).await.missing.is_empty());
    assert!(bench.service.at_hand().find(&tdx()).is_some());
    assert!(bench.service.gather(&[tdx()], &Hints::default(), WAIT).await.missing.is_empty());
    assert_eq!(source.times(), 1);
    let (key, document) = info(1);
    assert!(bench.service.put(key, document, "a test", None).is_err(), "an import must be on disk");
    fs::create_dir_all(bench.folder.path()).unwrap();
}

const WRITER: &str = "COFFER_TEST_COLLATERAL_WRITER";

/// Not a test of its own: what the next one starts and kills.
#[test]
fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(WRITER) else { return };
    let service = CollateralService::open(Path::new(&folder), offline()).unwrap();
    for round in 0.. {
        put(&service, round % 16);
    }
}

#[test]
fn a_process_killed_at_any_moment_leaves_whole_files_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = 0;
    for round in 0..12_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed"])
            .env(WRITER, folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while files(folder.path()).is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(1700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let service = CollateralService::open(folder.path(), offline()).unwrap();
        for listed in service.list().unwrap() {
            assert!(service.stored(&listed.key).is_some(), "{}", listed.key);
            whole += 1;
        }
        let left = files(folder.path());
        assert!(left.iter().all(|path| path.extension().is_some_and(|end| end == "doc")), "{left:?}");
    }
    assert!(whole > 0, "no document was written in any round");
}
