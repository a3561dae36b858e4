//! Vault's requests: the table of calls, and a request read into a call.

use serde::Deserialize;

use super::forms;
use crate::exchange::{Matched, find};
use crate::text::{Bounded, Flag, Number, SecretText, decode, read, read_form};
use crate::{
    Answer, Ask, Binding, Change, Deletion, Derivation, KeyName, KeyOptions, Permission, PlaintextOverTls,
    Request, Route, WrapError, Wrapped,
};

/// How many items one call has.
pub(super) const MAX_BATCH: usize = 1000;
/// The longest reference that is echoed, in bytes.
const MAX_REFERENCE: usize = 1024;
/// The one kind of key there is.
pub(super) const KEY_TYPE: &str = "aes256-gcm96";
const PREFIX: &str = "vault:v";

/// The calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Whether the broker serves.
    Health,
    /// Who the caller is.
    LookupSelf,
    /// A longer life for the caller's token, which is refused.
    RenewSelf,
    /// Names of keys.
    List,
    /// Creates a key.
    Create,
    /// A key's description.
    Read,
    /// Changes a key.
    Configure,
    /// Adds a version.
    Rotate,
    /// Deletes a key.
    Delete,
    /// Wraps.
    Encrypt,
    /// Unwraps.
    Decrypt,
    /// Wraps again.
    Rewrap,
    /// Makes a data key, plain and wrapped.
    DataKeyPlaintext,
    /// Makes a data key, wrapped only.
    DataKeyWrapped,
}

const fn route(
    method: &'static str,
    pattern: &'static str,
    operation: Operation,
    permission: Permission,
) -> Route<Operation> {
    Route { method, pattern, query: None, operation, permission }
}

/// Every call. A write is POST or PUT, a list is LIST or GET with `list=true`.
pub const ROUTES: &[Route<Operation>] = &[
    route("GET", "/v1/sys/health", Operation::Health, Permission::Open),
    route("HEAD", "/v1/sys/health", Operation::Health, Permission::Open),
    route("GET", "/v1/auth/token/lookup-self", Operation::LookupSelf, Permission::Open),
    route("POST", "/v1/auth/token/renew-self", Operation::RenewSelf, Permission::Open),
    route("PUT", "/v1/auth/token/renew-self", Operation::RenewSelf, Permission::Open),
    route("LIST", "/v1/{mount}/keys", Operation::List, Permission::Read),
    route("LIST", "/v1/{mount}/keys/", Operation::List, Permission::Read),
    listed("/v1/{mount}/keys"),
    listed("/v1/{mount}/keys/"),
    route("POST", "/v1/{mount}/keys/{name}", Operation::Create, Permission::Manage),
    route("PUT", "/v1/{mount}/keys/{name}", Operation::Create, Permission::Manage),
    route("GET", "/v1/{mount}/keys/{name}", Operation::Read, Permission::Read),
    route("DELETE", "/v1/{mount}/keys/{name}", Operation::Delete, Permission::Manage),
    route("POST", "/v1/{mount}/keys/{name}/config", Operation::Configure, Permission::Manage),
    route("PUT", "/v1/{mount}/keys/{name}/config", Operation::Configure, Permission::Manage),
    route("POST", "/v1/{mount}/keys/{name}/rotate", Operation::Rotate, Permission::Manage),
    route("PUT", "/v1/{mount}/keys/{name}/rotate", Operation::Rotate, Permission::Manage),
    route("POST", "/v1/{mount}/encrypt/{name}", Operation::Encrypt, Permission::Wrap),
    route("PUT", "/v1/{mount}/encrypt/{name}", Operation::Encrypt, Permission::Wrap),
    route("POST", "/v1/{mount}/decrypt/{name}", Operation::Decrypt, Permission::Unwrap),
    route("PUT", "/v1/{mount}/decrypt/{name}", Operation::Decrypt, Permission::Unwrap),
    route("POST", "/v1/{mount}/rewrap/{name}", Operation::Rewrap, Permission::Wrap),
    route("PUT", "/v1/{mount}/rewrap/{name}", Operation::Rewrap, Permission::Wrap),
    route("POST", "/v1/{mount}/datakey/plaintext/{name}", Operation::DataKeyPlaintext, Permission::Unwrap),
    route("PUT", "/v1/{mount}/datakey/plaintext/{name}", Operation::DataKeyPlaintext, Permission::Unwrap),
    route("POST", "/v1/{mount}/datakey/wrapped/{name}", Operation::DataKeyWrapped, Permission::Wrap),
    route("PUT", "/v1/{mount}/datakey/wrapped/{name}", Operation::DataKeyWrapped, Permission::Wrap),
];

const fn listed(pattern: &'static str) -> Route<Operation> {
    Route {
        method: "GET",
        pattern,
        query: Some(("list", "true")),
        operation: Operation::List,
        permission: Permission::Read,
    }
}

/// A request that was read.
pub struct Call {
    pub(super) route: &'static Route<Operation>,
    pub(super) mount: String,
    pub(super) name: Option<KeyName>,
    pub(super) body: Body,
}

pub(super) enum Body {
    None,
    Create(Box<KeyOptions>),
    Change(Change),
    Crypt(Crypt),
    DataKey { length: usize, item: Item },
}

/// One item, or several with one answer each.
pub(super) struct Crypt {
    pub(super) items: Vec<Result<Item, WrapError>>,
    pub(super) references: Option<Vec<Option<String>>>,
    pub(super) partial_failure: Option<u16>,
}

/// An item to wrap, unwrap or wrap again.
pub(super) struct Item {
    pub(super) input: Input,
    context: Vec<u8>,
    associated_data: Vec<u8>,
    pub(super) version: Option<u32>,
}

pub(super) enum Input {
    None,
    Plain(coffer_core_secret::SecretBytes),
    Wrapped(Wrapped),
}

impl Item {
    pub(super) fn binding(&self) -> Binding<'_> {
        Binding { context: &self.context, associated_data: &self.associated_data }
    }
}

#[derive(Deserialize)]
struct CreateForm {
    #[serde(rename = "type")]
    kind: Option<String>,
    derived: Option<Flag>,
    convergent_encryption: Option<Flag>,
    exportable: Option<Flag>,
    allow_plaintext_backup: Option<Flag>,
    auto_rotate_period: Option<serde_json::Value>,
    key_size: Option<Number>,
    insecure_plaintext_over_tls: Option<Flag>,
}

#[derive(Deserialize)]
struct ChangeForm {
    min_decryption_version: Option<Number>,
    min_encryption_version: Option<Number>,
    deletion_allowed: Option<Flag>,
    exportable: Option<Flag>,
    allow_plaintext_backup: Option<Flag>,
    auto_rotate_period: Option<serde_json::Value>,
    insecure_plaintext_over_tls: Option<Flag>,
}

#[derive(Deserialize)]
struct CryptForm {
    batch_input: Option<Bounded<ItemForm, MAX_BATCH>>,
    partial_failure_response_code: Option<Number>,
    plaintext: Option<SecretText>,
    ciphertext: Option<String>,
    context: Option<String>,
    associated_data: Option<String>,
    nonce: Option<String>,
    key_version: Option<Number>,
    bits: Option<Number>,
}

#[derive(Deserialize)]
struct ItemForm {
    plaintext: Option<SecretText>,
    ciphertext: Option<String>,
    context: Option<String>,
    associated_data: Option<String>,
    nonce: Option<String>,
    key_version: Option<Number>,
    reference: Option<String>,
}

impl Call {
    /// Reads a request; what cannot be read is answered.
    pub fn read(request: &Request<'_>) -> Result<Self, Answer> {
        let matched = find(ROUTES, request).map_err(|error| forms::refused(&error))?;
        Self::from(&matched, request.body).map_err(|error| forms::refused(&error))
    }

    /// The call.
    pub fn operation(&self) -> Operation {
        self.route.operation
    }

    /// Where the client believes the engine is mounted; empty for Vault's own calls. The program that mounts the
    /// dialect says which there are.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    fn from(matched: &Matched<Operation>, body: &[u8]) -> Result<Self, WrapError> {
        let operation = matched.route.operation;
        let name = match operation {
            Operation::Health | Operation::LookupSelf | Operation::RenewSelf | Operation::List => None,
            _ => Some(KeyName::parse(matched.segment("name"))?),
        };
        let body = match operation {
            Operation::Create => Body::Create(Box::new(options(read_form(body)?)?)),
            Operation::Configure => Body::Change(change(read_form(body)?)?),
            Operation::Encrypt | Operation::Decrypt | Operation::Rewrap => {
                Body::Crypt(crypt(operation, read(body)?)?)
            }
            Operation::DataKeyPlaintext | Operation::DataKeyWrapped => data_key(read(body)?)?,
            _ => Body::None,
        };
        let mount = matched.segment("mount").to_string();
        // Vault's own parts are not engines.
        if matches!(mount.as_str(), "sys" | "auth" | "identity" | "cubbyhole") {
            return Err(WrapError::Route(format!("in /v1/{mount}")));
        }
        Ok(Self { route: matched.route, mount, name, body })
    }
}

impl Ask for Call {
    fn permission(&self) -> Permission {
        self.route.permission
    }

    fn keys(&self) -> Vec<&KeyName> {
        self.name.iter().collect()
    }

    fn denied(&self) -> Answer {
        forms::refused(&WrapError::Denied(self.route.permission.word()))
    }
}

fn options(form: CreateForm) -> Result<KeyOptions, WrapError> {
    if let Some(found) = form.kind.filter(|kind| kind != KEY_TYPE) {
        let found = found.chars().take(64).collect();
        return Err(WrapError::Option { what: "type", found, expected: KEY_TYPE });
    }
    unset("convergent_encryption", form.convergent_encryption)?;
    unset("exportable", form.exportable)?;
    unset("allow_plaintext_backup", form.allow_plaintext_backup)?;
    no_rotation_by_itself(form.auto_rotate_period)?;
    if let Some(Number(size)) = form.key_size.filter(|size| size.0 != 0) {
        return Err(WrapError::Option { what: "key_size", found: size.to_string(), expected: "0" });
    }
    let set = |flag: Option<Flag>| flag.is_some_and(|flag| flag.0);
    Ok(KeyOptions {
        derivation: match set(form.derived) {
            true => Derivation::ByContext,
            false => Derivation::None,
        },
        plaintext_over_tls: match set(form.insecure_plaintext_over_tls) {
            true => PlaintextOverTls::InsecureAllowed,
            false => PlaintextOverTls::Refused,
        },
        ..KeyOptions::default()
    })
}

fn change(form: ChangeForm) -> Result<Change, WrapError> {
    unset("exportable", form.exportable)?;
    unset("allow_plaintext_backup", form.allow_plaintext_backup)?;
    no_rotation_by_itself(form.auto_rotate_period)?;
    if form.insecure_plaintext_over_tls.is_some() {
        return Err(WrapError::Option {
            what: "insecure_plaintext_over_tls",
            found: "a change".into(),
            expected: "a decision at the key's creation, which stays",
        });
    }
    Ok(Change {
        min_decryption_version: form.min_decryption_version.map(Number::version),
        min_encryption_version: form.min_encryption_version.map(Number::version),
        deletion: form.deletion_allowed.map(|flag| match flag.0 {
            true => Deletion::Allowed,
            false => Deletion::Refused,
        }),
    })
}

fn unset(what: &'static str, flag: Option<Flag>) -> Result<(), WrapError> {
    match flag {
        Some(Flag(true)) => {
            Err(WrapError::Option { what, found: "true".into(), expected: "false: it is not done here" })
        }
        _ => Ok(()),
    }
}

fn no_rotation_by_itself(period: Option<serde_json::Value>) -> Result<(), WrapError> {
    use serde_json::Value;
    let none = match &period {
        None | Some(Value::Null) => true,
        Some(Value::Number(number)) => number.as_u64() == Some(0),
        Some(Value::String(text)) => matches!(text.as_str(), "" | "0" | "0s" | "0m" | "0h"),
        Some(_) => false,
    };
    match none {
        true => Ok(()),
        false => Err(WrapError::Option {
            what: "auto_rotate_period",
            found: "a period".into(),
            expected: "0: keys are rotated when they are told to",
        }),
    }
}

fn crypt(operation: Operation, form: CryptForm) -> Result<Crypt, WrapError> {
    let partial_failure = form.partial_failure_response_code.map(|Number(code)| {
        u16::try_from(code).ok().filter(|code| (200..=599).contains(code)).ok_or_else(|| WrapError::Option {
            what: "partial_failure_response_code",
            found: code.to_string(),
            expected: "200 to 599",
        })
    });
    let partial_failure = partial_failure.transpose()?;
    let Some(batch) = form.batch_input else {
        let single = ItemForm {
            plaintext: form.plaintext,
            ciphertext: form.ciphertext,
            context: form.context,
            associated_data: form.associated_data,
            nonce: form.nonce,
            key_version: form.key_version,
            reference: None,
        };
        return Ok(Crypt { items: vec![item(operation, single)], references: None, partial_failure });
    };
    if batch.0.is_empty() {
        return Err(WrapError::Json("missing batch input to process".into()));
    }
    let mut references = Vec::with_capacity(batch.0.len());
    let mut items = Vec::with_capacity(batch.0.len());
    for mut form in batch.0 {
        let reference = form.reference.take();
        let length = reference.as_ref().map_or(0, String::len);
        crate::error::most("a reference in bytes", length, MAX_REFERENCE)?;
        references.push(reference);
        items.push(item(operation, form));
    }
    Ok(Crypt { items, references: Some(references), partial_failure })
}

fn item(operation: Operation, form: ItemForm) -> Result<Item, WrapError> {
    if form.nonce.is_some_and(|nonce| !nonce.is_empty()) {
        return Err(WrapError::Option {
            what: "nonce",
            found: "one".into(),
            expected: "none: nonces are made in the broker",
        });
    }
    let missing = |what: &str| WrapError::Json(format!("missing {what}"));
    let input = match operation {
        Operation::Encrypt => {
            Input::Plain(form.plaintext.ok_or_else(|| missing("plaintext to encrypt"))?.decode()?)
        }
        Operation::Decrypt | Operation::Rewrap => {
            let text = form.ciphertext.filter(|text| !text.is_empty());
            Input::Wrapped(wrapped(&text.ok_or_else(|| missing("ciphertext to decrypt"))?)?)
        }
        _ => Input::None,
    };
    let version = form.key_version.map(Number::version).filter(|version| *version != 0);
    Ok(Item {
        input,
        context: decode("context", &form.context.unwrap_or_default())?,
        associated_data: decode("associated_data", &form.associated_data.unwrap_or_default())?,
        version,
    })
}

fn data_key(form: CryptForm) -> Result<Body, WrapError> {
    let bits = form.bits.map_or(256, |bits| bits.0);
    let length = match bits {
        128 => 16,
        256 => 32,
        512 => 64,
        _ => {
            let found = bits.to_string();
            return Err(WrapError::Option { what: "bits", found, expected: "128, 256 or 512" });
        }
    };
    let form = ItemForm {
        plaintext: None,
        ciphertext: None,
        context: form.context,
        associated_data: form.associated_data,
        nonce: form.nonce,
        key_version: form.key_version,
        reference: None,
    };
    Ok(Body::DataKey { length, item: item(Operation::DataKeyWrapped, form)? })
}

/// Reads `vault:v1:…`.
pub(super) fn wrapped(text: &str) -> Result<Wrapped, WrapError> {
    let rest = text.strip_prefix(PREFIX).ok_or(WrapError::Form("no prefix vault:v"))?;
    let (version, sealed) =
        rest.split_once(':').ok_or(WrapError::Form("no version with a colon after it"))?;
    let plain = !version.starts_with('0') && version.bytes().all(|byte| byte.is_ascii_digit());
    let version = version.parse().ok().filter(|_| plain);
    let version = version.ok_or(WrapError::Form("its version is not a number from 1 on"))?;
    Ok(Wrapped { version, sealed: decode("the ciphertext", sealed)? })
}
