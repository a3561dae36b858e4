//! What a passport's claims must say: times, names, and where the guest's key is.

use serde_json::{Map, Value};

use super::PassportError;
use crate::jwk::PublicKey;

/// Where the protocol has the guest's key: in its present profile, in Intel Trust Authority's tokens, and in its
/// profile before EAR.
pub const TEE_KEY_POINTERS: [&str; 3] = [
    "/submods/cpu0/ear.veraison.annotated-evidence/runtime_data_claims/tee-pubkey",
    "/tdx/attester_runtime_data/tee-pubkey",
    "/customized_claims/runtime_data/tee-pubkey",
];

/// When a token is valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    begin: u64,
    end: u64,
    leeway_s: u64,
}

impl Times {
    /// `exp` must be there; `iat` and `nbf` count if they are.
    pub(super) fn read(claims: &Map<String, Value>, leeway_s: u64) -> Result<Self, PassportError> {
        let end = numeric_date(claims, "exp")?.ok_or(PassportError::Missing("exp"))?;
        let issued = numeric_date(claims, "iat")?.unwrap_or(0);
        let begin = issued.max(numeric_date(claims, "nbf")?.unwrap_or(0));
        Ok(Self { begin, end, leeway_s })
    }

    pub(super) fn begin(self) -> u64 {
        self.begin
    }

    pub(super) fn end(self) -> u64 {
        self.end.saturating_add(self.leeway_s)
    }

    pub(super) fn check(self, now_s: u64) -> Result<(), PassportError> {
        if now_s >= self.end() {
            return Err(PassportError::Expired { ago_s: now_s.saturating_sub(self.end) });
        }
        let ahead_s = self.begin.saturating_sub(now_s);
        match ahead_s <= self.leeway_s {
            true => Ok(()),
            false => Err(PassportError::NotYetValid { ahead_s }),
        }
    }
}

/// A time in seconds since 1970, which may have a fraction (RFC 7519, section 2).
fn numeric_date(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<u64>, PassportError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds));
    }
    match value.as_f64() {
        // Far below 2^53, so that the conversion is exact.
        Some(seconds) if (0.0..1e12).contains(&seconds) => Ok(Some(seconds as u64)),
        _ => Err(PassportError::Missing(claim)),
    }
}

/// Compares a claim with what was asked for, if anything was.
pub(super) fn expect(
    claim: &'static str,
    expected: Option<&str>,
    claims: &Map<String, Value>,
) -> Result<(), PassportError> {
    let Some(expected) = expected else { return Ok(()) };
    match claims.get(claim).and_then(Value::as_str) {
        None => Err(PassportError::Missing(claim)),
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(PassportError::Claim {
            claim,
            expected: expected.to_owned(),
            found: found.chars().take(64).collect(),
        }),
    }
}

/// As [`expect`], of a claim that may be a list (RFC 7519, section 4.1.3).
pub(super) fn expect_audience(
    expected: Option<&str>,
    claims: &Map<String, Value>,
) -> Result<(), PassportError> {
    let (Some(expected), Some(Value::Array(list))) = (expected, claims.get("aud")) else {
        return expect("aud", expected, claims);
    };
    match list.iter().any(|one| one.as_str() == Some(expected)) {
        true => Ok(()),
        false => Err(PassportError::Claim {
            claim: "aud",
            expected: expected.to_owned(),
            found: format!("{} others", list.len()),
        }),
    }
}

/// The guest's key and its JSON. Where several places hold one, they must hold the same.
pub(super) fn tee_key(
    claims: &Map<String, Value>,
    more: &[String],
) -> Result<(PublicKey, Value), PassportError> {
    let places = TEE_KEY_POINTERS.into_iter().chain(more.iter().map(String::as_str));
    let mut found: Option<(PublicKey, Value)> = None;
    for json in places.filter_map(|place| at(claims, place)) {
        let key = PublicKey::from_json(json)?;
        match &found {
            None => found = Some((key, json.clone())),
            Some((other, _)) if *other == key => {}
            Some(_) => return Err(PassportError::TwoTeeKeys),
        }
    }
    found.ok_or(PassportError::NoTeeKey)
}

/// The value at a JSON pointer (RFC 6901).
fn at<'a>(claims: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let rest = pointer.strip_prefix('/')?;
    let (first, rest) = rest.split_once('/').map_or((rest, None), |(first, rest)| (first, Some(rest)));
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        None => Some(value),
        Some(rest) => value.pointer(&format!("/{rest}")),
    }
}
