//! PKCS #7 enveloped data with AES-GCM, as ocicrypt's `pkcs7` recipients have it.
//!
//! SPEC: RFC 5652, sections 6.1 and 6.2.1 (key transport to issuer and serial number, `rsaEncryption`), with three
//! habits of the library that image tools use, which are written here because that library reads nothing else: the
//! content stands in a constructed `[0]`; the GCM parameters (RFC 5084, section 3.2) stand in a primitive element of
//! SEQUENCE's number, 0x10, which DER does not know (so no library of DER reads them); and the nonce in them has the
//! tag `[4]`. The forms of the RFCs are read, too. The tag of 16 bytes is the content's end.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa::{
    Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};
use der::{Decode, Encode};
use zeroize::Zeroizing;

use crate::tlv::{Malformed, Tlv, element, object};

/// `envelopedData`, `data`, `rsaEncryption`, AES-128-GCM and AES-256-GCM: object identifiers' contents.
const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const AES128_GCM: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 6];
const AES256_GCM: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 46];
/// Tags.
const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const OID: u8 = 6;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONSTRUCTED_0: u8 = 0xa0;
const PRIMITIVE_0: u8 = 0x80;
const NONCE_4: u8 = 0x84;
/// SEQUENCE's number without the bit that says that it is constructed.
const NOT_A_SEQUENCE: u8 = 0x10;
/// More recipients are not read.
const MAX_RECIPIENTS: usize = 32;
/// What they take together, so that lengths have two bytes.
const MAX_RECIPIENTS_LEN: usize = 48 << 10;
/// The shortest RSA key that is taken, in bytes.
const MIN_RSA: usize = 256;
const NONCE: usize = 12;
const TAG: u8 = 16;

/// Why a message or certificate is refused.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs7Error {
    /// Not the structure.
    #[error("not PKCS #7 enveloped data as ocicrypt's tools write it: {0}")]
    Malformed(String),
    /// The certificate cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Certificate(String),
    /// The content's cipher does not authenticate, or is not known.
    #[error("the content's cipher is {0}; expected AES-GCM with 128 or 256 bits")]
    Cipher(String),
    /// More recipients than an honest message has, or none.
    #[error("{0} recipients; expected 1 to {MAX_RECIPIENTS}")]
    Recipients(usize),
    /// The key is not that of any recipient.
    #[error("the message was not encrypted to this key, or was changed")]
    NotForUs,
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The provider failed at a step that does not fail with valid keys.
    #[error("encrypting failed at {0}")]
    Provider(&'static str),
}

impl From<der::Error> for Pkcs7Error {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<Malformed> for Pkcs7Error {
    fn from(Malformed(why): Malformed) -> Self {
        Self::Malformed(why)
    }
}

/// Whose key a message is encrypted to.
pub struct Certificate {
    /// Issuer and serial number in DER.
    name: Vec<u8>,
    key: PublicEncryptingKey,
}

impl Certificate {
    /// Reads a certificate with an RSA key of 2048 bits or more. Whether it is valid is for its user to know: it only
    /// names a key.
    pub fn from_der(der: &[u8]) -> Result<Self, Pkcs7Error> {
        let refuse = |why: String| Pkcs7Error::Certificate(why);
        let certificate = x509_cert::Certificate::from_der(der).map_err(|error| refuse(error.to_string()))?;
        let fields = certificate.tbs_certificate();
        let mut name = fields.issuer().to_der()?;
        name.extend(fields.serial_number().to_der()?);
        let key = PublicEncryptingKey::from_der(&fields.subject_public_key_info().to_der()?)
            .map_err(|_| refuse("its key is not RSA, the only kind that these messages have".into()))?;
        match key.key_size_bytes() >= MIN_RSA {
            true => Ok(Self { name: element(SEQUENCE, &[&name]), key }),
            false => Err(refuse("its RSA key has less than 2048 bits".into())),
        }
    }
}

/// An RSA key that opens messages.
pub(crate) struct RsaOpener(Pkcs1PrivateDecryptingKey);

impl RsaOpener {
    pub(crate) fn from_der(der: &[u8]) -> Option<Self> {
        let key = PrivateDecryptingKey::from_pkcs8(der).ok()?;
        Pkcs1PrivateDecryptingKey::new(key).ok().map(Self)
    }
}

/// Encrypts to the holders of certificates.
pub(crate) fn seal(to: &[Certificate], plaintext: &SecretBytes) -> Result<Vec<u8>, Pkcs7Error> {
    if !(1..=MAX_RECIPIENTS).contains(&to.len()) {
        return Err(Pkcs7Error::Recipients(to.len()));
    }
    let cek = Secret::<[u8; 32]>::random()?;
    let mut recipients: Vec<Vec<u8>> = Vec::new();
    for certificate in to {
        let failed = |_| Pkcs7Error::Provider("the RSA encryption");
        let key = Pkcs1PublicEncryptingKey::new(certificate.key.clone()).map_err(failed)?;
        let mut wrapped = vec![0; key.ciphertext_size()];
        let wrapped: &[u8] = key.encrypt(cek.expose(), &mut wrapped).map_err(failed)?;
        let cipher = element(SEQUENCE, &[&object(RSA_ENCRYPTION), &element(5, &[])]);
        let parts: [&[u8]; 4] = [&version(), &certificate.name, &cipher, &element(OCTETS, &[wrapped])];
        recipients.push(element(SEQUENCE, &parts));
    }
    // DER sorts the members of a set (X.690, section 11.6).
    recipients.sort();
    let recipients = recipients.concat();
    if recipients.len() > MAX_RECIPIENTS_LEN {
        return Err(Pkcs7Error::Certificate("the names of all issuers together are too long".into()));
    }
    let nonce = *Secret::<[u8; NONCE]>::random()?.expose();
    let mut content = Zeroizing::new(plaintext.expose().clone());
    let failed = |_| Pkcs7Error::Provider("the content");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, cek.expose()).map_err(failed)?)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut *content)
        .map_err(failed)?;
    let parameters = element(SEQUENCE, &[&element(NONCE_4, &[&nonce]), &element(INTEGER, &[&[TAG]])]);
    let cipher = element(SEQUENCE, &[&object(AES256_GCM), &element(NOT_A_SEQUENCE, &[&parameters])]);
    let sealed = element(CONSTRUCTED_0, &[&element(OCTETS, &[&content])]);
    let content = element(SEQUENCE, &[&object(DATA), &cipher, &sealed]);
    let data = element(SEQUENCE, &[&version(), &element(SET, &[&recipients]), &content]);
    Ok(element(SEQUENCE, &[&object(ENVELOPED_DATA), &element(CONSTRUCTED_0, &[&data])]))
}

/// Version 0, of the data and of each recipient.
fn version() -> Vec<u8> {
    element(INTEGER, &[&[0]])
}

/// Opens a message with the key of any recipient.
pub(crate) fn open(message: &[u8], key: &RsaOpener) -> Result<SecretBytes, Pkcs7Error> {
    let mut whole = Tlv::new(message);
    let mut info = whole.within(SEQUENCE, "the message")?;
    whole.end("the message")?;
    if info.content(OID, "the content type")? != ENVELOPED_DATA {
        return Err(Pkcs7Error::Malformed("its content type is not enveloped data".into()));
    }
    let mut data = info.within(CONSTRUCTED_0, "the content")?.within(SEQUENCE, "the enveloped data")?;
    data.content(INTEGER, "the version")?;
    let mut recipients = data.within(SET, "the recipients")?;
    let mut content = data.within(SEQUENCE, "the encrypted content")?;
    content.content(OID, "the content's type")?;
    let (algorithm, nonce) = cipher(content.within(SEQUENCE, "the content's cipher")?)?;
    let sealed = match content.any("the ciphertext")? {
        (CONSTRUCTED_0, piece) => Tlv::new(piece).content(OCTETS, "the ciphertext")?,
        (PRIMITIVE_0, sealed) => sealed,
        (tag, _) => return Err(Pkcs7Error::Malformed(format!("the ciphertext has the tag {tag:#x}"))),
    };
    let mut count = 0_usize;
    while !recipients.is_empty() {
        let (tag, recipient) = recipients.any("a recipient")?;
        count = count.saturating_add(1);
        if count > MAX_RECIPIENTS {
            return Err(Pkcs7Error::Recipients(count));
        }
        // The other choices are key agreement, passwords and the like.
        if tag != SEQUENCE {
            continue;
        }
        let Some(cek) = transported(Tlv::new(recipient), key)? else { continue };
        let Ok(cek) = UnboundKey::new(algorithm, &cek) else { continue };
        let mut text = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        if let Ok(plain) = LessSafeKey::new(cek).open_in_place(nonce, Aad::empty(), &mut text) {
            return Ok(SecretBytes::copy_of(plain));
        }
    }
    Err(Pkcs7Error::NotForUs)
}

/// The content's key, if it was wrapped for ours.
fn transported(mut recipient: Tlv<'_>, key: &RsaOpener) -> Result<Option<Zeroizing<Vec<u8>>>, Pkcs7Error> {
    recipient.content(INTEGER, "a recipient's version")?;
    recipient.any("a recipient's name")?;
    let mut cipher = recipient.within(SEQUENCE, "a recipient's cipher")?;
    if cipher.content(OID, "a recipient's cipher")? != RSA_ENCRYPTION {
        return Ok(None);
    }
    let wrapped = recipient.content(OCTETS, "a recipient's key")?;
    let mut room = Zeroizing::new(vec![0; key.0.min_output_size()]);
    let found = key.0.decrypt(wrapped, &mut room);
    Ok(found.ok().map(|key| Zeroizing::new(key.to_vec())))
}

/// The content's cipher and nonce.
fn cipher(mut cipher: Tlv<'_>) -> Result<(&'static Algorithm, [u8; NONCE]), Pkcs7Error> {
    let algorithm = match cipher.content(OID, "the content's cipher")? {
        AES128_GCM => &AES_128_GCM,
        AES256_GCM => &AES_256_GCM,
        other => {
            let other: String = other.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            return Err(Pkcs7Error::Cipher(format!("the object identifier {other}")));
        }
    };
    let mut parameters = match cipher.any("the GCM parameters")? {
        (NOT_A_SEQUENCE, inner) => Tlv::new(inner).within(SEQUENCE, "the GCM parameters")?,
        (SEQUENCE, inner) => Tlv::new(inner),
        (tag, _) => return Err(Pkcs7Error::Malformed(format!("the GCM parameters have the tag {tag:#x}"))),
    };
    let (tag, nonce) = parameters.any("the nonce")?;
    let length = parameters.content(INTEGER, "the tag's length")?;
    match (tag, nonce.try_into(), length) {
        (OCTETS | NONCE_4, Ok(nonce), [TAG]) => Ok((algorithm, nonce)),
        _ => {
            Err(Pkcs7Error::Malformed("GCM with another nonce than 12 bytes, or another tag than 16".into()))
        }
    }
}
