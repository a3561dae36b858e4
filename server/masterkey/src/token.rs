//! A master key that stays in a PKCS#11 token.

use coffer_core_secret::SecretBytes;
use coffer_server_pkcs11::{Pkcs11Error, Selector, Token, WrappingKey};
use coffer_server_store::{MasterKey, MasterKeyError};

use crate::{PURPOSE, TokenSource};

/// A key in a token.
pub struct TokenKey {
    key: WrappingKey,
    id: String,
    place: String,
}

impl TokenKey {
    /// Finds the key, if it is there.
    pub fn open(source: &TokenSource) -> Result<Option<Self>, MasterKeyError> {
        let place = place(source);
        let token = Token::open(&source.token()).map_err(|error| failure(&place, error))?;
        match WrappingKey::open(&token, Selector::parse(&source.key), source.method) {
            Ok(key) => Self::new(key, place).map(Some),
            Err(Pkcs11Error::NoKey { .. }) => Ok(None),
            Err(error) => Err(failure(&place, error)),
        }
    }

    /// Makes the key in the token, which must not have one of this name.
    pub fn create(source: &TokenSource) -> Result<Self, MasterKeyError> {
        let place = place(source);
        let failed = |error| failure(&place, error);
        let selector = Selector::parse(&source.key);
        let (label, id) = match &selector {
            Selector::Label(label) => (label.clone(), Vec::new()),
            Selector::Id(id) => (format!("coffer master key {}", hex::encode(id)), id.clone()),
        };
        let token = Token::open(&source.token()).map_err(failed)?;
        token.generate_key(&label, &id).map_err(failed)?;
        let key = WrappingKey::open(&token, selector, source.method).map_err(failed)?;
        Self::new(key, place)
    }

    fn new(key: WrappingKey, place: String) -> Result<Self, MasterKeyError> {
        let serial = key.token().serial().map_err(|error| failure(&place, error))?;
        let id = format!("pkcs11:{serial}:{}", key.selector());
        Ok(Self { key, id, place })
    }

    fn failure(&self, error: Pkcs11Error) -> MasterKeyError {
        match error {
            Pkcs11Error::DidNotClose { .. } => {
                MasterKeyError::Wrong { place: self.place.clone(), id: self.id.clone() }
            }
            error => failure(&self.place, error),
        }
    }
}

impl MasterKey for TokenKey {
    fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        self.key.wrap(key, PURPOSE).map_err(|error| self.failure(error))
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretBytes, MasterKeyError> {
        self.key.unwrap(wrapped, PURPOSE).map_err(|error| self.failure(error))
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

fn place(source: &TokenSource) -> String {
    let token = match (&source.token, source.slot) {
        (Some(label), _) => format!("the PKCS#11 token {label:?}"),
        (None, Some(slot)) => format!("the PKCS#11 token in slot {slot}"),
        (None, None) => "a PKCS#11 token".to_owned(),
    };
    format!("{token} (key {})", Selector::parse(&source.key))
}

fn failure(place: &str, error: Pkcs11Error) -> MasterKeyError {
    let (place, why) = (place.to_owned(), error.to_string());
    match error {
        Pkcs11Error::NoRandomness => MasterKeyError::NoRandomness,
        error if error.is_temporary() => MasterKeyError::Unavailable { place, why },
        // Each of these says its remedy itself.
        _ => MasterKeyError::Refused { place, why, remedy: "no key was changed".to_owned() },
    }
}
