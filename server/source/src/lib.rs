//! Where resources may come from beside the broker's own store: one trait, and a cache that is off unless asked for.
//!
//! A source gives whole values by path and changes nothing. Left out: which sources there are (`server/vault`,
//! `server/pkcs11`), and whether a guest may have what is found, which is the resource policy's to say.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod cache;

use std::future::Future;
use std::pin::Pin;

use coffer_core_secret::SecretBytes;

pub use cache::{Cached, Kept};

/// What a source answers, later.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<SecretBytes>, SourceError>> + Send + 'a>>;

/// The longest path that a source is asked for.
pub const MAX_PATH: usize = 512;

/// A place that values are read from.
pub trait Source: Send + Sync {
    /// The name that the operator gave it.
    fn name(&self) -> &str;

    /// The value at a path, or `None` if there is none.
    fn get<'a>(&'a self, path: &'a str) -> Answer<'a>;
}

impl<S: Source + ?Sized> Source for std::sync::Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn get<'a>(&'a self, path: &'a str) -> Answer<'a> {
        (**self).get(path)
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn get<'a>(&'a self, path: &'a str) -> Answer<'a> {
        (**self).get(path)
    }
}

/// Why a source gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be reached or does not work now; the same call may succeed later.
    #[error("the source {name} gives no answer now: {why}")]
    Unavailable {
        /// The source.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// It refuses until somebody changes its settings or ours.
    #[error("the source {name} refuses: {why}")]
    Refused {
        /// The source.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// No value can be at such a path.
    #[error("the source {name} has no such path: {why}")]
    Path {
        /// The source.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Takes a path apart into segments that are safe to give to another system: none is empty, `.` or `..`, and none
/// holds a control character, a backslash or what ends a path in a URL.
pub fn segments(path: &str) -> Result<Vec<&str>, &'static str> {
    if path.len() > MAX_PATH {
        return Err("it is longer than 512 bytes");
    }
    let refused = |c: char| c.is_control() || matches!(c, '\\' | '?' | '#' | '%');
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" => return Err("a segment is empty"),
            "." | ".." => return Err("a segment is . or .., which may lead elsewhere"),
            _ if segment.contains(refused) => return Err("a segment has a character that is not allowed"),
            _ => segments.push(segment),
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_lead_elsewhere_is_refused() {
        assert_eq!(segments("default/key/1").unwrap(), ["default", "key", "1"]);
        assert_eq!(segments("a b/ü").unwrap(), ["a b", "ü"]);
        for path in [
            "",
            "/a",
            "a/",
            "a//b",
            "a/../b",
            "..",
            "a/.",
            "a/%2e%2e/b",
            "a?version=1",
            "a#b",
            "a\\..\\b",
            "a\0b",
            "a\nb",
        ] {
            assert!(segments(path).is_err(), "{path:?} was accepted");
        }
        assert!(segments(&"a".repeat(MAX_PATH)).is_ok());
        assert!(segments(&"a".repeat(MAX_PATH + 1)).is_err());
    }
}
