//! Encrypted volumes in files: made with an empty file system inside, made longer, and looked at without a key; and
//! folders sealed as data sets.
//!
//! INVARIANT: no byte of a file system reaches the file but encrypted. Left out: where keys are kept.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod seal;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use coffer_core_ext4 as ext4;
use coffer_core_luks::{
    DATA_OFFSET, Generation, GenerationKey, LEAST_PASSPHRASE, LuksError, Making, RECORDS, insecure_newest,
    make, read,
};
use coffer_core_seal::erofs::ErofsError;
use coffer_core_seal::sealed::SealError;
use coffer_core_seal::tree::TreeError;
use coffer_core_seal::xts::{Sectors, Xts, XtsError};
use coffer_core_secret::{NoRandomness, Secret, SecretBytes};

pub use seal::{NewDataSet, new_data_key, seal};

/// Sectors of 512 bytes in a block of 4096: the units that tweaks count.
const TWEAKS_PER_BLOCK: u64 = 8;

/// Why a volume is not made or not read.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The header.
    #[error("{}: {source}", path.display())]
    Luks {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: LuksError,
    },
    /// The file system.
    #[error(transparent)]
    Ext4(#[from] ext4::MakeError),
    /// Something that cannot be sealed.
    #[error("{}: {why}", path.display())]
    Entry {
        /// What.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The tree of files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The read-only file system.
    #[error(transparent)]
    Erofs(#[from] ErofsError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The MACs' layout is for one size.
    #[error(
        "{}: a volume with integrity keeps its size; make a larger one, and copy the files in a guest",
        path.display()
    )]
    GrowsNot {
        /// Which file.
        path: PathBuf,
    },
    /// It is as large already.
    #[error("{}: it has room for {found} bytes already; a volume is only made larger", path.display())]
    NotLarger {
        /// Which file.
        path: PathBuf,
        /// The bytes of its data.
        found: u64,
    },
    /// No randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The cipher.
    #[error("encrypting the volume: {0}")]
    Cipher(#[from] XtsError),
}

pub use coffer_core_luks::Integrity;

/// What a volume is made with.
pub struct NewVolume<'a> {
    /// The file, which must not exist.
    pub file: &'a Path,
    /// The volume's label, and its file system's: at most 16 bytes.
    pub name: &'a str,
    /// Bytes of the file system. The file is 16 MiB longer, and with integrity by the MACs and their journal.
    pub size: u64,
    /// The key as the broker keeps it.
    pub key: &'a SecretBytes,
    /// User and group of the file system's root. With integrity it is root's.
    pub owner: (u32, u32),
    /// Whether each sector gets a MAC. If so, the guest that opens the volume first makes MACs and file system.
    pub integrity: Integrity,
}

/// What a volume says of itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct About {
    /// Its UUID.
    pub uuid: String,
    /// Its label.
    pub label: String,
    /// Always the same; others are refused.
    pub cipher: &'static str,
    /// The MAC of each sector, or none.
    pub integrity: &'static str,
    /// The bytes that are encrypted as one piece.
    pub sector_size: u32,
    /// Where the encrypted data begins.
    pub data_offset: u64,
    /// Bytes of encrypted data.
    pub data_size: u64,
    /// How many key slots can be tried.
    pub key_slots: usize,
    /// Whether old copies can be told: the volume has room for generation records.
    pub rollback: Rollback,
}

/// Whether old copies can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rollback {
    /// By the guest, if init-data says so.
    Detectable,
    /// Never: there is no room for generation records.
    InsecureNotDetectable,
}

/// A new volume's key: 32 random bytes.
///
/// # Errors
/// When the system has no randomness.
pub fn new_key() -> Result<SecretBytes, NoRandomness> {
    Ok(SecretBytes::copy_of(Secret::<[u8; LEAST_PASSPHRASE]>::random()?.expose()))
}

/// Makes a volume in a sparse file, and gives its UUID.
///
/// # Errors
/// When the file exists or cannot be written, or a size or name is out of bounds. Nothing is left behind then.
pub fn create(new: &NewVolume<'_>) -> Result<String, VolumeError> {
    let failed = |source| VolumeError::File { path: new.file.to_owned(), source };
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(new.file);
    let file = file.as_mut().map_err(|source| failed(io::Error::new(source.kind(), source.to_string())))?;
    let made = fill(new, file);
    if made.is_err() {
        // The first error is the one to tell.
        let _first_error_counts = fs::remove_file(new.file);
    }
    made
}

fn fill(new: &NewVolume<'_>, file: &mut File) -> Result<String, VolumeError> {
    let failed = |source| VolumeError::File { path: new.file.to_owned(), source };
    let of_header = |source| VolumeError::Luks { path: new.file.to_owned(), source };
    let uuid = uuid()?;
    let text = uuid_text(&uuid);
    let making = Making { uuid: &text, label: new.name, passphrase: new.key, integrity: new.integrity };
    let made = make(&making, &mut random, file).map_err(of_header)?;
    let data = match new.integrity {
        Integrity::None => new.size,
        // A MAC of 32 bytes for 4096, and a journal of less than a hundredth.
        Integrity::HmacSha256 => new.size.saturating_add(new.size / 32).saturating_add(4 << 20),
    };
    if !(ext4::LEAST_SIZE..=ext4::MOST_SIZE).contains(&new.size) {
        return Err(ext4::MakeError::Size { found: new.size }.into());
    }
    file.set_len(DATA_OFFSET.saturating_add(data)).map_err(failed)?;
    let records = GenerationKey::derive(&made.key, &text).map_err(of_header)?;
    let (at, record) = records.encode(&Generation::default());
    let place = read(file).and_then(|volume| volume.records_offset()).map_err(of_header)?;
    file.seek(SeekFrom::Start(place.saturating_add(at)))
        .and_then(|_| file.write_all(&record))
        .map_err(failed)?;
    if new.integrity == Integrity::HmacSha256 {
        // The MACs' layout is the kernel's to make.
        file.sync_all().map_err(failed)?;
        return Ok(text);
    }
    let cipher = Xts::new(&made.key)?;
    let inner = ext4::Making {
        size: new.size,
        uuid: self::uuid()?,
        hash_seed: self::uuid()?,
        label: new.name,
        time: now(),
        owner: new.owner,
        journal: ext4::Journal::Kept,
    };
    ext4::make(&inner, &mut |block, bytes| {
        let mut bytes = bytes.to_vec();
        let tweak = block.saturating_mul(TWEAKS_PER_BLOCK);
        cipher.encrypt_sectors(Sectors::LARGE, tweak, &mut bytes).map_err(io::Error::other)?;
        let at = block.saturating_mul(ext4::BLOCK as u64);
        file.seek(SeekFrom::Start(DATA_OFFSET.saturating_add(at)))?;
        file.write_all(&bytes)
    })?;
    file.sync_all().map_err(failed)?;
    Ok(text)
}

/// Looks at a volume's header.
///
/// # Errors
/// When the file cannot be read, or is not a volume that guests accept.
pub fn inspect(path: &Path) -> Result<About, VolumeError> {
    let failed = |source| VolumeError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let volume = read(&mut file).map_err(|source| VolumeError::Luks { path: path.to_owned(), source })?;
    let rollback = match volume.records_offset() {
        Ok(_) => Rollback::Detectable,
        Err(_) => Rollback::InsecureNotDetectable,
    };
    Ok(About {
        uuid: volume.uuid().to_owned(),
        label: volume.label().to_owned(),
        cipher: "aes-xts-plain64",
        integrity: match volume.integrity() {
            Integrity::None => "none",
            Integrity::HmacSha256 => "hmac-sha256",
        },
        sector_size: volume.sector_size(),
        data_offset: volume.data_offset(),
        data_size: length.saturating_sub(volume.data_offset()),
        key_slots: volume.slots(),
        rollback,
    })
}

/// Makes a volume's file longer, so that its file system may have `size` bytes: a guest takes them up when it opens the
/// volume for writing. Gives the bytes that it had.
///
/// # Errors
/// When the file is no volume that guests accept, or has as many bytes already.
pub fn grow(path: &Path, size: u64) -> Result<u64, VolumeError> {
    let failed = |source| VolumeError::File { path: path.to_owned(), source };
    let mut file = File::options().read(true).write(true).open(path).map_err(failed)?;
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let volume = read(&mut file).map_err(|source| VolumeError::Luks { path: path.to_owned(), source })?;
    let found = length.saturating_sub(volume.data_offset());
    if volume.integrity() != Integrity::None {
        return Err(VolumeError::GrowsNot { path: path.to_owned() });
    }
    // Whole blocks, as the guest maps them.
    let size = size & !(ext4::BLOCK as u64 - 1);
    if size <= found {
        return Err(VolumeError::NotLarger { path: path.to_owned(), found });
    }
    if size > ext4::MOST_SIZE {
        return Err(ext4::MakeError::Size { found: size }.into());
    }
    file.set_len(volume.data_offset().saturating_add(size)).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(found)
}

/// The newest generation that a volume's records tell, whoever wrote them. A guest checks them; this is for the owner
/// who says that a copy is good.
///
/// # Errors
/// When the file cannot be read, or has no records.
pub fn generation(path: &Path) -> Result<Generation, VolumeError> {
    let failed = |source| VolumeError::File { path: path.to_owned(), source };
    let of_header = |source| VolumeError::Luks { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let place = read(&mut file).and_then(|volume| volume.records_offset()).map_err(of_header)?;
    let mut records = vec![0; RECORDS];
    file.seek(SeekFrom::Start(place)).and_then(|_| file.read_exact(&mut records)).map_err(failed)?;
    insecure_newest(&records).ok_or_else(|| of_header(LuksError::NoRecords))
}

fn random(bytes: &mut [u8]) -> Result<(), LuksError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| LuksError::NoRandomness)
}

/// RFC 9562, section 5.4: random, but for version and variant.
fn uuid() -> Result<[u8; 16], NoRandomness> {
    let mut uuid = *Secret::<[u8; 16]>::random()?.expose();
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut uuid;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    Ok(uuid)
}

fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (number, byte) in uuid.iter().enumerate() {
        if [4, 6, 8, 10].contains(&number) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The superblock's times have 32 bits.
fn now() -> u32 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SIZE: u64 = 64 << 20;

    fn made(folder: &Path) -> (PathBuf, SecretBytes) {
        let (file, key) = (folder.join("volume"), new_key().unwrap());
        let new = NewVolume {
            file: &file,
            name: "data",
            size: SIZE,
            key: &key,
            owner: (0, 0),
            integrity: Integrity::None,
        };
        create(&new).unwrap();
        (file, key)
    }

    #[test]
    fn what_is_inside_is_a_clean_file_system_and_only_with_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = made(folder.path());
        let mut volume = File::open(&file).unwrap();
        let header = read(&mut volume).unwrap();
        let unlocked = header.unlock(&mut volume, &key).unwrap();
        let mut data = Vec::new();
        volume.seek(SeekFrom::Start(header.data_offset())).unwrap();
        volume.read_to_end(&mut data).unwrap();
        assert!(!data.windows(10).any(|piece| piece == b"lost+found"), "no plaintext");
        Xts::new(&unlocked.key).unwrap().decrypt_sectors(Sectors::LARGE, 0, &mut data).unwrap();
        assert!(data.windows(10).any(|piece| piece == b"lost+found"));
        let plain = folder.path().join("plain");
        fs::write(&plain, data).unwrap();
        match Command::new("/usr/sbin/e2fsck").arg("-fn").arg(&plain).output() {
            Err(why) => println!("skipped: e2fsck (package e2fsprogs): {why}"),
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        }
        let records = GenerationKey::derive(&unlocked.key, header.uuid()).unwrap();
        let mut area = vec![0; coffer_core_luks::RECORDS];
        volume.seek(SeekFrom::Start(header.records_offset().unwrap())).unwrap();
        volume.read_exact(&mut area).unwrap();
        assert_eq!(records.decode(&area).map(|record| record.newest), Some(Generation::default()));
        assert_eq!(generation(&file).unwrap(), Generation::default());
    }

    #[test]
    fn volume_is_sparse_private_and_shown_without_a_key() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = made(folder.path());
        let about = inspect(&file).unwrap();
        assert_eq!((about.label.as_str(), about.data_size, about.key_slots), ("data", SIZE, 1));
        assert_eq!((about.sector_size, about.rollback), (4096, Rollback::Detectable));
        let data = fs::metadata(&file).unwrap();
        assert_eq!(data.mode() & 0o777, 0o600);
        assert!(data.blocks() * 512 < 20 << 20, "{} bytes", data.blocks() * 512);
    }

    #[test]
    fn volume_with_integrity_has_room_for_macs_and_keeps_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("volume"), new_key().unwrap());
        let integrity = Integrity::HmacSha256;
        let new = NewVolume { file: &file, name: "data", size: SIZE, key: &key, owner: (0, 0), integrity };
        create(&new).unwrap();
        let about = inspect(&file).unwrap();
        assert_eq!((about.integrity, about.rollback), ("hmac-sha256", Rollback::Detectable));
        assert!(about.data_size > SIZE + SIZE / 32);
        assert!(matches!(grow(&file, SIZE * 2), Err(VolumeError::GrowsNot { .. })));
        assert_eq!(generation(&file).unwrap(), Generation::default());
    }

    #[test]
    fn volume_is_made_longer_and_never_shorter() {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = made(folder.path());
        let header = fs::read(&file).unwrap();
        for wrong in [0, SIZE, SIZE + 4095] {
            assert!(matches!(grow(&file, wrong), Err(VolumeError::NotLarger { found: SIZE, .. })), "{wrong}");
        }
        assert!(matches!(grow(&file, u64::MAX), Err(VolumeError::Ext4(_))));
        assert_eq!(grow(&file, SIZE * 2).unwrap(), SIZE);
        assert_eq!(inspect(&file).unwrap().data_size, SIZE * 2);
        let now = fs::read(&file).unwrap();
        assert!(now.starts_with(&header), "what was there is there");
        fs::write(folder.path().join("other"), "no volume").unwrap();
        assert!(matches!(grow(&folder.path().join("other"), SIZE), Err(VolumeError::Luks { .. })));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_made_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = made(folder.path());
        let before = fs::metadata(&file).unwrap().len();
        let new = NewVolume {
            file: &file,
            name: "data",
            size: SIZE * 2,
            key: &key,
            owner: (0, 0),
            integrity: Integrity::None,
        };
        assert!(matches!(create(&new), Err(VolumeError::File { .. })));
        assert_eq!(fs::metadata(&file).unwrap().len(), before);
        let small = folder.path().join("small");
        assert!(matches!(create(&NewVolume { file: &small, size: 4096, ..new }), Err(VolumeError::Ext4(_))));
        assert!(!small.exists());
    }
}
