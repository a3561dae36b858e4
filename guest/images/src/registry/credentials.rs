//! Credentials for registries, in the form in which users have them: containers-auth.json(5), `auths`.
//!
//! INVARIANT: they come from the owner's broker, never from the host, and go to the registry that they are for, or to
//! the token service that this registry names, over HTTPS only.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;
use serde::Deserialize;
use zeroize::Zeroizing;

/// No file is read beyond this.
const MAX_FILE: usize = 64 << 10;

/// Names and passwords by registry, or by repository and namespace within one.
#[derive(Default)]
pub struct Credentials(Vec<(String, SecretBytes)>);

#[derive(Deserialize)]
struct File {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// Base64 of `name:password`.
    #[serde(default)]
    auth: Option<String>,
}

impl Credentials {
    /// Reads the file's bytes. What is wrong with them is told without a word of what they hold.
    ///
    /// # Errors
    /// When it is no JSON of this form, or an entry is not `name:password`.
    pub fn parse(bytes: &SecretBytes) -> Result<Self, String> {
        if bytes.expose().len() > MAX_FILE {
            return Err("the registries' credentials are longer than 64 KiB".into());
        }
        let file: File = serde_json::from_slice(bytes.expose()).map_err(|error| {
            format!(
                "the registries' credentials are not JSON with \"auths\" (containers-auth.json): line {}, column {}",
                error.line(),
                error.column()
            )
        })?;
        let mut all = Vec::new();
        for (place, entry) in file.auths {
            let Some(auth) = entry.auth.map(Zeroizing::new).filter(|auth| !auth.is_empty()) else { continue };
            let pair = STANDARD.decode(auth.trim_ascii()).map(SecretBytes::new).ok();
            let pair = pair
                .filter(|pair| pair.expose().contains(&b':') && std::str::from_utf8(pair.expose()).is_ok());
            let place = normal(&place);
            let pair =
                pair.ok_or_else(|| format!("the credentials for {place} are not base64 of name:password"))?;
            all.push((place, pair));
        }
        Ok(Self(all))
    }

    /// `name:password` for a repository: of the longest entry that names it, a namespace above it, or its registry.
    #[must_use]
    pub fn of(&self, registry: &str, repository: &str) -> Option<&SecretBytes> {
        let whole = format!("{registry}/{repository}");
        let within = |place: &str| {
            whole.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.0.iter().filter(|(place, _)| within(place));
        fitting.max_by_key(|(place, _)| place.len()).map(|(_, pair)| pair)
    }
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

    fn read(text: &str) -> Result<Credentials, String> {
        Credentials::parse(&SecretBytes::copy_of(text.as_bytes()))
    }

    fn pair(credentials: &Credentials, registry: &str, repository: &str) -> Option<String> {
        credentials.of(registry, repository).map(|pair| String::from_utf8_lossy(pair.expose()).into_owned())
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
            let why = read(text).map(drop).expect_err("refused");
            assert!(why.contains(cause) && !why.contains("hunter2"), "{why}");
        }
        assert!(read(&" ".repeat(MAX_FILE + 1)).is_err());
    }
}
