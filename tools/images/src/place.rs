//! Where images are: `docker://REFERENCE`, `oci:DIRECTORY[:TAG]`, `docker-archive:FILE`, in skopeo's words, and
//! `rootfs:FOLDER` for files that no image has yet.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use coffer_core_oci::{ImageConfig, Reference, ReferenceError};

/// Why a text does not say where an image is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaceError {
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No directory or file after the colon.
    #[error("{0:?} names no path; expected oci:DIRECTORY[:TAG], docker-archive:FILE or rootfs:FOLDER")]
    Path(String),
    /// The tag of a layout has characters that cannot be a tag.
    #[error("{0:?} is not a tag of a layout")]
    Tag(String),
    /// An archive or a folder of files cannot be written.
    #[error("{0:?} can be read, not written; write to oci:DIRECTORY:TAG or docker://REFERENCE")]
    ReadOnly(String),
    /// A path where a place is expected.
    #[error(
        "{0:?} is a path; is it a root file system (rootfs:{0}), a layout (oci:{0}) or an archive (docker-archive:{0})?"
    )]
    Bare(String),
    /// Nothing can be written under a digest before it is known.
    #[error("{0:?} names a digest; write to a tag")]
    Digest(String),
}

/// How to speak to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS, except to registries on this machine.
    Tls,
    /// Plain HTTP: anyone on the path sees and changes what is sent.
    InsecurePlainHttp,
}

/// Where an image is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A registry.
    Registry(Reference, Transport),
    /// A directory in the OCI image layout, and the tag or digest; without one the layout must hold one image.
    Layout(PathBuf, Option<String>),
    /// A file that `docker save` made.
    Archive(PathBuf),
    /// A folder with a root file system, and how the image made of it is run.
    Folder(PathBuf, Option<Box<ImageConfig>>),
}

/// Where an image is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A registry.
    Registry(Reference, Transport),
    /// A directory in the OCI image layout, and the tag.
    Layout(PathBuf, String),
}

impl Source {
    /// Reads `docker://REFERENCE`, `oci:DIRECTORY[:TAG]`, `docker-archive:FILE`, `rootfs:FOLDER` or a bare reference.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (directory, tag) = split_layout(text, rest)?;
            return Ok(Self::Layout(directory, tag));
        }
        if let Some(file) = text.strip_prefix("docker-archive:") {
            if file.is_empty() {
                return Err(PlaceError::Path(text.into()));
            }
            return Ok(Self::Archive(file.into()));
        }
        if let Some(folder) = text.strip_prefix("rootfs:") {
            if folder.is_empty() {
                return Err(PlaceError::Path(text.into()));
            }
            return Ok(Self::Folder(folder.into(), None));
        }
        if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            return Err(PlaceError::Bare(text.into()));
        }
        let reference = Reference::parse(text.strip_prefix("docker://").unwrap_or(text))?;
        Ok(Self::Registry(reference, Transport::Tls))
    }

    /// The same place, spoken to without TLS. No effect on files.
    pub fn insecure_plain_http(self) -> Self {
        match self {
            Self::Registry(reference, _) => Self::Registry(reference, Transport::InsecurePlainHttp),
            other => other,
        }
    }
}

impl Destination {
    /// Reads `docker://REFERENCE`, `oci:DIRECTORY[:TAG]` (tag `latest`) or a bare reference.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        match Source::parse(text)? {
            Source::Registry(reference, _) if reference.digest().is_some() => {
                Err(PlaceError::Digest(text.into()))
            }
            Source::Registry(reference, transport) => Ok(Self::Registry(reference, transport)),
            Source::Layout(_, Some(tag)) if tag.contains(':') => Err(PlaceError::Digest(text.into())),
            Source::Layout(directory, tag) => {
                Ok(Self::Layout(directory, tag.unwrap_or_else(|| "latest".into())))
            }
            Source::Archive(_) | Source::Folder(..) => Err(PlaceError::ReadOnly(text.into())),
        }
    }

    /// The same place, spoken to without TLS. No effect on files.
    pub fn insecure_plain_http(self) -> Self {
        match self {
            Self::Registry(reference, _) => Self::Registry(reference, Transport::InsecurePlainHttp),
            other => other,
        }
    }

    /// The same place, to read from.
    pub fn as_source(&self) -> Source {
        match self {
            Self::Registry(reference, transport) => Source::Registry(reference.clone(), *transport),
            Self::Layout(directory, tag) => Source::Layout(directory.clone(), Some(tag.clone())),
        }
    }
}

/// Splits `DIRECTORY[:TAG]` or `DIRECTORY@sha256:HEX` as skopeo does: at the first colon.
fn split_layout(text: &str, rest: &str) -> Result<(PathBuf, Option<String>), PlaceError> {
    let (directory, tag) = match rest.split_once('@') {
        Some((directory, digest)) if digest.parse::<coffer_core_digest::Digest>().is_ok() => {
            (directory, Some(digest.to_owned()))
        }
        _ => match rest.split_once(':') {
            Some((directory, tag)) => (directory, Some(tag.to_owned())),
            None => (rest, None),
        },
    };
    if directory.is_empty() {
        return Err(PlaceError::Path(text.into()));
    }
    if tag.as_ref().is_some_and(|tag| {
        tag.is_empty() || tag.len() > 512 || tag.chars().any(|c| c.is_control() || c.is_whitespace())
    }) {
        return Err(PlaceError::Tag(text.into()));
    }
    Ok((Path::new(directory).to_path_buf(), tag))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference, _) => write!(f, "docker://{reference}"),
            Self::Layout(directory, None) => write!(f, "oci:{}", directory.display()),
            Self::Layout(directory, Some(tag)) if tag.contains(':') => {
                write!(f, "oci:{}@{tag}", directory.display())
            }
            Self::Layout(directory, Some(tag)) => write!(f, "oci:{}:{tag}", directory.display()),
            Self::Archive(file) => write!(f, "docker-archive:{}", file.display()),
            Self::Folder(folder, _) => write!(f, "rootfs:{}", folder.display()),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_source().fmt(f)
    }
}

impl FromStr for Source {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::parse(text)
    }
}

impl FromStr for Destination {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_from_their_text() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            "docker://localhost:5000/web:v1",
            "oci:/tmp/layout",
            "oci:layout:v1",
            "docker-archive:/tmp/a.tar",
            "rootfs:/tmp/root",
            &format!("oci:/tmp/layout@sha256:{hex}"),
        ] {
            let place = Source::parse(text).unwrap();
            assert_eq!(place.to_string(), text);
        }
        let bare = Source::parse("localhost:5000/web").unwrap();
        assert_eq!(bare.to_string(), "docker://localhost:5000/web:latest");
    }

    #[test]
    fn what_is_no_place_is_refused_by_its_part() {
        assert!(matches!(Source::parse("oci:"), Err(PlaceError::Path(_))));
        assert!(matches!(Source::parse("oci:dir:"), Err(PlaceError::Tag(_))));
        assert!(matches!(Source::parse("docker://Bad/Name"), Err(PlaceError::Reference(_))));
        for read_only in ["docker-archive:x", "rootfs:x"] {
            assert_eq!(Destination::parse(read_only), Err(PlaceError::ReadOnly(read_only.into())));
        }
        for path in ["./x", "/x", "../x"] {
            assert_eq!(Source::parse(path), Err(PlaceError::Bare(path.into())));
        }
        assert_eq!(
            Destination::parse("oci:dir").unwrap(),
            Destination::Layout("dir".into(), "latest".into())
        );
    }
}
