//! What umoci made is what a sealed image shows, and nothing of it is readable without the key.

use std::fs;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::process::Command;

use coffer_core_oci::SealedBlock;
use coffer_core_seal::ocicrypt::Locked;
use coffer_core_secret::SecretBytes;
use coffer_tools_images::{
    Destination, ImageError, Layout, Progress, SealFormat, SealOptions, Source, inspect, new_image_key,
    open_sealed, resolve, seal,
};

use crate::support::{CANARY, compare, holds, tool, umoci};

const KEY_URI: &str = "kbs:///default/image-key/test";

fn key(len: u8) -> SecretBytes {
    SecretBytes::new((0..len).map(|i| i.wrapping_mul(7).wrapping_add(3)).collect())
}

fn options(format: SealFormat) -> SealOptions {
    let len = if format == SealFormat::SealedBlock { 64 } else { 32 };
    SealOptions::new(format, KEY_URI, key(len))
}

#[tokio::test]
async fn umoci_image_is_sealed_and_shows_its_root_file_system() {
    let Some(image) = umoci() else { return };
    let sealed_dir = image.path("sealed");
    let destination = Destination::parse(&format!("oci:{sealed_dir}:sealed")).unwrap();
    let steps = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = steps.clone();
    let progress = Progress::new(move |step| seen.lock().unwrap().push(step.what));
    let sealed =
        seal(&image.source(), &destination, options(SealFormat::SealedBlock), &progress).await.unwrap();
    assert!(steps.lock().unwrap().contains(&"unpack") && steps.lock().unwrap().contains(&"seal"));

    let resolved = resolve(&destination.as_source()).await.unwrap();
    assert_eq!(resolved.digest, sealed.manifest);
    assert_eq!(sealed.original, resolve(&image.source()).await.unwrap().digest);
    let (layer, block) = SealedBlock::from_manifest(&resolved.manifest).unwrap().unwrap();
    assert_eq!((block.key.as_str(), layer.size), (KEY_URI, sealed.size));
    let shown = inspect(&destination.as_source()).await.unwrap();
    assert_eq!((shown.protection, shown.keys.as_slice()), ("sealed-block", [KEY_URI.to_owned()].as_slice()));
    assert_eq!(shown.config.entrypoint, ["/usr/bin/app"]);
    assert!(!holds(Path::new(&sealed_dir), CANARY), "the canary is readable in the sealed layout");

    let layout = Layout::open(Path::new(&sealed_dir)).unwrap();
    let mut reader = open_sealed(&layout, &resolved, &key(64)).unwrap();
    let plain = image.path("plain.erofs");
    let mut file = fs::File::create(&plain).unwrap();
    io::copy(&mut reader, &mut file).unwrap();
    let point = image.path("mnt");
    fs::create_dir(&point).unwrap();
    tool("mount", &["-t", "erofs", "-o", "loop,ro", &plain, &point]).unwrap();
    let result = std::panic::catch_unwind(|| compare(&image.rootfs, Path::new(&point)));
    tool("umount", &[&point]).unwrap();
    result.unwrap();

    let blob = layout.blob_path(&layer.digest).display().to_string();
    let verified = tool(
        "veritysetup",
        &[
            "verify",
            &blob,
            &blob,
            &block.root_hash.hex(),
            "--no-superblock",
            "--hash=sha256",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            &format!("--data-blocks={}", block.data_blocks),
            &format!("--hash-offset={}", block.hash_offset()),
            &format!("--salt={}", hex(&block.salt)),
        ],
    );
    assert!(verified.is_some());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn sealing_again_gives_the_same_manifest_and_one_changed_byte_is_named() {
    let Some(image) = umoci() else { return };
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        let destination = Destination::parse(&format!("oci:{}:sealed", image.path(name))).unwrap();
        let sealed = seal(&image.source(), &destination, options(SealFormat::SealedBlock), &Progress::none())
            .await
            .unwrap();
        digests.push(sealed.manifest);
    }
    assert_eq!(digests[0], digests[1]);

    let directory = image.path("one");
    let layout = Layout::open(Path::new(&directory)).unwrap();
    let source = coffer_tools_images::Source::parse(&format!("oci:{directory}:sealed")).unwrap();
    let resolved = resolve(&source).await.unwrap();
    let path = layout.blob_path(&resolved.manifest.layers[0].digest);
    let mut blob = fs::OpenOptions::new().write(true).open(&path).unwrap();
    blob.seek(io::SeekFrom::Start(5 * 4096 + 9)).unwrap();
    blob.write_all(b"!").unwrap();
    let mut reader = open_sealed(&layout, &resolved, &key(64)).unwrap();
    let refusal = io::copy(&mut reader, &mut io::sink()).unwrap_err();
    assert_eq!(refusal.to_string(), "data block 5 of the image was changed");
}

#[tokio::test]
async fn ocicrypt_layers_open_to_the_original_layers() {
    let Some(image) = umoci() else { return };
    let directory = image.path("encrypted");
    let destination = Destination::parse(&format!("oci:{directory}:enc")).unwrap();
    seal(&image.source(), &destination, options(SealFormat::Ocicrypt), &Progress::none()).await.unwrap();
    let original = resolve(&image.source()).await.unwrap();
    let encrypted = resolve(&destination.as_source()).await.unwrap();
    let layout = Layout::open(Path::new(&directory)).unwrap();
    assert_eq!(encrypted.manifest.layers.len(), original.manifest.layers.len());
    for (layer, plain) in encrypted.manifest.layers.iter().zip(&original.manifest.layers) {
        assert_eq!(layer.media_type, format!("{}+encrypted", plain.media_type));
        let locked = Locked::from_annotations(&layer.annotations).unwrap();
        assert_eq!(locked.key_names().collect::<Vec<_>>(), [KEY_URI]);
        let key = locked.unlock(KEY_URI, &key(32)).unwrap();
        let mut cipher = fs::File::open(layout.blob_path(&layer.digest)).unwrap();
        let opened = key.decrypt(&mut cipher, &mut io::sink()).unwrap();
        assert_eq!((*opened.digest(), opened.size()), (plain.digest, plain.size));
    }
    assert_eq!(inspect(&destination.as_source()).await.unwrap().protection, "ocicrypt");
    if Command::new("skopeo").arg("--version").output().is_ok() {
        let to = format!("oci:{}:enc", image.path("by-skopeo"));
        tool("skopeo", &["--insecure-policy", "copy", &destination.to_string(), &to]).unwrap();
    }
    let again =
        seal(&destination.as_source(), &destination, options(SealFormat::Ocicrypt), &Progress::none()).await;
    assert!(matches!(again, Err(ImageError::AlreadySealed(_))));
}

#[tokio::test]
async fn changed_layer_is_refused_and_the_destination_stays_as_it_was() {
    let Some(image) = umoci() else { return };
    let original = resolve(&image.source()).await.unwrap();
    let layer = &original.manifest.layers[0];
    let path = Layout::open(Path::new(&image.layout)).unwrap().blob_path(&layer.digest);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let directory = image.path("sealed");
    let destination = Destination::parse(&format!("oci:{directory}:sealed")).unwrap();
    for format in [SealFormat::SealedBlock, SealFormat::Ocicrypt] {
        let refusal =
            seal(&image.source(), &destination, options(format), &Progress::none()).await.unwrap_err();
        assert!(matches!(refusal, ImageError::Digest { .. }), "{refusal}");
    }
    assert!(Layout::open(Path::new(&directory)).unwrap().tags().unwrap().is_empty());
    assert_eq!(fs::read_dir(Path::new(&directory).join(".coffer")).unwrap().count(), 1, "only the lock");
}

#[tokio::test]
async fn key_of_the_wrong_length_is_refused_and_new_keys_fit() {
    let Some(image) = umoci() else { return };
    let destination = Destination::parse(&format!("oci:{}:sealed", image.path("sealed"))).unwrap();
    let short = SealOptions::new(SealFormat::SealedBlock, KEY_URI, key(32));
    let refusal = seal(&image.source(), &destination, short, &Progress::none()).await.unwrap_err();
    assert_eq!(refusal.to_string(), "an AES-256-XTS key has 64 bytes; found 32");
    for format in [SealFormat::SealedBlock, SealFormat::Ocicrypt] {
        let options = SealOptions::new(format, KEY_URI, new_image_key(format).unwrap());
        seal(&image.source(), &destination, options, &Progress::none()).await.unwrap();
    }
}

/// Not a test of its own: the program that the next test kills.
#[tokio::test]
async fn child_that_seals_until_it_is_killed() {
    let (Ok(source), Ok(destination)) = (std::env::var("COFFER_TEST_FROM"), std::env::var("COFFER_TEST_TO"))
    else {
        return;
    };
    let (source, destination) = (Source::parse(&source).unwrap(), Destination::parse(&destination).unwrap());
    loop {
        let options = options(SealFormat::SealedBlock);
        seal(&source, &destination, options, &Progress::none()).await.unwrap();
    }
}

#[tokio::test]
async fn killed_at_any_moment_a_layout_is_whole_and_the_next_seal_works() {
    let Some(image) = umoci() else { return };
    for (round, wait) in [3, 20, 45, 70, 100, 140, 190, 250].into_iter().enumerate() {
        let directory = image.path(&format!("killed-{round}"));
        let text = format!("oci:{directory}:sealed");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sealing::child_that_seals_until_it_is_killed"])
            .env("COFFER_TEST_FROM", format!("oci:{}:plain", image.layout))
            .env("COFFER_TEST_TO", &text)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        let destination = Destination::parse(&text).unwrap();
        let read = |resolved: coffer_tools_images::Resolved| {
            let layout = Layout::open(Path::new(&directory)).unwrap();
            let mut reader = open_sealed(&layout, &resolved, &key(64)).unwrap();
            io::copy(&mut reader, &mut io::sink()).unwrap()
        };
        match resolve(&destination.as_source()).await {
            Ok(resolved) => assert!(read(resolved) > 0),
            Err(ImageError::NotFound { .. } | ImageError::Layout { .. }) => {}
            Err(other) => panic!("after {wait} ms: {other}"),
        }
        let options = options(SealFormat::SealedBlock);
        seal(&image.source(), &destination, options, &Progress::none()).await.unwrap();
        assert!(read(resolve(&destination.as_source()).await.unwrap()) > 0);
        let left = fs::read_dir(Path::new(&directory).join(".coffer")).unwrap().count();
        assert_eq!(left, 1, "only the lock is left after a kill at {wait} ms");
    }
}
