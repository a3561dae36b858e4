//! Reference values as the store keeps them: the value, where it came from, and whether it still counts.
//!
//! A value that was revoked stays, so that an auditor sees it and an import cannot bring it back; only removing it
//! does away with that. Left out: a value's own times, which the appraisal holds against the time of the evidence.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_core_admin::{Provenance, ReferenceSigners};
use coffer_core_corim::{Corim, CorimError};
use coffer_core_cose::PublicKey;
use coffer_core_launch::ReferenceValues;
use coffer_core_protocol::jws::{Compact, VerifyingKey};
use coffer_server_store::{Scope, Table};
use coffer_verify_api::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::OpenError;

/// Where the keys of those who may sign reference values are in the settings.
pub(crate) const SIGNERS: &str = "reference-signers";
const MAX_SIGNERS: usize = 64;

/// A row: what a bare value became when provenance came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) value: Value,
    #[serde(default)]
    pub(crate) provenance: Provenance,
}

impl Kept {
    /// Reads a row of today's form, or a bare value of before.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(bytes)?;
        let kept = value.as_object().is_some_and(|members| {
            members.len() == 2 && members.contains_key("value") && members.contains_key("provenance")
        });
        match kept {
            true => serde_json::from_value(value),
            false => Ok(Self { value, provenance: Provenance::default() }),
        }
    }

    pub(crate) fn row(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether it counts at this time.
    pub(crate) fn counts(&self, at: Timestamp) -> bool {
        let over = |end: &String| end.parse::<Timestamp>().map_or(true, |end| end <= at);
        self.provenance.revoked_at.is_none() && !self.provenance.expires_at.as_ref().is_some_and(over)
    }
}

/// The rows of a table, by name.
pub(crate) fn kept(
    rows: &Scope,
    table: Table,
    what: &'static str,
) -> Result<BTreeMap<String, Kept>, OpenError> {
    let mut all = BTreeMap::new();
    for (name, body) in rows.list(table)? {
        let read = Kept::read(body.expose()).map_err(|error| OpenError::Stored {
            what,
            name: name.clone(),
            why: error.to_string(),
        })?;
        all.insert(name, read);
    }
    Ok(all)
}

/// What is sent as reference values, read and verified.
pub(crate) struct Sent {
    pub(crate) content: Content,
    /// The name of the trusted key that signed it.
    pub(crate) signed_by: Option<String>,
    pub(crate) source: &'static str,
}

/// What it holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// Of guests, complete.
    Ours(Vec<ReferenceValues>),
    /// By name, for appraisal policies.
    Named(BTreeMap<String, Value>),
}

/// What was sent cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("{0}")]
    Form(String),
    #[error("{0}")]
    Signature(String),
    #[error(
        "the tenant takes signed reference values only, and these are not signed; sign them with `coffer measure --corim FILE --sign-key KEY`"
    )]
    Unsigned,
    #[error(
        "the document is signed, and none of the tenant's keys for that verifies it; put the signer's key with `coffer ref signer add`"
    )]
    Stranger,
    #[error("the document is not valid now, at {0}; ask its maker for a newer one")]
    Time(Timestamp),
}

/// The keys of those who may sign.
pub(crate) struct Signers {
    pub(crate) form: ReferenceSigners,
    jose: Vec<(String, VerifyingKey)>,
    cose: Vec<(String, PublicKey)>,
}

impl Signers {
    /// Reads the keys; an empty set if none was put.
    pub(crate) fn load(rows: &Scope) -> Result<Self, OpenError> {
        let stored = |why: String| OpenError::Stored { what: "setting", name: SIGNERS.to_owned(), why };
        let form = match rows.get(Table::Settings, SIGNERS)? {
            Some(bytes) => {
                serde_json::from_slice(bytes.expose()).map_err(|error| stored(error.to_string()))?
            }
            None => ReferenceSigners::default(),
        };
        Self::read(form).map_err(stored)
    }

    /// Reads the keys of a form: PEM or JWK; those on P-256 verify JWS too.
    pub(crate) fn read(form: ReferenceSigners) -> Result<Self, String> {
        if form.keys.len() > MAX_SIGNERS {
            return Err(format!("there are {} keys; at most {MAX_SIGNERS} are read", form.keys.len()));
        }
        if form.required && form.keys.is_empty() {
            return Err("signatures cannot be required where there is no key that signs".to_owned());
        }
        let (mut jose, mut cose) = (Vec::new(), Vec::new());
        for (name, pem) in &form.keys {
            let one = PublicKey::from_pem(pem).ok();
            let other = match &one {
                Some(key) => of_point(key.as_bytes()),
                None => serde_json::from_str(pem).ok(),
            };
            if one.is_none() && other.is_none() {
                return Err(format!(
                    "the key {name:?} is neither a public key in PEM nor a JWK that signs JWS or COSE"
                ));
            }
            cose.extend(one.map(|key| (name.clone(), key)));
            jose.extend(other.map(|key| (name.clone(), key)));
        }
        Ok(Self { form, jose, cose })
    }

    /// Reads reference values in any of the forms that are known: ours as JSON, ours as a compact JWS, CoRIM signed or not.
    pub(crate) fn take(&self, bytes: &[u8], now: Timestamp) -> Result<Sent, NotTaken> {
        let text = bytes.trim_ascii();
        if text.starts_with(b"{") {
            let values =
                ReferenceValues::from_json(text).map_err(|error| NotTaken::Form(error.to_string()))?;
            return self.unsigned(Content::Ours(vec![values]), "json");
        }
        if text.starts_with(b"eyJ") {
            return self.jws(text);
        }
        match coffer_core_corim::is_signed(bytes) {
            true => self.cose(bytes, now),
            false => self.unsigned(corim(bytes, now)?, "corim"),
        }
    }

    fn unsigned(&self, content: Content, source: &'static str) -> Result<Sent, NotTaken> {
        match self.form.required {
            true => Err(NotTaken::Unsigned),
            false => Ok(Sent { content, signed_by: None, source }),
        }
    }

    fn jws(&self, text: &[u8]) -> Result<Sent, NotTaken> {
        let text = std::str::from_utf8(text).map_err(|error| NotTaken::Form(error.to_string()))?;
        let compact = Compact::parse(text).map_err(|error| NotTaken::Signature(error.to_string()))?;
        let found = self.jose.iter().find_map(|(name, key)| Some((name, compact.verify(key).ok()?)));
        let (name, payload) = found.ok_or(NotTaken::Stranger)?;
        let values =
            ReferenceValues::from_json(payload).map_err(|error| NotTaken::Form(error.to_string()))?;
        Ok(Sent { content: Content::Ours(vec![values]), signed_by: Some(name.clone()), source: "jws" })
    }

    fn cose(&self, bytes: &[u8], now: Timestamp) -> Result<Sent, NotTaken> {
        let keys: Vec<PublicKey> = self.cose.iter().map(|(_, key)| key.clone()).collect();
        let opened = coffer_core_corim::open(bytes, &keys).map_err(|error| match error {
            CorimError::NoKey => NotTaken::Stranger,
            other if keys.is_empty() => NotTaken::Signature(other.to_string()),
            other => NotTaken::Signature(other.to_string()),
        })?;
        if opened.validity.as_ref().is_some_and(|validity| !validity.holds_at(now.as_second())) {
            return Err(NotTaken::Time(now));
        }
        let name = self.cose.iter().find(|(_, key)| *key == opened.key).map(|(name, _)| name.clone());
        Ok(Sent { content: corim(&opened.unsigned, now)?, signed_by: name, source: "corim" })
    }
}

/// A point on P-256 as a key of JWS.
fn of_point(point: &[u8]) -> Option<VerifyingKey> {
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    serde_json::from_value(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})).ok()
}

/// Reference values of ours in a CoRIM, or another's by name.
fn corim(unsigned: &[u8], now: Timestamp) -> Result<Content, NotTaken> {
    let wrong = |error: CorimError| NotTaken::Form(error.to_string());
    match coffer_core_corim::from_corim(unsigned) {
        Ok(list) => Ok(Content::Ours(list)),
        // Named values have no times of their own, so a document past its end must not become some.
        Err(CorimError::Profile { .. }) => {
            let validity = Corim::parse(unsigned).map_err(wrong)?.validity;
            if validity.is_some_and(|validity| !validity.holds_at(now.as_second())) {
                return Err(NotTaken::Time(now));
            }
            let values = coffer_core_corim::named_values(unsigned).map_err(wrong)?;
            Ok(Content::Named(values.into_iter().collect()))
        }
        Err(error) => Err(wrong(error)),
    }
}
