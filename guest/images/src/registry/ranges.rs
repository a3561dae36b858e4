//! Parts of a blob by HTTP range requests (RFC 9110, section 14), as registries offer them for blobs (OCI distribution
//! specification 1.1, "Pulling blobs": `Range` is optional, so a registry without is one that gives blobs whole).

use bytes::{Bytes, BytesMut};
use coffer_core_oci::Descriptor;
use reqwest::header::{self, HeaderValue};
use reqwest::{Response, StatusCode};

use super::{ATTEMPTS, Registry, client};
use crate::lazy::{PIECE, Parts, Ranges};
use crate::source::Pending;
use crate::{ImageError, ImageFault};

/// One blob of a registry.
struct Blob {
    registry: Registry,
    path: String,
    what: String,
    size: u64,
}

/// A blob's first part, if the registry gives it without the rest.
pub(super) async fn parts(registry: &Registry, blob: &Descriptor) -> Result<Option<Parts>, ImageError> {
    // Connections belong to the runtime that made them, and parts are asked for from another one.
    let client = client(&registry.access, registry.plain_http)?;
    let part = |registry: Registry| Blob {
        registry,
        path: format!("/blobs/{}", blob.digest),
        what: format!("the blob {}", blob.digest),
        size: blob.size,
    };
    let length = usize::try_from(blob.size).unwrap_or(PIECE).min(PIECE);
    match part(registry.clone()).part(0, length).await {
        Ok(Some(first)) => {
            let ranges = Box::new(part(Registry { client, ..registry.clone() }));
            Ok(Some(Parts { size: blob.size, first, ranges }))
        }
        Ok(None) => Ok(None),
        Err(why) => Err(why),
    }
}

impl Blob {
    /// The bytes from `offset`; `None` from a registry that answers with all of the blob.
    async fn part(&self, offset: u64, length: usize) -> Result<Option<Bytes>, ImageError> {
        let mut attempt = 1;
        loop {
            match self.attempt(offset, length).await {
                Err(why) if attempt < ATTEMPTS && passes(&why) => attempt = attempt.saturating_add(1),
                ended => return ended,
            }
        }
    }

    async fn attempt(&self, offset: u64, length: usize) -> Result<Option<Bytes>, ImageError> {
        let last = offset.saturating_add(length as u64).saturating_sub(1);
        let range = HeaderValue::try_from(format!("bytes={offset}-{last}"));
        let range = range.map_err(|_| self.registry.status(&self.what, StatusCode::RANGE_NOT_SATISFIABLE))?;
        let mut reply = self.registry.get_part(&self.path, "*/*", &self.what, Some(&range)).await?;
        if reply.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(None);
        }
        if !is_of(&reply, offset, last, self.size) {
            return Err(self.registry.status(&format!("another part of {}", self.what), reply.status()));
        }
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(piece) = reply.chunk().await.map_err(|cause| self.registry.failed(&cause))? {
            if bytes.len().saturating_add(piece.len()) > length {
                return Err(self.size(length, bytes.len().saturating_add(piece.len())));
            }
            bytes.extend_from_slice(&piece);
        }
        match bytes.len() == length {
            true => Ok(Some(bytes.freeze())),
            false => Err(self.size(length, bytes.len())),
        }
    }

    fn size(&self, expected: usize, found: usize) -> ImageError {
        let what = format!("a part of {}", self.what);
        Box::new(ImageFault::Size { what, expected: expected as u64, found: found as u64 })
    }
}

impl Ranges for Blob {
    fn range(&self, offset: u64, length: usize) -> Pending<'_, Bytes> {
        Box::pin(async move {
            let part = self.part(offset, length).await?;
            // It gave parts before.
            part.ok_or_else(|| self.registry.status(&format!("a part of {}", self.what), StatusCode::OK))
        })
    }
}

/// Whether another trial may mend it: an answer that broke off. What `get` tried often enough is not tried again.
fn passes(why: &ImageFault) -> bool {
    matches!(why, ImageFault::Size { .. } | ImageFault::Unreachable { .. })
}

/// Whether an answer says that it is of these bytes (RFC 9110, section 14.4).
fn is_of(reply: &Response, first: u64, last: u64, size: u64) -> bool {
    let said = reply.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    said == Some(&format!("bytes {first}-{last}/{size}"))
}
