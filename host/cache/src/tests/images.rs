//! Images: documents, signatures, and a real registry.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use coffer_core_digest::Digest;
use coffer_core_oci::manifest::{Index, Manifest, Platform};
use coffer_core_oci::sealed::BLOCK;
use coffer_core_oci::simple_signing::signature_tag;
use coffer_core_oci::{Descriptor, SealedBlock, media};

use super::registry::Registry;
use super::*;

/// An image: its blobs, its manifests by name. The last one is under the tag.
struct Image {
    sealed: Vec<u8>,
    blobs: Vec<Vec<u8>>,
    manifests: Vec<(String, Vec<u8>, &'static str)>,
    digest: Digest,
}

fn image() -> Image {
    let block = SealedBlock {
        data_blocks: 20,
        root_hash: Digest::sha256(b"root"),
        salt: [3; 32],
        key: "kbs:///default/image-key/a".into(),
    };
    let sealed = content(usize::try_from(block.blob_len()).unwrap(), 1);
    assert_eq!(sealed.len() as u64 % BLOCK, 0);
    let mut layer = Descriptor::of(media::SEALED_BLOCK, &sealed);
    layer.annotations = block.to_annotations();
    let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
    let manifest = Manifest::new(Descriptor::of(media::OCI_CONFIG, &config), vec![layer]).to_bytes().unwrap();
    let chosen = Digest::sha256(&manifest);
    let mut descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest);
    descriptor.platform = Some(Platform::linux_amd64());
    let index = serde_json::to_vec(&Index::new(vec![descriptor])).unwrap();
    let payload = b"{\"signed\":true}".to_vec();
    let signature = Manifest::new(
        Descriptor::of(media::OCI_CONFIG, &config),
        vec![Descriptor::of(media::SIMPLE_SIGNING, &payload)],
    );
    let manifests = vec![
        (chosen.to_string(), manifest, media::OCI_MANIFEST),
        (signature_tag(&chosen), signature.to_bytes().unwrap(), media::OCI_MANIFEST),
        ("v1".to_owned(), index.clone(), media::OCI_INDEX),
    ];
    Image { blobs: vec![sealed.clone(), config, payload], sealed, manifests, digest: Digest::sha256(&index) }
}

async fn serve(image: &Image) -> Registry {
    let registry = Registry::start().await;
    for blob in &image.blobs {
        registry.put_blob(blob);
    }
    for (name, bytes, _) in &image.manifests {
        registry.put(&format!("/v2/a/b/manifests/{name}"), bytes);
        registry.put(&format!("/v2/a/b/manifests/{}", Digest::sha256(bytes)), bytes);
    }
    registry
}

#[tokio::test]
async fn an_index_its_manifest_their_signatures_and_the_sealed_block_are_found_and_then_nothing_is_sent_again()
 {
    let image = image();
    let registry = serve(&image).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let found = cache.image(&registry.reference(), true).await.unwrap();
    assert_eq!(found.digest, image.digest);
    assert_eq!(found.signatures, [Digest::sha256(&image.manifests[1].1)]);
    assert_eq!(found.documents.len(), 5, "index, manifest, signature, payload, configuration");
    let sealed = found.sealed.as_ref().unwrap();
    assert!(!sealed.is_whole());
    sealed.fill().await.unwrap();
    assert_eq!(file_of(sealed), image.sealed);
    // What is held stays, also against a purge.
    assert_eq!(cache.prune(0).unwrap(), []);
    let sent = registry.sent();
    let again = super::cache(folder.path()).image(&registry.reference(), true).await.unwrap();
    assert!(again.sealed.unwrap().is_whole());
    assert_eq!(registry.sent(), sent, "the second user transfers nothing");
}

#[tokio::test]
async fn a_document_that_changed_on_the_disk_is_fetched_again() {
    let image = image();
    let registry = serve(&image).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    drop(cache.image(&registry.reference(), true).await.unwrap());
    let path = folder.path().join("blobs/sha256").join(image.digest.hex());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"{}").unwrap();
    assert_eq!(cache.image(&registry.reference(), true).await.unwrap().digest, image.digest);
    assert_eq!(Digest::sha256(&std::fs::read(&path).unwrap()), image.digest);
}

#[tokio::test]
async fn what_is_not_there_is_missing_and_another_document_is_refused() {
    let registry = Registry::start().await;
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path());
    let error = cache.image(&registry.reference(), true).await.unwrap_err();
    assert_eq!(error.code(), "cache.registry.missing");
    registry.put("/v2/a/b/manifests/v1", b"no manifest");
    let digest = Digest::sha256(b"no manifest");
    registry.put(&format!("/v2/a/b/manifests/{digest}"), b"no manifest");
    let error = cache.image(&registry.reference(), true).await.unwrap_err();
    assert_eq!(error.code(), "cache.registry.document");
    let pinned = registry.reference().with_digest(Digest::sha256(b"wanted"));
    registry.put(&format!("/v2/a/b/manifests/{}", Digest::sha256(b"wanted")), b"other");
    let error = cache.image(&pinned, true).await.unwrap_err();
    assert_eq!(error.code(), "cache.registry.failed");
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Debian's registry, if it is installed.
async fn real_registry(folder: &Path) -> Option<(Ends, String)> {
    if Command::new("docker-registry").arg("--version").output().is_err() {
        println!("skipped: docker-registry is not installed");
        return None;
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = folder.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
        folder.join("registry").display()
    );
    std::fs::write(&config, text).unwrap();
    let process = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let process = Ends(process.unwrap());
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(&address).await.is_ok() {
            return Some((process, address));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("docker-registry does not listen on {address}");
}

#[tokio::test]
async fn debians_registry_serves_the_cache_by_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_process, address)) = real_registry(folder.path()).await else { return };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::new();
    let image = image();
    for blob in &image.blobs {
        let begun = client.post(format!("http://{address}/v2/a/b/blobs/uploads/")).send().await.unwrap();
        let place = begun.headers()["location"].to_str().unwrap();
        let place = format!("{place}&digest={}", Digest::sha256(blob));
        let sent = client.put(place).header("content-type", "application/octet-stream").body(blob.clone());
        assert_eq!(sent.send().await.unwrap().status(), 201);
    }
    for (name, bytes, kind) in &image.manifests {
        let place = format!("http://{address}/v2/a/b/manifests/{name}");
        let sent = client.put(place).header("content-type", *kind).body(bytes.clone()).send().await.unwrap();
        assert_eq!(sent.status(), 201, "{name}");
    }
    let reference = format!("{address}/a/b:v1").parse().unwrap();
    let cache = cache(&folder.path().join("cache"));
    let found = cache.image(&reference, true).await.unwrap();
    let sealed = found.sealed.unwrap();
    assert_eq!(sealed.read(40_960, 4096).await.unwrap(), image.sealed[40_960..45_056]);
    assert_eq!(sealed.present(), PIECE, "a range, not the blob");
    sealed.fill().await.unwrap();
    assert_eq!(file_of(&sealed), image.sealed);
    let sent = cache.transferred();
    cache.image(&reference, true).await.unwrap();
    assert_eq!(cache.transferred(), sent);
}
