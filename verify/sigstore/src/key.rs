//! Public keys of logs and of certificates, and the signatures that each kind makes.
//!
//! Which hash goes with which key is fixed by the kind (sigstore's algorithm registry), never by the message; only
//! P-384 is accepted with two, because clients that are in use sign with either.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use coffer_core_digest::Digest;
use coffer_verify_x509::der::{Reader, tag};

/// The contents of the AlgorithmIdentifier: `id-ecPublicKey` with `prime256v1` or `secp384r1` (RFC 5480), `id-Ed25519`
/// (RFC 8410), `rsaEncryption` (RFC 8017).
const P256: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34];
const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

/// What kind of key one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::P256 => "ECDSA P-256",
            Self::P384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        }
    }

    fn algorithms(self) -> &'static [&'static dyn VerificationAlgorithm] {
        match self {
            Self::P256 => &[&signature::ECDSA_P256_SHA256_ASN1],
            Self::P384 => &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
            Self::Ed25519 => &[&signature::ED25519],
            Self::Rsa => &[&signature::RSA_PKCS1_2048_8192_SHA256],
        }
    }
}

/// A public key that is well-formed.
#[derive(Clone)]
pub(crate) struct Key {
    kind: Kind,
    /// One for each hash that goes with the kind.
    parsed: Vec<ParsedPublicKey>,
    spki: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.name(), hex::encode(self.fingerprint()))
    }
}

impl Key {
    /// Reads a `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1.2.7). The error says what was found instead.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, String> {
        let algorithm = || {
            let mut outer = Reader::new(der);
            let mut info = outer.sequence("subjectPublicKeyInfo")?;
            outer.end("subjectPublicKeyInfo")?;
            info.expect(tag::SEQUENCE, "algorithm").map(|found| found.content)
        };
        let kind = match algorithm().map_err(|cause| cause.to_string())? {
            P256 => Kind::P256,
            P384 => Kind::P384,
            ED25519 => Kind::Ed25519,
            RSA => Kind::Rsa,
            _ => return Err("of another algorithm".to_owned()),
        };
        let parse = |algorithm: &&'static dyn VerificationAlgorithm| ParsedPublicKey::new(*algorithm, der);
        let parsed = kind.algorithms().iter().map(parse).collect::<Result<_, _>>();
        let parsed = parsed.map_err(|_| format!("not a valid {} key", kind.name()))?;
        Ok(Self { kind, parsed, spki: der.to_vec() })
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    /// The key's own bits, for the kinds whose form is fixed: the last 32 octets of an Ed25519 key's info.
    pub(crate) fn ed25519_bits(&self) -> Option<&[u8]> {
        match self.kind {
            Kind::Ed25519 => self.spki.last_chunk::<32>().map(<[u8; 32]>::as_slice),
            _ => None,
        }
    }

    /// Whether the key made the signature over the message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.iter().any(|one| one.verify_sig(message, signature).is_ok())
    }

    /// Whether the key made the signature over the message with this SHA-256. Never for Ed25519, which signs messages
    /// and not hashes.
    pub(crate) fn has_signed_sha256(&self, hash: &[u8; 32], signature: &[u8]) -> bool {
        let Ok(imported) = digest::Digest::import_less_safe(hash, &digest::SHA256) else { return false };
        self.kind != Kind::Ed25519
            && self.parsed.iter().any(|one| one.verify_digest_sig(&imported, signature).is_ok())
    }
}

/// SHA-256 as octets.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(Digest::sha256(data).as_bytes());
    hash
}
