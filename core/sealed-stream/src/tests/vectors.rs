//! `testdata/sealed-stream.json`: streams that Tink made, an artifact made in Python, and what must be refused.

use coffer_core_digest::Digest;
use coffer_core_oci::cosign::PublicKey;
use serde_json::Value;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../testdata/sealed-stream.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn key_of(value: &Value) -> Key {
    Key::new(bytes(value).try_into().unwrap())
}

#[test]
fn with_tink_s_header_we_seal_tink_s_bytes_and_open_them() {
    for vector in vectors()["streams"].as_array().unwrap() {
        let segment = SegmentSize::new(number(&vector["segment_size"])).unwrap();
        let size = number(&vector["size"]);
        let data = AssociatedData::foreign(&bytes(&vector["associated_data"]));
        let header = Header::parse(&bytes(&vector["header"]).try_into().unwrap()).unwrap();
        let key = key_of(&vector["key"]);
        let mut sealer = Sealer::insecure_with_header(Vec::new(), &key, &data, segment, header).unwrap();
        sealer.write_all(&plain(size)).unwrap();
        let (sealed, ours) = sealer.finish().unwrap();
        assert_eq!(sealed.digest.hex(), text(&vector["sealed_sha256"]), "{size} in {segment:?}");
        assert_eq!(sealed.root.hex(), text(&vector["root"]));
        assert_eq!(sealed.sealed_size, number(&vector["sealed_size"]));
        // The digest is Tink's, so these are Tink's bytes.
        assert!(open_as(&ours, segment, &key, &data).unwrap() == plain(size));
        if let Some(whole) = vector["sealed"].as_str() {
            assert_eq!(hex::encode(&ours), whole);
        }
    }
}

struct Parts {
    envelope: Vec<u8>,
    sealed_manifest: Vec<u8>,
    signer: PublicKey,
    key: Value,
}

impl Parts {
    fn new(artifact: &Value) -> Self {
        Self {
            envelope: text(&artifact["envelope"]).as_bytes().to_vec(),
            sealed_manifest: bytes(&artifact["sealed_manifest"]),
            signer: PublicKey::from_pem(text(&artifact["signer"])).unwrap(),
            key: artifact["key"].clone(),
        }
    }

    fn open(self) -> Result<Artifact, ArtifactError> {
        let verified = Unverified::parse(&self.envelope)?.verify(&[self.signer])?;
        Artifact::open(verified, &self.sealed_manifest, key_of(&self.key))
    }
}

#[test]
fn the_artifact_that_another_implementation_made_opens() {
    let own = &vectors()["artifact"];
    let artifact = Parts::new(own).open().unwrap();
    assert_eq!(artifact.manifest().to_bytes().unwrap(), text(&own["manifest"]).as_bytes());
    assert_eq!(artifact.verified().digest().hex(), text(&own["statement_sha256"]));
    assert_eq!(artifact.verified().statement().to_bytes().unwrap(), text(&own["statement"]).as_bytes());
    let files = own["files"].as_object().unwrap();
    assert_eq!(files.len(), artifact.manifest().files().len());
    for file in artifact.manifest().files() {
        let (path, size) = (file.path().as_str(), file.layout().size());
        let sealed = bytes(&files[path]);
        assert_eq!(Digest::sha256(&sealed), *file.digest());
        artifact.check_root(path, &sealed).unwrap();
        assert!(all(artifact.opener(path, sealed.as_slice()).unwrap()).unwrap() == plain(size), "{path}");
        assert!(all(artifact.reader(path, sealed).unwrap()).unwrap() == plain(size), "{path}");
        assert_eq!(file.executable(), path == "bin/run");
    }
}

/// The bytes after what a refusal vector says.
fn changed(vector: &Value, mut own: Vec<u8>, files: &Value) -> Vec<u8> {
    if let Some(at) = vector["flip"].as_u64() {
        own[at as usize] ^= 1;
    } else if let Some(length) = vector["truncate"].as_u64() {
        own.truncate(length as usize);
    } else if let Some(more) = vector["append"].as_str() {
        own.extend_from_slice(&hex::decode(more).unwrap());
    } else if let Some(other) = vector["replace_with"].as_str() {
        own = bytes(&files[other]);
    } else {
        own = bytes(&vector["replace"]);
    }
    own
}

#[test]
fn what_must_be_refused_is_refused_with_its_code() {
    let vectors = vectors();
    let own = &vectors["artifact"];
    for vector in vectors["refusals"].as_array().unwrap() {
        let mut parts = Parts::new(own);
        let found = match text(&vector["part"]) {
            "envelope" => {
                parts.envelope = text(&vector["text"]).as_bytes().to_vec();
                parts.open().err()
            }
            "sealed_manifest" => {
                parts.sealed_manifest = changed(vector, parts.sealed_manifest, &own["files"]);
                parts.open().err()
            }
            _ => {
                let path = text(&vector["path"]);
                let sealed = changed(vector, bytes(&own["files"][path]), &own["files"]);
                let artifact = parts.open().unwrap();
                // Header and tags alone tell most of these, without a key.
                let opened = artifact.opener(path, sealed.as_slice());
                opened.and_then(|opener| Ok(all(opener)?)).err()
            }
        };
        let found = found.unwrap_or_else(|| panic!("accepted: {vector}"));
        assert_eq!(found.code(), text(&vector["code"]), "{found}: {vector}");
    }
}

#[test]
fn manifests_that_must_be_refused_are_refused_with_their_code() {
    let vectors = vectors();
    let good = text(&vectors["artifact"]["manifest"]);
    assert_eq!(Manifest::parse(good.as_bytes()).unwrap().to_bytes().unwrap(), good.as_bytes());
    for vector in vectors["manifest_refusals"].as_array().unwrap() {
        let (find, replace) = (text(&vector["find"]), text(&vector["replace"]));
        assert!(good.contains(find));
        let twin = good.replacen(find, replace, 1);
        let found = Manifest::parse(twin.as_bytes()).expect_err(&twin);
        assert_eq!(found.code(), text(&vector["code"]), "{found}: {twin}");
    }
}
