//! Signatures are what cosign and openssl make and check; each defect is told apart.

use std::fs;
use std::path::Path;

use base64::Engine;
use coffer_core_oci::simple_signing::{SIGNATURE_ANNOTATION, signature_tag};
use coffer_core_oci::{Manifest, SignatureError};
use coffer_core_secret::Secret;
use coffer_tools_images::{Destination, ImageError, Layout, Source, inspect, keygen, sign, sign_as, verify};

use crate::support::tool;

/// A layout with two small images, `a` and `b`.
fn layout() -> (tempfile::TempDir, Layout) {
    use coffer_core_oci::{Manifest, media};
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    for tag in ["a", "b"] {
        let text = format!(r#"{{"architecture":"amd64","os":"linux","created":"{tag}"}}"#);
        let config = layout.put(media::OCI_CONFIG, text.as_bytes()).unwrap();
        let bytes = Manifest::new(config, vec![]).to_bytes().unwrap();
        let manifest = layout.put(media::OCI_MANIFEST, &bytes).unwrap();
        layout.tag(&manifest, tag).unwrap();
    }
    (directory, layout)
}

fn place(layout: &Layout, tag: &str) -> (Source, Destination) {
    let text = format!("oci:{}:{tag}", layout.directory().display());
    (Source::parse(&text).unwrap(), Destination::parse(&text).unwrap())
}

fn cause(result: Result<impl Sized, ImageError>) -> SignatureError {
    match result.map(|_| ()) {
        Err(ImageError::Signature(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn signature_of_our_key_is_verified_and_a_strangers_is_not() {
    let (_directory, layout) = layout();
    let (source, destination) = place(&layout, "a");
    let (ours, theirs) = (keygen().unwrap(), keygen().unwrap());
    assert_eq!(cause(verify(&source, &ours.public_pem).await), SignatureError::Missing);
    let signature = sign(&destination, &ours.private_pem).await.unwrap();
    assert_eq!(signature.key, ours.fingerprint);
    let signed = verify(&source, &ours.public_pem).await.unwrap();
    assert_eq!((*signed.value(), *signed.key()), (signature.image, ours.fingerprint));
    assert!(matches!(cause(verify(&source, &theirs.public_pem).await), SignatureError::WrongKey { .. }));
    let (other, _) = place(&layout, "b");
    assert_eq!(cause(verify(&other, &ours.public_pem).await), SignatureError::Missing);
    assert_eq!(layout.tags().unwrap(), ["a", "b"], "the signature is not listed as an image");
}

#[tokio::test]
async fn signature_moved_to_another_image_is_refused_as_such() {
    let (_directory, layout) = layout();
    let ours = keygen().unwrap();
    let signature = sign(&place(&layout, "a").1, &ours.private_pem).await.unwrap();
    let artifact = layout.signatures(&signature.image).unwrap().unwrap();
    let other = layout.find(Some("b")).unwrap().digest;
    layout.tag(&artifact, &signature_tag(&other)).unwrap();
    let refusal = cause(verify(&place(&layout, "b").0, &ours.public_pem).await);
    assert_eq!(
        refusal,
        SignatureError::WrongDigest { expected: other.into(), found: signature.image.into() }
    );
    let shown = inspect(&place(&layout, "b").0).await.unwrap();
    assert_eq!(shown.signatures[0].fault.as_deref(), Some("it covers another image"));
}

#[tokio::test]
async fn signing_again_replaces_ours_and_keeps_those_of_others() {
    let (_directory, layout) = layout();
    let (source, destination) = place(&layout, "a");
    let (ours, theirs) = (keygen().unwrap(), keygen().unwrap());
    sign(&destination, &theirs.private_pem).await.unwrap();
    sign(&destination, &ours.private_pem).await.unwrap();
    sign(&destination, &ours.private_pem).await.unwrap();
    verify(&source, &ours.public_pem).await.unwrap();
    verify(&source, &theirs.public_pem).await.unwrap();
    assert_eq!(inspect(&source).await.unwrap().signatures.len(), 2);
    sign_as(&destination, &ours.private_pem, "registry.example/team/app").await.unwrap();
    let names: Vec<_> =
        inspect(&source).await.unwrap().signatures.into_iter().map(|signature| signature.identity).collect();
    assert_eq!(names, ["", "", "registry.example/team/app"]);
}

#[tokio::test]
async fn keys_of_openssl_sign_and_openssl_verifies() {
    let (directory, layout) = layout();
    let (source, destination) = place(&layout, "a");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let kinds: [(&str, &[&str]); 3] = [
        ("ec", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ("ed", &["-algorithm", "ED25519"]),
    ];
    for (kind, args) in kinds {
        let (private, public) = (path(&format!("{kind}.pem")), path(&format!("{kind}.pub")));
        let Some(_) = tool("openssl", &[&["genpkey", "-out", &private], args].concat()) else { return };
        tool("openssl", &["pkey", "-in", &private, "-pubout", "-out", &public]).unwrap();
        let signature =
            sign(&destination, &Secret::new(fs::read_to_string(&private).unwrap())).await.unwrap();
        let public_pem = fs::read_to_string(&public).unwrap();
        verify(&source, &public_pem).await.unwrap();
        let manifest = Manifest::parse(&layout.document(&signature.artifact).unwrap()).unwrap();
        let layer = manifest.layers.last().unwrap();
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(&layer.annotations[SIGNATURE_ANNOTATION]);
        fs::write(path("signature"), bytes.unwrap()).unwrap();
        let payload = layout.blob_path(&layer.digest).display().to_string();
        check_with_openssl(kind, &public, &path("signature"), &payload);
    }
    let ec = fs::read_to_string(path("ec.pem")).unwrap();
    let sealed = Secret::new(ec.replace("PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"));
    assert!(matches!(sign(&destination, &sealed).await, Err(ImageError::PrivateKey(_))));
}

fn check_with_openssl(kind: &str, public: &str, signature: &str, payload: &str) {
    assert!(Path::new(payload).exists());
    let args: Vec<&str> = match kind {
        "ed" => vec![
            "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", payload, "-sigfile", signature,
        ],
        _ => vec!["dgst", "-sha256", "-verify", public, "-signature", signature, payload],
    };
    tool("openssl", &args).unwrap();
}
