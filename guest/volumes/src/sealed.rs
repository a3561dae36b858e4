//! Sealed data sets: dm-verity under the root that init-data pins, dm-crypt over that, EROFS.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_core_channel::volume_serial;
use coffer_core_initdata::{SealedData, Volume};
use coffer_core_oci::SealedBlock;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::Keys;
use coffer_sys_dm::{CryptTable, Mapped, VerityTable, map_crypt, map_verity, unmap, verity_is_corrupt};
use coffer_sys_mount::{Flags, block_device_by_serial, mount};

use crate::{One, VolumeError, blocking, key_of, place};

/// How long an attached disk may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sectors of 512 bytes in a block.
const SECTORS: u64 = 8;
/// The key of AES-256-XTS.
const KEY: usize = 64;
/// Where an EROFS superblock is (Linux, fs/erofs/erofs_fs.h).
const SUPERBLOCK: usize = 1024;
const EROFS: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();

/// Maps one under its root and mounts it, read only.
pub(crate) async fn open(
    volume: &Volume,
    with: &SealedData,
    root: &Path,
    keys: &dyn Keys,
) -> Result<(One, String), VolumeError> {
    let name = volume.name.clone();
    let device = {
        let (name, data) = (name.clone(), with.clone());
        blocking(&volume.name, move || find(&name, &data)).await?
    };
    let (_, key) = key_of(&name, &with.key, keys).await?;
    let (at, data, root) = (volume.path.clone(), with.clone(), root.to_owned());
    let how = format!("read only, under the root {}", data.root_hash.hex());
    let one = blocking(&volume.name, move || map_and_mount(name, &at, &device, &data, &key, &root)).await?;
    Ok((one, how))
}

/// The disk, if it is as long as the data set and its tree.
fn find(name: &str, data: &SealedData) -> Result<PathBuf, VolumeError> {
    let serial = volume_serial(name);
    let found = block_device_by_serial(&serial, PATIENCE);
    let device = found.map_err(|why| VolumeError::Missing { name: name.to_owned(), serial, why })?;
    let failed = |source| VolumeError::Disk { name: name.to_owned(), step: "measuring", source };
    let mut file = File::open(&device).map_err(failed)?;
    let found = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let expected = block(data).blob_len();
    match found < expected {
        true => Err(VolumeError::Shrunk { name: name.to_owned(), expected, found }),
        false => Ok(device),
    }
}

fn block(data: &SealedData) -> SealedBlock {
    let (data_blocks, salt, root_hash) = (data.data_blocks, data.salt, data.root_hash);
    SealedBlock { data_blocks, salt, root_hash, key: data.key.clone() }
}

fn map_and_mount(
    name: String,
    at: &str,
    device: &Path,
    data: &SealedData,
    key: &SecretBytes,
    root: &Path,
) -> Result<One, VolumeError> {
    if key.expose().len() != KEY {
        let why = format!("a sealed data set's key has {KEY} bytes, this one has {}", key.expose().len());
        return Err(VolumeError::SealedKey { name, why });
    }
    let map = |why| VolumeError::Map { name: name.clone(), why };
    let mut tree = [0; 32];
    tree.iter_mut().zip(data.root_hash.as_bytes()).for_each(|(to, from)| *to = *from);
    let table = VerityTable {
        data_device: device.to_owned(),
        hash_device: device.to_owned(),
        blocks: data.data_blocks,
        hash_start_block: data.data_blocks,
        root: tree,
        salt: data.salt.to_vec(),
    };
    let verity = map_verity(&format!("coffer-tree-{name}"), &table).map_err(map)?;
    let table = CryptTable { device: verity.path.clone(), sectors: data.data_blocks.saturating_mul(SECTORS) };
    let crypt = map_crypt(&format!("coffer-vol-{name}"), &table, key.expose());
    let crypt = crypt.map_err(map).map_err(|why| undone(&[&verity], why))?;
    match mount_erofs(&name, at, &crypt, root) {
        Ok(target) => {
            let verity_name = Some(verity.name.clone());
            Ok(One { name, mapped: vec![crypt, verity], target, verity: verity_name })
        }
        Err(why) => {
            let why = match verity_is_corrupt(&verity.name) {
                Ok(true) => VolumeError::Corrupt { name },
                _ => why,
            };
            Err(undone(&[&crypt, &verity], why))
        }
    }
}

/// The first error is the one to tell.
fn undone(mapped: &[&Mapped], why: VolumeError) -> VolumeError {
    for mapped in mapped {
        let _first_error_counts = unmap(&mapped.name);
    }
    why
}

fn mount_erofs(name: &str, at: &str, crypt: &Mapped, root: &Path) -> Result<PathBuf, VolumeError> {
    let failed = |source| VolumeError::Disk { name: name.to_owned(), step: "reading", source };
    // A changed block, or another root, is an I/O error here; another key gives no EROFS.
    let mut first = [0; 4096];
    File::open(&crypt.path).and_then(|mut device| device.read_exact(&mut first)).map_err(failed)?;
    if first.get(SUPERBLOCK..).and_then(|rest| rest.first_chunk::<4>()) != Some(&EROFS) {
        let why = "what it decrypts to is no EROFS file system".to_owned();
        return Err(VolumeError::SealedKey { name: name.to_owned(), why });
    }
    let target = place::make(name, root, at)?;
    let flags = Flags::READ_ONLY | Flags::NO_DEVICES | Flags::NO_SUID;
    mount(&crypt.path.display().to_string(), &target, "erofs", flags, "")
        .map_err(|why| VolumeError::Mount { name: name.to_owned(), why })?;
    Ok(target)
}
