//! Blobs that the host serves over the channel, by digest. The image store checks every byte.

use bytes::Bytes;
use coffer_core_channel::{BlobReply, BlobRequest, Frame, FrameReader, Kind, Open};
use coffer_core_digest::Digest;
use coffer_guest_images::{BlobSource, Chunks, ImageError, ImageFault, MAX_SIGNATURES, Pending};
use futures::{AsyncReadExt, AsyncWriteExt};
use yamux::Stream;

use crate::channel::Link;

/// What is read from a stream at once.
const PIECE: usize = 64 << 10;

/// The host's blobs of one image.
pub(crate) struct HostBlobs {
    link: Link,
    manifest: Digest,
    signatures: Vec<Digest>,
}

impl HostBlobs {
    pub(crate) fn new(link: Link, manifest: Digest, signatures: Vec<Digest>) -> Self {
        Self { link, manifest, signatures }
    }

    async fn get(&self, digest: &Digest) -> Result<Box<dyn Chunks>, ImageError> {
        let gone = || fault("the channel ended");
        let mut stream = self.link.open().await.ok_or_else(gone)?;
        let request = Open::Blob(BlobRequest { digest: digest.to_string() });
        let request = Frame::json(Kind::Open, &request).and_then(|frame| frame.encode());
        let request = request.map_err(|why| fault(&why.to_string()))?;
        stream.write_all(&request).await.map_err(|why| fault(&why.to_string()))?;
        stream.flush().await.map_err(|why| fault(&why.to_string()))?;
        let mut blob = Blob { stream, frames: FrameReader::default() };
        let reply = blob.frame().await?;
        match (reply.kind, reply.parse()) {
            (Kind::Reply, Ok(BlobReply::Size(_))) => Ok(Box::new(blob)),
            (Kind::Reply, Ok(BlobReply::Missing)) => {
                let (source_name, what) = (self.name(), format!("the blob {digest}"));
                Err(Box::new(ImageFault::Missing { source_name, what }))
            }
            _ => Err(fault("it answers otherwise than asked")),
        }
    }
}

fn fault(why: &str) -> ImageError {
    Box::new(ImageFault::Channel { why: why.to_owned() })
}

impl BlobSource for HostBlobs {
    fn name(&self) -> String {
        "the host".into()
    }

    fn document(&self) -> Pending<'_, Box<dyn Chunks>> {
        Box::pin(self.get(&self.manifest))
    }

    fn document_digest(&self) -> Option<Digest> {
        Some(self.manifest)
    }

    fn manifest<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>> {
        Box::pin(self.get(digest))
    }

    fn blob<'a>(&'a self, digest: &'a Digest) -> Pending<'a, Box<dyn Chunks>> {
        Box::pin(self.get(digest))
    }

    fn signatures<'a>(&'a self, _: &'a Digest) -> Pending<'a, Vec<Box<dyn Chunks>>> {
        Box::pin(async move {
            let mut found = Vec::new();
            // Each is a stream: no more are opened than will be looked at.
            for digest in self.signatures.iter().take(MAX_SIGNATURES) {
                found.push(self.get(digest).await?);
            }
            Ok(found)
        })
    }
}

struct Blob {
    stream: Stream,
    frames: FrameReader,
}

impl Blob {
    async fn frame(&mut self) -> Result<Frame, ImageError> {
        let mut piece = vec![0; PIECE];
        loop {
            if let Some(frame) = self.frames.next().map_err(|why| fault(&why.to_string()))? {
                return Ok(frame);
            }
            match self.stream.read(&mut piece).await {
                Ok(0) => return Err(fault("the blob ended early")),
                Ok(count) => self.frames.push(piece.get(..count).unwrap_or_default()),
                Err(why) => return Err(fault(&why.to_string())),
            }
        }
    }
}

impl Chunks for Blob {
    fn next(&mut self) -> Pending<'_, Option<Bytes>> {
        Box::pin(async move {
            let frame = self.frame().await?;
            match frame.kind {
                Kind::Data if frame.payload.is_empty() => Ok(None),
                Kind::Data => Ok(Some(frame.payload.into())),
                _ => Err(fault("it sends other frames than data")),
            }
        })
    }
}
