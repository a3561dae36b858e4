//! What an image says about itself, for a person or a program. Nothing here was verified with a key.

use coffer_core_digest::Digest;
use coffer_core_oci::config::RunConfig;
use coffer_core_oci::simple_signing::Payload;
use coffer_core_oci::{ImageConfig, LayerKind, SealedBlock};
use coffer_core_seal::ocicrypt::Locked;
use serde::Serialize;

use crate::error::ImageError;
use crate::open::Store;
use crate::place::Source;
use crate::sign;

/// What an image says about itself.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Where it was looked for.
    pub source: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// `linux/amd64`, as the configuration says.
    pub platform: String,
    /// `sealed-block`, `ocicrypt`, `partly-encrypted` or `plain`.
    pub protection: &'static str,
    /// The names of the broker's keys that open it.
    pub keys: Vec<String>,
    /// How it is run.
    pub config: RunConfig,
    /// The layers, lowest first.
    pub layers: Vec<LayerInspection>,
    /// The signatures beside it. Whose they are only `verify` says.
    pub signatures: Vec<SignatureInspection>,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerInspection {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The root of its hash tree, if it is a sealed block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<Digest>,
}

/// A signature.
#[derive(Clone, Debug, Serialize)]
pub struct SignatureInspection {
    /// The manifest that the payload names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covers: Option<Digest>,
    /// The name under which it was signed.
    pub identity: String,
    /// What is wrong with it, if something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Describes an image.
pub async fn inspect(source: &Source) -> Result<Inspection, ImageError> {
    let store = Store::open(source).await?;
    let image = store.resolve().await?;
    let config = ImageConfig::parse(&store.small(&image.manifest.config).await?)?;
    let sealed = SealedBlock::from_manifest(&image.manifest)?;
    let mut keys: Vec<String> = sealed.iter().map(|(_, block)| block.key.clone()).collect();
    let mut encrypted = 0;
    let mut layers = Vec::new();
    for layer in &image.manifest.layers {
        if let Some(LayerKind::Encrypted(_)) = LayerKind::of(&layer.media_type) {
            encrypted += 1;
            keys.extend(Locked::from_annotations(&layer.annotations)?.key_names().map(str::to_owned));
        }
        layers.push(LayerInspection {
            digest: layer.digest,
            media_type: layer.media_type.clone(),
            size: layer.size,
            root_hash: sealed.as_ref().map(|(_, block)| block.root_hash),
        });
    }
    keys.sort();
    keys.dedup();
    let protection = match (sealed.is_some(), encrypted) {
        (true, _) => "sealed-block",
        (false, 0) => "plain",
        (false, count) if count == layers.len() => "ocicrypt",
        (false, _) => "partly-encrypted",
    };
    let signatures = sign::found(&store, &image.digest).await?;
    let signatures = signatures.iter().map(|(_, payload)| described(payload, &image.digest)).collect();
    Ok(Inspection {
        source: source.to_string(),
        digest: image.digest,
        media_type: image.manifest.stored_as().into(),
        platform: format!("{}/{}", config.os, config.architecture),
        protection,
        keys,
        config: config.config,
        layers,
        signatures,
    })
}

fn described(payload: &[u8], image: &Digest) -> SignatureInspection {
    match Payload::parse(payload) {
        Ok(payload) => {
            let covers = payload.critical.image.docker_manifest_digest;
            SignatureInspection {
                covers: Some(covers),
                identity: payload.critical.identity.docker_reference,
                fault: (covers != *image).then(|| "it covers another image".into()),
            }
        }
        Err(error) => {
            SignatureInspection { covers: None, identity: String::new(), fault: Some(error.to_string()) }
        }
    }
}
