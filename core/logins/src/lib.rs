//! Names and passwords for registries, from the file in which users have them: containers-auth.json(5), `auths`.
//!
//! INVARIANT: an entry is given for the repositories that it names and for no others, and no message has a word of it.
//! Left out: where the file comes from, and helpers that keep passwords elsewhere.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::expect_used))]

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;
use serde::Deserialize;
use zeroize::Zeroizing;

/// No file is read beyond this.
pub const MAX_FILE: usize = 64 << 10;

/// Why a file of logins is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginsError {
    /// Over the bound.
    #[error("the registries' credentials are longer than 64 KiB")]
    TooLong,
    /// Not JSON of this form.
    #[error(
        "the registries' credentials are not JSON with \"auths\" (containers-auth.json): line {line}, column {column}"
    )]
    Form {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// An entry is not a login.
    #[error("the credentials for {place} are not base64 of name:password")]
    Entry {
        /// The registry, or the place in it.
        place: String,
    },
}

/// A name and its password at one registry.
pub struct Login(SecretBytes);

impl Login {
    /// `name:password`, as RFC 7617 has it.
    #[must_use]
    pub fn pair(&self) -> &SecretBytes {
        &self.0
    }

    /// The value of an `Authorization` header.
    #[must_use]
    pub fn basic(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(self.0.expose()));
        Zeroizing::new(format!("Basic {}", encoded.as_str()))
    }
}

/// Logins by registry, or by repository and namespace within one.
#[derive(Default)]
pub struct Logins(Vec<(String, Login)>);

/// Places without their logins.
impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(place, _)| place)).finish()
    }
}

#[derive(Deserialize)]
struct File {
    auths: BTreeMap<String, Entry>,
}

/// As tools keep it for themselves.
#[derive(Deserialize)]
struct OwnFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// Base64 of `name:password`.
    #[serde(default)]
    auth: Option<String>,
}

impl Logins {
    /// Reads a file that somebody wrote to hand logins over: one without `auths` is a mistake.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoginsError> {
        Self::of_entries(json::<File>(bytes)?.auths)
    }

    /// Reads a file of docker's or skopeo's own, which has no `auths` where helpers keep all passwords.
    pub fn parse_own(bytes: &[u8]) -> Result<Self, LoginsError> {
        Self::of_entries(json::<OwnFile>(bytes)?.auths)
    }

    fn of_entries(auths: BTreeMap<String, Entry>) -> Result<Self, LoginsError> {
        let mut all = Vec::new();
        for (place, entry) in auths {
            let Some(auth) = entry.auth.map(Zeroizing::new).filter(|auth| !auth.is_empty()) else { continue };
            let pair = STANDARD.decode(auth.trim_ascii()).map(SecretBytes::new).ok();
            let pair = pair
                .filter(|pair| pair.expose().contains(&b':') && std::str::from_utf8(pair.expose()).is_ok());
            let place = normal(&place);
            match pair {
                Some(pair) => all.push((place, Login(pair))),
                None => return Err(LoginsError::Entry { place }),
            }
        }
        Ok(Self(all))
    }

    /// For a repository: of the longest entry that names it, a namespace above it, or its registry.
    #[must_use]
    pub fn of(&self, registry: &str, repository: &str) -> Option<&Login> {
        let whole = format!("{registry}/{repository}");
        let within = |place: &str| {
            whole.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.0.iter().filter(|(place, _)| within(place));
        fitting.max_by_key(|(place, _)| place.len()).map(|(_, login)| login)
    }
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, LoginsError> {
    if bytes.len() > MAX_FILE {
        return Err(LoginsError::TooLong);
    }
    serde_json::from_slice(bytes)
        .map_err(|error| LoginsError::Form { line: error.line(), column: error.column() })
}

/// An entry's name without scheme and version, which old files have; Docker's own registry has three names.
fn normal(place: &str) -> String {
    let bare = place.trim_start_matches("https://").trim_start_matches("http://");
    let bare =
        bare.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2").trim_end_matches('/');
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Logins, LoginsError> {
        Logins::parse(text.as_bytes())
    }

    fn pair(logins: &Logins, registry: &str, repository: &str) -> Option<String> {
        logins.of(registry, repository).map(|own| String::from_utf8_lossy(own.pair().expose()).into_owned())
    }

    #[test]
    fn the_longest_entry_that_names_the_repository_is_taken_and_no_neighbour_s() {
        let file = r#"{"auths": {
            "registry.example": {"auth": "YTox"}, "registry.example/team": {"auth": "YToy"},
            "registry.example/team/app": {"auth": "YToz"}, "https://index.docker.io/v1/": {"auth": "YTo0"},
            "empty.example": {}}, "credHelpers": {}}"#;
        let credentials = read(file).expect("read");
        let of = |registry, repository| pair(&credentials, registry, repository);
        assert_eq!(of("registry.example", "other").as_deref(), Some("a:1"));
        assert_eq!(of("registry.example", "team/x").as_deref(), Some("a:2"));
        assert_eq!(of("registry.example", "team/app").as_deref(), Some("a:3"));
        assert_eq!(of("registry.example", "team/application").as_deref(), Some("a:2"));
        assert_eq!(of("docker.io", "library/nginx").as_deref(), Some("a:4"));
        for (registry, repository) in [
            ("registry.example.evil", "team/app"),
            ("registry.exampl", "e/team"),
            ("empty.example", "x"),
            ("", ""),
        ] {
            assert_eq!(of(registry, repository), None, "{registry}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_refused_without_a_word_of_its_content() {
        for (text, cause) in [
            ("hunter2", "line 1"),
            (r#"{"auths": "hunter2"}"#, "auths"),
            (r#"{"auths": {"r": {"auth": "hunter2!"}}}"#, "for r"),
            (r#"{"auths": {"r": {"auth": "aHVudGVyMg=="}}}"#, "name:password"),
        ] {
            let why = read(text).map(drop).expect_err("refused").to_string();
            assert!(why.contains(cause) && !why.contains("hunter2"), "{why}");
        }
        assert_eq!(read(&" ".repeat(MAX_FILE.saturating_add(1))).map(drop), Err(LoginsError::TooLong));
        let helped = r#"{"credsStore": "desktop"}"#;
        assert!(matches!(read(helped), Err(LoginsError::Form { .. })), "nobody hands over nothing");
        assert!(Logins::parse_own(helped.as_bytes()).expect("docker's own").of("r", "x").is_none());
        assert!(Logins::parse_own(b"hunter2").is_err());
        let shown = read(r#"{"auths": {"r": {"auth": "dXNlcjpodW50ZXIy"}}}"#).expect("read");
        assert_eq!(format!("{shown:?}"), r#"{"r"}"#);
        assert_eq!(shown.of("r", "x").expect("a login").basic().as_str(), "Basic dXNlcjpodW50ZXIy");
    }
}
