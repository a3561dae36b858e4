//! Media types (OCI image specification 1.1, `media-types.md`; Docker registry image manifest v2, schema 2).

/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An OCI layer: tar, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer: tar and gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer: tar and zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// A Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A Docker layer: tar, not compressed.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A Docker layer: tar and gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A simple-signing payload, as cosign stores it in a layer.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// A whole image as ciphertext blocks and a hash tree (`docs/formats/sealed-blocks.md`).
pub const SEALED_BLOCK: &str = "application/vnd.coffer.image.sealed-block.v1";

/// The manifest types that a client of ours accepts from a registry.
pub const ACCEPTED: [&str; 4] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];

/// What ocicrypt appends to the media type of an encrypted layer.
pub const ENCRYPTED: &str = "+encrypted";

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, possibly of many members.
    Gzip,
    /// zstd, possibly of many frames.
    Zstd,
}

/// What a layer's media type says about its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A tar of changes, readable by everyone.
    Tar(Compression),
    /// A tar of changes, encrypted with the ocicrypt scheme after compression.
    Encrypted(Compression),
    /// A sealed-block image.
    SealedBlock,
    /// A cosign simple-signing payload.
    SimpleSigning,
}

impl LayerKind {
    /// Reads a media type; `None` for one that no program of ours understands.
    pub fn of(media_type: &str) -> Option<Self> {
        if let Some(inner) = media_type.strip_suffix(ENCRYPTED) {
            return match Self::of(inner) {
                Some(Self::Tar(compression)) => Some(Self::Encrypted(compression)),
                _ => None,
            };
        }
        match media_type {
            OCI_LAYER | DOCKER_LAYER => Some(Self::Tar(Compression::None)),
            OCI_LAYER_GZIP | DOCKER_LAYER_GZIP => Some(Self::Tar(Compression::Gzip)),
            OCI_LAYER_ZSTD => Some(Self::Tar(Compression::Zstd)),
            SEALED_BLOCK => Some(Self::SealedBlock),
            SIMPLE_SIGNING => Some(Self::SimpleSigning),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_a_suffix_of_tar_layers_only() {
        assert_eq!(
            LayerKind::of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            Some(LayerKind::Encrypted(Compression::Gzip))
        );
        assert_eq!(
            LayerKind::of("application/vnd.oci.image.layer.v1.tar+zstd"),
            Some(LayerKind::Tar(Compression::Zstd))
        );
        assert_eq!(LayerKind::of("application/vnd.coffer.image.sealed-block.v1+encrypted"), None);
        assert_eq!(LayerKind::of("application/vnd.oci.image.layer.v1.tar+encrypted+encrypted"), None);
        assert_eq!(LayerKind::of("text/plain"), None);
    }
}
