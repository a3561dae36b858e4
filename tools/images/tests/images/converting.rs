//! Images go from each form to each other and hold the same files; skopeo opens ours and we open skopeo's.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use coffer_core_keywrap::{CertificateHolders, KeyHolders};
use coffer_core_oci::Descriptor;
use coffer_core_secret::SecretBytes;
use coffer_tools_images::{
    Destination, ImageError, Layout, Limits, OpeningKeys, Progress, SealFormat, SealOptions, Source, export,
    resolve, seal, unseal,
};

use crate::support::{Umoci, compare, tool, umoci};

const URI: &str = "kbs:///default/image-key/test";

fn key(byte: u8, len: usize) -> SecretBytes {
    SecretBytes::new((0..len).map(|at| byte ^ at as u8).collect())
}

fn with_bytes(key: SecretBytes) -> OpeningKeys {
    let mut keys = OpeningKeys::none();
    keys.add_bytes(key);
    keys
}

fn with_pem(path: &str) -> OpeningKeys {
    let mut keys = OpeningKeys::none();
    keys.add_pem(&fs::read_to_string(path).unwrap()).unwrap();
    keys
}

fn place(image: &Umoci, name: &str) -> (Destination, Source) {
    let destination = Destination::parse(&format!("oci:{}:a", image.path(name))).unwrap();
    let source = destination.as_source();
    (destination, source)
}

/// The files of an image, unpacked by tar.
async fn files(image: &Umoci, source: &Source, keys: OpeningKeys, name: &str) -> String {
    let (archive, folder) = (image.path(&format!("{name}.tar")), image.path(name));
    let out = Box::new(fs::File::create(&archive).unwrap());
    export(source, None, out, keys, Limits::default(), &Progress::none()).await.unwrap();
    fs::create_dir(&folder).unwrap();
    let flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-C", &folder, "-xpf"];
    tool("tar", &[&flags[..], &[&archive]].concat()).unwrap();
    folder
}

#[tokio::test]
async fn every_form_becomes_the_next_and_holds_the_same_files() {
    let Some(image) = umoci() else { return };
    let none = Progress::none();
    let (block, layers, plain, again) = (
        place(&image, "block"),
        place(&image, "layers"),
        place(&image, "plain-again"),
        place(&image, "again"),
    );
    seal(&image.source(), &block.0, SealOptions::new(SealFormat::SealedBlock, URI, key(1, 64)), &none)
        .await
        .unwrap();
    let options = SealOptions {
        opening: with_bytes(key(1, 64)),
        ..SealOptions::new(SealFormat::Ocicrypt, URI, key(2, 32))
    };
    seal(&block.1, &layers.0, options, &none).await.unwrap();
    unseal(&layers.1, &plain.0, with_bytes(key(2, 32)), Limits::default(), &none).await.unwrap();
    seal(&plain.1, &again.0, SealOptions::new(SealFormat::SealedBlock, URI, key(1, 64)), &none)
        .await
        .unwrap();
    let sources = [
        ("f1", image.source(), OpeningKeys::none()),
        ("f2", block.1.clone(), with_bytes(key(1, 64))),
        ("f3", layers.1, with_bytes(key(2, 32))),
        ("f4", plain.1, OpeningKeys::none()),
    ];
    for (name, source, keys) in sources {
        let folder = files(&image, &source, keys, name).await;
        compare(&image.rootfs, Path::new(&folder));
    }
    // The same files and key give the same blob, whatever they were before.
    let blob = |source: Source| async move { resolve(&source).await.unwrap().manifest.layers[0].digest };
    assert_eq!(blob(block.1).await, blob(again.1).await);
}

/// Keys and a certificate in a folder; `None` where openssl is absent.
fn holders(image: &Umoci) -> Option<[String; 5]> {
    let [rsa, ec, rsa_public, ec_public, certificate] =
        ["rsa.pem", "ec.pem", "rsa.pub", "ec.pub", "cert.pem"].map(|name| image.path(name));
    tool("openssl", &["genpkey", "-algorithm", "RSA", "-out", &rsa])?;
    tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &ec])?;
    tool("openssl", &["pkey", "-in", &rsa, "-pubout", "-out", &rsa_public])?;
    tool("openssl", &["pkey", "-in", &ec, "-pubout", "-out", &ec_public])?;
    let request =
        ["req", "-x509", "-new", "-subj", "/CN=owner", "-days", "2", "-key", &rsa, "-out", &certificate];
    tool("openssl", &request)?;
    Some([rsa, ec, rsa_public, ec_public, certificate])
}

#[tokio::test]
async fn what_skopeo_encrypts_for_holders_of_keys_opens_here() {
    let Some(image) = umoci() else { return };
    let Some([rsa, ec, rsa_public, ec_public, certificate]) = holders(&image) else { return };
    let from = image.source().to_string();
    let to = image.path("theirs");
    for (name, recipients, key) in [
        ("jwe-rsa", vec![format!("jwe:{rsa_public}")], &rsa),
        ("jwe-both", vec![format!("jwe:{ec_public}"), format!("jwe:{rsa_public}")], &ec),
        ("pkcs7", vec![format!("pkcs7:{certificate}")], &rsa),
    ] {
        let place = format!("oci:{to}:{name}");
        let mut words = vec!["--insecure-policy", "copy"];
        recipients.iter().for_each(|recipient| words.extend(["--encryption-key", recipient]));
        let Some(_) = tool("skopeo", &[&words[..], &[&from, &place]].concat()) else { return };
        let source = Source::parse(&place).unwrap();
        let folder = files(&image, &source, with_pem(key), name).await;
        compare(&image.rootfs, Path::new(&folder));
    }
    let refusal = export(
        &Source::parse(&format!("oci:{to}:jwe-rsa")).unwrap(),
        None,
        Box::new(std::io::sink()),
        with_pem(&ec),
        Limits::default(),
        &Progress::none(),
    )
    .await;
    assert!(matches!(refusal, Err(ImageError::NoKey { .. })));
}

#[tokio::test]
async fn what_we_encrypt_for_holders_of_keys_opens_with_skopeo() {
    let Some(image) = umoci() else { return };
    let Some([rsa, ec, rsa_public, ec_public, certificate]) = holders(&image) else { return };
    let text = |path: &str| fs::read_to_string(path).unwrap();
    let (destination, source) = place(&image, "ours");
    let keys = KeyHolders::from_pem([text(&rsa_public).as_str(), text(&ec_public).as_str()]).unwrap();
    let certificates = CertificateHolders::from_pem([text(&certificate).as_str()]).unwrap();
    let options = SealOptions {
        recipients: vec![Box::new(keys), Box::new(certificates)],
        ..SealOptions::new(SealFormat::Ocicrypt, URI, key(2, 32))
    };
    seal(&image.source(), &destination, options, &Progress::none()).await.unwrap();
    let original = resolve(&image.source()).await.unwrap();
    for (name, private) in [("by-rsa", &rsa), ("by-ec", &ec)] {
        let to = format!("oci:{}:a", image.path(name));
        let words = ["--insecure-policy", "copy", "--decryption-key", private, &source.to_string(), &to];
        let Some(_) = tool("skopeo", &words) else { return };
        let opened = resolve(&Source::parse(&to).unwrap()).await.unwrap();
        let digests = |layers: &[Descriptor]| layers.iter().map(|layer| layer.digest).collect::<Vec<_>>();
        assert_eq!(digests(&opened.manifest.layers), digests(&original.manifest.layers));
    }
    // skopeo names no certificate when it opens, so PKCS #7 is opened by us.
    let folder = files(&image, &source, with_pem(&rsa), "by-us").await;
    compare(&image.rootfs, Path::new(&folder));
}

#[tokio::test]
async fn what_runtimes_keep_in_an_estargz_layer_is_no_file_of_the_sealed_image() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(&directory.path().join("stargz")).unwrap();
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for name in ["hello", ".no.prefetch.landmark", "stargz.index.json"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, name, &b"{}"[..]).unwrap();
    }
    let bytes = archive.into_inner().unwrap().finish().unwrap();
    for (tag, annotated) in [("stargz", true), ("ordinary", false)] {
        let mut layer = layout.put("application/vnd.oci.image.layer.v1.tar+gzip", &bytes).unwrap();
        if annotated {
            let toc = layer.digest.to_string();
            layer.annotations.insert("containerd.io/snapshot/stargz/toc.digest".into(), toc);
        }
        let config =
            br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = layout.put("application/vnd.oci.image.config.v1+json", config).unwrap();
        let manifest = coffer_core_oci::Manifest::new(config, vec![layer]).to_bytes().unwrap();
        let manifest = layout.put("application/vnd.oci.image.manifest.v1+json", &manifest).unwrap();
        layout.tag(&manifest, tag).unwrap();
        let source = Source::parse(&format!("oci:{}:{tag}", layout.directory().display())).unwrap();
        let (destination, sealed) = {
            let to = Destination::parse(&format!("oci:{}:{tag}", directory.path().join("sealed").display()))
                .unwrap();
            let source = to.as_source();
            (to, source)
        };
        let options = SealOptions::new(SealFormat::SealedBlock, URI, key(1, 64));
        seal(&source, &destination, options, &Progress::none()).await.unwrap();
        let out = Shared::default();
        export(
            &sealed,
            None,
            Box::new(out.clone()),
            with_bytes(key(1, 64)),
            Limits::default(),
            &Progress::none(),
        )
        .await
        .unwrap();
        let bytes = out.0.lock().unwrap().clone();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .filter(|name| name != "./")
            .collect();
        match annotated {
            true => assert_eq!(names, ["hello"]),
            false => assert_eq!(names.len(), 3),
        }
    }
}

/// What is written, for the one who wrote it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn changed_bytes_wrong_keys_and_other_images_are_refused_before_anything_is_kept() {
    let Some(image) = umoci() else { return };
    let none = Progress::none();
    let (block, layers) = (place(&image, "block"), place(&image, "layers"));
    seal(&image.source(), &block.0, SealOptions::new(SealFormat::SealedBlock, URI, key(1, 64)), &none)
        .await
        .unwrap();
    seal(&image.source(), &layers.0, SealOptions::new(SealFormat::Ocicrypt, URI, key(2, 32)), &none)
        .await
        .unwrap();
    let to = |name: &str| place(&image, name).0;
    let open = |source: Source, keys: OpeningKeys, name: &str| {
        let to = to(name);
        async move { unseal(&source, &to, keys, Limits::default(), &Progress::none()).await }
    };
    for (source, right, wrong) in [(&block.1, key(1, 64), key(9, 64)), (&layers.1, key(2, 32), key(9, 32))] {
        let refusal = open(source.clone(), OpeningKeys::none(), "x").await.unwrap_err();
        assert!(matches!(refusal, ImageError::AlreadySealed(_)), "{refusal}");
        let refusal = open(source.clone(), with_bytes(wrong), "x").await.unwrap_err();
        assert!(matches!(refusal, ImageError::NoKey { .. }), "{refusal}");
        let resolved = resolve(source).await.unwrap();
        let other = resolve(&image.source()).await.unwrap().digest;
        let out = Box::new(std::io::sink());
        let refusal =
            export(source, Some(other), out, with_bytes(right), Limits::default(), &none).await.unwrap_err();
        assert!(matches!(refusal, ImageError::Digest { .. }), "{refusal}");
        let Source::Layout(directory, _) = source else { panic!() };
        let layer = &resolved.manifest.layers[0];
        let path = Layout::open(directory).unwrap().blob_path(&layer.digest);
        let mut bytes = fs::read(&path).unwrap();
        let middle = 5 * 4096.min(bytes.len() / 8);
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
    let refusal = open(block.1, with_bytes(key(1, 64)), "changed").await.unwrap_err();
    assert!(refusal.to_string().contains("was changed"), "{refusal}");
    let refusal = open(layers.1, with_bytes(key(2, 32)), "changed").await.unwrap_err();
    assert!(matches!(refusal, ImageError::Digest { .. }), "{refusal}");
    assert!(Layout::open(Path::new(&image.path("changed"))).unwrap().tags().unwrap().is_empty());
}
