//! The parameters of a sealed-block image, in the annotations of its one layer.
//!
//! SPEC: `docs/formats/sealed-blocks.md`. The manifest is what is signed, so the annotations are what the
//! guest trusts; the blob itself is checked block by block against the root hash.

use coffer_core_digest::{Algorithm, Digest};

use crate::manifest::{Annotations, Descriptor, Manifest};
use crate::media;

/// The common beginning of the annotation names.
pub const PREFIX: &str = "dev.coffer.sealed-block.";
/// Data and hash blocks have this many bytes.
pub const BLOCK: u64 = 4096;
/// Digests in one hash block.
pub const HASHES_PER_BLOCK: u64 = 128;
/// The most data blocks: 16 TiB, the most that an EROFS image with 32-bit block addresses has.
pub const MAX_DATA_BLOCKS: u64 = 1 << 32;
/// The longest key name.
pub const MAX_KEY_NAME: usize = 1024;

const VERSION: &str = "version";
const CIPHER: &str = "cipher";
const SECTOR_SIZE: &str = "sector-size";
const DATA_BLOCKS: &str = "data-blocks";
const HASH: &str = "hash";
const HASH_OFFSET: &str = "hash-offset";
const SALT: &str = "salt";
const ROOT_HASH: &str = "root-hash";
const KEY: &str = "key";

/// Why annotations do not describe a sealed-block image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealedBlockError {
    /// An annotation is missing.
    #[error("the sealed-block layer has no annotation {PREFIX}{0}")]
    Missing(&'static str),
    /// A fixed parameter has another value than this version has.
    #[error("{PREFIX}{name} is {found:?}; this version knows only {expected:?}")]
    Unsupported {
        /// The annotation's name.
        name: &'static str,
        /// The only value known.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// A parameter that is not readable.
    #[error("{PREFIX}{name} is {found:?}; expected {expected}")]
    Malformed {
        /// The annotation's name.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// The hash tree is not where the data ends.
    #[error("{PREFIX}hash-offset is {found}; the data ends at {expected}")]
    HashOffset {
        /// Where the data ends.
        expected: u64,
        /// The offset found.
        found: u64,
    },
    /// The blob cannot hold exactly these data blocks and their hash tree.
    #[error("the blob has {found} bytes; its parameters say {expected}")]
    Size {
        /// The size that the parameters say.
        expected: u64,
        /// The size in the descriptor.
        found: u64,
    },
    /// An annotation below our prefix that this version does not know.
    #[error("unknown annotation {0:?}; a newer version may give it a meaning that must not be ignored")]
    Unknown(String),
    /// A sealed-block layer beside other layers.
    #[error("a sealed-block image has exactly one layer; this one has {0}")]
    Layers(usize),
}

/// The parameters of a sealed-block image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBlock {
    /// Blocks of ciphertext before the hash tree.
    pub data_blocks: u64,
    /// Hashed before each block.
    pub salt: [u8; 32],
    /// The root of the dm-verity tree (SHA-256).
    pub root_hash: Digest,
    /// The key's name at the broker, as in `kbs:///default/key/web`.
    pub key: String,
}

impl SealedBlock {
    /// The cipher, in dm-crypt's words.
    pub const CIPHER: &'static str = "aes-256-xts-plain64";

    /// Where the hash tree begins: right after the data.
    pub const fn hash_offset(&self) -> u64 {
        self.data_blocks.saturating_mul(BLOCK)
    }

    /// The number of blocks of the hash tree.
    pub const fn hash_blocks(&self) -> u64 {
        let mut total: u64 = 0;
        let mut level = self.data_blocks;
        while level > 1 {
            level = level.div_ceil(HASHES_PER_BLOCK);
            total = total.saturating_add(level);
        }
        total
    }

    /// The blob's length in bytes.
    pub const fn blob_len(&self) -> u64 {
        self.data_blocks.saturating_add(self.hash_blocks()).saturating_mul(BLOCK)
    }

    /// The annotations that carry the parameters.
    pub fn to_annotations(&self) -> Annotations {
        [
            (VERSION, "1".into()),
            (CIPHER, Self::CIPHER.into()),
            (SECTOR_SIZE, BLOCK.to_string()),
            (DATA_BLOCKS, self.data_blocks.to_string()),
            (HASH, "sha256".into()),
            (HASH_OFFSET, self.hash_offset().to_string()),
            (SALT, hex::encode(self.salt)),
            (ROOT_HASH, self.root_hash.hex()),
            (KEY, self.key.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{PREFIX}{name}"), value))
        .collect()
    }

    /// Reads the parameters from a layer's annotations. Every parameter must be there, and no other below
    /// our prefix.
    pub fn from_annotations(annotations: &Annotations) -> Result<Self, SealedBlockError> {
        let get = |name: &'static str| {
            annotations
                .get(&format!("{PREFIX}{name}"))
                .map(String::as_str)
                .ok_or(SealedBlockError::Missing(name))
        };
        let fixed = |name: &'static str, expected: &'static str| match get(name)? {
            found if found == expected => Ok(()),
            found => Err(SealedBlockError::Unsupported { name, expected, found: short(found) }),
        };
        fixed(VERSION, "1")?;
        let known = [VERSION, CIPHER, SECTOR_SIZE, DATA_BLOCKS, HASH, HASH_OFFSET, SALT, ROOT_HASH, KEY];
        for name in annotations.keys() {
            if name.strip_prefix(PREFIX).is_some_and(|rest| !known.contains(&rest)) {
                return Err(SealedBlockError::Unknown(short(name)));
            }
        }
        fixed(CIPHER, Self::CIPHER)?;
        fixed(SECTOR_SIZE, "4096")?;
        fixed(HASH, "sha256")?;
        let data_blocks = number(DATA_BLOCKS, get(DATA_BLOCKS)?)?;
        if data_blocks == 0 || data_blocks > MAX_DATA_BLOCKS {
            return Err(SealedBlockError::Malformed {
                name: DATA_BLOCKS,
                expected: "between 1 and 2^32",
                found: data_blocks.to_string(),
            });
        }
        let key = get(KEY)?;
        if key.is_empty() || key.len() > MAX_KEY_NAME || key.chars().any(char::is_control) {
            return Err(SealedBlockError::Malformed {
                name: KEY,
                expected: "the name of a key, as in kbs:///default/key/web",
                found: short(key),
            });
        }
        let root = bytes32(ROOT_HASH, get(ROOT_HASH)?)?;
        let root_hash = Digest::from_bytes(Algorithm::Sha256, &root)
            .map_err(|_| malformed_hash(ROOT_HASH, &hex::encode(root)))?;
        let block = Self { data_blocks, salt: bytes32(SALT, get(SALT)?)?, root_hash, key: key.into() };
        let found = number(HASH_OFFSET, get(HASH_OFFSET)?)?;
        if found != block.hash_offset() {
            return Err(SealedBlockError::HashOffset { expected: block.hash_offset(), found });
        }
        Ok(block)
    }

    /// The sealed-block layer of an image and its parameters; `None` if the image is not of this kind.
    pub fn from_manifest(manifest: &Manifest) -> Result<Option<(&Descriptor, Self)>, SealedBlockError> {
        let Some(layer) = manifest.layers.iter().find(|layer| layer.media_type == media::SEALED_BLOCK) else {
            return Ok(None);
        };
        if manifest.layers.len() != 1 {
            return Err(SealedBlockError::Layers(manifest.layers.len()));
        }
        let block = Self::from_annotations(&layer.annotations)?;
        if layer.size != block.blob_len() {
            return Err(SealedBlockError::Size { expected: block.blob_len(), found: layer.size });
        }
        Ok(Some((layer, block)))
    }
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

fn number(name: &'static str, text: &str) -> Result<u64, SealedBlockError> {
    let canonical = !text.is_empty()
        && text.len() <= 20
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten().ok_or_else(|| SealedBlockError::Malformed {
        name,
        expected: "a decimal number",
        found: short(text),
    })
}

fn bytes32(name: &'static str, text: &str) -> Result<[u8; 32], SealedBlockError> {
    let mut bytes = [0; 32];
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if lower => Ok(bytes),
        _ => Err(malformed_hash(name, text)),
    }
}

fn malformed_hash(name: &'static str, text: &str) -> SealedBlockError {
    SealedBlockError::Malformed { name, expected: "64 lower-case hexadecimal digits", found: short(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(data_blocks: u64) -> SealedBlock {
        SealedBlock {
            data_blocks,
            salt: [7; 32],
            root_hash: Digest::sha256(b"root"),
            key: "kbs:///default/key/web".into(),
        }
    }

    #[test]
    fn parameters_read_back_from_annotations() {
        let own = block(1000);
        assert_eq!(SealedBlock::from_annotations(&own.to_annotations()), Ok(own));
    }

    #[test]
    fn tree_sizes_follow_dm_verity() {
        for (data, hashes) in [(1, 0), (2, 1), (128, 1), (129, 3), (16384, 129), (16385, 132)] {
            assert_eq!(block(data).hash_blocks(), hashes, "{data} data blocks");
        }
    }

    #[test]
    fn each_changed_parameter_is_refused_by_its_name() {
        let twins: [(&str, &str, &str); 13] = [
            ("version", "2", "knows only \"1\""),
            ("cipher", "aes-cbc-essiv:sha256", "aes-256-xts-plain64"),
            ("sector-size", "512", "4096"),
            ("hash", "sha1", "sha256"),
            ("data-blocks", "0", "between 1 and"),
            ("data-blocks", "+1000", "decimal"),
            ("data-blocks", "01000", "decimal"),
            ("data-blocks", "4294967297", "between 1 and"),
            ("hash-offset", "4096", "the data ends at"),
            ("salt", "07", "hexadecimal"),
            ("root-hash", "zz", "hexadecimal"),
            ("key", "", "name of a key"),
            ("compression", "lz4", "unknown annotation"),
        ];
        for (name, value, reason) in twins {
            let mut annotations = block(1000).to_annotations();
            annotations.insert(format!("{PREFIX}{name}"), value.into());
            let refusal = SealedBlock::from_annotations(&annotations).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{name}={value}: {refusal}");
        }
        for name in block(1000).to_annotations().keys() {
            let mut annotations = block(1000).to_annotations();
            annotations.remove(name);
            let refusal = SealedBlock::from_annotations(&annotations).unwrap_err();
            assert!(matches!(refusal, SealedBlockError::Missing(_)), "{name}: {refusal}");
        }
    }

    #[test]
    fn second_layer_or_wrong_blob_size_is_refused() {
        let own = block(10);
        let mut layer = Descriptor::new(media::SEALED_BLOCK, Digest::sha256(b"x"), own.blob_len());
        layer.annotations = own.to_annotations();
        let config = Descriptor::of(media::OCI_CONFIG, b"{}");
        let good = Manifest::new(config.clone(), vec![layer.clone()]);
        assert_eq!(SealedBlock::from_manifest(&good).unwrap().unwrap().1, own);
        let two = Manifest::new(config.clone(), vec![layer.clone(), Descriptor::of(media::OCI_LAYER, b"")]);
        assert_eq!(SealedBlock::from_manifest(&two), Err(SealedBlockError::Layers(2)));
        layer.size = own.blob_len() - 1;
        let cut = Manifest::new(config.clone(), vec![layer]);
        assert!(matches!(SealedBlock::from_manifest(&cut), Err(SealedBlockError::Size { .. })));
        let other = Manifest::new(config, vec![Descriptor::of(media::OCI_LAYER, b"")]);
        assert_eq!(SealedBlock::from_manifest(&other), Ok(None));
    }
}
