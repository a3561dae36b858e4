//! A sealed model, and a server on loopback that gives what it has, by ranges too.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_sealed_stream::{
    ArtifactId, AssociatedData, FileEntry, Key, Manifest, Sealer, SegmentSize, Signature,
};
use coffer_guest_models::{ENVELOPE, MANIFEST};

/// A sealed model's objects by name, what is in it, its key, and who signed it.
pub(crate) struct Sealed {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) plain: BTreeMap<String, Vec<u8>>,
    pub(crate) key: [u8; 32],
    pub(crate) signer: String,
}

impl Sealed {
    pub(crate) fn new(files: &[(&str, usize)]) -> Self {
        let bytes = [9; 32];
        let (key, segment) = (Key::new(bytes), SegmentSize::KIB_64);
        let artifact = ArtifactId::random().unwrap();
        let (mut objects, mut plain, mut entries) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (path, size) in files {
            let name = path.parse().unwrap();
            let text: Vec<u8> = (0..*size).map(|at| (at * at % 251) as u8).collect();
            let data = AssociatedData::file(&artifact, &name);
            let mut sealer = Sealer::new(Vec::new(), &key, &data, segment).unwrap();
            sealer.write_all(&text).unwrap();
            let (sealed, stream) = sealer.finish().unwrap();
            entries.push(FileEntry::new(name, false, segment, &sealed).unwrap());
            objects.insert(format!("blobs/{}", sealed.digest.hex()), stream);
            plain.insert((*path).to_owned(), text);
        }
        let uri = "kbs:///default/model-key/1".parse().unwrap();
        let (manifest, statement) =
            Manifest::new(artifact, uri, segment, entries).unwrap().seal(&key).unwrap();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let signature = pair.sign(&SystemRandom::new(), &statement.signing_bytes().unwrap()).unwrap();
        let signature = Signature { bytes: signature.as_ref().to_vec(), key_id: String::new() };
        objects.insert(MANIFEST.into(), manifest);
        objects.insert(ENVELOPE.into(), statement.envelope(&[signature]).unwrap());
        let der = STANDARD.encode(pair.public_key().as_der().unwrap().as_ref());
        let signer = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        Self { objects, plain, key: bytes, signer }
    }
}

/// Gives objects by their paths, and keeps what it was asked.
pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(objects: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Self { address: listener.local_addr().unwrap().to_string(), seen: Arc::default() };
        let (objects, seen) = (Arc::new(objects), Arc::clone(&own.seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (objects, seen) = (Arc::clone(&objects), Arc::clone(&seen));
                thread::spawn(move || while serve(&stream, &objects, &seen).is_some() {});
            }
        });
        own
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn host(&self) -> &str {
        self.address.split(':').next().unwrap()
    }
}

fn serve(stream: &TcpStream, objects: &BTreeMap<String, Vec<u8>>, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let (mut request, mut range) = (first, None);
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            break;
        }
        if let Some(wanted) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = wanted.split_once('-')?;
            range = Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?));
        }
        request = format!("{request}\n{line}");
    }
    seen.lock().unwrap().push(request);
    let mut out = stream;
    let Some(whole) = objects.get(&path) else {
        return out.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n").ok();
    };
    let (status, more, body) = match range {
        Some((from, to)) if from < whole.len() => {
            let end = (to + 1).min(whole.len());
            let more = format!("Content-Range: bytes {from}-{}/{}\r\n", end - 1, whole.len());
            (206, more, &whole[from..end])
        }
        _ => (200, String::new(), &whole[..]),
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{more}\r\n", body.len());
    out.write_all(head.as_bytes()).and_then(|()| out.write_all(body)).ok()
}
