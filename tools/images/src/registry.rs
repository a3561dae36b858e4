//! Registries (OCI distribution specification 1.1), through oci-client.
//!
//! Nothing that a registry says is believed: bytes are hashed here, whatever the client checked.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use coffer_core_digest::{Digest, Hasher};
use coffer_core_oci::manifest::MAX_DOCUMENT;
use coffer_core_oci::{Descriptor, Reference, media};
use futures::StreamExt;
use oci_client::RegistryOperation;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{ImageError, at};
use crate::layout::{changed, read_bounded};
use crate::place::Transport;
use crate::progress::Progress;

/// Bytes that are sent at a time.
const CHUNK: usize = 4 << 20;
/// Small blobs (configurations, payloads) are not read beyond this.
const MAX_SMALL: u64 = MAX_DOCUMENT as u64;

/// One repository of a registry.
pub(crate) struct Registry {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

impl Registry {
    pub(crate) fn new(reference: &Reference, transport: Transport) -> Self {
        // Without a provider the HTTP client cannot be made; another part of the program may have chosen one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let plain = transport == Transport::InsecurePlainHttp || reference.is_loopback();
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            user_agent: "coffer",
            ..ClientConfig::default()
        };
        let auth = credentials(reference.registry());
        Self { client: Client::new(config), reference: reference.clone(), auth }
    }

    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// A manifest's bytes and digest; `None` if the registry has none of this name.
    pub(crate) async fn manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<(Vec<u8>, Digest)>, ImageError> {
        let answer = self.client.pull_manifest_raw(&theirs(reference), &self.auth, &media::ACCEPTED).await;
        let bytes = match answer {
            Ok((bytes, _)) => bytes,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.refuse(error)),
        };
        let found = match reference.digest() {
            Some(expected) => {
                let found = Digest::of(expected.algorithm(), &bytes);
                if found != *expected {
                    return Err(changed(expected, found));
                }
                found
            }
            None => Digest::sha256(&bytes),
        };
        Ok(Some((bytes.to_vec(), found)))
    }

    /// A small blob.
    pub(crate) async fn small(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if blob.size > MAX_SMALL {
            let digest = Box::new(blob.digest);
            return Err(ImageError::Size { digest, expected: MAX_SMALL, found: blob.size });
        }
        let mut bytes = Vec::new();
        self.stream(blob, &Progress::none(), &mut bytes).await?;
        Ok(bytes)
    }

    /// Downloads a blob into a nameless file in `directory`.
    pub(crate) async fn blob(
        &self,
        blob: &Descriptor,
        directory: &Path,
        progress: &Progress,
    ) -> Result<std::fs::File, ImageError> {
        use std::io::Seek;
        let file = tempfile::tempfile_in(directory).map_err(at(directory))?;
        let mut out = tokio::fs::File::from_std(file);
        self.stream(blob, progress, &mut out).await.map_err(|error| match error {
            ImageError::File { source, .. } => at(directory)(source),
            error => error,
        })?;
        let mut file = out.into_std().await;
        file.rewind().map_err(at(directory))?;
        Ok(file)
    }

    async fn stream(
        &self,
        blob: &Descriptor,
        progress: &Progress,
        out: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
    ) -> Result<(), ImageError> {
        let digest = blob.digest.to_string();
        let wrong_size =
            |found| ImageError::Size { digest: Box::new(blob.digest), expected: blob.size, found };
        let temporary = Path::new("a temporary file");
        let mut stream = self
            .client
            .pull_blob_stream(&theirs(&self.reference), digest.as_str())
            .await
            .map_err(|error| self.refuse(error))?;
        let mut hasher = Hasher::new(blob.digest.algorithm());
        let mut size = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| self.message(error.to_string()))?;
            size += piece.len() as u64;
            if size > blob.size {
                return Err(wrong_size(size));
            }
            hasher.update(&piece);
            out.write_all(&piece).await.map_err(at(temporary))?;
            progress.step("fetch", &short(&blob.digest), size, Some(blob.size));
        }
        out.flush().await.map_err(at(temporary))?;
        if size != blob.size {
            return Err(wrong_size(size));
        }
        let found = hasher.finish();
        if found == blob.digest { Ok(()) } else { Err(changed(&blob.digest, found)) }
    }

    /// Uploads a blob unless the registry has it.
    pub(crate) async fn push_blob(
        &self,
        blob: &Descriptor,
        path: PathBuf,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let image = theirs(&self.reference);
        let digest = blob.digest.to_string();
        self.sign_in().await?;
        if self.client.blob_exists(&image, &digest).await.map_err(|error| self.refuse(error))? {
            return Ok(());
        }
        let file = tokio::fs::File::open(&path).await.map_err(at(&path))?;
        let (item, total, progress) = (short(&blob.digest), blob.size, progress.clone());
        let pieces = futures::stream::unfold((file, 0_u64), move |(mut file, done)| {
            let (item, progress) = (item.clone(), progress.clone());
            async move {
                let mut piece = Vec::with_capacity(CHUNK);
                match (&mut file).take(CHUNK as u64).read_to_end(&mut piece).await {
                    Ok(0) => None,
                    Ok(read) => {
                        let done = done + read as u64;
                        progress.step("push", &item, done, Some(total));
                        Some((Ok(Bytes::from(piece)), (file, done)))
                    }
                    Err(error) => Some((Err(OciDistributionError::IoError(error)), (file, done))),
                }
            }
        });
        self.client
            .push_blob_stream(&image, pieces, &digest, Some(blob.size))
            .await
            .map_err(|error| self.refuse(error))?;
        Ok(())
    }

    /// Uploads a manifest under a tag or its digest.
    pub(crate) async fn push_manifest(
        &self,
        reference: &Reference,
        bytes: Vec<u8>,
        media_type: &str,
    ) -> Result<(), ImageError> {
        self.sign_in().await?;
        let media_type = media_type.parse().map_err(|_| self.message("unusable media type".into()))?;
        self.client
            .push_manifest_raw(&theirs(reference), bytes, media_type)
            .await
            .map_err(|error| self.refuse(error))?;
        Ok(())
    }

    async fn sign_in(&self) -> Result<(), ImageError> {
        self.client
            .auth(&theirs(&self.reference), &self.auth, RegistryOperation::Push)
            .await
            .map_err(|error| self.refuse(error))?;
        Ok(())
    }

    fn refuse(&self, error: OciDistributionError) -> ImageError {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        self.message(message)
    }

    fn message(&self, message: String) -> ImageError {
        ImageError::Registry { registry: self.reference.registry().into(), message }
    }
}

fn is_missing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            matches!(
                error.code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
            )
        }),
        _ => false,
    }
}

fn theirs(reference: &Reference) -> oci_client::Reference {
    let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => oci_client::Reference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => oci_client::Reference::with_tag(registry, repository, tag.unwrap_or("latest").into()),
    }
}

pub(crate) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// What `docker login`, `skopeo login` and the like stored for a registry.
fn credentials(registry: &str) -> RegistryAuth {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let files = [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        variable("DOCKER_CONFIG").map(|directory| directory.join("config.json")),
        variable("HOME").map(|directory| directory.join(".docker/config.json")),
    ];
    files
        .into_iter()
        .flatten()
        .filter_map(|path| read_bounded(&path, 1 << 20).ok())
        .find_map(|text| credentials_in(&text, registry))
        .unwrap_or(RegistryAuth::Anonymous)
}

fn credentials_in(text: &[u8], registry: &str) -> Option<RegistryAuth> {
    let config: serde_json::Value = serde_json::from_slice(text).ok()?;
    let names: &[&str] = match registry {
        "docker.io" => &["docker.io", "index.docker.io", "https://index.docker.io/v1/"],
        other => &[other],
    };
    let entry = names.iter().find_map(|name| config.get("auths")?.get(name)?.get("auth")?.as_str())?;
    let pair = String::from_utf8(STANDARD.decode(entry).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(RegistryAuth::Basic(user.into(), password.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_credentials_are_those_of_the_registry_only() {
        let text = br#"{"auths":{"r.example":{"auth":"dXNlcjpwOnc="},"https://index.docker.io/v1/":{"auth":"YTpi"}}}"#;
        let basic = |user: &str, password: &str| Some(RegistryAuth::Basic(user.into(), password.into()));
        assert!(credentials_in(text, "r.example") == basic("user", "p:w"));
        assert!(credentials_in(text, "docker.io") == basic("a", "b"));
        assert!(credentials_in(text, "other.example").is_none());
        assert!(credentials_in(b"not json", "r.example").is_none());
    }
}
