//! Claims about imports: a bundle carries everything, says what is wrong with it, and nothing leaves its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod lab;

use std::fs;
use std::path::PathBuf;

use coffer_server_collateral::{Hints, Listed, Settings};
use coffer_verify_api::{Collateral, CollateralKey, PckCa};
use serde_json::json;

use lab::{Authority, Bench, FMSPC, Source, WAIT, identity, keys, tcb_info};

fn offline() -> Bench {
    Bench::new(Settings { offline: true, ..Settings::default() })
}

async fn filled() -> Bench {
    let source = Source::start().await;
    let bench = Bench::new(source.settings());
    assert!(bench.service.gather(&keys(), &Hints::default(), WAIT).await.missing.is_empty());
    bench
}

fn digests(listed: &[Listed]) -> Vec<(String, String)> {
    let mut all: Vec<_> = listed.iter().map(|one| (one.key.to_string(), one.digest.clone())).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_imported_elsewhere_the_same() {
    let bench = filled().await;
    let place = tempfile::tempdir().unwrap();
    for name in ["bundle", "bundle.tar"] {
        let path = place.path().join(name);
        assert_eq!(bench.service.export(&path, None).unwrap(), keys().len());
        let other = offline();
        let imported = other.service.import(&path).unwrap();
        assert_eq!(digests(&imported), digests(&bench.service.list().unwrap()), "{name}");
        let gathered = other.service.gather(&keys(), &Hints::default(), WAIT).await;
        assert!(gathered.missing.is_empty());
        for listed in imported {
            assert!(listed.imported && listed.origin.starts_with("http://127.0.0.1"), "{listed:?}");
            assert_eq!(listed.fetched.to_string(), lab::NOW);
        }
    }
    let some = bench.service.export_tar(Some(&[lab::tdx()])).unwrap();
    assert_eq!(offline().service.import_bytes("some.tar", some).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caches_own_files_can_be_imported() {
    let bench = filled().await;
    let imported = offline().service.import(bench.folder.path()).unwrap();
    assert_eq!(digests(&imported), digests(&bench.service.list().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_was_changed_is_refused_by_name() {
    let bench = filled().await;
    let place = tempfile::tempdir().unwrap();
    bench.service.export(place.path(), None).unwrap();
    let manifest = place.path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let refused = || offline().service.import(place.path()).unwrap_err().to_string();

    let file = place.path().join("intel+tdx+tcb-info+b0c06f000000.document");
    let body = fs::read(&file).unwrap();
    fs::write(&file, [body.as_slice(), b" "].concat()).unwrap();
    let found = refused();
    assert!(
        found.contains("intel+tdx+tcb-info+b0c06f000000.document") && found.contains("digest"),
        "{found}"
    );
    fs::remove_file(&file).unwrap();
    assert!(refused().contains("it is not there"));
    fs::write(&file, body).unwrap();

    fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert!(refused().contains("version 2; expected 1"));
    fs::write(&manifest, text.replace("intel/tdx/qe-identity", "intel/../../x")).unwrap();
    assert!(refused().contains("names no collateral"));
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    assert!(refused().contains("manifest.json"));
    fs::write(&manifest, text.replace("intel+tdx+tcb-info+b0c06f000000.document", "../../../etc/passwd"))
        .unwrap();
    assert!(refused().contains("it is not there"));
    fs::write(&manifest, text).unwrap();
    assert!(offline().service.import(place.path()).is_ok());
}

#[test]
fn documents_that_say_what_they_are_need_no_manifest() {
    let place = tempfile::tempdir().unwrap();
    let (signing, platform) =
        (Authority::new("Intel SGX TCB Signing"), Authority::new("Intel SGX PCK Platform CA"));
    let root = Authority::new("Intel SGX Root CA");
    let end = "2030-01-01T00:00:00Z";
    for (name, bytes) in [
        ("tcb.json", tcb_info("TDX", &hex::encode(FMSPC), end).into_bytes()),
        ("qe.json", identity("TD_QE", end).into_bytes()),
        ("signing.pem", signing.pem.into_bytes()),
        ("pck.crl", platform.crl(end)),
        ("platform.pem", platform.pem.into_bytes()),
        ("root.crl", hex::encode(root.crl(end)).into_bytes()),
        ("sdk_NV_GPU_DRIVER_GH100_550.144.03.xml", lab::manifest().as_bytes().to_vec()),
        ("README.txt", b"other things may lie here, too".to_vec()),
    ] {
        fs::write(place.path().join(name), bytes).unwrap();
    }
    let bench = offline();
    let mut found: Vec<String> = bench
        .service
        .import(place.path())
        .unwrap()
        .into_iter()
        .map(|listed| listed.key.to_string())
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "intel/pck-crl/platform",
            "intel/root-crl",
            "intel/tdx/qe-identity",
            "intel/tdx/tcb-info/b0c06f000000",
            "nvidia/rim/NV_GPU_DRIVER_GH100_550.144.03",
        ]
    );
    fs::remove_file(place.path().join("signing.pem")).unwrap();
    let error = offline().service.import(place.path()).unwrap_err().to_string();
    assert!(error.contains("issuer's certificates are not beside it"), "{error}");
}

#[test]
fn what_is_no_collateral_is_refused_by_name() {
    for (name, bytes) in
        [("notes.txt", &b"notes"[..]), ("empty", b""), ("a.json", b"{}"), ("a.tar", &[0; 1024])]
    {
        let error = offline().service.import_bytes(name, bytes.to_vec()).unwrap_err().to_string();
        assert!(error.contains("is of no known form"), "{name}: {error}");
    }
    let mut cut = vec![0; 300];
    cut[257..262].copy_from_slice(b"ustar");
    assert!(offline().service.import_bytes("cut.tar", cut).is_err());
}

#[test]
fn a_quote_librarys_collateral_becomes_four_documents() {
    let (signing, platform) =
        (Authority::new("Intel SGX TCB Signing"), Authority::new("Intel SGX PCK Platform CA"));
    let end = "2030-01-01T00:00:00Z";
    let inner = |answer: String, member: &str| {
        let text = answer.strip_prefix(&format!("{{\"{member}\":")).unwrap();
        text.strip_suffix(",\"signature\":\"00ff\"}").unwrap().to_owned()
    };
    let info = tcb_info("TDX", &hex::encode(FMSPC), end);
    let collateral = json!({
        "pck_crl_issuer_chain": platform.pem, "pck_crl": hex::encode(platform.crl(end)),
        "root_ca_crl": hex::encode(Authority::new("Intel SGX Root CA").crl(end)),
        "tcb_info_issuer_chain": signing.pem, "tcb_info": inner(info.clone(), "tcbInfo"), "tcb_info_signature": "00ff",
        "qe_identity_issuer_chain": signing.pem, "qe_identity": inner(identity("TD_QE", end), "enclaveIdentity"),
        "qe_identity_signature": "00ff",
    });
    let bench = offline();
    let imported =
        bench.service.import_bytes("collateral.json", collateral.to_string().into_bytes()).unwrap();
    assert_eq!(imported.len(), 4);
    let (_, document) = bench.service.stored(&lab::tdx()).unwrap();
    assert_eq!(document.body(), info.as_bytes());
    assert!(bench.service.stored(&CollateralKey::PckCrl(PckCa::Platform)).is_some());
    assert!(bench.service.at_hand().find(&CollateralKey::IntelRootCrl).is_some());
}

#[test]
fn the_recorded_collateral_of_quotes_is_imported() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let vectors = PathBuf::from(std::env::var("COFFER_VECTORS").unwrap_or(default.to_owned()));
    if !vectors.is_dir() {
        println!("skipped: no vectors");
        return;
    }
    for (file, info) in [
        ("tdx/dcapqvl_tdx_quote_collateral.json", "intel/tdx/tcb-info/b0c06f000000"),
        ("tdx/dcapqvl_tdx_quote_outdated_collateral.json", "intel/tdx/tcb-info/90c06f000000"),
        ("sgx/dcapqvl_sgx_quote_collateral.json", "intel/sgx/tcb-info/00a067110000"),
    ] {
        let bench = offline();
        let imported = bench.service.import(&vectors.join(file)).unwrap();
        let keys: Vec<String> = imported.iter().map(|listed| listed.key.to_string()).collect();
        assert_eq!(imported.len(), 4, "{file}: {keys:?}");
        assert!(keys.contains(&info.to_owned()), "{file}: {keys:?}");
        assert!(imported.iter().all(|listed| listed.valid_until.is_some()), "{file}");
    }
    let bench = offline();
    let imported = bench.service.import(&vectors.join("snp/virtee_vcek_milan.der")).unwrap();
    assert!(imported[0].key.to_string().starts_with("amd/vcek/Milan/"), "{}", imported[0].key);
    assert!(imported[0].key.to_string().ends_with("/7308000000000003"), "{}", imported[0].key);
    let imported = bench.service.import(&vectors.join("snp/oak_turin_oc_vcek.der")).unwrap();
    assert!(imported[0].key.to_string().starts_with("amd/vcek/Turin/"), "{}", imported[0].key);
    let rims = vectors.join("nvidia/sdk_NV_GPU_DRIVER_GH100_550.144.03.xml");
    let imported = bench.service.import(&rims).unwrap();
    assert!(imported[0].valid_until.is_some(), "a manifest ends with its certificates");
}
