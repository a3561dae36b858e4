//! Image references as people write them, with Docker's normalisation (distribution/reference, grammar in
//! its package documentation): `nginx` means `docker.io/library/nginx`.

use std::fmt;
use std::str::FromStr;

use coffer_core_digest::{Algorithm, Digest};

/// The longest repository name with its registry.
pub const MAX_NAME: usize = 255;
/// The longest tag.
pub const MAX_TAG: usize = 128;

/// Why a text is not a reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing, or more than any reference has.
    #[error("an image reference has 1 to {MAX_NAME} characters before the tag; found {0}")]
    Length(usize),
    /// The registry is not a host name, an address or one of these with a port.
    #[error("{0:?} is not a registry; expected a host name with an optional port")]
    Registry(String),
    /// The repository has characters that no registry accepts.
    #[error("{0:?} is not a repository name; expected lower-case letters, digits and single separators")]
    Repository(String),
    /// The tag has characters that no registry accepts.
    #[error("{0:?} is not a tag; expected letters, digits, '_', '.' and '-', at most {MAX_TAG}")]
    Tag(String),
    /// What follows `@` is no digest.
    #[error("{0:?} is not a digest; expected sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
}

/// A normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference. Without tag and digest the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() || text.len() > MAX_NAME.saturating_add(512) {
            return Err(ReferenceError::Length(text.len()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(read_digest(digest)?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(read_tag(tag)?)),
            _ => (rest, None),
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(ReferenceError::Length(name.len()));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
            _ => ("docker.io", name),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        read_registry(registry)?;
        read_repository(path)?;
        let repository = if registry == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.into()
        };
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".into()));
        Ok(Self { registry: registry.into(), repository, tag, digest })
    }

    /// The registry's host name and port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if any.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest digest, if any. It decides before the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The registry and repository, as a signature's identity names them.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at another tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        Ok(Self { tag: Some(read_tag(tag)?), digest: None, ..self.clone() })
    }

    /// The same repository at a manifest digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Whether the registry is on this machine, where plain HTTP is what registries speak.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.registry.split(':').next().unwrap_or(&self.registry),
        };
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

fn read_digest(text: &str) -> Result<Digest, ReferenceError> {
    match text.parse::<Digest>() {
        Ok(digest) if digest.algorithm() != Algorithm::Sha1 => Ok(digest),
        _ => Err(ReferenceError::Digest(short(text))),
    }
}

fn read_tag(text: &str) -> Result<String, ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    good.then(|| text.into()).ok_or_else(|| ReferenceError::Tag(short(text)))
}

fn read_registry(text: &str) -> Result<(), ReferenceError> {
    let refuse = || ReferenceError::Registry(short(text));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(refuse)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(refuse()),
            };
            (None, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.is_some_and(|host| !host.split('.').all(label)) {
        return Err(refuse());
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() => {
            Err(refuse())
        }
        _ => Ok(()),
    }
}

fn read_repository(text: &str) -> Result<(), ReferenceError> {
    if text.split('/').all(component) { Ok(()) } else { Err(ReferenceError::Repository(short(text))) }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else {
        return false;
    };
    plain(first)
        && plain(last)
        && text.split(|c: char| plain(u8::try_from(c).unwrap_or(0))).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_normalise_as_docker_does() {
        let pinned = format!("web@sha256:{HEX}");
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("bitnami/nginx:1.2", "docker.io/bitnami/nginx:1.2".into()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".into()),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest".into()),
            ("localhost/web", "localhost/web:latest".into()),
            ("localhost:5000/a/b__c/d-e.f:v1", "localhost:5000/a/b__c/d-e.f:v1".into()),
            ("[::1]:5000/web", "[::1]:5000/web:latest".into()),
            ("ghcr.io/o/r:T_1.x", "ghcr.io/o/r:T_1.x".into()),
            (&pinned, format!("docker.io/library/web@sha256:{HEX}")),
        ] {
            let read = Reference::parse(text).unwrap();
            assert_eq!(read.to_string(), full, "{text}");
            assert_eq!(Reference::parse(&full), Ok(read), "{text}");
        }
    }

    #[test]
    fn tag_beside_a_digest_is_kept() {
        let read = Reference::parse(&format!("r.example/a:v1@sha256:{HEX}")).unwrap();
        assert_eq!(read.tag(), Some("v1"));
        assert_eq!(read.digest().unwrap().hex(), HEX);
    }

    #[test]
    fn malformed_references_are_refused_by_their_part() {
        let long = "a".repeat(300);
        let tag = format!("a:{}", "t".repeat(129));
        for (text, part) in [
            ("", "characters"),
            (long.as_str(), "characters"),
            ("UPPER/case", "repository"),
            ("a//b", "repository"),
            ("a/../b", "repository"),
            ("a/.b", "repository"),
            ("a___b", "repository"),
            ("a:bad tag", "tag"),
            (tag.as_str(), "tag"),
            ("a@sha256:00", "digest"),
            ("a@sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "digest"),
            ("host:99999/a", "registry"),
            ("ho st.x/a", "registry"),
            ("[::1/a", "registry"),
            ("-x.example/a", "registry"),
        ] {
            let refusal = Reference::parse(text).unwrap_err().to_string();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    fn loopback_is_known_by_address_and_name() {
        for (text, loopback) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("[::1]:5000/a", true),
            ("10.0.0.1:5000/a", false),
            ("localhost.example:5000/a", false),
        ] {
            assert_eq!(Reference::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_any_text_never_panics_and_is_idempotent(text in ".{0,80}") {
            if let Ok(read) = Reference::parse(&text) {
                proptest::prop_assert_eq!(Reference::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
