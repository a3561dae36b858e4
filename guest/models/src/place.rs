//! Where a sealed model is, in words that a command line and a `storageUri` can have.

use std::fmt;
use std::path::PathBuf;

use coffer_core_oci::Reference;
use reqwest::Url;

use crate::SourceError;

/// Marks a URI as ours, so that KServe routes it to the storage initializer for sealed models.
const PREFIX: &str = "cc+";

/// Where a sealed model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A folder in the OCI image layout, and the tag; without one the layout must hold one artifact.
    Layout(PathBuf, Option<String>),
    /// The folder's address on a web server; its path ends with `/`.
    Web(Url),
    /// A bucket and the folder in it, without `/` at either end.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with; may be empty.
        prefix: String,
    },
    /// An artifact of a registry.
    Registry(Reference),
}

impl Place {
    /// Reads a folder, `file://PATH`, `https://…`, `s3://BUCKET/PREFIX`, `docker://REFERENCE` or `oci://REFERENCE`,
    /// `oci:FOLDER[:TAG]`; `cc+` may stand before it.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let refuse = |why: String| SourceError::Place { text: text.into(), why };
        let own = text.strip_prefix(PREFIX).unwrap_or(text);
        if own.is_empty() || own.chars().any(char::is_control) {
            return Err(refuse("it is empty or has control characters".into()));
        }
        if let Some(reference) = own.strip_prefix("docker://").or_else(|| own.strip_prefix("oci://")) {
            let reference = Reference::parse(reference).map_err(|why| refuse(why.to_string()))?;
            return Ok(Self::Registry(reference));
        }
        if let Some(rest) = own.strip_prefix("oci:") {
            return match rest.split_once(':') {
                Some((folder, tag)) if !folder.is_empty() && !tag.is_empty() => {
                    Ok(Self::Layout(folder.into(), Some(tag.into())))
                }
                None if !rest.is_empty() => Ok(Self::Layout(rest.into(), None)),
                _ => Err(refuse("the layout's folder or tag is empty".into())),
            };
        }
        if let Some(rest) = own.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            // Amazon S3, "Bucket naming rules"; what is beyond them could be another host.
            let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if bucket.is_empty() || !bucket.chars().all(usual) || bucket.contains("..") {
                return Err(refuse("the bucket's name is none".into()));
            }
            let prefix = prefix.trim_matches('/').to_owned();
            return Ok(Self::S3 { bucket: bucket.into(), prefix });
        }
        if own.starts_with("https://") || own.starts_with("http://") {
            let mut url = Url::parse(own).map_err(|why| refuse(why.to_string()))?;
            if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
                return Err(refuse("an address here has no user, no password and no fragment".into()));
            }
            if !url.path().ends_with('/') {
                let path = format!("{}/", url.path());
                url.set_path(&path);
            }
            return Ok(Self::Web(url));
        }
        let path = own.strip_prefix("file://").unwrap_or(own);
        if path.contains("://") {
            return Err(refuse("its scheme is not known".into()));
        }
        Ok(Self::Folder(path.into()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Layout(folder, None) => write!(f, "oci:{}", folder.display()),
            Self::Layout(folder, Some(tag)) => write!(f, "oci:{}:{tag}", folder.display()),
            Self::Web(url) => {
                // A presigned address has its credentials in the query.
                let mut shown = url.clone();
                shown.set_query(None);
                write!(f, "{shown}")
            }
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Registry(reference) => write!(f, "docker://{reference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_a_mark_before_it_changes_nothing() {
        for (text, shown) in [
            ("/models/a", "/models/a"),
            ("file:///models/a", "/models/a"),
            ("oci:layout:v1", "oci:layout:v1"),
            ("oci:layout", "oci:layout"),
            ("https://host/a?token=secret", "https://host/a/"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("docker://localhost:5000/m:1", "docker://localhost:5000/m:1"),
            ("oci://localhost:5000/m:1", "docker://localhost:5000/m:1"),
        ] {
            assert_eq!(Place::parse(text).unwrap().to_string(), shown);
            assert_eq!(Place::parse(&format!("cc+{text}")).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_names_no_source_is_refused() {
        for text in [
            "",
            "cc+",
            "oci:",
            "oci:a:",
            "s3://",
            "s3:///a",
            "s3://a@b/c",
            "ftp://x/y",
            "https://u:p@host/",
            "a\nb",
        ] {
            assert_eq!(Place::parse(text).unwrap_err().code(), "source.place", "{text}");
        }
    }
}
