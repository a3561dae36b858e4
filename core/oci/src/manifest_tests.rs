//! What manifests and indexes are accepted, and their refusal twins.

use super::*;

const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

fn manifest(extra: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[{CONFIG}]{extra}}}"#)
}

#[test]
fn manifest_with_unknown_members_is_read() {
    let text = manifest(r#","x-unknown":{"a":[1]},"annotations":null"#);
    let read = Manifest::parse(text.as_bytes()).unwrap();
    assert_eq!(read.layers.len(), 1);
    assert!(read.annotations.is_empty());
}

#[test]
fn own_manifest_reads_back_and_has_stable_bytes() {
    let layer = Descriptor::of(media::SEALED_BLOCK, b"blob");
    let own = Manifest::new(Descriptor::of(media::OCI_CONFIG, b"{}"), vec![layer]);
    let bytes = own.to_bytes().unwrap();
    assert_eq!(Manifest::parse(&bytes).unwrap(), own);
    assert_eq!(own.to_bytes().unwrap(), bytes);
}

#[test]
fn document_that_is_manifest_and_index_at_once_is_refused() {
    let text = manifest(r#","manifests":[]"#);
    assert!(matches!(Document::parse(text.as_bytes()), Err(ManifestError::Ambiguous(_))));
    let text = r#"{"schemaVersion":2}"#;
    assert!(matches!(Document::parse(text.as_bytes()), Err(ManifestError::Ambiguous(_))));
}

#[test]
fn media_type_that_contradicts_the_members_is_refused() {
    let text = manifest(r#","mediaType":"application/vnd.oci.image.index.v1+json""#);
    assert!(matches!(Document::parse(text.as_bytes()), Err(ManifestError::MediaType { .. })));
    let docker = manifest(r#","mediaType":"application/vnd.docker.distribution.manifest.v2+json""#);
    assert!(Manifest::parse(docker.as_bytes()).is_ok());
}

#[test]
fn old_schema_sha1_and_oversize_are_refused() {
    let text = manifest("").replace("\"schemaVersion\":2", "\"schemaVersion\":1");
    assert!(matches!(Document::parse(text.as_bytes()), Err(ManifestError::Schema(1))));
    let sha1 = manifest("").replace(
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
    );
    assert!(matches!(Document::parse(sha1.as_bytes()), Err(ManifestError::Algorithm(Algorithm::Sha1))));
    let large = vec![b' '; MAX_DOCUMENT + 1];
    assert!(matches!(Document::parse(&large), Err(ManifestError::TooLarge { .. })));
}

#[test]
fn digest_that_is_not_hexadecimal_is_refused() {
    let text = manifest("").replace("sha256:e3b0", "sha256:../x");
    assert!(matches!(Document::parse(text.as_bytes()), Err(ManifestError::Json(_))));
}

#[test]
fn index_selects_the_platform_or_says_what_it_has() {
    let mut arm = Descriptor::of(media::OCI_MANIFEST, b"arm");
    arm.platform =
        Some(Platform { architecture: "arm64".into(), os: "linux".into(), variant: Some("v8".into()) });
    let mut amd = Descriptor::of(media::OCI_MANIFEST, b"amd");
    amd.platform = Some(Platform::linux_amd64());
    let index = Index::new(vec![arm.clone(), amd.clone()]);
    assert_eq!(index.select(&Platform::linux_amd64()).unwrap().digest, amd.digest);
    let only_arm = Index::new(vec![arm]);
    let refusal = only_arm.select(&Platform::linux_amd64()).unwrap_err().to_string();
    assert_eq!(refusal, "no image for linux/amd64; the index has: linux/arm64/v8");
}
