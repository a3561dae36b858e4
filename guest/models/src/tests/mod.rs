//! Models at sources that are slow, broken, or lie.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{
    ArtifactId, AssociatedData, FileEntry, Key, Manifest, Sealer, SeekReader, SegmentSize, Signature,
};

use crate::*;

mod disk;
mod network;
mod server;
mod tls;

const KEY: [u8; 32] = [9; 32];
const URI: &str = "kbs:///default/model-key/1";

/// A sealed model's objects by name, and who signed it.
pub(crate) struct Sealed {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) plain: BTreeMap<String, Vec<u8>>,
    signer: PublicKey,
}

/// Bytes that repeat nowhere soon.
fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at * at + at / 4096) % 251) as u8).collect()
}

impl Sealed {
    pub(crate) fn new(files: &[(&str, usize)], segment: u64) -> Self {
        let (key, segment) = (Key::new(KEY), SegmentSize::new(segment).unwrap());
        let artifact = ArtifactId::random().unwrap();
        let (mut objects, mut entries) = (BTreeMap::new(), Vec::new());
        let mut contents = BTreeMap::new();
        for (path, size) in files {
            let name = path.parse().unwrap();
            let data = AssociatedData::file(&artifact, &name);
            let mut sealer = Sealer::new(Vec::new(), &key, &data, segment).unwrap();
            sealer.write_all(&plain(*size)).unwrap();
            let (sealed, bytes) = sealer.finish().unwrap();
            entries.push(FileEntry::new(name, path.ends_with(".sh"), segment, &sealed).unwrap());
            objects.insert(format!("blobs/{}", sealed.digest.hex()), bytes);
            contents.insert((*path).to_owned(), plain(*size));
        }
        let manifest = Manifest::new(artifact, URI.parse().unwrap(), segment, entries).unwrap();
        let (bytes, statement) = manifest.seal(&key).unwrap();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let signature = pair.sign(&SystemRandom::new(), &statement.signing_bytes().unwrap()).unwrap();
        let signature = Signature { bytes: signature.as_ref().to_vec(), key_id: String::new() };
        objects.insert(MANIFEST.into(), bytes);
        objects.insert(ENVELOPE.into(), statement.envelope(&[signature]).unwrap());
        let der = STANDARD.encode(pair.public_key().as_der().unwrap().as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        Self { objects, plain: contents, signer: PublicKey::from_pem(&pem).unwrap() }
    }

    pub(crate) fn write(&self, folder: &Path) {
        for (name, bytes) in &self.objects {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    pub(crate) fn open(&self, access: &Access, place: &str) -> Result<Model, ModelError> {
        let store = access.store(&Place::parse(place)?)?;
        Signed::read(store, std::slice::from_ref(&self.signer))?.open(Key::new(KEY))
    }

    /// The name of a file's stream.
    pub(crate) fn stream(&self, model: &Model, path: &str) -> String {
        format!("blobs/{}", model.artifact().manifest().file(path).unwrap().digest().hex())
    }

    pub(crate) fn compare(&self, folder: &Path) {
        for (path, content) in &self.plain {
            assert!(std::fs::read(folder.join(path)).unwrap() == *content, "{path}");
        }
    }
}

/// Three files; with segments of 64 KiB one of them has several runs.
fn model() -> Sealed {
    Sealed::new(&[("a/weights", 9 << 20), ("b.sh", 70_000), ("empty", 0)], 64 << 10)
}

fn small() -> Sealed {
    Sealed::new(&[("a/weights", 50_000), ("config", 10)], 4096)
}

/// Pauses are short where nobody's patience is tested.
fn access() -> Access {
    let (pause, longest_pause) = (Duration::from_millis(1), Duration::from_millis(2));
    let retry = Retry { attempts: 4, pause, longest_pause, stall: Duration::from_millis(400) };
    Access { retry, ..Access::default() }
}

fn with_job<T>(work: impl FnOnce(&Job<'_>) -> T) -> T {
    let stop = AtomicBool::new(false);
    work(&Job { progress: &|_, _| {}, stop: &stop })
}

fn check(model: &Model) -> Result<(), ModelError> {
    with_job(|job| model.check(job))
}

fn unpack(model: &Model, to: &Path, partial: Partial) -> Result<(), ModelError> {
    with_job(|job| model.unpack(&Destination::New(to.into()), partial, job))
}

/// Ends as soon as this many bytes are done.
fn interrupted(model: &Model, to: &Path, partial: Partial, after: u64) {
    let stop = AtomicBool::new(false);
    let progress = |done: u64, _| stop.store(done >= after, Ordering::Relaxed);
    let job = Job { progress: &progress, stop: &stop };
    let refused = model.unpack(&Destination::New(to.into()), partial, &job).unwrap_err();
    assert_eq!(refused.code(), "model.interrupted");
}
