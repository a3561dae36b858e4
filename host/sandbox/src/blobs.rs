//! Blobs of an OCI layout or of the host's cache, by digest, for the guest.
//!
//! TRUST: the guest is another party. It can ask for any digest and gets what the layout has under that name, or what
//! of the cache belongs to its image, and nothing else: the path is made of the parsed digest's own hexadecimal digits, links are not followed, and only
//! regular files are served. The guest checks what it gets; nothing is hashed here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_core_channel::{BlobReply, BlobRequest, Frame, FrameReader, Kind, Open};
use coffer_core_digest::{Algorithm, Digest};
use coffer_host_cache::Blob;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

/// How many blobs are served at once; more wait.
const AT_ONCE: usize = 16;
/// The data in one frame.
const PIECE: usize = 256 << 10;
/// The longest request, in bytes.
const MAX_REQUEST: usize = 4096;

/// What the guest may ask for.
#[derive(Clone)]
pub(crate) struct Blobs {
    layout: Option<PathBuf>,
    documents: Arc<[Blob]>,
    places: Arc<Semaphore>,
}

impl Blobs {
    pub(crate) fn new(layout: Option<PathBuf>, documents: Vec<Blob>) -> Self {
        Self { layout, documents: documents.into(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Opens a blob and says its size; `None` for what is in neither place.
    fn open(&self, digest: &str) -> Option<(File, u64)> {
        let digest: Digest = digest.parse().ok()?;
        if digest.algorithm() == Algorithm::Sha1 {
            return None;
        }
        let cached = self.documents.iter().find(|blob| *blob.digest() == digest).and_then(Blob::path);
        let in_layout =
            || Some(self.layout.as_ref()?.join("blobs").join(digest.algorithm().name()).join(digest.hex()));
        let path = cached.or_else(in_layout)?;
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let data = file.metadata().ok()?;
        data.is_file().then_some((file, data.len()))
    }

    /// Answers one request on the stream that the guest opened for it.
    pub(crate) async fn serve(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        request: &BlobRequest,
    ) -> io::Result<()> {
        let _place = self.places.acquire().await.map_err(io::Error::other)?;
        let Some((file, size)) = self.open(&request.digest) else {
            send_json(&mut stream, &BlobReply::Missing).await?;
            return stream.close().await;
        };
        send_blob(&mut stream, file, size).await?;
        stream.close().await
    }
}

async fn send_blob(stream: &mut (impl AsyncWrite + Unpin), file: File, size: u64) -> io::Result<()> {
    send_json(stream, &BlobReply::Size(size)).await?;
    let mut file = tokio::fs::File::from_std(file).take(size);
    let mut left = size;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read as u64);
        send(stream, Kind::Data, piece.get(..read).unwrap_or_default()).await?;
    }
    if left > 0 {
        // Ending without the empty frame tells the guest that the blob is not whole.
        return Err(io::Error::other("the blob became shorter while it was served"));
    }
    send(stream, Kind::Data, &[]).await
}

/// What the guest opened a stream for.
pub(crate) async fn read_open(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Open> {
    let mut reader = FrameReader::default();
    let mut piece = [0; 512];
    let mut total = 0usize;
    loop {
        if let Some(frame) = reader.next().map_err(io::Error::other)? {
            return match frame.kind {
                Kind::Open => frame.parse().map_err(io::Error::other),
                _ => Err(io::Error::other("the guest opened a stream and did not say what for")),
            };
        }
        let read = stream.read(&mut piece).await?;
        total = total.saturating_add(read);
        if read == 0 || total > MAX_REQUEST {
            return Err(io::Error::other("the guest opened a stream and asked for nothing"));
        }
        reader.push(piece.get(..read).unwrap_or_default());
    }
}

async fn send_json(stream: &mut (impl AsyncWrite + Unpin), reply: &BlobReply) -> io::Result<()> {
    let frame = Frame::json(Kind::Reply, reply).map_err(io::Error::other)?;
    send(stream, frame.kind, &frame.payload).await
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), kind: Kind, payload: &[u8]) -> io::Result<()> {
    let bytes = Frame::bytes(kind, payload).encode().map_err(io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::Path;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    fn layout() -> (tempfile::TempDir, Digest) {
        let root = tempfile::tempdir().unwrap();
        let blobs = root.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let content = vec![7u8; 600_000];
        let digest = Digest::sha256(&content);
        std::fs::write(blobs.join(digest.hex()), content).unwrap();
        std::fs::write(root.path().join("secret"), b"not a blob").unwrap();
        (root, digest)
    }

    async fn ask(root: &Path, digest: &str) -> (Option<BlobReply>, Vec<u8>, bool) {
        let (guest, host) = tokio::io::duplex(1 << 16);
        let blobs = Blobs::new(Some(root.to_owned()), Vec::new());
        let server = tokio::spawn(async move {
            let mut host = host.compat();
            match read_open(&mut host).await? {
                Open::Blob(request) => blobs.serve(host, &request).await,
                other => Err(io::Error::other(format!("{other:?}"))),
            }
        });
        let mut guest = guest.compat();
        let open = Open::Blob(BlobRequest { digest: digest.into() });
        let bytes = Frame::json(Kind::Open, &open).unwrap().encode().unwrap();
        guest.write_all(&bytes).await.unwrap();
        let mut all = Vec::new();
        guest.read_to_end(&mut all).await.unwrap();
        let _ = server.await.unwrap();
        let mut frames = FrameReader::default();
        frames.push(&all);
        let (mut reply, mut data, mut ended) = (None, Vec::new(), false);
        while let Some(frame) = frames.next().unwrap() {
            match frame.kind {
                Kind::Reply => reply = Some(frame.parse().unwrap()),
                Kind::Data if frame.payload.is_empty() => ended = true,
                _ => data.extend(frame.payload),
            }
        }
        (reply, data, ended)
    }

    #[tokio::test]
    async fn a_blob_is_served_whole_and_ended() {
        let (root, digest) = layout();
        let (reply, data, ended) = ask(root.path(), &digest.to_string()).await;
        assert!(matches!(reply, Some(BlobReply::Size(600_000))));
        assert_eq!(Digest::sha256(&data), digest);
        assert!(ended);
    }

    #[tokio::test]
    async fn what_is_not_a_digest_of_the_layout_is_missing() {
        let (root, digest) = layout();
        let link = Digest::sha256(b"link");
        let directory = Digest::sha256(b"directory");
        let blobs = root.path().join("blobs/sha256");
        std::os::unix::fs::symlink(root.path().join("secret"), blobs.join(link.hex())).unwrap();
        std::fs::create_dir(blobs.join(directory.hex())).unwrap();
        let tricks = [
            "sha256:../../secret".to_owned(),
            "../secret".to_owned(),
            format!("sha256:{}/../../../secret", digest.hex()),
            format!("sha256:{}\0", digest.hex()),
            digest.to_string().to_uppercase(),
            digest.to_string().replace("sha256", "sha384"),
            digest.to_string().replace("sha256:", "/"),
            link.to_string(),
            directory.to_string(),
            Digest::sha256(b"absent").to_string(),
            String::new(),
        ];
        for trick in tricks {
            let (reply, data, ended) = ask(root.path(), &trick).await;
            assert!(matches!(reply, Some(BlobReply::Missing)), "{trick}");
            assert!(data.is_empty() && !ended, "{trick}");
        }
    }

    #[tokio::test]
    async fn a_blob_that_became_shorter_is_not_ended() {
        let (root, digest) = layout();
        let (file, size) =
            Blobs::new(Some(root.path().to_owned()), Vec::new()).open(&digest.to_string()).unwrap();
        let mut sent = futures::io::Cursor::new(Vec::new());
        assert!(send_blob(&mut sent, file, size + 1).await.is_err());
        let mut frames = FrameReader::default();
        frames.push(sent.get_ref());
        let mut last = None;
        while let Some(frame) = frames.next().unwrap() {
            last = Some(frame);
        }
        assert!(last.is_some_and(|frame| !frame.payload.is_empty()));
    }

    #[test]
    fn without_a_layout_there_are_no_blobs() {
        let (_root, digest) = layout();
        assert!(Blobs::new(None, Vec::new()).open(&digest.to_string()).is_none());
    }

    #[tokio::test]
    async fn of_the_cache_only_the_image_s_own_blobs_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let cache = coffer_host_cache::Cache::open(coffer_host_cache::Settings::new(folder.path())).unwrap();
        let own = cache.hold_document(b"own").await.unwrap();
        let foreign = cache.hold_document(b"of another image").await.unwrap();
        let blobs = Blobs::new(None, vec![own.clone()]);
        assert_eq!(blobs.open(&own.digest().to_string()).map(|(_, size)| size), Some(3));
        assert!(blobs.open(&foreign.digest().to_string()).is_none());
    }
}
