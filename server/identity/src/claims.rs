//! Claims by path, and the checks that every token must pass: audience and times.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Unauthenticated;

const MAX_PATH: usize = 256;
const MAX_STEPS: usize = 8;
/// A list of claims' values is read so far.
const MAX_ITEMS: usize = 1024;

/// Where a claim stands: a JSON pointer (`/realm_access/roles`, RFC 6901), or names with dots between
/// (`realm_access.roles`). A name with a dot or slash in it needs the pointer.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ClaimPath {
    text: String,
    steps: Vec<String>,
}

/// A text is no path of a claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no claim; expected a JSON pointer as /a/b, or names with dots between as a.b")]
pub struct NotAPath(String);

impl FromStr for ClaimPath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let wrong = || NotAPath(text.chars().take(MAX_PATH).collect());
        if text.len() > MAX_PATH {
            return Err(wrong());
        }
        let steps: Vec<String> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescape).collect::<Option<_>>().ok_or_else(wrong)?,
            None => text.split('.').map(str::to_owned).collect(),
        };
        match steps.len() <= MAX_STEPS && steps.iter().all(|step| !step.is_empty()) {
            true => Ok(Self { text: text.to_owned(), steps }),
            false => Err(wrong()),
        }
    }
}

/// One step of a pointer (RFC 6901, section 4). A `~` that begins no escape is none.
fn unescape(step: &str) -> Option<String> {
    let plain = step.replace("~0", "").replace("~1", "");
    (!plain.contains('~')).then(|| step.replace("~1", "/").replace("~0", "~"))
}

impl TryFrom<String> for ClaimPath {
    type Error = NotAPath;

    fn try_from(text: String) -> Result<Self, NotAPath> {
        text.parse()
    }
}

impl From<ClaimPath> for String {
    fn from(path: ClaimPath) -> Self {
        path.text
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl ClaimPath {
    /// The claim. Steps go through objects only.
    pub(crate) fn get<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.steps.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, step| value.as_object()?.get(step))
    }

    /// The claim as a text or a list of texts. None if it is not there.
    pub(crate) fn texts<'a>(&self, claims: &'a Map<String, Value>) -> Result<Vec<&'a str>, Unauthenticated> {
        match self.get(claims) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(value) => texts(value).ok_or_else(|| Unauthenticated::ClaimType {
                claim: self.text.clone(),
                expected: "a text or a list of texts",
            }),
        }
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) if items.len() <= MAX_ITEMS => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// What a token's times must be.
pub(crate) struct Times {
    pub(crate) now: u64,
    pub(crate) leeway: u64,
    pub(crate) max_lifetime: u64,
}

impl Times {
    /// Checks `iat`, `nbf` and `exp` (RFC 7519, section 4.1), and gives the end.
    pub(crate) fn check(&self, claims: &Map<String, Value>) -> Result<u64, Unauthenticated> {
        let missing = |name: &str| Unauthenticated::Missing(name.to_owned());
        let begins = date(claims, "iat")?.ok_or_else(|| missing("iat"))?;
        let ended = date(claims, "exp")?.ok_or_else(|| missing("exp"))?;
        let not_before = date(claims, "nbf")?.unwrap_or(begins);
        let latest = self.now.saturating_add(self.leeway);
        let first = begins.max(not_before);
        if first > latest {
            return Err(Unauthenticated::NotYet { begins: first, now: self.now });
        }
        if ended.saturating_add(self.leeway) <= self.now || ended <= begins {
            return Err(Unauthenticated::Expired { ended, now: self.now });
        }
        match ended.saturating_sub(begins) {
            found if found > self.max_lifetime => {
                Err(Unauthenticated::Lifetime { limit: self.max_lifetime, found })
            }
            _ => Ok(ended),
        }
    }
}

/// A NumericDate: seconds, which may have a fraction (RFC 7519, section 2).
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, Unauthenticated> {
    let wrong =
        || Unauthenticated::ClaimType { claim: name.to_owned(), expected: "a time in seconds since 1970" };
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            // Within the whole numbers that a double holds, so the conversion only cuts the fraction off.
            (None, Some(seconds)) if (0.0..9e15).contains(&seconds) => Ok(Some(seconds as u64)),
            _ => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

/// The token's audiences: none if it has no `aud`.
pub(crate) fn audiences(claims: &Map<String, Value>) -> Result<Option<Vec<&str>>, Unauthenticated> {
    match claims.get("aud") {
        None => Ok(None),
        Some(value) => texts(value).map(Some).ok_or_else(|| Unauthenticated::ClaimType {
            claim: "aud".to_owned(),
            expected: "a text or a list of texts",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_claim_is_found_by_pointer_and_by_dots() {
        let claims = map(json!({"a": {"b": ["x"]}, "https://c.example/r": "y", "~": 1, "a.b": 2}));
        let get = |path: &str| path.parse::<ClaimPath>().unwrap().get(&claims).cloned();
        assert_eq!(get("a.b"), Some(json!(["x"])));
        assert_eq!(get("/a/b"), Some(json!(["x"])));
        assert_eq!(get("/a.b"), Some(json!(2)));
        assert_eq!(get("/https:~1~1c.example~1r"), Some(json!("y")));
        assert_eq!(get("/~0"), Some(json!(1)));
        assert_eq!((get("/a/b/0"), get("a.x"), get("x.b")), (None, None, None));
        for bad in ["", "/", "a..b", ".", "/a//b", "/~", "/~2", &"a.".repeat(9), &"a".repeat(300)] {
            assert!(bad.parse::<ClaimPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_defect_of_a_time_has_its_own_reason() {
        let times = Times { now: 1000, leeway: 10, max_lifetime: 100 };
        let check = |iat: Value, exp: Value| times.check(&map(json!({"iat": iat, "exp": exp})));
        assert_eq!(check(json!(990), json!(1050)), Ok(1050));
        assert_eq!(check(json!(990.5), json!(1050.9)), Ok(1050));
        assert_eq!(check(json!(1010), json!(1050)), Ok(1050));
        assert!(matches!(check(json!(1011), json!(1050)), Err(Unauthenticated::NotYet { .. })));
        assert_eq!(check(json!(950), json!(991)), Ok(991));
        assert!(matches!(check(json!(950), json!(990)), Err(Unauthenticated::Expired { .. })));
        assert!(matches!(check(json!(1005), json!(1005)), Err(Unauthenticated::Expired { .. })));
        assert!(matches!(check(json!(990), json!(1091)), Err(Unauthenticated::Lifetime { found: 101, .. })));
        for bad in [json!("990"), json!(-1), json!(1e300), json!(null), json!([990])] {
            assert!(matches!(check(bad, json!(1050)), Err(Unauthenticated::ClaimType { .. })));
        }
        let no_end = times.check(&map(json!({"iat": 990})));
        assert_eq!(no_end, Err(Unauthenticated::Missing("exp".into())));
        let later = map(json!({"iat": 990, "nbf": 1011, "exp": 1050}));
        assert!(matches!(times.check(&later), Err(Unauthenticated::NotYet { .. })));
        let all = times.check(&map(json!({"iat": 0, "exp": u64::MAX})));
        assert!(matches!(all, Err(Unauthenticated::Lifetime { .. })));
    }
}
