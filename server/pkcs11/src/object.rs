//! Objects: found by label or id, read where the token lets them out, and keys that are made.

use std::fmt;

use coffer_core_secret::SecretBytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::token::Failure;
use crate::{Pkcs11Error, Token};

/// The longest value that is read.
const MAX_VALUE: usize = 1 << 20;

/// How an object is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `CKA_LABEL`.
    Label(String),
    /// `CKA_ID`.
    Id(Vec<u8>),
}

impl Selector {
    /// `id:0a0b` is an id in hexadecimal; all else is a label.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("id:").and_then(|id| hex::decode(id).ok()) {
            Some(id) if !id.is_empty() => Self::Id(id),
            _ => Self::Label(text.to_owned()),
        }
    }

    fn attribute(&self) -> Attribute {
        match self {
            Self::Label(label) => Attribute::Label(label.as_bytes().to_vec()),
            Self::Id(id) => Attribute::Id(id.clone()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => write!(f, "{label:?}"),
            Self::Id(id) => write!(f, "id:{}", hex::encode(id)),
        }
    }
}

impl Token {
    /// Makes a 256-bit AES key that wraps and never leaves the token. Refused if there is one of this name.
    pub fn generate_key(&self, label: &str, id: &[u8]) -> Result<(), Pkcs11Error> {
        self.run(|session| {
            let exists =
                |key: Selector| Pkcs11Error::Exists { token: self.name().into(), key: key.to_string() };
            for selector in [Selector::Label(label.to_owned()), Selector::Id(id.to_vec())] {
                let template = [Attribute::Class(ObjectClass::SECRET_KEY), selector.attribute()];
                if selector != Selector::Id(Vec::new()) && !session.find_objects(&template)?.is_empty() {
                    return Err(exists(selector).into());
                }
            }
            let template = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Wrap(true),
                Attribute::Unwrap(true),
                Attribute::ValueLen(32.into()),
                Attribute::Label(label.as_bytes().to_vec()),
                Attribute::Id(id.to_vec()),
            ];
            session.generate_key(&Mechanism::AesKeyGen, &template)?;
            Ok(())
        })
    }

    /// The value of the data object of this label, or of the secret key if there is no data object.
    pub fn read(&self, label: &str) -> Result<Option<SecretBytes>, Pkcs11Error> {
        let selector = Selector::Label(label.to_owned());
        self.run(|session| {
            for class in [ObjectClass::DATA, ObjectClass::SECRET_KEY] {
                if let Some(object) = self.find_one(session, class, None, &selector)? {
                    return self.value_of(session, object, &selector).map(Some);
                }
            }
            Ok(None)
        })
    }

    pub(crate) fn find_aes(&self, session: &Session, key: &Selector) -> Result<ObjectHandle, Failure> {
        let found = self.find_one(session, ObjectClass::SECRET_KEY, Some(KeyType::AES), key)?;
        let none = || Pkcs11Error::NoKey { token: self.name().to_owned(), key: key.to_string() };
        found.ok_or_else(|| none().into())
    }

    fn find_one(
        &self,
        session: &Session,
        class: ObjectClass,
        kind: Option<KeyType>,
        selector: &Selector,
    ) -> Result<Option<ObjectHandle>, Failure> {
        let mut template = vec![Attribute::Class(class), selector.attribute()];
        template.extend(kind.map(Attribute::KeyType));
        match session.find_objects(&template)?.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => Err(Pkcs11Error::Ambiguous { token: self.name().into(), key: selector.to_string() }.into()),
        }
    }

    pub(crate) fn value_of(
        &self,
        session: &Session,
        object: ObjectHandle,
        selector: &Selector,
    ) -> Result<SecretBytes, Failure> {
        let (token, name) = (self.name().to_owned(), selector.to_string());
        match session.get_attribute_info(object, &[AttributeType::Value])?.as_slice() {
            [AttributeInfo::Available(found)] if *found > MAX_VALUE => {
                let (limit, found) = (MAX_VALUE, *found);
                return Err(Pkcs11Error::TooLong { token, object: name, limit, found }.into());
            }
            [AttributeInfo::Available(_)] => {}
            _ => return Err(Pkcs11Error::Sensitive { token, object: name }.into()),
        }
        match session.get_attributes(object, &[AttributeType::Value])?.pop() {
            Some(Attribute::Value(value)) => Ok(SecretBytes::new(value)),
            _ => Err(Pkcs11Error::Sensitive { token, object: name }.into()),
        }
    }
}
