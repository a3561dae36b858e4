//! What an encrypted layer's annotations carry: public options, and the layer key wrapped with AES-256-GCM.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_oci::manifest::Annotations;
use coffer_core_secret::{Secret, SecretBytes};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::layer::LayerKey;
use super::{CIPHER, KEY, MAX_ANNOTATION, OcicryptError, PUBLIC_OPTIONS, WRAPPED_KEY};

const WRAP_TYPE: &str = "A256GCM";
const PROVIDER: &str = "kbs";
/// A layer wrapped for more recipients than this is not read.
const MAX_PACKETS: usize = 16;

/// How the layer key is wrapped, and with which key of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationPacket {
    /// Absent in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The wrapping key's name, as in `kbs:///default/key/web`.
    pub kid: String,
    /// Base64 of the wrapped private options and the GCM tag.
    pub wrapped_data: String,
    /// Absent in version 1, which knows only `kbs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Base64 of the nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv: Option<String>,
    /// `A256GCM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrap_type: Option<String>,
    /// Of other providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_settings: Option<serde_json::Value>,
    /// Of other providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct PublicOptions {
    cipher: String,
    #[serde(default)]
    hmac: Option<String>,
    #[serde(default)]
    cipheroptions: Option<BTreeMap<String, String>>,
}

/// ocicrypt's private options. The strings hold the layer key in base64, so they are wiped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct PrivateOptions {
    symkey: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    #[zeroize(skip)]
    cipheroptions: Option<BTreeMap<String, String>>,
}

/// An encrypted layer whose key is not known yet.
pub struct Locked {
    packets: Vec<AnnotationPacket>,
    hmac: [u8; 32],
    public_nonce: Option<[u8; 16]>,
}

impl Locked {
    /// Reads a layer's annotations.
    pub fn from_annotations(annotations: &Annotations) -> Result<Self, OcicryptError> {
        let bytes = unwrap64(PUBLIC_OPTIONS, find(annotations, PUBLIC_OPTIONS)?)?;
        let public: PublicOptions = read(PUBLIC_OPTIONS, &bytes)?;
        if public.cipher != CIPHER {
            return Err(OcicryptError::Unsupported {
                what: "the layer's cipher",
                expected: CIPHER,
                found: public.cipher.chars().take(64).collect(),
            });
        }
        let options = public.cipheroptions.unwrap_or_default();
        // Old releases of ocicrypt put the HMAC among the cipher options.
        let hmac = public
            .hmac
            .as_deref()
            .filter(|hmac| !hmac.is_empty())
            .or(options.get("hmac").map(String::as_str));
        let hmac = exact(PUBLIC_OPTIONS, "hmac", hmac.unwrap_or_default())?;
        let public_nonce =
            options.get("nonce").map(|nonce| exact(PUBLIC_OPTIONS, "nonce", nonce)).transpose()?;
        let mut packets = Vec::new();
        for part in find(annotations, WRAPPED_KEY)?.split(',').take(MAX_PACKETS) {
            let packet: AnnotationPacket = read(WRAPPED_KEY, &unwrap64(WRAPPED_KEY, part)?)?;
            packets.push(packet);
        }
        Ok(Self { packets, hmac, public_nonce })
    }

    /// The names of the broker's keys, any of which opens the layer.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.packets
            .iter()
            .filter(|packet| packet.provider.as_deref().unwrap_or(PROVIDER) == PROVIDER)
            .map(|packet| packet.kid.as_str())
    }

    /// Unwraps the layer key with the broker's key `name`.
    pub fn unlock(&self, name: &str, key: &SecretBytes) -> Result<LayerKey, OcicryptError> {
        let sealing = gcm(key)?;
        for packet in self.packets.iter().filter(|packet| packet.kid == name) {
            if let Some(private) = open(packet, &sealing)? {
                return self.layer_key(&private);
            }
        }
        Err(OcicryptError::WrongKey(name.chars().take(128).collect()))
    }

    fn layer_key(&self, private: &PrivateOptions) -> Result<LayerKey, OcicryptError> {
        let symkey = exact::<KEY>(WRAPPED_KEY, "symkey", &private.symkey)?;
        let private_nonce = private.cipheroptions.as_ref().and_then(|options| options.get("nonce"));
        let nonce = match (self.public_nonce, private_nonce) {
            (Some(nonce), _) => nonce,
            (None, Some(nonce)) => exact(WRAPPED_KEY, "nonce", nonce)?,
            (None, None) => return Err(malformed(WRAPPED_KEY, "the private options have no nonce")),
        };
        let digest = match private.digest.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|error| malformed(WRAPPED_KEY, &format!("digest: {error}")))?),
        };
        Ok(LayerKey { symkey: Secret::new(symkey), nonce, hmac: self.hmac, digest })
    }
}

/// The annotations of a layer that was encrypted with `layer`, wrapped with the broker's key `name`.
pub(super) fn annotate(
    layer: &LayerKey,
    digest: &Digest,
    name: &str,
    key: &SecretBytes,
) -> Result<Annotations, OcicryptError> {
    let private = PrivateOptions {
        symkey: STANDARD.encode(layer.symkey.expose()),
        digest: digest.to_string(),
        cipheroptions: Some([("nonce".to_owned(), STANDARD.encode(layer.nonce))].into()),
    };
    let mut wrapped = Zeroizing::new(serde_json::to_vec(&private).map_err(|_| OcicryptError::Library)?);
    let iv = Secret::<[u8; 12]>::random()?;
    gcm(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(*iv.expose()), Aad::empty(), &mut *wrapped)
        .map_err(|_| OcicryptError::Library)?;
    let packet = AnnotationPacket {
        version: Some("0.1.0".into()),
        kid: name.into(),
        wrapped_data: STANDARD.encode(&*wrapped),
        provider: Some(PROVIDER.into()),
        iv: Some(STANDARD.encode(iv.expose())),
        wrap_type: Some(WRAP_TYPE.into()),
        provider_settings: Some(serde_json::json!({})),
        annotations: Some(serde_json::json!({})),
    };
    let public = PublicOptions {
        cipher: CIPHER.into(),
        hmac: Some(STANDARD.encode(layer.hmac)),
        cipheroptions: Some(BTreeMap::new()),
    };
    let pack = |json: Result<Vec<u8>, serde_json::Error>| {
        json.map(|json| STANDARD.encode(json)).map_err(|_| OcicryptError::Library)
    };
    Ok([
        (PUBLIC_OPTIONS.to_owned(), pack(serde_json::to_vec(&public))?),
        (WRAPPED_KEY.to_owned(), pack(serde_json::to_vec(&packet))?),
    ]
    .into())
}

fn gcm(key: &SecretBytes) -> Result<LessSafeKey, OcicryptError> {
    let bytes = key.expose();
    if bytes.len() != KEY {
        return Err(OcicryptError::KeyLength(bytes.len()));
    }
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| OcicryptError::Library)
}

/// `None` if the key does not fit.
fn open(packet: &AnnotationPacket, key: &LessSafeKey) -> Result<Option<PrivateOptions>, OcicryptError> {
    match packet.wrap_type.as_deref() {
        Some(WRAP_TYPE) => {}
        other => {
            return Err(OcicryptError::Unsupported {
                what: "the layer key's wrap type",
                expected: WRAP_TYPE,
                found: other.unwrap_or("absent").chars().take(64).collect(),
            });
        }
    }
    let iv = exact(WRAPPED_KEY, "iv", packet.iv.as_deref().unwrap_or_default())?;
    let mut wrapped = Zeroizing::new(unwrap64(WRAPPED_KEY, &packet.wrapped_data)?);
    match key.open_in_place(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut wrapped) {
        Ok(plain) => {
            // The parser's message could quote the key, so it is dropped.
            let private = serde_json::from_slice(plain)
                .map_err(|_| malformed(WRAPPED_KEY, "the private options are not readable"))?;
            Ok(Some(private))
        }
        Err(_) => Ok(None),
    }
}

fn malformed(name: &'static str, why: &str) -> OcicryptError {
    OcicryptError::Malformed { name, why: why.into() }
}

fn find<'a>(annotations: &'a Annotations, name: &'static str) -> Result<&'a str, OcicryptError> {
    let value = annotations.get(name).ok_or(OcicryptError::Missing(name))?;
    if value.len() > MAX_ANNOTATION {
        return Err(malformed(name, "larger than 64 KiB"));
    }
    Ok(value)
}

fn unwrap64(name: &'static str, text: &str) -> Result<Vec<u8>, OcicryptError> {
    STANDARD.decode(text.trim_ascii()).map_err(|_| malformed(name, "not base64"))
}

fn read<T: for<'de> Deserialize<'de>>(name: &'static str, json: &[u8]) -> Result<T, OcicryptError> {
    serde_json::from_slice(json).map_err(|error| malformed(name, &error.to_string()))
}

fn exact<const N: usize>(name: &'static str, what: &str, text: &str) -> Result<[u8; N], OcicryptError> {
    let bytes = Zeroizing::new(unwrap64(name, text)?);
    <[u8; N]>::try_from(bytes.as_slice())
        .map_err(|_| malformed(name, &format!("{what} has {} bytes; expected {N}", bytes.len())))
}
