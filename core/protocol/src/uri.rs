//! Names of resources: `kbs://[address]/repository/type/tag`.
//!
//! Parsed strictly, because the same text becomes an HTTP path, a storage key and a policy's input: no escapes,
//! no query, no dot segments. Left out: `kbs+plugin://`, which is recognised so that its refusal can say so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest segment of a path.
pub const MAX_SEGMENT: usize = 128;
const MAX_ADDRESS: usize = 255;

/// Why a text names no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// It does not begin with `kbs://`.
    #[error("a resource URI begins with kbs://, found {found:?}")]
    Scheme {
        /// The beginning of what was found.
        found: String,
    },
    /// It names a plugin.
    #[error("plugin {plugin:?} is not supported; only resources, as in kbs:///repository/type/tag")]
    Plugin {
        /// The plugin's name.
        plugin: String,
    },
    /// The address before the path has characters that no address has.
    #[error("the address in the resource URI is not host[:port]")]
    Address,
    /// There are not three segments.
    #[error("a resource path is repository/type/tag, found {found} segments")]
    Segments {
        /// How many there are.
        found: usize,
    },
    /// A segment is empty, too long, or has other characters.
    #[error(
        "segment {segment:?} is not 1 to {MAX_SEGMENT} characters of A-Z a-z 0-9 _ . - without two dots in a row"
    )]
    Segment {
        /// The segment, shortened.
        segment: String,
    },
}

/// A resource's place in the broker: `repository/type/tag`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourcePath {
    repository: String,
    kind: String,
    tag: String,
}

impl ResourcePath {
    /// Makes a path of its three segments.
    pub fn new(repository: &str, kind: &str, tag: &str) -> Result<Self, UriError> {
        Ok(Self { repository: segment(repository)?, kind: segment(kind)?, tag: segment(tag)? })
    }

    /// The first segment.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The second segment, which the protocol calls type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The third segment.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The URI without an address: `kbs:///repository/type/tag`.
    pub fn to_uri(&self) -> String {
        format!("kbs:///{self}")
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.repository, self.kind, self.tag)
    }
}

impl FromStr for ResourcePath {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let mut segments = text.split('/');
        match (segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some(repository), Some(kind), Some(tag), None) => Self::new(repository, kind, tag),
            _ => Err(UriError::Segments { found: text.split('/').count() }),
        }
    }
}

/// A resource and, if it is written, the broker that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceUri {
    address: Option<String>,
    path: ResourcePath,
}

impl ResourceUri {
    /// A resource of the broker that the guest is configured for.
    pub fn local(path: ResourcePath) -> Self {
        Self { address: None, path }
    }

    /// The broker's `host[:port]`, if it is written. A configured broker goes before it.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The resource's place.
    pub fn path(&self) -> &ResourcePath {
        &self.path
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kbs://{}/{}", self.address.as_deref().unwrap_or_default(), self.path)
    }
}

impl FromStr for ResourceUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let scheme = || UriError::Scheme { found: shortened(text, 16) };
        let (name, rest) = text.split_once("://").ok_or_else(scheme)?;
        if let Some(plugin) = name.strip_prefix("kbs+") {
            return Err(UriError::Plugin { plugin: shortened(plugin, 32) });
        }
        if name != "kbs" {
            return Err(scheme());
        }
        let (address, path) = rest.split_once('/').ok_or(UriError::Segments { found: 0 })?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let begins = address.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric() || byte == b'[');
        if address.len() > MAX_ADDRESS || !begins || address.contains("..") || !address.bytes().all(fits) {
            return Err(UriError::Address);
        }
        let address = (!address.is_empty()).then(|| address.to_owned());
        Ok(Self { address, path: path.parse()? })
    }
}

fn segment(text: &str) -> Result<String, UriError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let ok = (1..=MAX_SEGMENT).contains(&text.len())
        && text.bytes().all(fits)
        && text != "."
        && !text.contains("..");
    if ok { Ok(text.to_owned()) } else { Err(UriError::Segment { segment: shortened(text, 32) }) }
}

fn shortened(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(ResourcePath, ResourceUri);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_read_and_write_the_same() {
        for text in
            ["kbs:///default/key/1", "kbs://broker.example:8080/a_b/c-d/e.f", "kbs://[::1]:8080/a/b/c"]
        {
            let uri: ResourceUri = text.parse().unwrap();
            assert_eq!(uri.to_string(), text);
            assert_eq!(serde_json::from_value::<ResourceUri>(serde_json::json!(text)).unwrap(), uri);
        }
        let uri: ResourceUri = "kbs:///default/key/1".parse().unwrap();
        assert_eq!(uri.address(), None);
        assert_eq!(uri.path().to_uri(), "kbs:///default/key/1");
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_reason() {
        let reason = |text: &str| text.parse::<ResourceUri>().expect_err(text);
        assert!(matches!(reason("http://x/a/b/c"), UriError::Scheme { .. }));
        assert!(matches!(reason("a/b/c"), UriError::Scheme { .. }));
        assert_eq!(reason("kbs+pkcs11:///a/b"), UriError::Plugin { plugin: "pkcs11".into() });
        for address in ["us er", "u@h", "..", "a..b", ".a", "-a", ":80"] {
            assert_eq!(reason(&format!("kbs://{address}/a/b/c")), UriError::Address, "{address}");
        }
        assert_eq!(reason("kbs://host"), UriError::Segments { found: 0 });
        assert_eq!(reason("kbs:///a/b"), UriError::Segments { found: 2 });
        assert_eq!(reason("kbs:///a/b/c/"), UriError::Segments { found: 4 });
        for bad in [
            "kbs:///a/../c",
            "kbs:///a/./c",
            "kbs:///a//c",
            "kbs:///a/b/c?x=1",
            "kbs:///a/b/%2e",
            "kbs:///a/b/c..d",
        ] {
            assert!(matches!(reason(bad), UriError::Segment { .. }), "{bad}");
        }
        let long = format!("kbs:///a/b/{}", "c".repeat(MAX_SEGMENT + 1));
        assert!(matches!(reason(&long), UriError::Segment { .. }));
        let longest = format!("kbs:///a/b/{}", "c".repeat(MAX_SEGMENT));
        assert!(longest.parse::<ResourceUri>().is_ok());
    }
}
