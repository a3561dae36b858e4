//! Sealed data sets: dm-verity under the root that init-data pins, dm-crypt over that, EROFS.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_core_channel::volume_serial;
use coffer_core_initdata::{SealedData, Volume};
use coffer_core_oci::SealedBlock;
use coffer_core_secret::SecretBytes;
use coffer_guest_attest::Keys;
use coffer_guest_sealed_block::{self as sealed_block, OpenError, Opened};
use coffer_sys_dm::{Mapped, verity_is_corrupt};
use coffer_sys_mount::{Flags, block_device_by_serial, mount};

use crate::{One, VolumeError, blocking, key_of, place};

/// How long an attached disk may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let [tree, top] = [format!("coffer-tree-{name}"), format!("coffer-vol-{name}")];
    let opened = sealed_block::open([&tree, &top], device, &block(data), key);
    let opened = opened.map_err(|why| refused(&name, why))?;
    match mount_erofs(&name, at, &opened.crypt, root) {
        Ok(target) => {
            let Opened { verity, crypt } = opened;
            let verity_name = Some(verity.name.clone());
            Ok(One { name, mapped: vec![crypt, verity], target, verity: verity_name })
        }
        Err(why) => {
            let why = match verity_is_corrupt(&opened.verity.name) {
                Ok(true) => VolumeError::Corrupt { name },
                _ => why,
            };
            opened.undo();
            Err(why)
        }
    }
}

fn refused(name: &str, why: OpenError) -> VolumeError {
    let name = name.to_owned();
    match why {
        OpenError::KeyLength { .. } | OpenError::WrongKey => {
            VolumeError::SealedKey { name, why: why.to_string() }
        }
        OpenError::Corrupt => VolumeError::Corrupt { name },
        OpenError::Read(source) => VolumeError::Disk { name, step: "reading", source },
        OpenError::Map(why) => VolumeError::Map { name, why },
    }
}

fn mount_erofs(name: &str, at: &str, crypt: &Mapped, root: &Path) -> Result<PathBuf, VolumeError> {
    let target = place::make(name, root, at)?;
    let flags = Flags::READ_ONLY | Flags::NO_DEVICES | Flags::NO_SUID;
    mount(&crypt.path.display().to_string(), &target, "erofs", flags, "")
        .map_err(|why| VolumeError::Mount { name: name.to_owned(), why })?;
    Ok(target)
}
