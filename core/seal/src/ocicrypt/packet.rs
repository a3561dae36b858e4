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
use super::{CIPHER, KEY, KeyWrap, MAX_ANNOTATION, OcicryptError, PUBLIC_OPTIONS, WRAPPED_KEY, WRAPPED_KEYS};

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
    /// What others than the broker's guests unwrap, by annotation.
    others: BTreeMap<String, Vec<Vec<u8>>>,
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
        if annotations.contains_key(WRAPPED_KEY) {
            for part in find(annotations, WRAPPED_KEY)?.split(',').take(MAX_PACKETS) {
                packets.push(AnnotationPacket::parse(&unwrap64(WRAPPED_KEY, part)?)?);
            }
        }
        let mut others = BTreeMap::new();
        for (name, value) in annotations {
            if name.starts_with(WRAPPED_KEYS) && name != WRAPPED_KEY && value.len() <= MAX_ANNOTATION {
                let parts = value.split(',').take(MAX_PACKETS).map(|part| unwrap64(WRAPPED_KEYS, part));
                others.insert(name.clone(), parts.collect::<Result<_, _>>()?);
            }
        }
        match packets.is_empty() && others.is_empty() {
            true => Err(OcicryptError::Missing(WRAPPED_KEY)),
            false => Ok(Self { packets, others, hmac, public_nonce }),
        }
    }

    /// What is wrapped for others than guests of a broker: annotation and message.
    pub fn others(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.others.iter().flat_map(|(name, parts)| parts.iter().map(|part| (name.as_str(), part.as_slice())))
    }

    /// Why no key of a broker opens the layer, where none is named.
    pub fn not_for_broker(&self) -> OcicryptError {
        let kinds = self.others.keys().map(|name| name.trim_start_matches(WRAPPED_KEYS));
        let found = match kinds.take(8).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "nobody that is known".into(),
            kinds => kinds.chars().take(128).collect(),
        };
        OcicryptError::NotForBroker { found }
    }

    /// Takes private options that a recipient unwrapped.
    pub fn unlock_with(&self, private_options: &SecretBytes) -> Result<LayerKey, OcicryptError> {
        self.layer_key(&private(private_options.expose())?)
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
        for packet in self.packets.iter().filter(|packet| packet.kid == name) {
            if let Some(options) = packet.open(key)? {
                return self.unlock_with(&options);
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

/// A key at the broker that wraps layer keys, with its name there.
pub struct BrokerKey<'a> {
    name: &'a str,
    key: &'a SecretBytes,
}

impl<'a> BrokerKey<'a> {
    /// Takes a name, as in `kbs:///default/image-key/web`, and 32 bytes.
    pub fn new(name: &'a str, key: &'a SecretBytes) -> Result<Self, OcicryptError> {
        gcm(key)?;
        Ok(Self { name, key })
    }
}

impl KeyWrap for BrokerKey<'_> {
    fn annotation(&self) -> &'static str {
        WRAPPED_KEY
    }

    fn wrap(&self, private_options: &SecretBytes) -> Result<Vec<u8>, OcicryptError> {
        wrap_options(private_options, self.name, self.key)
    }
}

/// An annotation packet, version 2, around private options.
pub fn wrap_options(options: &SecretBytes, name: &str, key: &SecretBytes) -> Result<Vec<u8>, OcicryptError> {
    let mut wrapped = Zeroizing::new(options.expose().clone());
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
    serde_json::to_vec(&packet).map_err(|_| OcicryptError::Library)
}

/// The private options in an annotation packet that `key` wrapped.
pub fn unwrap_options(packet: &[u8], key: &SecretBytes) -> Result<SecretBytes, OcicryptError> {
    let packet = AnnotationPacket::parse(packet)?;
    packet.open(key)?.ok_or_else(|| OcicryptError::WrongKey(packet.kid.chars().take(128).collect()))
}

/// The annotations of a layer that was encrypted with `layer`.
pub(super) fn annotate(
    layer: &LayerKey,
    digest: &Digest,
    recipients: &[&dyn KeyWrap],
) -> Result<Annotations, OcicryptError> {
    let private = PrivateOptions {
        symkey: STANDARD.encode(layer.symkey.expose()),
        digest: digest.to_string(),
        cipheroptions: Some([("nonce".to_owned(), STANDARD.encode(layer.nonce))].into()),
    };
    let private = SecretBytes::new(serde_json::to_vec(&private).map_err(|_| OcicryptError::Library)?);
    let public = PublicOptions {
        cipher: CIPHER.into(),
        hmac: Some(STANDARD.encode(layer.hmac)),
        cipheroptions: Some(BTreeMap::new()),
    };
    let public = serde_json::to_vec(&public).map_err(|_| OcicryptError::Library)?;
    let mut annotations: Annotations = [(PUBLIC_OPTIONS.to_owned(), STANDARD.encode(public))].into();
    for recipient in recipients {
        let wrapped = STANDARD.encode(recipient.wrap(&private)?);
        let all = annotations.entry(recipient.annotation().to_owned()).or_default();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&wrapped);
    }
    Ok(annotations)
}

fn gcm(key: &SecretBytes) -> Result<LessSafeKey, OcicryptError> {
    let bytes = key.expose();
    if bytes.len() != KEY {
        return Err(OcicryptError::KeyLength(bytes.len()));
    }
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| OcicryptError::Library)
}

impl AnnotationPacket {
    /// Reads a packet.
    pub fn parse(json: &[u8]) -> Result<Self, OcicryptError> {
        read(WRAPPED_KEY, json)
    }

    /// The private options; `None` if the key does not fit.
    fn open(&self, key: &SecretBytes) -> Result<Option<SecretBytes>, OcicryptError> {
        match self.wrap_type.as_deref() {
            Some(WRAP_TYPE) => {}
            other => {
                return Err(OcicryptError::Unsupported {
                    what: "the layer key's wrap type",
                    expected: WRAP_TYPE,
                    found: other.unwrap_or("absent").chars().take(64).collect(),
                });
            }
        }
        let iv = exact(WRAPPED_KEY, "iv", self.iv.as_deref().unwrap_or_default())?;
        let mut wrapped = Zeroizing::new(unwrap64(WRAPPED_KEY, &self.wrapped_data)?);
        let opened = gcm(key)?.open_in_place(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut wrapped);
        Ok(opened.ok().map(|plain| SecretBytes::copy_of(plain)))
    }
}

/// The parser's message could quote the key, so it is dropped.
fn private(json: &[u8]) -> Result<PrivateOptions, OcicryptError> {
    serde_json::from_slice(json).map_err(|_| malformed(WRAPPED_KEY, "the private options are not readable"))
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
