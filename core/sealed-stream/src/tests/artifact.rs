//! Manifests, statements and signatures of our own making.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use coffer_core_digest::Digest;
use coffer_core_oci::cosign::PublicKey;

use super::*;

const URI: &str = "kbs:///default/model-key/test";

pub(super) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(super) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub(super) fn public(&self) -> PublicKey {
        let der = STANDARD.encode(self.0.public_key().as_der().unwrap().as_ref());
        PublicKey::from_pem(&format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n"))
            .unwrap()
    }

    fn sign(&self, statement: &Statement) -> Signature {
        let message = statement.signing_bytes().unwrap();
        let bytes = self.0.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec();
        Signature { bytes, key_id: self.public().fingerprint().to_string() }
    }
}

/// Some files of an artifact, sealed.
pub(super) fn files(artifact: &ArtifactId, key: &Key) -> Vec<(FileEntry, Vec<u8>)> {
    [
        ("model.safetensors", 150_000),
        ("config.json", 600),
        ("tokenizer/vocab.txt", 0),
        ("tokenizer/run", 65_480),
    ]
    .map(|(path, size)| {
        let path: FilePath = path.parse().unwrap();
        let data = AssociatedData::file(artifact, &path);
        let (sealed, bytes) = seal_as(&plain(size), SegmentSize::KIB_64, key, &data);
        let executable = path.as_str().ends_with("run");
        (FileEntry::new(path, executable, SegmentSize::KIB_64, &sealed).unwrap(), bytes)
    })
    .to_vec()
}

fn entry(path: &str) -> FileEntry {
    let (sealed, _) = seal(b"x", small());
    FileEntry::new(path.parse().unwrap(), false, small(), &sealed).unwrap()
}

fn listed(paths: &[&str]) -> Result<Manifest, ArtifactError> {
    let entries = paths.iter().map(|path| entry(path)).collect();
    Manifest::new(ArtifactId::insecure_from([3; 16]), URI.parse().unwrap(), small(), entries)
}

#[test]
fn an_artifact_is_sealed_signed_verified_and_opened() {
    let (id, signer) = (ArtifactId::random().unwrap(), Signer::new());
    let sealed = files(&id, &key(9));
    let entries = sealed.iter().map(|(entry, _)| entry.clone()).collect();
    let manifest = Manifest::new(id, URI.parse().unwrap(), SegmentSize::KIB_64, entries).unwrap();
    let (bytes, statement) = manifest.seal(&key(9)).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"config"), "names are not readable");
    let envelope = statement.envelope(&[signer.sign(&statement)]).unwrap();
    let keys = [Signer::new().public(), signer.public()];
    let verified = Unverified::parse(&envelope).unwrap().verify(&keys).unwrap();
    assert_eq!(verified.signer(), signer.public().fingerprint());
    assert_eq!(verified.statement().key().to_string(), URI);
    let artifact = Artifact::open(verified.clone(), &bytes, key(9)).unwrap();
    assert_eq!(*artifact.manifest(), manifest);
    for (entry, bytes) in &sealed {
        let path = entry.path().as_str();
        let text = plain(entry.layout().size());
        assert!(all(artifact.opener(path, bytes.as_slice()).unwrap()).unwrap() == text);
        assert!(all(artifact.reader(path, bytes).unwrap()).unwrap() == text);
        artifact.check_root(path, bytes).unwrap();
        for (other, foreign) in sealed.iter().filter(|(other, _)| other.path() != entry.path()) {
            assert_ne!(other.digest(), entry.digest());
            assert!(artifact.opener(path, foreign.as_slice()).and_then(|opener| Ok(all(opener)?)).is_err());
            assert!(artifact.check_root(path, foreign).is_err());
        }
    }
    for absent in ["", "model", "tokenizer", "tokenizer/", "./config.json", "../config.json"] {
        let refused = artifact.opener(absent, &[][..]).err().unwrap();
        assert_eq!(refused.code(), "manifest.not-listed", "{absent}");
    }
    let refused = Artifact::open(verified, &bytes, key(8)).err().unwrap();
    assert_eq!(refused.code(), "stream.wrong-key-or-file", "{refused}");
}

#[test]
fn another_sealing_under_the_same_id_is_caught_by_its_root() {
    let id = ArtifactId::insecure_from([5; 16]);
    let (old, new) = (files(&id, &key(9)), files(&id, &key(9)));
    let entries = new.iter().map(|(entry, _)| entry.clone()).collect();
    let manifest = Manifest::new(id, URI.parse().unwrap(), SegmentSize::KIB_64, entries).unwrap();
    let (bytes, statement) = manifest.seal(&key(9)).unwrap();
    let signer = Signer::new();
    let envelope = statement.envelope(&[signer.sign(&statement)]).unwrap();
    let verified = Unverified::parse(&envelope).unwrap().verify(&[signer.public()]).unwrap();
    let artifact = Artifact::open(verified, &bytes, key(9)).unwrap();
    let (entry, sealed) = &old[0];
    let path = entry.path().as_str();
    let refused = all(artifact.opener(path, sealed.as_slice()).unwrap()).unwrap_err();
    assert_eq!(refused.code(), "stream.root");
    assert_eq!(artifact.check_root(path, sealed).unwrap_err().code(), "stream.root");
}

#[test]
fn a_signature_counts_only_for_the_key_that_made_it() {
    let (signer, other) = (Signer::new(), Signer::new());
    let (_, statement) = listed(&["a"]).unwrap().seal(&key(9)).unwrap();
    let good = signer.sign(&statement);
    let verify = |signatures: &[Signature], keys: &[PublicKey]| {
        Unverified::parse(&statement.envelope(signatures).unwrap()).unwrap().verify(keys)
    };
    assert!(verify(&[other.sign(&statement), good.clone()], &[signer.public()]).is_ok());
    for (signatures, keys) in [
        (vec![], vec![signer.public()]),
        (vec![good.clone()], vec![]),
        (vec![good.clone()], vec![other.public()]),
        (vec![Signature { bytes: vec![], ..good.clone() }], vec![signer.public()]),
        (vec![Signature { bytes: [&good.bytes[..], &[0]].concat(), ..good.clone() }], vec![signer.public()]),
    ] {
        let refused = verify(&signatures, &keys).unwrap_err();
        assert!(
            matches!(refused, ArtifactError::Signature { keys: tried } if tried == keys.len()),
            "{refused}"
        );
    }
    // A good signature over the same statement, but not as DSSE has it.
    let bare = signer.0.sign(&SystemRandom::new(), &statement.to_bytes().unwrap()).unwrap();
    let bare = Signature { bytes: bare.as_ref().to_vec(), key_id: String::new() };
    assert_eq!(verify(&[bare], &[signer.public()]).unwrap_err().code(), "manifest.signature");
}

#[test]
fn envelopes_are_read_in_either_alphabet_and_within_bounds() {
    let signer = Signer::new();
    let (_, statement) = listed(&["a"]).unwrap().seal(&key(9)).unwrap();
    let good = String::from_utf8(statement.envelope(&[signer.sign(&statement)]).unwrap()).unwrap();
    let sig = STANDARD.encode(&signer.sign(&statement).bytes);
    let url = good.replace(
        &STANDARD.encode(statement.to_bytes().unwrap()),
        &URL_SAFE.encode(statement.to_bytes().unwrap()),
    );
    assert!(Unverified::parse(url.as_bytes()).unwrap().verify(&[signer.public()]).is_ok());
    let many = statement.envelope(&vec![signer.sign(&statement); 17]).unwrap();
    assert_eq!(Unverified::parse(&many).err().unwrap().code(), "manifest.envelope");
    let large = [good.as_bytes(), &vec![b' '; MAX_ENVELOPE]].concat();
    assert!(matches!(Unverified::parse(&large), Err(ArtifactError::EnvelopeTooLarge { .. })));
    for twin in [
        "",
        "{}",
        "[]",
        "null",
        &good.replace("payloadType", "payload_type"),
        &good.replace("\"sig\":\"", "\"sig\":\"!"),
        &good.replace("\"payload\":\"", "\"payload\":\"!"),
        &good.replace("sealed-stream.statement.v1", "sealed-stream.statement.v2"),
        &format!("{{\"payload\":\"\",{}", &good[1..]),
        &format!("{good}{sig}"),
    ] {
        assert_eq!(Unverified::parse(twin.as_bytes()).err().unwrap().code(), "manifest.envelope", "{twin}");
    }
}

#[test]
fn lists_that_contradict_themselves_are_not_made() {
    let manifest = listed(&["b", "a/c", "a/b", "a-b"]).unwrap();
    let order: Vec<_> = manifest.files().iter().map(|file| file.path().as_str()).collect();
    assert_eq!(order, ["a-b", "a/b", "a/c", "b"]);
    assert!(manifest.file("a/c").is_some() && manifest.file("a").is_none());
    assert_eq!(listed(&[]).unwrap().files().len(), 0);
    for paths in [&["a", "a"][..], &["a", "a/b"], &["a", "a-b", "a/b/c"], &["x/y/z", "x/y"]] {
        assert!(matches!(listed(paths), Err(ArtifactError::Paths { .. })), "{paths:?}");
    }
    let odd = Manifest::new(
        ArtifactId::insecure_from([3; 16]),
        URI.parse().unwrap(),
        SegmentSize::KIB_64,
        vec![entry("a")],
    );
    assert!(matches!(odd, Err(ArtifactError::Contradiction("segment sizes"))));
    let (sealed, _) = seal(b"xy", small());
    let lie = Sealed { size: 3, ..sealed };
    assert!(matches!(
        FileEntry::new("a".parse().unwrap(), false, small(), &lie),
        Err(ArtifactError::SealedSize { expected: 59, found: 58, .. })
    ));
    let lie = Sealed { root: Digest::of(coffer_core_digest::Algorithm::Sha384, b""), ..sealed };
    let entry = FileEntry::new("a".parse().unwrap(), false, small(), &lie).unwrap();
    let made = Manifest::new(ArtifactId::insecure_from([3; 16]), URI.parse().unwrap(), small(), vec![entry]);
    assert!(matches!(made, Err(ArtifactError::Algorithm { what: "root", .. })));
}

#[test]
fn more_files_than_the_bound_are_refused() {
    let one = entry("a");
    let text = String::from_utf8(listed(&["a"]).unwrap().to_bytes().unwrap()).unwrap();
    let (begin, end) = (text.find("[{").unwrap() + 1, text.find("}]").unwrap() + 1);
    let many = vec![text[begin..end].to_owned(); MAX_FILES + 1].join(",");
    let twin = [&text[..begin], &many, &text[end..]].concat();
    assert!(
        matches!(Manifest::parse(twin.as_bytes()), Err(ArtifactError::TooManyFiles { found }) if found > MAX_FILES)
    );
    let large = vec![b' '; MAX_MANIFEST as usize + 1];
    assert!(matches!(Manifest::parse(&large), Err(ArtifactError::ManifestTooLarge { .. })));
    assert_eq!(one.path().as_str(), "a");
}

#[test]
fn paths_lead_nowhere_but_into_their_folder() {
    for good in ["a", "a/b", ".hidden", "..a", "a..", "a b", "größe/模型.bin", &"n".repeat(255), "-rf", "a:b"]
    {
        let path: FilePath = good.parse().unwrap();
        assert_eq!(path.to_string(), good);
    }
    let long = format!("{}n", "n/".repeat(512));
    for bad in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "./a",
        "a/.",
        "../a",
        "a/..",
        "a/../b",
        "a\\b",
        "a\0",
        "a\nb",
        "a\u{7f}",
        "a\u{85}",
        &"n".repeat(256),
        &long,
    ] {
        assert!(matches!(bad.parse::<FilePath>(), Err(ArtifactError::Path { .. })), "{bad:?}");
    }
    let path: FilePath = "a/b/c".parse().unwrap();
    assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
}
