//! JWE to one or several long-lived keys: the general JSON form (RFC 7516, section 7.2.1) and the flattened one
//! (7.2.2), as image tools write them for the owners of keys.
//!
//! SPEC: ECDH-ES+A256KW on P-256 and P-521, RSA-OAEP and RSA-OAEP-256 (RFC 7518, section 4), always with A256GCM.
//! What names the content's encryption must be in the protected header; a recipient's own header may name only how its
//! key is wrapped. RSA1_5 is refused. Left out: the key's form in files (PEM), and who the recipients are.

use aws_lc_rs::agreement::{ECDH_P256, ECDH_P521, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use coffer_core_secret::{Secret, SecretBytes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wrapping::{unwrap, unwrap_oaep, wrap, wrap_oaep};
use super::{
    A256GCM, Header, IV_LEN, JweError, KEY_LEN, aad, concat_kdf, decrypt_content, ec_header, encrypt_content,
    part,
};
use crate::b64;
use crate::jwk::{Curve, ECDH_ES_A256KW, EcKey, RSA_OAEP_256, short};
use crate::tee_key::{EphemeralKey, Kind, TeeKey};

/// The `alg` that image tools use with RSA keys.
pub const RSA_OAEP: &str = "RSA-OAEP";
/// More recipients are not read.
pub const MAX_RECIPIENTS: usize = 32;
/// The shortest RSA key that is taken, in bytes.
const MIN_RSA: usize = 256;
/// SubjectPublicKeyInfo up to the point (RFC 5480): `id-ecPublicKey`, the curve, and an uncompressed point.
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3,
    1, 7, 3, 0x42, 0,
];
const P521_SPKI: &[u8] = &[
    0x30, 0x81, 0x9b, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x23, 3,
    0x81, 0x86, 0,
];

/// A key that JWEs are encrypted to.
#[derive(Clone)]
pub enum RecipientKey {
    /// For ECDH-ES+A256KW.
    Ec(EcKey),
    /// For RSA-OAEP, of 2048 bits or more.
    Rsa(PublicEncryptingKey),
}

impl RecipientKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280, section 4.1) in DER.
    pub fn from_spki(der: &[u8]) -> Result<Self, JweError> {
        for (prefix, curve) in [(P256_SPKI, Curve::P256), (P521_SPKI, Curve::P521)] {
            if let Some(point) = der.strip_prefix(prefix) {
                let key = EcKey::from_point(curve, point);
                return key.map(Self::Ec).map_err(|_| JweError::Key("its point is not on its curve"));
            }
        }
        let rsa = PublicEncryptingKey::from_der(der)
            .map_err(|_| JweError::Key("expected RSA, or EC on P-256 or P-521"))?;
        match rsa.key_size_bytes() >= MIN_RSA {
            true => Ok(Self::Rsa(rsa)),
            false => Err(JweError::Key("an RSA key of less than 2048 bits")),
        }
    }

    fn wrap(&self, cek: &Secret<[u8; KEY_LEN]>) -> Result<(Header, Vec<u8>), JweError> {
        match self {
            Self::Ec(key) => {
                let ephemeral = EphemeralKey::generate_on(key.curve());
                let ephemeral = ephemeral.ok_or(JweError::Provider("the ephemeral key"))?;
                let header = ec_header(ephemeral.public())?;
                let z = ephemeral.agree(key).ok_or(JweError::Provider("the key agreement"))?;
                Ok((header, wrap(&concat_kdf(&z, ECDH_ES_A256KW, &[], &[], 256), cek)?))
            }
            Self::Rsa(key) => {
                Ok((super::header(RSA_OAEP), wrap_oaep(key.clone(), &OAEP_SHA1_MGF1SHA1, cek)?))
            }
        }
    }
}

/// A private key that opens JWEs. Without `Debug`, `Clone` and `Serialize`.
pub struct RecipientPrivate(Private);

enum Private {
    Ec(TeeKey),
    Rsa(OaepPrivateDecryptingKey),
}

impl RecipientPrivate {
    /// Reads PKCS #8 (RFC 5208), or an EC key of RFC 5915, in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, JweError> {
        if let Ok(rsa) = PrivateDecryptingKey::from_pkcs8(der) {
            let rsa = OaepPrivateDecryptingKey::new(rsa);
            return rsa
                .map(|rsa| Self(Private::Rsa(rsa)))
                .map_err(|_| JweError::Key("an RSA key that is not usable"));
        }
        for (algorithm, curve) in [(&ECDH_P256, Curve::P256), (&ECDH_P521, Curve::P521)] {
            let Ok(key) = PrivateKey::from_private_key_der(algorithm, der) else { continue };
            let scalar: EcPrivateKeyBin<'_> =
                key.as_be_bytes().map_err(|_| JweError::Provider("the EC key"))?;
            let key = TeeKey::from_scalar(curve, SecretBytes::copy_of(scalar.as_ref()));
            return key
                .map(|key| Self(Private::Ec(key)))
                .map_err(|_| JweError::Key("its scalar is out of range"));
        }
        Err(JweError::Key("expected a private key in PKCS #8: RSA, or EC on P-256 or P-521"))
    }

    /// The content key, if this recipient's header is for a key of our kind.
    fn unwrap(&self, header: &Header, wrapped: &[u8]) -> Result<Secret<[u8; KEY_LEN]>, JweError> {
        match (&self.0, header.alg.as_str()) {
            (Private::Ec(TeeKey(Kind::Ec(key))), ECDH_ES_A256KW) => unwrap(&header.kek(key)?, wrapped),
            (Private::Rsa(key), RSA_OAEP) => unwrap_oaep(key, &OAEP_SHA1_MGF1SHA1, wrapped),
            (Private::Rsa(key), RSA_OAEP_256) => unwrap_oaep(key, &OAEP_SHA256_MGF1SHA256, wrapped),
            (Private::Ec(_), found) => {
                Err(JweError::Algorithm { expected: ECDH_ES_A256KW, found: short(found) })
            }
            (Private::Rsa(_), found) => Err(JweError::Algorithm { expected: RSA_OAEP, found: short(found) }),
        }
    }
}

/// A message to one or several recipients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    protected: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recipients: Vec<Recipient>,
    /// Of the flattened form. Some tools repeat the first recipient's here; then the list decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encrypted_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unprotected: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Recipient {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<Map<String, Value>>,
    encrypted_key: String,
}

impl Envelope {
    /// Encrypts to the holders of keys, any of whom opens it.
    pub fn seal(keys: &[RecipientKey], plaintext: &[u8]) -> Result<Self, JweError> {
        let count = keys.len();
        if !(1..=MAX_RECIPIENTS).contains(&count) {
            return Err(JweError::Recipients { most: MAX_RECIPIENTS, found: count });
        }
        let cek = Secret::<[u8; KEY_LEN]>::random()?;
        let mut protected = Map::new();
        let (mut recipients, mut encrypted_key) = (Vec::new(), None);
        for key in keys {
            let (header, wrapped) = key.wrap(&cek)?;
            let Value::Object(mut header) = serde_json::to_value(header)? else {
                return Err(JweError::Provider("the header"));
            };
            header.remove("enc");
            match count {
                1 => {
                    protected = header;
                    encrypted_key = Some(b64::url(&wrapped));
                }
                _ => recipients.push(Recipient { header: Some(header), encrypted_key: b64::url(&wrapped) }),
            }
        }
        protected.insert("enc".into(), A256GCM.into());
        let protected = b64::url(&serde_json::to_vec(&protected)?);
        let iv = *Secret::<[u8; IV_LEN]>::random()?.expose();
        let (ciphertext, tag) = encrypt_content(&cek, iv, &aad(&protected, None), plaintext)?;
        Ok(Self {
            protected,
            recipients,
            encrypted_key,
            header: None,
            unprotected: None,
            aad: None,
            iv: b64::url(&iv),
            ciphertext: b64::url(&ciphertext),
            tag: b64::url(&tag),
        })
    }

    /// Reads either JSON form.
    pub fn from_json(bytes: &[u8]) -> Result<Self, JweError> {
        let read: Self = serde_json::from_slice(bytes)?;
        if read.unprotected.is_some() {
            return Err(JweError::UnprotectedHeader);
        }
        match read.recipients.len() {
            found if found > MAX_RECIPIENTS => Err(JweError::Recipients { most: MAX_RECIPIENTS, found }),
            0 if read.encrypted_key.is_none() => Err(JweError::Recipients { most: MAX_RECIPIENTS, found: 0 }),
            _ => Ok(read),
        }
    }

    /// Writes the JSON form: flattened for one recipient.
    pub fn to_json(&self) -> Result<Vec<u8>, JweError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Opens it with the key of any recipient.
    pub fn open(&self, key: &RecipientPrivate) -> Result<SecretBytes, JweError> {
        let protected: Map<String, Value> =
            serde_json::from_slice(&part("protected header", &self.protected)?)?;
        let flattened = Recipient {
            header: self.header.clone(),
            encrypted_key: self.encrypted_key.clone().unwrap_or_default(),
        };
        let recipients =
            if self.recipients.is_empty() { std::slice::from_ref(&flattened) } else { &self.recipients };
        let mut refusal = JweError::Unwrap;
        for recipient in recipients {
            let header = joined(&protected, recipient.header.as_ref())?;
            match key.unwrap(&header, &part("encrypted_key", &recipient.encrypted_key)?) {
                Ok(cek) => {
                    let covered = aad(&self.protected, self.aad.as_deref());
                    return decrypt_content(&cek, &covered, &self.iv, &self.ciphertext, &self.tag);
                }
                // That a key of our kind does not fit says more than that another recipient's is of another kind.
                Err(JweError::Algorithm { .. } | JweError::EphemeralCurve { .. }) if recipients.len() > 1 => {
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

/// The protected header with a recipient's own, which may repeat nothing of it (RFC 7516, section 7.2.1).
fn joined(protected: &Map<String, Value>, own: Option<&Map<String, Value>>) -> Result<Header, JweError> {
    if !protected.contains_key("enc") {
        return Err(JweError::Encryption("none in the protected header".into()));
    }
    let mut all = protected.clone();
    for (name, value) in own.into_iter().flatten() {
        if all.insert(name.clone(), value.clone()).is_some() {
            return Err(JweError::UnprotectedHeader);
        }
    }
    if all.contains_key("zip") {
        return Err(JweError::Compressed);
    }
    if all.contains_key("crit") {
        return Err(JweError::Critical);
    }
    let header = Header::deserialize(Value::Object(all))?;
    match header.enc.as_str() {
        A256GCM => Ok(header),
        found => Err(JweError::Encryption(short(found))),
    }
}

#[cfg(test)]
mod tests;
