//! Wrapping with a key that stays in its token.
//!
//! What is wrapped begins with its form. 1: `iv (12) || AES-GCM`, all of it in the token. 2 and 3: a one-time key wrapped
//! in the token, then the value sealed under it with AES-256-GCM. In form 3 the one-time key is under AES-CBC, which
//! protects nothing from change; a changed one is another key, under which the seal does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use coffer_core_secret::{Secret, SecretBytes};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::token::Failure;
use crate::{Pkcs11Error, Selector, Token};

const TAG_BITS: u64 = 128;
const BLOCK: usize = 16;
const ONE_TIME: usize = 32;
/// What AES-KEY-WRAP makes of a one-time key (RFC 3394).
const ONE_TIME_WRAPPED: usize = 40;
/// The longest value that is wrapped.
const MAX_VALUE: usize = 64 << 10;

/// How a key wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The first of the others that the token offers.
    #[default]
    Auto,
    /// CKM_AES_GCM.
    AesGcm,
    /// CKM_AES_KEY_WRAP.
    AesKeyWrap,
    /// CKM_AES_CBC.
    AesCbc,
}

/// A key in a token that wraps and unwraps.
#[derive(Clone)]
pub struct WrappingKey {
    token: Token,
    key: Selector,
    method: Method,
}

impl WrappingKey {
    /// Finds the key, and how it can wrap.
    pub fn open(token: &Token, key: Selector, method: Method) -> Result<Self, Pkcs11Error> {
        let offered = token.run(|session| {
            token.find_aes(session, &key)?;
            let slot = session.get_session_info()?.slot_id();
            Ok(token.module().get_mechanism_list(slot)?)
        })?;
        let offers = |method: &Method| method.mechanism().is_some_and(|it| offered.contains(&it));
        let none = |wanted| Pkcs11Error::NoMechanism { token: token.name().to_owned(), wanted };
        let method = match method {
            Method::Auto => [Method::AesGcm, Method::AesKeyWrap, Method::AesCbc]
                .into_iter()
                .find(offers)
                .ok_or_else(|| none("AES-GCM, AES-KEY-WRAP and AES-CBC"))?,
            method if offers(&method) => method,
            method => return Err(none(method.name())),
        };
        Ok(Self { token: token.clone(), key, method })
    }

    /// The key's name in its token.
    pub fn selector(&self) -> &Selector {
        &self.key
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// How it wraps.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Wraps a value. Opens again only with the same `associated`.
    pub fn wrap(&self, value: &[u8], associated: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        if value.len() > MAX_VALUE {
            return Err(Pkcs11Error::TooLong {
                token: self.token.name().to_owned(),
                object: "what is to be wrapped".to_owned(),
                limit: MAX_VALUE,
                found: value.len(),
            });
        }
        self.token.run(|session| {
            let key = self.token.find_aes(session, &self.key)?;
            match self.method {
                Method::Auto | Method::AesGcm => gcm_wrap(session, key, value, associated),
                Method::AesKeyWrap => envelope(2, value, associated, |one_time| {
                    let object = import(session, one_time)?;
                    let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, key, object);
                    // A session object ends with its session, but the session is used again.
                    session.destroy_object(object)?;
                    Ok(wrapped?)
                }),
                Method::AesCbc => envelope(3, value, associated, |one_time| {
                    let iv: [u8; BLOCK] = random()?;
                    let encrypted = session.encrypt(&Mechanism::AesCbc(iv), key, one_time)?;
                    Ok([&iv[..], &encrypted].concat())
                }),
            }
        })
    }

    /// Unwraps what [`WrappingKey::wrap`] made, by whichever method.
    pub fn unwrap(&self, wrapped: &[u8], associated: &[u8]) -> Result<SecretBytes, Pkcs11Error> {
        let foreign = || Failure::Ours(self.did_not_close());
        self.token.run(|session| {
            let key = self.token.find_aes(session, &self.key)?;
            let (form, rest) = wrapped.split_first().ok_or_else(foreign)?;
            let opened = match form {
                1 => gcm_unwrap(session, key, rest, associated),
                2 => open_envelope(rest, ONE_TIME_WRAPPED, associated, |one_time| {
                    let template = one_time_template();
                    let object = session.unwrap_key(&Mechanism::AesKeyWrap, key, one_time, &template)?;
                    let value = self.token.value_of(session, object, &self.key);
                    session.destroy_object(object)?;
                    value
                }),
                3 => open_envelope(rest, BLOCK + ONE_TIME, associated, |one_time| {
                    let (iv, encrypted) = one_time.split_first_chunk::<BLOCK>().ok_or_else(foreign)?;
                    Ok(SecretBytes::new(session.decrypt(&Mechanism::AesCbc(*iv), key, encrypted)?))
                }),
                _ => Ok(None),
            };
            match opened {
                Ok(Some(value)) => Ok(value),
                Ok(None) => Err(foreign()),
                Err(Failure::Module(error)) if is_refused_seal(&error) => Err(foreign()),
                Err(failure) => Err(failure),
            }
        })
    }

    fn did_not_close(&self) -> Pkcs11Error {
        Pkcs11Error::DidNotClose { token: self.token.name().to_owned(), key: self.key.to_string() }
    }
}

impl Method {
    const fn mechanism(self) -> Option<MechanismType> {
        match self {
            Self::Auto => None,
            Self::AesGcm => Some(MechanismType::AES_GCM),
            Self::AesKeyWrap => Some(MechanismType::AES_KEY_WRAP),
            Self::AesCbc => Some(MechanismType::AES_CBC),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Auto => "any method",
            Self::AesGcm => "AES-GCM",
            Self::AesKeyWrap => "AES-KEY-WRAP",
            Self::AesCbc => "AES-CBC",
        }
    }
}

/// What modules say of a ciphertext that is not of this key. SoftHSM says only that something failed.
const fn is_refused_seal(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange
                | RvError::WrappedKeyInvalid
                | RvError::WrappedKeyLenRange
                | RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::DataInvalid
                | RvError::DataLenRange,
            _
        )
    )
}

fn gcm_wrap(
    session: &Session,
    key: ObjectHandle,
    value: &[u8],
    associated: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut iv: [u8; NONCE_LEN] = random()?;
    let params = GcmParams::new(&mut iv, associated, TAG_BITS.into())?;
    let encrypted = session.encrypt(&Mechanism::AesGcm(params), key, value)?;
    // Some tokens choose the IV themselves and write it over ours.
    Ok([&[1][..], &iv, &encrypted].concat())
}

fn gcm_unwrap(
    session: &Session,
    key: ObjectHandle,
    wrapped: &[u8],
    associated: &[u8],
) -> Result<Option<SecretBytes>, Failure> {
    let Some((iv, encrypted)) = wrapped.split_first_chunk::<NONCE_LEN>() else { return Ok(None) };
    if encrypted.len() < AES_256_GCM.tag_len() {
        return Ok(None);
    }
    let mut iv = *iv;
    let params = GcmParams::new(&mut iv, associated, TAG_BITS.into())?;
    let value = session.decrypt(&Mechanism::AesGcm(params), key, encrypted)?;
    Ok(Some(SecretBytes::new(value)))
}

/// Seals under a new one-time key, which `wrap` wraps.
fn envelope(
    form: u8,
    value: &[u8],
    associated: &[u8],
    wrap: impl FnOnce(&[u8]) -> Result<Vec<u8>, Failure>,
) -> Result<Vec<u8>, Failure> {
    let one_time = Secret::<[u8; ONE_TIME]>::random().map_err(|_| Pkcs11Error::NoRandomness)?;
    let wrapped = wrap(one_time.expose())?;
    let mut sealed = value.to_vec();
    let key = cipher(one_time.expose())?;
    key.seal_in_place_append_tag(nonce(), Aad::from(associated), &mut sealed)
        .map_err(|_| Pkcs11Error::NoRandomness)?;
    Ok([&[form][..], &wrapped, &sealed].concat())
}

fn open_envelope(
    wrapped: &[u8],
    length: usize,
    associated: &[u8],
    unwrap: impl FnOnce(&[u8]) -> Result<SecretBytes, Failure>,
) -> Result<Option<SecretBytes>, Failure> {
    let Some((one_time, sealed)) = wrapped.split_at_checked(length) else { return Ok(None) };
    let one_time = unwrap(one_time)?;
    let Ok(one_time) = <&[u8; ONE_TIME]>::try_from(one_time.expose().as_slice()) else { return Ok(None) };
    let mut plain = Zeroizing::new(sealed.to_vec());
    let opened = cipher(one_time)?.open_in_place(nonce(), Aad::from(associated), &mut plain);
    let Ok(length) = opened.map(|opened| opened.len()) else { return Ok(None) };
    plain.truncate(length);
    Ok(Some(SecretBytes::new(std::mem::take(&mut *plain))))
}

fn cipher(key: &[u8; ONE_TIME]) -> Result<LessSafeKey, Pkcs11Error> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| Pkcs11Error::NoRandomness)
}

/// A one-time key seals once, so its nonce can be any.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn import(session: &Session, key: &[u8]) -> Result<ObjectHandle, Failure> {
    let mut template = one_time_template();
    template.push(Attribute::Value(key.to_vec()));
    let made = session.create_object(&template);
    if let Some(Attribute::Value(value)) = template.last_mut() {
        zeroize::Zeroize::zeroize(value);
    }
    Ok(made?)
}

fn one_time_template() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

fn random<const N: usize>() -> Result<[u8; N], Pkcs11Error> {
    let mut random = [0; N];
    rand::fill(&mut random).map_err(|_| Pkcs11Error::NoRandomness)?;
    Ok(random)
}
