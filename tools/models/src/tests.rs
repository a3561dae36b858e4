//! Folders that are sealed and opened, and folders that are not what they should be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{FileEntry, Key, Manifest, Sealed, SegmentSize, Signature, Statement};

use coffer_guest_models::{
    Access, BLOBS, Destination, ENVELOPE, FILE_PATH, Job, MANIFEST, MODEL_ARTIFACT, Partial, Place, Signed,
};

use super::*;

fn options(key: &Key) -> Options<'_> {
    let key_uri = "kbs:///default/model-key/1".parse().unwrap();
    Options { key, key_uri, segment_size: SegmentSize::KIB_64 }
}

/// Signatures are tested through the command; here nobody looks at them.
fn unsigned(_: &Statement) -> Result<Signature, SealError> {
    Ok(Signature { bytes: vec![0], key_id: String::new() })
}

fn seal_to(from: &Path, to: &Path) -> Result<SealedModel, SealError> {
    seal(from, to, options(&Key::new([1; 32])), unsigned, &|_, _| {})
}

#[test]
fn what_is_sealed_is_counted_and_appears_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("model"), folder.path().join("sealed"));
    fs::create_dir_all(from.join("a/empty")).unwrap();
    fs::write(from.join("a/one"), vec![1; 200_000]).unwrap();
    fs::write(from.join("two"), b"2").unwrap();
    symlink("a/one", from.join("three")).unwrap();
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let sealed = seal(&from, &to, options(&Key::new([1; 32])), unsigned, &progress).unwrap();
    assert_eq!((sealed.files, sealed.size), (3, 400_001));
    let seen = seen.into_inner().unwrap();
    assert_eq!((seen[0], seen.iter().max()), ((0, 400_001), Some(&(400_001, 400_001))));
    let blobs: Vec<_> = fs::read_dir(to.join(BLOBS)).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        assert_eq!(blob.file_name().len(), 64);
        assert_eq!(blob.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else was left");
    assert_eq!(seal_to(&from, &to).unwrap_err().code(), "model.exists");
}

#[test]
fn what_cannot_be_sealed_is_named_and_nothing_is_left() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    type Make = fn(&Path);
    let make: [(&str, Make); 6] = [
        ("UTF-8", |at| fs::write(at.join(OsStr::from_bytes(b"\xff")), b"").unwrap()),
        ("backslash", |at| fs::write(at.join("a\\b"), b"").unwrap()),
        ("control", |at| fs::write(at.join("a\nb"), b"").unwrap()),
        ("link to a folder", |at| symlink("/", at.join("root")).unwrap()),
        ("neither", |at| drop(std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap())),
        ("dangling", |at| symlink("nowhere", at.join("dangling")).unwrap()),
    ];
    for (word, make) in make {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("model");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("good"), b"good").unwrap();
        make(&from);
        let refused = seal_to(&from, &folder.path().join("sealed")).unwrap_err();
        assert!(refused.to_string().contains(word), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = seal_to(folder.path(), &folder.path().join("sealed")).unwrap_err();
    assert!(matches!(refused, SealError::Empty { .. }), "{refused}");
}

#[test]
fn a_failed_signing_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("model"), folder.path().join("sealed"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a"), b"a").unwrap();
    let refuse = |_: &Statement| Err(SealError::Signing("no".into()));
    let refused = seal(&from, &to, options(&Key::new([1; 32])), refuse, &|_, _| {}).unwrap_err();
    assert_eq!(refused.code(), "model.signing");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Whoever has the key can make segments with the same tags. The digest tells, when a whole file is read.
#[test]
fn a_file_whose_digest_is_not_the_signed_one_is_refused_though_it_opens() {
    let (key, signer) = (Key::new([1; 32]), EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("model"), folder.path().join("sealed"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a"), b"a").unwrap();
    let sign = |statement: &Statement| {
        let bytes = signer.sign(&SystemRandom::new(), &statement.signing_bytes().unwrap()).unwrap();
        Ok(Signature { bytes: bytes.as_ref().to_vec(), key_id: String::new() })
    };
    seal(&from, &to, options(&key), sign, &|_, _| {}).unwrap();
    let der = STANDARD.encode(signer.public_key().as_der().unwrap().as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    let store = || Access::default().store(&Place::Folder(to.clone())).unwrap();
    let open = || {
        let keys = [PublicKey::from_pem(&pem).unwrap()];
        Signed::read(store(), &keys).unwrap().open(Key::new([1; 32])).unwrap()
    };
    let stop = AtomicBool::new(false);
    let job = Job { progress: &|_, _| {}, stop: &stop };
    let model = open();
    model.check(&job).unwrap();
    // The same list, signed again, with another digest for the same stream.
    let (manifest, file) = (model.artifact().manifest(), &model.artifact().manifest().files()[0]);
    let other = Digest::sha256(b"other");
    let lie = Sealed { size: 1, sealed_size: 57, root: *file.root(), digest: other };
    let entry = FileEntry::new(file.path().clone(), false, SegmentSize::KIB_64, &lie).unwrap();
    let twin = Manifest::new(*manifest.artifact(), manifest.key().clone(), SegmentSize::KIB_64, vec![entry])
        .unwrap();
    let (sealed, statement) = twin.seal(&key).unwrap();
    fs::rename(to.join(BLOBS).join(file.digest().hex()), to.join(BLOBS).join(other.hex())).unwrap();
    fs::write(to.join(MANIFEST), sealed).unwrap();
    fs::write(to.join(ENVELOPE), statement.envelope(&[sign(&statement).unwrap()]).unwrap()).unwrap();
    let refused = open().check(&job).unwrap_err();
    assert_eq!(refused.code(), "model.replaced", "{refused}");
    let out = Destination::New(folder.path().join("out"));
    let refused = open().unpack(&out, Partial::Keep, &job).unwrap_err();
    assert_eq!(refused.code(), "model.replaced");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing that was refused is kept");
}

#[test]
fn a_model_pack_names_every_object_of_a_sealed_folder_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("model"), folder.path().join("sealed"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("weights"), vec![3; 100_000]).unwrap();
    fs::write(from.join("tokenizer"), b"t").unwrap();
    let sealed = seal_to(&from, &to).unwrap();
    let pack = model_pack(&to, "kbs:///default/model-key/1", &sealed.statement).unwrap();
    let text = String::from_utf8([pack.manifest.to_bytes().unwrap(), pack.config.clone()].concat()).unwrap();
    assert!(!text.contains("tokenizer") && !text.contains("weights\""), "{text}");
    assert_eq!(pack.manifest.artifact_type.as_deref(), Some(MODEL_ARTIFACT));
    assert_eq!((pack.files.len(), pack.manifest.layers.len()), (4, 4));
    for (layer, path) in &pack.files {
        let bytes = fs::read(path).unwrap();
        assert_eq!((layer.digest, layer.size), (Digest::sha256(&bytes), bytes.len() as u64));
        assert!(to.join(&layer.annotations[FILE_PATH]).is_file());
    }
}
