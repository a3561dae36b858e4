//! `registries.toml`: how each registry is reached, from this host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_core_oci::Reference;
use serde::Deserialize;

use crate::CacheError;

/// How registries are reached.
///
/// ```toml
/// [registry."registry.example:5000"]
/// mirrors = ["mirror.example:5000/prefix"]  # Tried in order, before the registry itself.
/// ca = "/etc/coffer/registry-ca.pem"        # Trusted besides the system's roots.
/// proxy = "http://proxy.example:3128"       # In place of HTTP_PROXY and HTTPS_PROXY.
/// plain-http = false                        # Blobs are checked by digest all the same.
/// ```
///
/// A mirror may have a section of its own, under its host name and port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    #[serde(default)]
    registry: BTreeMap<String, Way>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Way {
    #[serde(default)]
    mirrors: Vec<String>,
    ca: Option<PathBuf>,
    proxy: Option<String>,
    #[serde(default)]
    plain_http: bool,
}

/// One place that a repository may be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host name and port.
    pub(crate) host: String,
    /// What goes before the repository's name there.
    pub(crate) prefix: String,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) proxy: Option<String>,
    pub(crate) plain_http: bool,
}

impl Registries {
    /// Reads the settings.
    ///
    /// # Errors
    /// When the text is not TOML of that form, or a mirror is no host.
    pub fn from_toml(text: &str) -> Result<Self, CacheError> {
        let wrong = |why: String| CacheError::Settings { why };
        let registries: Self = toml::from_str(text).map_err(|why| wrong(why.to_string()))?;
        for (name, way) in &registries.registry {
            for host in std::iter::once(name).chain(&way.mirrors) {
                if !is_host(split(host).0) {
                    return Err(wrong(format!("{host:?} is no registry; expected HOST or HOST:PORT")));
                }
            }
        }
        Ok(registries)
    }

    /// Reads the file; without one there are no settings.
    ///
    /// # Errors
    /// When it cannot be read, or as [`Self::from_toml`].
    pub fn read(path: &Path) -> Result<Self, CacheError> {
        let wrong = |why: String| CacheError::Settings { why: format!("{}: {why}", path.display()) };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_toml(&text).map_err(|error| match error {
                CacheError::Settings { why } => wrong(why),
                error => error,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Where to look for what `registry` has, in order. `plain_http` is for the registry itself.
    pub(crate) fn places(&self, registry: &str, plain_http: bool) -> Vec<Place> {
        let mirrors = self.registry.get(registry).map(|way| way.mirrors.as_slice()).unwrap_or_default();
        let mut places: Vec<Place> = mirrors.iter().map(|mirror| self.place(mirror)).collect();
        let mut own = self.place(registry);
        own.plain_http |= plain_http;
        places.push(own);
        places
    }

    fn place(&self, name: &str) -> Place {
        let (host, prefix) = split(name);
        let way = self.registry.get(host).cloned().unwrap_or_default();
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Place {
            host: host.to_owned(),
            prefix,
            ca: way.ca,
            proxy: way.proxy,
            plain_http: way.plain_http || is_loopback(host),
        }
    }
}

fn split(name: &str) -> (&str, &str) {
    let (host, prefix) = name.split_once('/').unwrap_or((name, ""));
    (host, prefix.trim_end_matches('/'))
}

fn is_host(host: &str) -> bool {
    let alone = Reference::parse(&format!("{host}/x"));
    alone.is_ok_and(|reference| reference.registry() == host)
}

/// As `docker` and `skopeo` do it: nobody has a certificate for this machine's own loopback.
fn is_loopback(host: &str) -> bool {
    Reference::parse(&format!("{host}/x")).is_ok_and(|reference| reference.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_each_has_its_own_way() {
        let text = r#"
            [registry."docker.io"] # a comment
            mirrors = ["mirror.example:5000/hub", "127.0.0.1:5001"]
            proxy = "http://proxy.example:3128"
            [registry."mirror.example:5000"]
            ca = "/etc/ca.pem"
        "#;
        let places = Registries::from_toml(text).unwrap().places("docker.io", false);
        let seen: Vec<_> = places
            .iter()
            .map(|place| {
                (place.host.as_str(), place.prefix.as_str(), place.plain_http, place.proxy.is_some())
            })
            .collect();
        let expected = [
            ("mirror.example:5000", "hub/", false, false),
            ("127.0.0.1:5001", "", true, false),
            ("docker.io", "", false, true),
        ];
        assert_eq!(seen, expected);
        assert_eq!(places[0].ca.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert!(Registries::default().places("r.example", true)[0].plain_http);
    }

    #[test]
    fn what_is_no_setting_is_refused_with_a_reason() {
        for wrong in [
            "[registry.\"r.example\"]\nmirror = []",
            "[registry.\"http://r.example\"]",
            "[registry.\"r.example\"]\nmirrors = [\"\"]",
            "[registry.\"r.example\"]\nplain-http = \"yes\"",
            "registry = 1",
        ] {
            let error = Registries::from_toml(wrong).unwrap_err();
            assert_eq!(error.code(), "cache.settings", "{wrong}");
        }
    }
}
