//! A public key that verifies tokens: JWK (RFC 7517, RFC 7518, RFC 8037) or `SubjectPublicKeyInfo` in PEM.
//!
//! INVARIANT: a point lies on its curve; an RSA modulus has 2048 to 8192 bits. Both were checked when it was made.
//! Left out: symmetric keys, so that no public key can be taken for a shared secret.

use std::fmt;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaParameters, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_digest::Digest;
use coffer_verify_x509::der::{self, Reader, tag};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::error::{KeyError, Unauthenticated};
use crate::json::{self, short};

/// The longest text of a key: an RSA key of 8192 bits in PEM has about 1.5 KiB.
const MAX_TEXT: usize = 8 << 10;
/// What only private and symmetric keys have.
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

/// A public key. Every algorithm that it is for has its parsed form.
pub struct PublicKey {
    parsed: Vec<(Algorithm, ParsedPublicKey)>,
    id: Option<String>,
    thumbprint: String,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("id", &self.id).field("thumbprint", &self.thumbprint).finish()
    }
}

impl PublicKey {
    /// Reads a JWK or PEM, told apart by the first character.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_TEXT {
            return Err(KeyError::Form("it is longer than 8 KiB"));
        }
        match text.trim_start().starts_with('{') {
            true => {
                let jwk = json::object(text.as_bytes());
                Self::from_jwk(&jwk.map_err(|_| KeyError::Form("its JSON cannot be read in one way"))?)
            }
            false => {
                let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
                Self::from_spki(&spki.map_err(|_| KeyError::Form("there is no PUBLIC KEY block"))?)
            }
        }
    }

    /// Reads a JWK. Members that are not known are ignored (RFC 7517, section 4).
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(KeyError::Private);
        }
        let text = |name: &'static str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(KeyError::Member(name)),
        };
        let bytes = |name: &'static str| {
            let text = text(name)?.filter(|text| text.len() <= MAX_TEXT).ok_or(KeyError::Member(name))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Member(name))
        };
        let for_signatures = text("use")?.is_none_or(|word| word == "sig")
            && match jwk.get("key_ops") {
                None => true,
                Some(words) => words.as_array().is_some_and(|words| words.contains(&"verify".into())),
            };
        if !for_signatures {
            return Err(KeyError::Use);
        }
        let kind = text("kty")?.ok_or(KeyError::Member("kty"))?;
        let mut key = match (kind, text("crv")?) {
            ("EC", Some("P-256")) => Self::ec(Algorithm::Es256, &bytes("x")?, &bytes("y")?)?,
            ("EC", Some("P-384")) => Self::ec(Algorithm::Es384, &bytes("x")?, &bytes("y")?)?,
            ("OKP", Some("Ed25519")) => Self::ed25519(&bytes("x")?)?,
            ("RSA", _) => Self::rsa(&bytes("n")?, &bytes("e")?)?,
            (kind, None) => return Err(KeyError::Kind(short(kind))),
            (kind, Some(curve)) => return Err(KeyError::Kind(short(&format!("{kind} {curve}")))),
        };
        if let Some(name) = text("alg")? {
            key.parsed.retain(|(algorithm, _)| algorithm.name() == name);
            if key.parsed.is_empty() {
                return Err(KeyError::Algorithm(short(name)));
            }
        }
        key.id = text("kid")?.map(str::to_owned);
        Ok(key)
    }

    /// Reads a `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1.2.7; RFC 5480; RFC 8410).
    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let damaged = |_| KeyError::Form("its DER is damaged");
        let mut outer = Reader::new(der);
        let mut info = outer.sequence("subjectPublicKeyInfo").map_err(damaged)?;
        outer.end("subjectPublicKeyInfo").map_err(damaged)?;
        let mut identifier = info.sequence("algorithm").map_err(damaged)?;
        let name = identifier.expect(tag::OID, "algorithm").map_err(damaged)?.content;
        let curve = identifier.optional(tag::OID, "curve").map_err(damaged)?.map(|curve| curve.content);
        let bits = info.bits("subjectPublicKey").map_err(damaged)?;
        info.end("subjectPublicKey").map_err(damaged)?;
        let is = |found: &[u8], dotted: &str| der::oid(dotted).is_some_and(|oid| oid == found);
        if is(name, "1.3.101.112") {
            return Self::ed25519(bits);
        }
        if is(name, "1.2.840.113549.1.1.1") {
            let mut key = Reader::new(bits).sequence("RSAPublicKey").map_err(damaged)?;
            let (n, e) =
                (key.unsigned("modulus").map_err(damaged)?, key.unsigned("exponent").map_err(damaged)?);
            return Self::rsa(n, e);
        }
        let curve = curve.filter(|_| is(name, "1.2.840.10045.2.1"));
        let (algorithm, length) = match curve {
            Some(curve) if is(curve, "1.2.840.10045.3.1.7") => (Algorithm::Es256, 32),
            Some(curve) if is(curve, "1.3.132.0.34") => (Algorithm::Es384, 48),
            _ => return Err(KeyError::Kind("of another algorithm or curve".to_owned())),
        };
        let point = bits.strip_prefix(&[4]).and_then(|rest| rest.split_at_checked(length));
        let (x, y) = point.ok_or(KeyError::Material("the point is not in uncompressed form"))?;
        Self::ec(algorithm, x, y)
    }

    fn ec(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let (rule, name, length): (&'static dyn VerificationAlgorithm, _, _) = match algorithm {
            Algorithm::Es256 => (&ECDSA_P256_SHA256_FIXED, "P-256", 32),
            _ => (&ECDSA_P384_SHA384_FIXED, "P-384", 48),
        };
        if (x.len(), y.len()) != (length, length) {
            return Err(KeyError::Material("a coordinate does not have the curve's length"));
        }
        let parsed = ParsedPublicKey::new(rule, [&[4], x, y].concat());
        let parsed = parsed.map_err(|_| KeyError::Material("not a point on its curve"))?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let form = format!(r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self::new(vec![(algorithm, parsed)], &form))
    }

    fn ed25519(x: &[u8]) -> Result<Self, KeyError> {
        if x.len() != 32 {
            return Err(KeyError::Material("an Ed25519 key has 32 bytes"));
        }
        let parsed = ParsedPublicKey::new(&ED25519, x);
        let parsed = parsed.map_err(|_| KeyError::Material("not a point of Ed25519"))?;
        let form = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(x));
        Ok(Self::new(vec![(Algorithm::EdDsa, parsed)], &form))
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let top = n.first().map_or(8, |byte| byte.leading_zeros());
        let bits = n.len().saturating_mul(8).saturating_sub(usize::try_from(top).unwrap_or(8));
        if top == 8 || !(2048..=8192).contains(&bits) {
            return Err(KeyError::Material("the RSA modulus does not have 2048 to 8192 bits"));
        }
        let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
        // More than 32 bits of exponent only make a verification slow.
        if !odd(n) || !odd(e) || e.len() > 4 || e == [1] {
            return Err(KeyError::Material(
                "the RSA modulus or exponent is even, or the exponent out of range",
            ));
        }
        let components = PublicKeyComponents { n, e };
        let parse = |rule: &'static RsaParameters| {
            components
                .to_parsed_public_key(rule)
                .map_err(|_| KeyError::Material("the provider refuses the RSA key"))
        };
        let parsed = vec![
            (Algorithm::Rs256, parse(&RSA_PKCS1_2048_8192_SHA256)?),
            (Algorithm::Ps256, parse(&RSA_PSS_2048_8192_SHA256)?),
        ];
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        Ok(Self::new(parsed, &format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)))
    }

    /// `form` is that of RFC 7638, section 3.2.
    fn new(parsed: Vec<(Algorithm, ParsedPublicKey)>, form: &str) -> Self {
        let thumbprint = URL_SAFE_NO_PAD.encode(Digest::sha256(form.as_bytes()).as_bytes());
        Self { parsed, id: None, thumbprint }
    }

    /// The JWK's `kid`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The SHA-256 thumbprint in base64url (RFC 7638).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The algorithms that it verifies.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.parsed.iter().map(|(algorithm, _)| *algorithm)
    }

    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms().any(|own| own == algorithm)
    }

    /// Verifies a signature in the form that JWS has it.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Unauthenticated> {
        let parsed = self.parsed.iter().find(|(own, _)| *own == algorithm).map(|(_, parsed)| parsed);
        let parsed = parsed.ok_or(Unauthenticated::Signature)?;
        parsed.verify_sig(message, signature).map_err(|_| Unauthenticated::Signature)
    }
}
