//! A source in memory, and a broker with one key.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use coffer_core_digest::Digest;
use coffer_core_oci::manifest::{Index, Platform};
use coffer_core_oci::{Descriptor, Manifest, media};
use coffer_core_protocol::Tee;
use coffer_core_protocol::error::{Code, ErrorBody};
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::{AttestError, Binding, Keys};

use crate::{BlobSource, Chunks, ImageFault, Pending, Progress};

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","config":{"User":"web","WorkingDir":"/srv",
    "Env":["PATH=/bin","A=image"],"Entrypoint":["/bin/app"],"Cmd":["--serve"]}}"#;

/// Blobs by digest; what they are is not checked here.
pub(super) struct Memory {
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(super) document: Digest,
}

impl Default for Memory {
    fn default() -> Self {
        Self { blobs: BTreeMap::new(), document: Digest::sha256(b"") }
    }
}

impl Memory {
    pub(super) fn put(&mut self, media_type: &str, content: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &content);
        self.blobs.insert(descriptor.digest, content);
        descriptor
    }

    pub(super) fn image(&mut self, layers: Vec<Descriptor>) {
        let config = self.put(media::OCI_CONFIG, CONFIG.to_vec());
        self.put_document(Manifest::new(config, layers).to_bytes().expect("bytes"));
    }

    pub(super) fn put_document(&mut self, document: Vec<u8>) {
        self.document = self.put(media::OCI_MANIFEST, document).digest;
    }

    /// Puts the image into an index and names that instead.
    pub(super) fn index(&mut self) {
        let manifest = &self.blobs[&self.document];
        let mut descriptor = Descriptor::of(media::OCI_MANIFEST, manifest);
        descriptor.platform = Some(Platform::linux_amd64());
        let index = serde_json::to_vec(&Index::new(vec![descriptor])).expect("bytes");
        self.put_document(index);
    }

    fn get(&self, digest: &Digest) -> Pending<'_, Box<dyn Chunks>> {
        let found = self.blobs.get(digest).cloned();
        let what = digest.to_string();
        Box::pin(async move {
            match found {
                Some(blob) => {
                    Ok(Box::new(Pieces(blob.chunks(1000).rev().map(<[u8]>::to_vec).collect())) as _)
                }
                None => Err(Box::new(ImageFault::Missing { source_name: "memory".into(), what })),
            }
        })
    }
}

/// The pieces, last first.
struct Pieces(Vec<Vec<u8>>);

impl Chunks for Pieces {
    fn next(&mut self) -> Pending<'_, Option<Bytes>> {
        Box::pin(async { Ok(self.0.pop().map(Bytes::from)) })
    }
}

impl BlobSource for Memory {
    fn name(&self) -> String {
        "memory".into()
    }

    fn document(&self) -> Pending<'_, Box<dyn Chunks>> {
        self.get(&self.document)
    }

    fn document_digest(&self) -> Option<Digest> {
        Some(self.document)
    }

    fn manifest<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>> {
        self.get(digest)
    }

    fn blob<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>> {
        self.get(digest)
    }

    fn signatures<'a>(&'a self, _: &'a Digest) -> Pending<'a, Vec<Box<dyn Chunks>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A timeline that nobody reads.
pub(super) struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str, _: String) {}
}

/// A broker with one key.
pub(super) struct Broker {
    path: ResourcePath,
    key: Vec<u8>,
    asked: AtomicU32,
}

impl Broker {
    pub(super) fn new(path: &str, key: &[u8]) -> Self {
        Self { path: path.parse().expect("path"), key: key.to_vec(), asked: AtomicU32::new(0) }
    }

    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Keys for Broker {
    fn resource<'a>(&'a self, path: &'a ResourcePath) -> coffer_guest_attest::Pending<'a, SecretBytes> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if *path == self.path {
                return Ok(SecretBytes::copy_of(&self.key));
            }
            let body = Box::new(ErrorBody::new(Code::ResourceMissing, "no"));
            Err(AttestError::Refused { step: "a resource", status: 404, body, attempt: None })
        })
    }

    fn token(&self) -> coffer_guest_attest::Pending<'_, SecretBytes> {
        Box::pin(async { Ok(SecretBytes::copy_of(b"{}")) })
    }

    fn evidence<'a>(&'a self, _: &'a [u8], _: Binding) -> coffer_guest_attest::Pending<'a, Vec<u8>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn tee(&self) -> Tee {
        Tee::Tpm
    }
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("written");
    encoder.finish().expect("finished")
}

pub(super) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(u64::from(nix::unistd::getuid().as_raw()));
        header.set_gid(u64::from(nix::unistd::getgid().as_raw()));
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).expect("appended");
    }
    builder.into_inner().expect("archive")
}
