//! Sealed streams: ciphertext from a store that lies, manifests and envelopes from the same place.

use std::io::{Read, Write};

use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{
    ArtifactId, AssociatedData, FileEntry, Header, Key, Layout, Manifest, Opener, Sealer, SeekReader,
    SegmentSize, Signature, Unverified, root_of,
};

const URI: &str = "kbs:///default/model-key/1";

/// Reads a manifest: what is accepted has one form, and every file of it is where its path says.
pub fn stream_manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    assert_eq!(manifest.to_bytes().unwrap(), data);
    for file in manifest.files() {
        let path = file.path().as_str();
        assert_eq!(manifest.file(path), Some(file));
        assert!(path.split('/').all(|name| !matches!(name, "" | "." | "..")));
        let layout = file.layout();
        assert_eq!(Layout::of_sealed(layout.segment_size(), layout.sealed_size()).unwrap(), *layout);
    }
}

/// Reads an envelope. Nobody has the private key, so none is ever accepted.
pub fn stream_envelope(data: &[u8]) {
    if let Ok(envelope) = Unverified::parse(data) {
        assert!(envelope.verify(&[PublicKey::from_pem(super::images::PUBLIC_KEY).unwrap()]).is_err());
    }
}

/// Opens a stream from its beginning and from its end: what was changed gives an error, never other content.
pub fn sealed_stream(data: &[u8]) {
    let (plain, sealed) = stream();
    let layout = Layout::new(segment(), plain.len() as u64).unwrap();
    let mut content = Vec::new();
    let opener = Opener::new(data, &key(), &label(), segment());
    if opener.is_ok_and(|mut opener| opener.read_to_end(&mut content).is_ok()) {
        assert_eq!((data, &content[..]), (&sealed[..], &plain[..]));
    }
    // Whatever came out before an error is the beginning of what was sealed.
    assert!(plain.starts_with(&content));
    let root = root_of(&data, &layout).ok();
    let mut content = Vec::new();
    let reader = SeekReader::new(data, &key(), &label(), layout);
    if reader.is_ok_and(|mut reader| reader.read_to_end(&mut content).is_ok()) {
        assert_eq!((content, root), (plain, root_of(&sealed, &layout).ok()));
        // Only what follows the end may differ.
        assert!(data.starts_with(&sealed));
    }
}

fn key() -> Key {
    Key::new([7; 32])
}

fn label() -> AssociatedData {
    AssociatedData::file(&artifact(), &"model".parse().unwrap())
}

fn artifact() -> ArtifactId {
    ArtifactId::insecure_from([1; 16])
}

fn segment() -> SegmentSize {
    SegmentSize::new(4096).unwrap()
}

/// Three segments, the last one short.
fn stream() -> (Vec<u8>, Vec<u8>) {
    let plain: Vec<u8> = (0..9000u32).map(|at| (at % 251) as u8).collect();
    let header = Header::insecure_with([2; 32], [3; 7]);
    let mut sealer = Sealer::insecure_with_header(Vec::new(), &key(), &label(), segment(), header).unwrap();
    sealer.write_all(&plain).unwrap();
    (plain, sealer.finish().unwrap().1)
}

fn manifest() -> Manifest {
    let mut entries = Vec::new();
    for (path, executable) in
        [("bin/run", true), ("config.json", false), ("weights/model.safetensors", false)]
    {
        let sealer = Sealer::new(std::io::sink(), &key(), &label(), segment()).unwrap();
        let (sealed, _) = sealer.finish().unwrap();
        entries.push(FileEntry::new(path.parse().unwrap(), executable, segment(), &sealed).unwrap());
    }
    Manifest::new(artifact(), URI.parse().unwrap(), segment(), entries).unwrap()
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let empty = Manifest::new(artifact(), URI.parse().unwrap(), SegmentSize::MIB_1, Vec::new()).unwrap();
    vec![manifest().to_bytes().unwrap(), empty.to_bytes().unwrap()]
}

pub(crate) fn envelope_seeds() -> Vec<Vec<u8>> {
    let (_, statement) = manifest().seal(&key()).unwrap();
    let signature = Signature { bytes: vec![0x30, 6, 2, 1, 1, 2, 1, 1], key_id: "sha256:00".into() };
    vec![statement.envelope(&[signature]).unwrap(), statement.envelope(&[]).unwrap()]
}

pub(crate) fn stream_seeds() -> Vec<Vec<u8>> {
    vec![stream().1]
}
