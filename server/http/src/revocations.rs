//! What nothing is released to any more: chips, measurements, init-data, attestations.
//!
//! A revocation is asked after the policy and whatever the policy says; it needs no policy that mentions it.

use std::collections::HashMap;

use coffer_core_admin::{NewRevocation, Revocation, RevocationKind};
use coffer_core_protocol::ear::Ear;
use coffer_core_protocol::error::Cause;
use coffer_server_store::{Scope, Table};
use serde_json::Value;

use crate::error::OpenError;

const MAX_VALUE: usize = 256;
const MAX_REASON: usize = 512;
/// How deep claims are searched. Judges' claims have three levels, those of event logs five.
const MAX_DEPTH: usize = 16;

/// The revocations in force.
#[derive(Default)]
pub(crate) struct Revocations {
    all: Vec<Revocation>,
    by_value: HashMap<(RevocationKindKey, String), usize>,
}

type RevocationKindKey = &'static str;

/// A revocation cannot be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevocationError {
    #[error(
        "the value has {0} bytes; expected 1 to {MAX_VALUE} printable ASCII characters without white space"
    )]
    Value(usize),
    #[error("the reason has {0} bytes; at most {MAX_REASON}")]
    Reason(usize),
}

/// The kind's name, as in codes and ids.
pub(crate) const fn kind_name(kind: RevocationKind) -> RevocationKindKey {
    match kind {
        RevocationKind::Chip => "chip",
        RevocationKind::Measurement => "measurement",
        RevocationKind::InitData => "init-data",
        RevocationKind::Attempt => "attempt",
    }
}

/// Checks and normalizes what is to be added: values compare as lower case.
pub(crate) fn check(new: NewRevocation) -> Result<NewRevocation, RevocationError> {
    let value = new.value.trim().to_ascii_lowercase();
    if value.is_empty() || value.len() > MAX_VALUE || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(RevocationError::Value(value.len()));
    }
    if new.reason.len() > MAX_REASON {
        return Err(RevocationError::Reason(new.reason.len()));
    }
    Ok(NewRevocation { value, ..new })
}

/// The name of a revocation: its kind and a digest of its value, so that the same is not added twice.
pub(crate) fn id(what: &NewRevocation) -> String {
    let digest = coffer_core_digest::Digest::sha256(what.value.as_bytes()).hex();
    format!("{}-{}", kind_name(what.kind), digest.get(..24).unwrap_or_default())
}

impl Revocations {
    pub(crate) fn load(rows: &Scope) -> Result<Self, OpenError> {
        let mut own = Self::default();
        for (name, body) in rows.list(Table::Revocations)? {
            let revocation: Revocation = serde_json::from_slice(body.expose())
                .map_err(|error| OpenError::Stored { what: "revocation", name, why: error.to_string() })?;
            own.add(revocation);
        }
        Ok(own)
    }

    fn add(&mut self, revocation: Revocation) {
        let key = (kind_name(revocation.what.kind), revocation.what.value.clone());
        self.by_value.insert(key, self.all.len());
        self.all.push(revocation);
    }

    /// All of them, in the order of their names.
    pub(crate) fn list(&self) -> &[Revocation] {
        &self.all
    }

    /// Why nothing is released to whom this result is about. Empty if nothing of it was revoked.
    pub(crate) fn causes(&self, ear: &Ear) -> Vec<Cause> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for part in ear.submods.values() {
            for (name, value) in &part.evidence {
                match (name.as_str(), value) {
                    ("init_data", Value::String(digest)) => {
                        self.look(RevocationKind::InitData, digest, &mut found);
                    }
                    ("coffer", about) => {
                        for (kind, name) in
                            [(RevocationKind::Chip, "chip"), (RevocationKind::Attempt, "attempt")]
                        {
                            if let Some(value) = about.get(name).and_then(Value::as_str) {
                                self.look(kind, value, &mut found);
                            }
                        }
                    }
                    // What the guest says of itself names nobody else.
                    ("runtime_data_claims" | "init_data_claims" | "report_data", _) => (),
                    (_, claims) => self.search(claims, MAX_DEPTH, &mut found),
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|place| self.all.get(place)).map(cause).collect()
    }

    fn look(&self, kind: RevocationKind, value: &str, found: &mut Vec<usize>) {
        found.extend(self.by_value.get(&(kind_name(kind), value.to_ascii_lowercase())));
    }

    fn search(&self, value: &Value, depth: usize, found: &mut Vec<usize>) {
        match value {
            Value::String(text) if text.len() <= MAX_VALUE => {
                self.look(RevocationKind::Measurement, text, found);
                self.look(RevocationKind::Chip, text, found);
            }
            Value::Array(list) if depth > 0 => {
                list.iter().for_each(|value| self.search(value, depth.saturating_sub(1), found));
            }
            Value::Object(members) if depth > 0 => {
                members.values().for_each(|value| self.search(value, depth.saturating_sub(1), found));
            }
            _ => (),
        }
    }
}

fn cause(revocation: &Revocation) -> Cause {
    let kind = kind_name(revocation.what.kind);
    let reason = match revocation.what.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    Cause {
        code: format!("revoked.{kind}"),
        title: format!("The owner revoked this {kind} at {}{reason}", revocation.at),
        expected: Some(format!("a {kind} that was not revoked")),
        found: Some(revocation.what.value.clone()),
        remedy: Some("Run on another one, or ask the owner (`coffer revoke list` shows why).".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use coffer_core_protocol::ear::{CPU, PROFILE, Status, Submodule, TrustVector, VerifierId};
    use serde_json::json;

    use super::*;

    fn ear(evidence: Value) -> Ear {
        let cpu = Submodule {
            status: Status::Affirming,
            trust: TrustVector::default(),
            policy: "coffer".into(),
            evidence: evidence.as_object().unwrap().clone(),
            identifiers: None,
        };
        Ear {
            profile: PROFILE.into(),
            iat: 1,
            verifier: VerifierId { developer: "coffer".into(), build: "1".into() },
            submods: [(CPU.to_string(), cpu)].into(),
            exp: 2,
            nbf: None,
            iss: "coffer-broker".into(),
        }
    }

    fn revoked(kind: RevocationKind, value: &str, evidence: Value) -> Vec<String> {
        let what = check(NewRevocation { kind, value: value.into(), reason: "leaked".into() }).unwrap();
        let mut own = Revocations::default();
        own.add(Revocation { id: id(&what), what, at: "2026-01-01T00:00:00Z".into(), by: "admin".into() });
        own.causes(&ear(evidence)).into_iter().map(|cause| cause.code).collect()
    }

    #[test]
    fn what_was_revoked_is_found_wherever_claims_have_it() {
        use RevocationKind::{Attempt, Chip, InitData, Measurement};
        let evidence = json!({
            "snp": {"measurement": "AB01", "chip_id": "cd02", "deep": [{"digest": "ef03"}]},
            "init_data": "aa04",
            "coffer": {"chip": "bb05", "attempt": "0123"},
        });
        for (kind, value) in [
            (Measurement, "ab01"),
            (Measurement, "EF03"),
            (Chip, "cd02"),
            (Chip, "bb05"),
            (InitData, "aa04"),
            (Attempt, "0123"),
        ] {
            assert_eq!(
                revoked(kind, value, evidence.clone()),
                [format!("revoked.{}", kind_name(kind))],
                "{value}"
            );
        }
        for (kind, value) in
            [(Measurement, "ab0"), (InitData, "ab01"), (Measurement, "aa04"), (Attempt, "ab01")]
        {
            assert!(revoked(kind, value, evidence.clone()).is_empty(), "{value}");
        }
    }

    #[test]
    fn what_a_guest_says_of_itself_is_no_claim() {
        let evidence =
            json!({"runtime_data_claims": {"x": "ab01"}, "init_data_claims": {"y": "ab01"}, "snp": {}});
        assert!(revoked(RevocationKind::Measurement, "ab01", evidence).is_empty());
    }

    #[test]
    fn a_value_that_could_match_nothing_is_refused() {
        for value in ["", " ", "a b", "a\nb", &"a".repeat(MAX_VALUE + 1)] {
            let new =
                NewRevocation { kind: RevocationKind::Chip, value: value.into(), reason: String::new() };
            assert!(check(new).is_err(), "{value:?}");
        }
    }
}
