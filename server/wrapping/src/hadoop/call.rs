//! Hadoop's requests: the table of calls, and a request read into a call.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::forms;
use crate::exchange::{Matched, find};
use crate::text::{Bounded, decode, read, read_form};
use crate::{Answer, Ask, KeyName, KeyOptions, Permission, PlaintextOverTls, Request, Route, WrapError};
use crate::{DataKeyBits, Deletion};

/// How many keys one call generates.
pub(super) const MAX_GENERATE: u64 = 1000;
/// How many keys one call encrypts again, as in Hadoop's server.
const MAX_BATCH: usize = 10_000;
/// How many keys' metadata one call reads.
const MAX_NAMES: usize = 1000;
/// The IV's length, which is a block of AES.
pub(super) const IV: usize = 16;
/// Attributes that decide something; the others are only kept.
pub(super) const ATTRIBUTE_PLAINTEXT: &str = "insecure_plaintext_over_tls";
pub(super) const ATTRIBUTE_DELETION: &str = "deletion_allowed";

/// The calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The probe that Hadoop's authenticators send first.
    Probe,
    /// Creates a key.
    Create,
    /// Names of keys.
    Names,
    /// Metadata of several keys.
    KeysMetadata,
    /// Adds a version.
    Roll,
    /// Deletes a key.
    Delete,
    /// Metadata of a key.
    Metadata,
    /// The current version's name.
    CurrentVersion,
    /// The versions' names.
    Versions,
    /// Tells a cache to forget; there is none.
    InvalidateCache,
    /// Makes encrypted keys.
    Generate,
    /// Encrypts several keys again.
    ReencryptBatch,
    /// A version's material, which is refused.
    KeyVersion,
    /// Decrypts an encrypted key.
    Decrypt,
    /// Encrypts an encrypted key again.
    Reencrypt,
}

const fn route(
    method: &'static str,
    pattern: &'static str,
    operation: Operation,
    permission: Permission,
) -> Route<Operation> {
    Route { method, pattern, query: None, operation, permission }
}

const fn eek(
    method: &'static str,
    pattern: &'static str,
    op: &'static str,
    operation: Operation,
    permission: Permission,
) -> Route<Operation> {
    Route { method, pattern, query: Some(("eek_op", op)), operation, permission }
}

/// Every call.
pub const ROUTES: &[Route<Operation>] = &[
    route("OPTIONS", "/kms/v1/", Operation::Probe, Permission::Open),
    route("OPTIONS", "/kms/v1/{_}", Operation::Probe, Permission::Open),
    route("OPTIONS", "/kms/v1/{_}/{_}", Operation::Probe, Permission::Open),
    route("OPTIONS", "/kms/v1/{_}/{_}/{_}", Operation::Probe, Permission::Open),
    route("POST", "/kms/v1/keys", Operation::Create, Permission::Manage),
    route("GET", "/kms/v1/keys/names", Operation::Names, Permission::Read),
    route("GET", "/kms/v1/keys/metadata", Operation::KeysMetadata, Permission::Read),
    route("POST", "/kms/v1/key/{name}", Operation::Roll, Permission::Manage),
    route("DELETE", "/kms/v1/key/{name}", Operation::Delete, Permission::Manage),
    route("GET", "/kms/v1/key/{name}", Operation::Metadata, Permission::Read),
    route("GET", "/kms/v1/key/{name}/_metadata", Operation::Metadata, Permission::Read),
    route("GET", "/kms/v1/key/{name}/_currentversion", Operation::CurrentVersion, Permission::Read),
    route("GET", "/kms/v1/key/{name}/_versions", Operation::Versions, Permission::Read),
    route("POST", "/kms/v1/key/{name}/_invalidatecache", Operation::InvalidateCache, Permission::Manage),
    eek("GET", "/kms/v1/key/{name}/_eek", "generate", Operation::Generate, Permission::Wrap),
    route("POST", "/kms/v1/key/{name}/_reencryptbatch", Operation::ReencryptBatch, Permission::Wrap),
    route("GET", "/kms/v1/keyversion/{version}", Operation::KeyVersion, Permission::Manage),
    eek("POST", "/kms/v1/keyversion/{version}/_eek", "decrypt", Operation::Decrypt, Permission::Unwrap),
    eek("POST", "/kms/v1/keyversion/{version}/_eek", "reencrypt", Operation::Reencrypt, Permission::Wrap),
];

/// A request that was read.
pub struct Call {
    pub(super) route: &'static Route<Operation>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Probe,
    Names,
    Create { name: KeyName, options: Box<KeyOptions> },
    Keys(Vec<KeyName>),
    Key(KeyName),
    Generate { name: KeyName, count: u64 },
    Encrypted(Encrypted),
    Batch { name: KeyName, items: Vec<Encrypted> },
}

/// An encrypted key as a client sends it back.
pub(super) struct Encrypted {
    pub(super) name: KeyName,
    pub(super) version: u32,
    pub(super) iv: [u8; IV],
    pub(super) material: Vec<u8>,
}

#[derive(Deserialize)]
struct CreateForm {
    name: String,
    cipher: Option<String>,
    length: Option<u32>,
    material: Option<serde::de::IgnoredAny>,
    description: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RollForm {
    material: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct EncryptedForm {
    name: Option<String>,
    iv: String,
    material: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchForm {
    version_name: String,
    iv: String,
    encrypted_key_version: MaterialForm,
}

#[derive(Deserialize)]
struct MaterialForm {
    material: String,
}

impl Call {
    /// Reads a request; what cannot be read is answered.
    pub fn read(request: &Request<'_>) -> Result<Self, Answer> {
        let matched = find(ROUTES, request).map_err(|error| forms::refused(&error))?;
        let body = read_body(&matched, request.body).map_err(|error| forms::refused(&error))?;
        Ok(Self { route: matched.route, body })
    }

    /// The call.
    pub fn operation(&self) -> Operation {
        self.route.operation
    }
}

impl Ask for Call {
    fn permission(&self) -> Permission {
        self.route.permission
    }

    fn keys(&self) -> Vec<&KeyName> {
        match &self.body {
            Body::Probe | Body::Names => Vec::new(),
            Body::Create { name, .. } | Body::Key(name) | Body::Generate { name, .. } => vec![name],
            Body::Keys(names) => names.iter().collect(),
            Body::Encrypted(encrypted) => vec![&encrypted.name],
            Body::Batch { name, .. } => vec![name],
        }
    }

    fn denied(&self) -> Answer {
        forms::refused(&WrapError::Denied(self.route.permission.word()))
    }
}

fn read_body(matched: &Matched<Operation>, body: &[u8]) -> Result<Body, WrapError> {
    let name = || KeyName::parse(matched.segment("name"));
    Ok(match matched.route.operation {
        Operation::Probe => Body::Probe,
        Operation::Names => Body::Names,
        Operation::Create => create(read_form(body)?)?,
        Operation::KeysMetadata => {
            let names = matched.query.iter().filter(|(key, _)| key == "key");
            let names: Vec<_> = names.map(|(_, name)| KeyName::parse(name)).collect::<Result<_, _>>()?;
            crate::error::most("the number of keys", names.len(), MAX_NAMES)?;
            Body::Keys(names)
        }
        Operation::Roll => {
            let form: RollForm = read_form(body)?;
            match form.material {
                Some(_) => return Err(WrapError::MaterialBrought),
                None => Body::Key(name()?),
            }
        }
        Operation::Generate => {
            let asked = matched.parameter("num_keys").unwrap_or("1");
            let count = asked.parse().ok().filter(|count| (1..=MAX_GENERATE).contains(count));
            let count = count.ok_or_else(|| WrapError::Option {
                what: "num_keys",
                found: asked.chars().take(20).collect(),
                expected: "1 to 1000",
            })?;
            Body::Generate { name: name()?, count }
        }
        Operation::Delete
        | Operation::Metadata
        | Operation::CurrentVersion
        | Operation::Versions
        | Operation::InvalidateCache => Body::Key(name()?),
        Operation::KeyVersion => Body::Key(version_name(matched.segment("version"))?.0),
        Operation::Decrypt | Operation::Reencrypt => {
            let form: EncryptedForm = read(body)?;
            let version = matched.segment("version");
            Body::Encrypted(encrypted(form.name.as_deref(), version, &form.iv, &form.material)?)
        }
        Operation::ReencryptBatch => {
            let name = name()?;
            let forms: Bounded<BatchForm, MAX_BATCH> = read(body)?;
            let items = forms.0.iter().map(|form| {
                let material = &form.encrypted_key_version.material;
                encrypted(Some(name.as_str()), &form.version_name, &form.iv, material)
            });
            let items = items.collect::<Result<_, _>>()?;
            Body::Batch { name, items }
        }
    })
}

fn create(form: CreateForm) -> Result<Body, WrapError> {
    if form.material.is_some() {
        return Err(WrapError::MaterialBrought);
    }
    // The cipher that the client uses the data key with; it is not how data keys are wrapped.
    if let Some(found) = form.cipher.filter(|cipher| cipher != forms::CIPHER) {
        let found = found.chars().take(64).collect();
        return Err(WrapError::Option { what: "cipher", found, expected: forms::CIPHER });
    }
    // Hadoop's default is 128, which its client sends by itself.
    let data_key_bits = DataKeyBits::try_from(form.length.filter(|length| *length != 0).unwrap_or(128))?;
    let mut attributes = form.attributes.unwrap_or_default();
    let mut decided = |name: &'static str| match attributes.remove(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(found) => Err(WrapError::Option {
            what: name,
            found: found.chars().take(20).collect(),
            expected: "true or false",
        }),
    };
    let plaintext_over_tls = match decided(ATTRIBUTE_PLAINTEXT)? {
        true => PlaintextOverTls::InsecureAllowed,
        false => PlaintextOverTls::Refused,
    };
    let deletion = match decided(ATTRIBUTE_DELETION)? {
        true => Deletion::Allowed,
        false => Deletion::Refused,
    };
    let description = form.description.unwrap_or_default();
    let options = KeyOptions {
        description,
        attributes,
        data_key_bits,
        plaintext_over_tls,
        deletion,
        ..KeyOptions::default()
    };
    options.check()?;
    Ok(Body::Create { name: KeyName::parse(&form.name)?, options: Box::new(options) })
}

fn encrypted(
    name: Option<&str>,
    version_name: &str,
    iv: &str,
    material: &str,
) -> Result<Encrypted, WrapError> {
    let (key, version) = self::version_name(version_name)?;
    if name.is_some_and(|name| name != key.as_str()) {
        return Err(WrapError::Option {
            what: "name",
            found: "another key's".into(),
            expected: "the key of the version",
        });
    }
    let iv = decode("iv", iv)?;
    let iv = <[u8; IV]>::try_from(iv.as_slice()).map_err(|_| WrapError::Option {
        what: "iv",
        found: format!("{} bytes", iv.len()),
        expected: "16 bytes",
    })?;
    Ok(Encrypted { name: key, version, iv, material: decode("material", material)? })
}

/// `name@0` is version 1 of `name`.
fn version_name(text: &str) -> Result<(KeyName, u32), WrapError> {
    let wrong = || WrapError::Option {
        what: "the version's name",
        found: text.chars().take(160).collect(),
        expected: "a key's name, @, and a number from 0 on",
    };
    let (name, number) = text.rsplit_once('@').ok_or_else(wrong)?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = number.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
    Ok((KeyName::parse(name)?, number.checked_add(1).ok_or_else(wrong)?))
}
