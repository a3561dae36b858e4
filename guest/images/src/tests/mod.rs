//! Whole images from sources that tell the truth, and from sources that lie about one thing.

mod memory;
mod registry;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use coffer_core_channel::{ImageSource, Input, RunRequest};
use coffer_core_digest::Digest;
use coffer_core_initdata::{AllowedContainer, Attestation, GuestConfig, Permission, SignatureRule};
use coffer_core_oci::{Descriptor, Manifest, media};
use coffer_core_seal::ocicrypt;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::Keys;
use coffer_guest_gate::{Authorized, Container, Gate};
use memory::{Broker, Memory, Silent, gzip, tar};

use super::*;

const IMAGE: &str = "registry.example/web:1";

/// What the gate says when init-data pins this digest.
fn authorized(found: &Found, pinned: Digest) -> Authorized<Container> {
    let allowed = AllowedContainer {
        image: IMAGE.into(),
        signature: SignatureRule::DigestOnly,
        digest: Some(pinned),
        signers: Vec::new(),
        args: None,
        env: vec!["A=request".into()],
        resources: Vec::new(),
        secrets: vec![],
        evidence: Permission::Denied,
        stdin: Permission::Denied,
        terminal: Permission::Denied,
    };
    let config = GuestConfig {
        attestation: Attestation::InsecureNone,
        broker: None,
        containers: vec![allowed],
        volumes: vec![],
        scratch: Default::default(),
    };
    let request = RunRequest {
        image: IMAGE.into(),
        source: ImageSource::Registry { reference: IMAGE.into(), plain_http: false },
        args: Vec::new(),
        env: vec!["A=request".into()],
        input: Input::Empty,
        terminal: None,
        network: None,
    };
    let gate = Gate::new(&config);
    let candidates: Vec<_> = found.candidates().collect();
    candidates
        .into_iter()
        .find_map(|candidate| gate.authorize(&request, candidate).ok())
        .expect("the pinned image is among those found")
}

/// Finds, authorizes what was pinned, and makes ready.
async fn prepare(
    source: &Memory,
    keys: Option<Arc<dyn Keys>>,
) -> Result<(Prepared, tempfile::TempDir), ImageError> {
    let place = tempfile::tempdir().expect("directory");
    let found = Found::fetch(source).await?;
    let authorized = authorized(&found, source.document);
    let store = ImageStore::new(place.path().join("image"), HashMap::new(), keys);
    let prepared = store.prepare(source, &found, &authorized, &Silent).await?;
    Ok((prepared, place))
}

async fn refused(source: &Memory, keys: Option<Arc<dyn Keys>>) -> String {
    prepare(source, keys).await.err().expect("must be refused").refusal().code
}

/// An image of two layers; the second replaces and hides.
fn plain() -> Memory {
    let mut source = Memory::default();
    let lower = source.put(media::OCI_LAYER_GZIP, gzip(&tar(&[("etc/a", "old"), ("etc/b", "b")])));
    let upper = source.put(media::OCI_LAYER, tar(&[("etc/a", "new"), ("etc/.wh.b", "")]));
    source.image(vec![lower, upper]);
    source
}

#[tokio::test]
async fn plain_layers_are_unpacked_and_the_process_is_the_images_with_the_requests_environment() {
    let (prepared, _place) = prepare(&plain(), None).await.expect("ready");
    assert_eq!(fs::read_to_string(prepared.root.join("etc/a")).expect("there"), "new");
    assert!(!prepared.root.join("etc/b").exists());
    assert_eq!(prepared.process.args, ["/bin/app", "--serve"]);
    assert_eq!(prepared.process.env, ["PATH=/bin", "A=request"]);
    assert_eq!((prepared.process.user.as_str(), prepared.process.cwd.as_str()), ("web", "/srv"));
    assert!(prepared.integrity.is_none());
}

#[tokio::test]
async fn every_blob_is_refused_when_one_byte_of_it_is_another() {
    let names: Vec<Digest> = plain().blobs.keys().copied().collect();
    assert_eq!(names.len(), 4, "manifest, configuration and two layers");
    for name in names {
        let mut source = plain();
        let blob = source.blobs.get_mut(&name).expect("there");
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        assert_eq!(refused(&source, None).await, "image.blob.digest", "{name}");
    }
}

#[tokio::test]
async fn every_blob_is_refused_when_it_is_longer_or_shorter_than_its_descriptor_says() {
    let document = plain().document;
    for name in plain().blobs.into_keys().filter(|name| *name != document) {
        for change in [|blob: &mut Vec<u8>| blob.push(0), |blob: &mut Vec<u8>| blob.truncate(blob.len() - 1)]
        {
            let mut source = plain();
            change(source.blobs.get_mut(&name).expect("there"));
            assert_eq!(refused(&source, None).await, "image.blob.size", "{name}");
        }
        let mut source = plain();
        source.blobs.remove(&name);
        assert_eq!(refused(&source, None).await, "image.blob.missing", "{name}");
    }
}

#[tokio::test]
async fn an_image_in_an_index_is_bound_by_the_digest_of_the_index() {
    let mut source = plain();
    source.index();
    let (prepared, _place) = prepare(&source, None).await.expect("ready");
    assert_eq!(fs::read_to_string(prepared.root.join("etc/a")).expect("there"), "new");
}

#[tokio::test]
async fn another_image_than_the_authorized_one_is_not_prepared() {
    let source = plain();
    let found = Found::fetch(&source).await.expect("found");
    let authorized = authorized(&found, source.document);
    let mut other = Memory::default();
    let layer = other.put(media::OCI_LAYER, tar(&[("x", "x")]));
    other.image(vec![layer]);
    let swapped = Found::fetch(&other).await.expect("found");
    let place = tempfile::tempdir().expect("directory");
    let store = ImageStore::new(place.path().join("image"), HashMap::new(), None);
    let error = store.prepare(&other, &swapped, &authorized, &Silent).await.err().expect("refused");
    assert_eq!(error.code(), "image.digest");
}

/// An image with one encrypted layer; `damage` changes the ciphertext before its digest is taken, as somebody who
/// can write manifests could.
fn encrypted(damage: bool) -> (Memory, Arc<Broker>) {
    encrypted_archive(&tar(&[("secret", "only within")]), damage)
}

fn encrypted_archive(archive: &[u8], damage: bool) -> (Memory, Arc<Broker>) {
    let key = SecretBytes::copy_of(&[7; ocicrypt::KEY]);
    let mut source = Memory::default();
    let plain = gzip(archive);
    let mut cipher = Vec::new();
    let name = "kbs:///default/key/layer";
    let layer = ocicrypt::encrypt(&mut plain.as_slice(), &mut cipher, name, &key).expect("encrypted");
    if damage {
        cipher[20] ^= 1;
    }
    let mut descriptor = source.put(&format!("{}{}", media::OCI_LAYER_GZIP, media::ENCRYPTED), cipher);
    descriptor.annotations = layer.annotations;
    source.image(vec![descriptor]);
    (source, Arc::new(Broker::new("default/key/layer", &[7; ocicrypt::KEY])))
}

#[tokio::test]
async fn an_encrypted_layer_is_opened_with_the_brokers_key() {
    let (source, broker) = encrypted(false);
    let (prepared, _place) = prepare(&source, Some(broker)).await.expect("ready");
    assert_eq!(fs::read_to_string(prepared.root.join("secret")).expect("there"), "only within");
}

#[tokio::test]
async fn each_defect_of_an_encrypted_layer_has_its_own_code() {
    let (source, broker) = encrypted(false);
    assert_eq!(refused(&source, None).await, "image.key.no-broker");
    let other = Arc::new(Broker::new("default/key/layer", &[8; ocicrypt::KEY]));
    assert_eq!(refused(&source, Some(other)).await, "image.key.wrong");
    let denying = Arc::new(Broker::new("default/key/other", &[7; ocicrypt::KEY]));
    assert_eq!(refused(&source, Some(denying)).await, "resource.missing");
    let (damaged, _) = encrypted(true);
    assert_eq!(refused(&damaged, Some(broker)).await, "image.layer.changed");
}

#[tokio::test]
async fn no_key_is_asked_for_an_image_that_was_not_authorized() {
    let (source, broker) = encrypted(false);
    let found = Found::fetch(&source).await.expect("found");
    let authorized = authorized(&found, source.document);
    let (other, _) = {
        let mut other = encrypted(false);
        let layer = other.0.put(media::OCI_LAYER, tar(&[("x", "x")]));
        other.0.image(vec![layer]);
        other
    };
    let swapped = Found::fetch(&other).await.expect("found");
    let place = tempfile::tempdir().expect("directory");
    let store = ImageStore::new(place.path().join("image"), HashMap::new(), Some(broker.clone()));
    assert!(store.prepare(&other, &swapped, &authorized, &Silent).await.is_err());
    assert_eq!(broker.asked(), 0);
}

#[tokio::test]
async fn layers_of_an_unknown_kind_are_refused_before_anything_is_fetched() {
    let mut source = Memory::default();
    let known = source.put(media::OCI_LAYER, tar(&[("x", "x")]));
    let unknown = Descriptor::of("application/vnd.example.layer", b"x");
    source.image(vec![known.clone(), unknown]);
    source.blobs.remove(&known.digest);
    assert_eq!(refused(&source, None).await, "image.layer.kind");
}

#[tokio::test]
async fn an_image_without_a_command_is_refused() {
    let mut source = Memory::default();
    let config = source.put(media::OCI_CONFIG, br#"{"architecture":"amd64","os":"linux"}"#.to_vec());
    source.put_document(Manifest::new(config, Vec::new()).to_bytes().expect("bytes"));
    let place = tempfile::tempdir().expect("directory");
    let found = Found::fetch(&source).await.expect("found");
    let authorized = authorized(&found, source.document);
    let store = ImageStore::new(place.path().join("image"), HashMap::new(), None);
    let error = store.prepare(&source, &found, &authorized, &Silent).await.err().expect("refused");
    assert_eq!(error.code(), "image.no-command");
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_named_unless_the_layer_is_encrypted() {
    // A file below a file cannot be laid out.
    let archive = tar(&[("hidden-name", "a"), ("hidden-name/below", "b")]);
    let mut plain = Memory::default();
    let layer = plain.put(media::OCI_LAYER, archive.clone());
    plain.image(vec![layer]);
    let told = prepare(&plain, None).await.err().expect("refused").refusal();
    assert_eq!(told.code, "image.layer.unpack");
    assert!(told.message.contains("hidden-name"), "{}", told.message);
    let (locked, broker) = encrypted_archive(&archive, false);
    let told = prepare(&locked, Some(broker)).await.err().expect("refused").refusal();
    assert_eq!(told.code, "image.layer.unpack");
    assert!(!format!("{told:?}").contains("hidden-name"), "{}", told.message);
}
