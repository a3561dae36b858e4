//! Whom a judge believes: the public keys of platforms (CPAK), in the form that Veraison's and Trustee's stores
//! have them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_cose::{Curve, KeyError, PublicKey};
use serde::Deserialize;

use crate::platform::PlatformClaims;

/// Why a document holds no trust anchors.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Not the JSON that is expected.
    #[error("expected a list of {{\"pkey\", \"implementation-id\", \"instance-id\"}}, or a JWK: {0}")]
    Json(#[from] serde_json::Error),
    /// An identifier is not hexadecimal of its length.
    #[error("anchor {at}: {member} is not {length} bytes in hexadecimal")]
    Identifier {
        /// Which anchor.
        at: usize,
        /// The member.
        member: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A key is none.
    #[error("anchor {at}: {cause}")]
    Key {
        /// Which anchor.
        at: usize,
        /// Why not.
        cause: KeyError,
    },
    /// The PEM holds no key.
    #[error("{0}")]
    Pem(KeyError),
}

/// A platform's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) key: PublicKey,
    /// None for a key that is believed for every platform.
    pub(crate) instance_id: Option<[u8; 33]>,
    pub(crate) implementation_id: Option<[u8; 32]>,
    pub(crate) hardware: bool,
}

/// The platforms' keys that a judge believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustAnchors(Vec<Anchor>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    List(Vec<Entry>),
    One(Entry),
    Bare(Jwk),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    pkey: Jwk,
    implementation_id: Option<String>,
    instance_id: Option<String>,
    /// Ours: false for platforms that run in an emulator, whose keys are no secret.
    #[serde(default = "yes")]
    hardware: bool,
}

/// A JWK (RFC 7517), as far as it is a public key on a curve. Other members are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: Option<String>,
}

const fn yes() -> bool {
    true
}

impl TrustAnchors {
    /// Reads a list of keys with the platforms that they belong to, one such entry, or a bare JWK, which then is
    /// believed for every platform. An entry may say `"hardware": false`.
    pub fn from_json(document: &[u8]) -> Result<Self, AnchorError> {
        let entries = match serde_json::from_slice(document)? {
            Document::List(entries) => entries,
            Document::One(entry) => vec![entry],
            Document::Bare(pkey) => {
                vec![Entry { pkey, implementation_id: None, instance_id: None, hardware: true }]
            }
        };
        entries.iter().enumerate().map(|(at, entry)| entry.anchor(at)).collect::<Result<_, _>>().map(Self)
    }

    /// Reads one public key in PEM, which then is believed for every platform.
    pub fn from_pem(text: &str) -> Result<Self, AnchorError> {
        let key = PublicKey::from_pem(text).map_err(AnchorError::Pem)?;
        Ok(Self(vec![Anchor { key, instance_id: None, implementation_id: None, hardware: true }]))
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Anchor> {
        self.0.get(at)
    }

    /// The anchors that may have signed for a platform: first those of its name.
    pub(crate) fn of<'a>(
        &'a self,
        platform: &'a PlatformClaims,
    ) -> impl Iterator<Item = (usize, &'a Anchor)> {
        let named = |anchor: &Anchor| anchor.instance_id == Some(platform.instance_id);
        let all = || self.0.iter().enumerate();
        let by_name = all().filter(move |(_, anchor)| named(anchor));
        by_name.chain(all().filter(|(_, anchor)| anchor.instance_id.is_none()))
    }
}

impl Entry {
    fn anchor(&self, at: usize) -> Result<Anchor, AnchorError> {
        Ok(Anchor {
            key: self.pkey.key().map_err(|cause| AnchorError::Key { at, cause })?,
            instance_id: identifier(at, "instance-id", self.instance_id.as_deref())?,
            implementation_id: identifier(at, "implementation-id", self.implementation_id.as_deref())?,
            hardware: self.hardware,
        })
    }
}

impl Jwk {
    fn key(&self) -> Result<PublicKey, KeyError> {
        let curve = Curve::from_name(&self.crv);
        let curve = curve.ok_or(KeyError::Form("the JWK is on no curve that is known"))?;
        let number = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| KeyError::Form("a coordinate of the JWK is not base64url"))
        };
        match (self.kty.as_str(), &self.y) {
            ("OKP", None) if curve == Curve::Ed25519 => PublicKey::from_point(curve, &number(&self.x)?),
            ("EC", Some(y)) if curve != Curve::Ed25519 => {
                PublicKey::from_coordinates(curve, &number(&self.x)?, &number(y)?)
            }
            _ => Err(KeyError::Form("the JWK has a type or coordinates that are not its curve's")),
        }
    }
}

fn identifier<const N: usize>(
    at: usize,
    member: &'static str,
    text: Option<&str>,
) -> Result<Option<[u8; N]>, AnchorError> {
    let wrong = || AnchorError::Identifier { at, member, length: N };
    let read = |text: &str| hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong);
    text.map(read).transpose()
}
