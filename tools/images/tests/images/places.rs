//! Registries, layouts and archives: the same image everywhere, and what is missing or changed is named.

use std::fs;
use std::path::{Path, PathBuf};

use coffer_core_secret::SecretBytes;
use coffer_tools_images::{
    Destination, ImageError, Progress, SealFormat, SealOptions, Source, copy, inspect, keygen, resolve, seal,
    sign, verify,
};

use crate::support::{CANARY, Registry, holds, tool, umoci};

fn options() -> SealOptions {
    SealOptions::new(
        SealFormat::SealedBlock,
        "kbs:///default/image-key/test",
        SecretBytes::new((0..64).collect()),
    )
}

#[tokio::test]
async fn image_is_sealed_and_signed_in_a_registry_and_copied_back() {
    let Some(image) = umoci() else { return };
    let Some(registry) = Registry::start() else { return };
    let none = Progress::none();
    let plain = Destination::parse(&format!("docker://{}/app:plain", registry.name)).unwrap();
    let original = copy(&image.source(), &plain, &none).await.unwrap();
    assert_eq!(resolve(&plain.as_source()).await.unwrap().digest, original.digest);
    if let Some(text) =
        tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{}/app:plain", registry.name)])
    {
        assert!(String::from_utf8(text).unwrap().contains(&original.digest.to_string()));
    }

    let sealed = Destination::parse(&format!("{}/sealed/app:v1", registry.name)).unwrap();
    let made = seal(&plain.as_source(), &sealed, options(), &none).await.unwrap();
    let here = Destination::parse(&format!("oci:{}:x", image.path("here"))).unwrap();
    assert_eq!(seal(&image.source(), &here, options(), &none).await.unwrap().manifest, made.manifest);
    let repository = registry.data.path().join("data/docker/registry/v2/repositories/sealed");
    assert!(repository.exists());

    let key = keygen().unwrap();
    let signature = sign(&sealed, &key.private_pem).await.unwrap();
    assert_eq!(signature.image, made.manifest);
    let signed = verify(&sealed.as_source(), &key.public_pem).await.unwrap();
    assert_eq!(signed.identity(), format!("{}/sealed/app", registry.name));
    let shown = inspect(&sealed.as_source()).await.unwrap();
    assert_eq!((shown.protection, shown.signatures.len()), ("sealed-block", 1));

    let back = Destination::parse(&format!("oci:{}:v1", image.path("back"))).unwrap();
    assert_eq!(copy(&sealed.as_source(), &back, &none).await.unwrap().digest, made.manifest);
    verify(&back.as_source(), &key.public_pem).await.unwrap();
    assert!(!holds(Path::new(&image.path("back")), CANARY));
    let by_digest = Source::parse(&format!("{}/sealed/app@{}", registry.name, made.manifest)).unwrap();
    verify(&by_digest, &key.public_pem).await.unwrap();
}

#[tokio::test]
async fn missing_image_and_missing_registry_are_told_apart() {
    let Some(registry) = Registry::start() else { return };
    let source = Source::parse(&format!("{}/no/such:image", registry.name)).unwrap();
    let refusal = resolve(&source).await.unwrap_err();
    assert!(matches!(refusal, ImageError::NotFound { .. }), "{refusal}");
    drop(registry);
    let refusal = resolve(&source).await.unwrap_err();
    assert!(matches!(refusal, ImageError::Registry { .. }), "{refusal}");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out
}

#[tokio::test]
async fn blob_that_the_registry_changed_is_refused() {
    let Some(image) = umoci() else { return };
    let Some(registry) = Registry::start() else { return };
    let place = Destination::parse(&format!("{}/app:v1", registry.name)).unwrap();
    let original = copy(&image.source(), &place, &Progress::none()).await.unwrap();
    let layer = original.manifest.layers[0].digest.hex();
    let path =
        files(registry.data.path()).into_iter().find(|path| path.ends_with(format!("{layer}/data"))).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let back = Destination::parse(&format!("oci:{}:v1", image.path("back"))).unwrap();
    let refusal = copy(&place.as_source(), &back, &Progress::none()).await.unwrap_err();
    let text = refusal.to_string();
    assert!(matches!(refusal, ImageError::Digest { .. }) || text.contains("igest"), "{text}");
    assert!(resolve(&back.as_source()).await.is_err(), "no tag for an image that is not whole");
}

#[tokio::test]
async fn docker_archive_seals_to_the_same_blob_as_its_layout() {
    let Some(image) = umoci() else { return };
    let file = image.path("saved.tar");
    let from = format!("oci:{}:plain", image.layout);
    let to = format!("docker-archive:{file}:app:v1");
    let Some(_) = tool("skopeo", &["--insecure-policy", "copy", &from, &to]) else { return };
    let mut blobs = Vec::new();
    for (name, source) in
        [("a", Source::parse(&format!("docker-archive:{file}")).unwrap()), ("b", image.source())]
    {
        let destination = Destination::parse(&format!("oci:{}:v1", image.path(name))).unwrap();
        seal(&source, &destination, options(), &Progress::none()).await.unwrap();
        blobs.push(resolve(&destination.as_source()).await.unwrap().manifest.layers[0].digest);
    }
    assert_eq!(blobs[0], blobs[1]);
    fs::write(&file, b"not a tar at all").unwrap();
    assert!(resolve(&Source::parse(&format!("docker-archive:{file}")).unwrap()).await.is_err());
}
