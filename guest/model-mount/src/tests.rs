//! The tree by itself, and mounted where the machine can mount.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{
    ArtifactId, AssociatedData, FileEntry, Key, Manifest, Sealer, SegmentSize, Signature,
};
use coffer_guest_models::{Access, BLOBS, ENVELOPE, MANIFEST, Place, Signed};

use crate::*;

const FILES: [(&str, usize); 4] =
    [("a/b/weights", 3_000_000), ("a/config", 100), ("empty", 0), ("run.sh", 10)];

fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at * at + at / 4096) % 251) as u8).collect()
}

/// Seals a model into a folder and opens it.
fn tree(folder: &Path) -> Tree {
    let (key, segment) = (Key::new([5; 32]), SegmentSize::KIB_64);
    let artifact = ArtifactId::random().unwrap();
    fs::create_dir(folder.join(BLOBS)).unwrap();
    let mut entries = Vec::new();
    for (path, size) in FILES {
        let name = path.parse().unwrap();
        let data = AssociatedData::file(&artifact, &name);
        let mut sealer = Sealer::new(Vec::new(), &key, &data, segment).unwrap();
        sealer.write_all(&plain(size)).unwrap();
        let (sealed, bytes) = sealer.finish().unwrap();
        fs::write(folder.join(BLOBS).join(sealed.digest.hex()), bytes).unwrap();
        entries.push(FileEntry::new(name, path.ends_with(".sh"), segment, &sealed).unwrap());
    }
    let uri = "kbs:///default/model-key/1".parse().unwrap();
    let manifest = Manifest::new(artifact, uri, segment, entries).unwrap();
    let (bytes, statement) = manifest.seal(&key).unwrap();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let signature = pair.sign(&SystemRandom::new(), &statement.signing_bytes().unwrap()).unwrap();
    let signature = Signature { bytes: signature.as_ref().to_vec(), key_id: String::new() };
    fs::write(folder.join(MANIFEST), bytes).unwrap();
    fs::write(folder.join(ENVELOPE), statement.envelope(&[signature]).unwrap()).unwrap();
    let der = STANDARD.encode(pair.public_key().as_der().unwrap().as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    let store = Access::default().store(&Place::Folder(folder.into())).unwrap();
    Tree::new(Signed::read(store, &[PublicKey::from_pem(&pem).unwrap()]).unwrap().open(key).unwrap())
}

fn number(tree: &Tree, path: &str) -> Option<u64> {
    path.split('/').try_fold(1, |at, name| tree.lookup(at, name))
}

fn damage(folder: &Path, tree: &Tree, path: &str, at: u64) {
    let digest = tree.model().artifact().manifest().file(path).unwrap().digest().hex();
    let blob = File::options().read(true).write(true).open(folder.join(BLOBS).join(digest)).unwrap();
    let mut byte = [0];
    blob.read_exact_at(&mut byte, at).unwrap();
    blob.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_is_listed_is_there_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    for (path, size) in FILES {
        let own = number(&tree, path).unwrap();
        let mut buffer = vec![0; size + 10];
        assert_eq!(tree.read(own, &mut buffer, 0).unwrap(), size);
        assert!(buffer[..size] == plain(size));
    }
    for absent in ["b", "a/weights", "a/b/weights/x", "..", ".", "A", "a/b/weight"] {
        assert_eq!(number(&tree, absent), None, "{absent}");
    }
    for none in [0, 100, u64::MAX] {
        assert!(tree.node(none).is_none());
        assert!(matches!(tree.read(none, &mut [0], 0), Err(ReadError::NoFile)));
    }
    assert!(matches!(tree.read(1, &mut [0], 0), Err(ReadError::NoFile)));
    assert_eq!(tree.node(number(&tree, "a/b").unwrap()).unwrap().parent, number(&tree, "a").unwrap());
    tree.check_roots().unwrap();
}

#[test]
fn a_damaged_segment_is_an_error_for_its_own_reads_only() {
    let folder = tempfile::tempdir().unwrap();
    let tree = tree(folder.path());
    damage(folder.path(), &tree, "a/b/weights", 5 * 65_536 + 9);
    let (own, content) = (number(&tree, "a/b/weights").unwrap(), plain(3_000_000));
    let mut buffer = vec![0; 65_000];
    let (mut bad, step) = (0, 65_000);
    for at in (0..3_000_000 - step).step_by(step) {
        match tree.read(own, &mut buffer, at as u64) {
            Ok(read) => assert!(buffer[..read] == content[at..at + read]),
            Err(error) => {
                assert!(error.to_string().contains("a/b/weights: segment 5"), "{error}");
                bad += 1;
            }
        }
    }
    assert_eq!(bad, 2, "the segment lies in two of these reads");
}

#[test]
fn a_mounted_model_is_read_by_anyone_as_files_and_a_bad_segment_is_an_io_error() {
    let folder = tempfile::tempdir().unwrap();
    let (sealed, at) = (folder.path().join("sealed"), folder.path().join("mnt"));
    fs::create_dir(&sealed).unwrap();
    fs::create_dir(&at).unwrap();
    let tree = Arc::new(tree(&sealed));
    damage(&sealed, &tree, "a/b/weights", 20 * 65_536 + 9);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let log: Arc<Log> = Arc::new(move |line: &str| seen.lock().unwrap().push(line.to_owned()));
    let mounted = match mount(tree, &at, Reach::Owner, log) {
        Ok(mounted) => mounted,
        Err(MountError::NoFuse | MountError::Refused { .. }) => {
            println!("skipped: this machine cannot mount FUSE");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut names: Vec<_> =
        fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a", "empty", "run.sh"]);
    assert_eq!(fs::read(at.join("a/config")).unwrap(), plain(100));
    assert_eq!(fs::read(at.join("empty")).unwrap(), b"");
    let mode = |name: &str| fs::metadata(at.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run.sh"), mode("a/config"), mode("a")), (0o555, 0o444, 0o555));
    assert!(File::open(at.join("absent")).is_err());
    for refused in
        [File::create(at.join("new")).err(), File::options().write(true).open(at.join("empty")).err()]
    {
        assert_eq!(refused.unwrap().raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
    }
    let content = plain(3_000_000);
    let mut weights = File::open(at.join("a/b/weights")).unwrap();
    assert_eq!(weights.metadata().unwrap().len(), 3_000_000);
    for place in [0, 1, 65_535, 2_999_990] {
        let mut buffer = vec![0; 10];
        weights.seek(SeekFrom::Start(place)).unwrap();
        weights.read_exact(&mut buffer).unwrap();
        assert!(buffer == content[place as usize..place as usize + 10]);
    }
    let mut buffer = vec![0; 4096];
    let failed = weights.read_exact_at(&mut buffer, 20 * 65_536).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
    std::thread::scope(|scope| {
        for start in 30..34_usize {
            let (weights, content) = (&weights, &content);
            scope.spawn(move || {
                for at in (start * 65_536..2_900_000).step_by(65_536 * 4) {
                    let mut buffer = vec![0; 65_536];
                    weights.read_exact_at(&mut buffer, at as u64).unwrap();
                    assert!(buffer == content[at..at + 65_536]);
                }
            });
        }
    });
    drop(weights);
    mounted.unmount().unwrap();
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
    let lines = lines.lock().unwrap();
    assert!(
        lines.iter().all(|line| line.contains("a/b/weights: segment 20")) && !lines.is_empty(),
        "{lines:?}"
    );
}
