//! Signing and verifying, with the signature kept as cosign keeps it: an artifact under the tag
//! `sha256-<hex>.sig`, one layer per signature.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_oci::cosign::{self, PublicKey, Signed};
use coffer_core_oci::simple_signing::{Payload, SIGNATURE_ANNOTATION, signature_tag};
use coffer_core_oci::{Descriptor, SignatureError, media};
use coffer_core_secret::Secret;
use serde_json::json;

use crate::copy::push;
use crate::error::ImageError;
use crate::layout::Layout;
use crate::open::{Resolved, Store};
use crate::place::{Destination, Source};
use crate::progress::Progress;
use crate::registry::Registry;

/// More signatures of one image are not looked at.
const MAX_SIGNATURES: usize = 64;

/// A signature that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The manifest that is signed.
    pub image: Digest,
    /// The tag of the signature artifact.
    pub tag: String,
    /// The signature artifact's manifest.
    pub artifact: Digest,
    /// The key's fingerprint.
    pub key: Digest,
}

/// Signs the image that is at `destination` and puts the signature beside it.
///
/// The signature names the registry and repository; in a layout, which has no such name, it names nothing, and
/// fits only where a policy pins the digest. See [`sign_as`].
pub async fn sign(destination: &Destination, private_pem: &Secret<String>) -> Result<Signature, ImageError> {
    let name = match destination {
        Destination::Registry(reference, _) => reference.name(),
        Destination::Layout(..) => String::new(),
    };
    sign_as(destination, private_pem, &name).await
}

/// Signs any message with a key for images; returns the signature and the key's fingerprint.
///
/// What is signed must say what it is, so that no signature over one thing passes for one over another.
pub fn sign_message(private_pem: &Secret<String>, message: &[u8]) -> Result<(Vec<u8>, Digest), ImageError> {
    let signer = crate::keys::Signer::from_pem(private_pem.expose())?;
    Ok((signer.sign(message)?, *signer.public()?.fingerprint()))
}

/// Like [`sign`], under a name, as in `registry.example/team/app`.
///
/// A signature that the same key made under the same name before is replaced; all others stay.
pub async fn sign_as(
    destination: &Destination,
    private_pem: &Secret<String>,
    name: &str,
) -> Result<Signature, ImageError> {
    let signer = crate::keys::Signer::from_pem(private_pem.expose())?;
    let key = signer.public()?;
    let store = Store::open(&destination.as_source()).await?;
    let image = store.resolve().await?;
    let payload = Payload::new(image.digest, name).to_bytes()?;
    let signature = STANDARD.encode(signer.sign(&payload)?);
    let mut others = Vec::new();
    for (layer, other) in found(&store, &image.digest).await? {
        let signed = cosign::verify_with(&other, annotation(&layer), &key, &image.digest);
        if signed.is_err() || other != payload {
            others.push((layer, other));
        }
    }
    let tag = signature_tag(&image.digest);
    let artifact = match destination {
        Destination::Layout(directory, _) => {
            let layout = Layout::create(directory)?;
            let artifact = write(&layout, others, &payload, signature)?;
            layout.tag(&artifact.descriptor(), &tag)?;
            artifact
        }
        Destination::Registry(reference, transport) => {
            let (layout, _temporary) = Layout::create_temporary()?;
            let artifact = write(&layout, others, &payload, signature)?;
            push(&layout, &artifact, &Registry::new(reference, *transport), &tag, &Progress::none()).await?;
            artifact
        }
    };
    Ok(Signature { image: image.digest, tag, artifact: artifact.digest, key: *key.fingerprint() })
}

/// Verifies that a signature of the key covers the image. The most telling refusal is reported.
pub async fn verify(source: &Source, public_pem: &str) -> Result<Signed<Digest>, ImageError> {
    let key = PublicKey::from_pem(public_pem)?;
    let store = Store::open(source).await?;
    let image = store.resolve().await?;
    let mut refusal = SignatureError::Missing;
    for (layer, payload) in found(&store, &image.digest).await? {
        match cosign::verify_with(&payload, annotation(&layer), &key, &image.digest) {
            Ok(signed) => return Ok(signed),
            Err(error) if rank(&error) > rank(&refusal) => refusal = error,
            Err(_) => {}
        }
    }
    Err(refusal.into())
}

/// A good signature over another image says more than a stranger's signature.
fn rank(error: &SignatureError) -> u8 {
    match error {
        SignatureError::Missing => 0,
        SignatureError::Malformed(_) => 1,
        SignatureError::Key(_) => 2,
        SignatureError::WrongKey { .. } => 3,
        SignatureError::WrongDigest { .. } => 4,
    }
}

/// The signatures that are beside an image, with their payloads.
pub(crate) async fn found(store: &Store, image: &Digest) -> Result<Vec<(Descriptor, Vec<u8>)>, ImageError> {
    let mut out = Vec::new();
    let Some(artifact) = store.signatures(image).await? else { return Ok(out) };
    for layer in artifact.manifest.layers.into_iter().take(MAX_SIGNATURES) {
        if layer.media_type == media::SIMPLE_SIGNING {
            let payload = store.small(&layer).await?;
            out.push((layer, payload));
        }
    }
    Ok(out)
}

pub(crate) fn annotation(layer: &Descriptor) -> &str {
    layer.annotations.get(SIGNATURE_ANNOTATION).map(String::as_str).unwrap_or_default()
}

/// Writes the artifact's blobs and manifest, without a tag.
fn write(
    layout: &Layout,
    others: Vec<(Descriptor, Vec<u8>)>,
    payload: &[u8],
    signature: String,
) -> Result<Resolved, ImageError> {
    let mut layers = Vec::new();
    for (layer, payload) in others {
        layout.put(&layer.media_type, &payload)?;
        layers.push(layer);
    }
    let mut own = layout.put(media::SIMPLE_SIGNING, payload)?;
    own.annotations.insert(SIGNATURE_ANNOTATION.into(), signature);
    layers.push(own);
    let contents: Vec<_> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let config = json!({
        "architecture": "", "os": "", "config": {}, "created": "0001-01-01T00:00:00Z",
        "rootfs": { "type": "layers", "diff_ids": contents },
    });
    Resolved::write(layout, config.to_string().as_bytes(), layers)
}
