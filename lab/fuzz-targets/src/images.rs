//! Images: what a registry and the host's disk say.

use std::io::{Cursor, Read};

use coffer_core_initdata::Digest;
use coffer_core_keywrap::provider::Request;
use coffer_core_keywrap::{CertificateHolders, Holder, JWE, KeyHolders, PKCS7};
use coffer_core_oci::config::ImageConfig;
use coffer_core_oci::cosign as signature;
use coffer_core_oci::manifest::{Annotations, Document, Index, Manifest, Platform};
use coffer_core_oci::reference::Reference;
use coffer_core_oci::sealed::SealedBlock;
use coffer_core_oci::simple_signing::Payload;
use coffer_core_seal::erofs;
use coffer_core_seal::ocicrypt::{self, Locked};
use coffer_core_seal::sealed::{self, BlockKey, Reader};
use coffer_core_seal::tree::{Extent, Kind, Meta, Node, Tree};
use coffer_core_secret::SecretBytes;

const KEY_NAME: &str = "kbs:///default/key/1";

/// Reads the parameters of a sealed block.
pub fn sealed_annotations(data: &[u8]) {
    let Ok(annotations) = serde_json::from_slice::<Annotations>(data) else { return };
    if let Ok(block) = SealedBlock::from_annotations(&annotations) {
        assert_eq!(SealedBlock::from_annotations(&block.to_annotations()).unwrap(), block);
        assert!(block.blob_len() >= block.hash_offset());
    }
}

/// Reads a sealed blob through its hash tree: what was changed gives an error, never other content.
pub fn sealed_blob(data: &[u8]) {
    let (parameters, blob) = sealed_image();
    let mut reader = Reader::new(Cursor::new(data), &parameters, &block_key()).unwrap();
    let mut content = Vec::new();
    if reader.read_to_end(&mut content).is_ok() {
        assert_eq!(content, plain());
        // Only what no block's digest depends on may differ, which is what follows the tree.
        assert_eq!(data.get(..blob.len()), Some(&blob[..]));
    }
}

/// Reads the annotations of a layer that is encrypted with ocicrypt, and tries to unlock and open it.
pub fn ocicrypt_annotations(data: &[u8]) {
    let Ok(annotations) = serde_json::from_slice::<Annotations>(data) else { return };
    let Ok(locked) = Locked::from_annotations(&annotations) else { return };
    let names: Vec<String> = locked.key_names().map(str::to_owned).collect();
    for name in names {
        if let Ok(key) = locked.unlock(&name, &wrapping_key()) {
            let _ = key.decrypt(&mut &data[..], &mut std::io::sink());
        }
    }
}

/// Reads an EROFS image without a kernel, and the files that it finds.
pub fn erofs_image(data: &[u8]) {
    let Ok((tree, mut contents)) = erofs::read(Cursor::new(data), 1000) else { return };
    let mut again = Vec::new();
    // Hard links to one large file may be a long image; here only that writing ends matters.
    let small = tree.len() < 1000 && data.len() < 1 << 20;
    if small && erofs::write(&tree, &mut contents, &erofs::Options::default(), &mut Short(&mut again)).is_ok()
    {
        let (read, _) = erofs::read(Cursor::new(&again), 1000).unwrap();
        assert_eq!(
            read.entries(Tree::ROOT).map(|all| all.len()),
            tree.entries(Tree::ROOT).map(|all| all.len())
        );
    }
}

/// Takes at most a few megabytes.
struct Short<'a>(&'a mut Vec<u8>);

impl std::io::Write for Short<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() > 4 << 20 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a layer's tar to its end.
pub fn layer_tar(data: &[u8]) {
    let mut archive = coffer_core_tar::Archive::new(data);
    while let Ok(Some(entry)) = archive.next_entry() {
        assert!(entry.memory() < 16 << 20);
        let read = std::io::copy(&mut archive.content(), &mut std::io::sink());
        assert!(read.is_err() || read.unwrap() <= data.len() as u64);
    }
}

/// Opens what layer keys are wrapped in for holders of keys and certificates.
pub fn keywrap_message(data: &[u8]) {
    let (first, message) = data.split_first().unwrap_or((&0, &[]));
    thread_local! {
        static HOLDERS: [Holder; 2] = [EC_PRIVATE, RSA_PRIVATE].map(|pem| Holder::from_pem(pem).unwrap());
    }
    HOLDERS.with(|holders| {
        for holder in holders {
            let _ = holder.unwrap(if first % 2 == 0 { JWE } else { PKCS7 }, message);
        }
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = KeyHolders::from_pem([text]);
    let _ = CertificateHolders::from_pem([text]);
    let _ = Holder::from_pem(text);
}

/// Reads what an image tool asks a key provider.
pub fn key_provider(data: &[u8]) {
    let _ = Request::parse(data);
}

/// Reads a manifest or an index, whichever it is.
pub fn oci_document(data: &[u8]) {
    let _ = Document::parse(data);
    if let Ok(manifest) = Manifest::parse(data) {
        let _ = SealedBlock::from_manifest(&manifest);
        assert_eq!(Manifest::parse(&manifest.to_bytes().unwrap()).unwrap(), manifest);
    }
    if let Ok(index) = serde_json::from_slice::<Index>(data) {
        let _ = index.select(&Platform::linux_amd64());
    }
}

/// Reads the name of an image.
pub fn oci_reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = Reference::parse(text) {
        // The full form of a name at the bound may be over it.
        match Reference::parse(&reference.to_string()) {
            Ok(again) => assert_eq!(again, reference),
            Err(_) => assert!(text.len() > 200),
        }
    }
}

/// Reads an image's configuration.
pub fn image_config(data: &[u8]) {
    if let Ok(config) = ImageConfig::parse(data) {
        let _ = config.config.command(&["a".to_owned()]);
    }
}

/// Reads a signature's payload and a public key, and verifies with them.
pub fn cosign(data: &[u8]) {
    let _ = Payload::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = signature::PublicKey::from_pem(text);
    assert!(signature::verify(data, text, PUBLIC_KEY, &Digest::sha256(data)).is_err());
}

fn plain() -> Vec<u8> {
    (0..3 * 4096u32).map(|at| (at % 251) as u8).collect()
}

fn block_key() -> BlockKey {
    BlockKey::from_bytes(&SecretBytes::new((0..64).collect())).unwrap()
}

fn wrapping_key() -> SecretBytes {
    SecretBytes::new(vec![7; 32])
}

fn sealed_image() -> (SealedBlock, Vec<u8>) {
    thread_local! {
        // The salt is random, so one image is made and kept for a whole run.
        static IMAGE: (SealedBlock, Vec<u8>) = {
            let mut blob = Vec::new();
            let sealed = sealed::seal(&mut &plain()[..], &block_key(), KEY_NAME, &mut blob).unwrap();
            (sealed.block, blob)
        };
    }
    IMAGE.with(Clone::clone)
}

pub(crate) fn sealed_seeds() -> Vec<Vec<u8>> {
    let block = SealedBlock {
        data_blocks: 3,
        salt: [1; 32],
        root_hash: Digest::sha256(b"root"),
        key: KEY_NAME.into(),
    };
    vec![serde_json::to_vec(&block.to_annotations()).unwrap()]
}

pub(crate) fn blob_seeds() -> Vec<Vec<u8>> {
    vec![sealed_image().1]
}

pub(crate) fn ocicrypt_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let layer = ocicrypt::encrypt(&mut &plain()[..], &mut out, KEY_NAME, &wrapping_key()).unwrap();
    vec![serde_json::to_vec(&layer.annotations).unwrap()]
}

pub(crate) fn erofs_seeds() -> Vec<Vec<u8>> {
    let mut meta = Meta { mode: 0o755, ..Meta::default() };
    let mut tree = Tree::new(meta.clone());
    let directory = Node { meta: meta.clone(), kind: Kind::Directory(Default::default()) };
    let inner = tree.insert(Tree::ROOT, b"directory", directory).unwrap();
    meta.xattrs.insert(b"user.note".to_vec(), b"value".to_vec());
    let file = Node { meta: meta.clone(), kind: Kind::File(Extent { offset: 0, len: 5000 }) };
    let file = tree.insert(inner, b"file", file).unwrap();
    tree.link(Tree::ROOT, b"hard", file).unwrap();
    tree.insert(inner, b"link", Node { meta, kind: Kind::Symlink(b"file".to_vec()) }).unwrap();
    let mut image = Vec::new();
    erofs::write(&tree, &mut Cursor::new(plain()), &erofs::Options::default(), &mut image).unwrap();
    vec![image]
}

pub(crate) fn tar_seeds() -> Vec<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let records = [("SCHILY.xattr.user.note", &b"line\nline"[..]), ("mtime", b"-1.5")];
    archive.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_uid(1 << 22);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(0o644);
    archive.append_data(&mut header, "n".repeat(300), &b"hello"[..]).unwrap();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "link", "t".repeat(200)).unwrap();
    vec![archive.into_inner().unwrap()]
}

pub(crate) fn keywrap_seeds() -> Vec<Vec<u8>> {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../../core/keywrap/testdata/skopeo.json")).unwrap();
    let message = |form: &str, annotation: &str, first: u8| {
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            vector[form][annotation].as_str().unwrap(),
        );
        [vec![first], bytes.unwrap()].concat()
    };
    let mut seeds = vec![message("one", JWE, 0), message("several", JWE, 0), message("pkcs7", PKCS7, 1)];
    seeds.extend(["rsa", "ec", "certificate"].map(|name| vector[name].as_str().unwrap().as_bytes().to_vec()));
    seeds
}

pub(crate) fn key_provider_seeds() -> Vec<Vec<u8>> {
    let parameters =
        r#"{"Parameters":{"attestation-agent":["a2V5cGF0aD0va2V5OjprZXlpZD1rYnM6Ly8vYS9iL2M="]}}"#;
    vec![
        format!(r#"{{"op":"keywrap","keywrapparams":{{"ec":{parameters},"optsdata":"AAAA"}}}}"#).into_bytes(),
        format!(r#"{{"op":"keyunwrap","keyunwrapparams":{{"dc":{parameters},"annotation":"AAAA"}}}}"#)
            .into_bytes(),
    ]
}

pub(crate) fn document_seeds() -> Vec<Vec<u8>> {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":3,"annotations":{{"a":"b"}}}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#
    );
    vec![manifest.into_bytes(), index.into_bytes()]
}

pub(crate) fn reference_seeds() -> Vec<Vec<u8>> {
    let pinned = format!("registry.example:5000/a/b@{}", Digest::sha256(b""));
    ["nginx", "docker.io/library/nginx:1.27", "localhost:5000/a:b", "[::1]:5000/a", &pinned]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"architecture":"amd64","os":"linux","config":{"User":"1000:1000","Env":["A=1"],"Entrypoint":["/a"],"Cmd":["b"],"WorkingDir":"/","ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#
            .to_vec(),
    ]
}

/// A registry's challenge, and a token service's reply.
pub fn bearer_challenge(data: &[u8]) {
    if let Some(challenge) = std::str::from_utf8(data).ok().and_then(coffer_core_oci::Challenge::parse) {
        assert!(challenge.query("a/b").iter().any(|(name, _)| *name == "scope"));
    }
    assert_ne!(coffer_core_oci::challenge::read_token(data).as_deref(), Some(""));
}

pub(crate) fn challenge_seeds() -> Vec<Vec<u8>> {
    let challenge = br#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
    vec![
        challenge.to_vec(),
        b"bearer realm=https://x/t, error=y".to_vec(),
        br#"{"token":"a","expires_in":300}"#.to_vec(),
    ]
}

pub(crate) fn cosign_seeds() -> Vec<Vec<u8>> {
    vec![Payload::new(Digest::sha256(b""), "registry/a").to_bytes().unwrap(), PUBLIC_KEY.as_bytes().to_vec()]
}

/// The key of RFC 7515, appendix A.3, as SubjectPublicKeyInfo.
pub(crate) const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n\
    6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n\
    -----END PUBLIC KEY-----\n";

/// Keys of these targets only: those of the recorded messages.
const RSA_PRIVATE: &str = include_str!("keys/keywrap-rsa.pem");
const EC_PRIVATE: &str = include_str!("keys/keywrap-ec.pem");
