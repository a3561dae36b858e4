//! One volume's disk: found, read, unlocked, its record written, mapped.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use coffer_core_channel::volume_serial;
use coffer_core_initdata::VolumeAccess;
use coffer_core_luks::{Generation, GenerationKey, Integrity, LuksError, RECORDS, Record, Unlocked, read};
use coffer_core_secret::SecretBytes;
use coffer_sys_dm::{Access, IntegrityTable, Mapped, VolumeTable, map_volume};
use coffer_sys_mount::block_device_by_serial;

use crate::VolumeError;
use crate::integrity::{self, Content};

/// How long an attached disk may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The unit of device mapper's tables.
const SECTOR: u64 = 512;

/// A volume's disk whose header was accepted.
pub(crate) struct Disk {
    name: String,
    access: VolumeAccess,
    path: PathBuf,
    file: File,
    header: coffer_core_luks::Volume,
    /// The device's bytes.
    length: u64,
}

/// A disk whose key is known.
pub(crate) struct Opened {
    disk: Disk,
    unlocked: Unlocked,
}

impl Disk {
    /// Finds the disk that the host attached, and reads its header.
    pub(crate) fn find(name: &str, access: VolumeAccess) -> Result<Self, VolumeError> {
        let serial = volume_serial(name);
        let found = block_device_by_serial(&serial, PATIENCE);
        let path = found.map_err(|why| VolumeError::Missing { name: name.to_owned(), serial, why })?;
        Self::at(name, access, path)
    }

    /// Reads the header of a disk or file.
    pub(crate) fn at(name: &str, access: VolumeAccess, path: PathBuf) -> Result<Self, VolumeError> {
        let name = name.to_owned();
        let failed = |step| {
            let name = name.clone();
            move |source| VolumeError::Disk { name, step, source }
        };
        let writable = access == VolumeAccess::ReadWrite;
        let mut file = File::options().read(true).write(writable).open(&path).map_err(failed("opening"))?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed("measuring"))?;
        let header = read(&mut file).map_err(|why| VolumeError::Luks { name: name.clone(), why })?;
        Ok(Self { name, access, path, file, header, length })
    }

    pub(crate) fn unlock(mut self, key: &SecretBytes) -> Result<Opened, VolumeError> {
        let unlocked = self.header.unlock(&mut self.file, key);
        let unlocked = unlocked.map_err(|why| VolumeError::Luks { name: self.name.clone(), why })?;
        Ok(Opened { disk: self, unlocked })
    }
}

impl Opened {
    pub(crate) fn name(&self) -> &str {
        &self.disk.name
    }

    fn luks(&self) -> impl Fn(LuksError) -> VolumeError {
        |why| VolumeError::Luks { name: self.disk.name.clone(), why }
    }

    fn io(&self, step: &'static str) -> impl Fn(io::Error) -> VolumeError {
        move |source| VolumeError::Disk { name: self.disk.name.clone(), step, source }
    }

    fn records(&self) -> Result<(u64, GenerationKey), VolumeError> {
        let at = self.disk.header.records_offset().map_err(self.luks())?;
        let key = GenerationKey::derive(&self.unlocked.key, self.disk.header.uuid()).map_err(self.luks())?;
        Ok((at, key))
    }

    /// The authentic records.
    pub(crate) fn record(&self) -> Result<Record, VolumeError> {
        let (at, key) = self.records()?;
        let mut area = vec![0; RECORDS];
        let mut file = &self.disk.file;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut area))
            .map_err(self.io("reading"))?;
        key.decode(&area).ok_or_else(|| VolumeError::NoRecord { name: self.disk.name.clone() })
    }

    /// Writes a record. When this returns, the disk has it.
    pub(crate) fn write_record(&self, generation: &Generation) -> Result<(), VolumeError> {
        let (at, key) = self.records()?;
        let (offset, block) = key.encode(generation);
        let mut file = &self.disk.file;
        file.seek(SeekFrom::Start(at.saturating_add(offset)))
            .and_then(|_| file.write_all(&block))
            .and_then(|()| file.sync_all())
            .map_err(self.io("writing the generation to"))
    }

    /// Maps what is decrypted, the topmost device first.
    pub(crate) fn map(&self, content: Content) -> Result<Vec<Mapped>, VolumeError> {
        let access = match self.disk.access {
            VolumeAccess::ReadWrite => Access::ReadWrite,
            VolumeAccess::ReadOnly => Access::ReadOnly,
        };
        let (name, header) = (&self.disk.name, &self.disk.header);
        let (device, sector_size) = (self.disk.path.clone(), header.sector_size());
        let offset = header.data_offset() / SECTOR;
        let size = u64::from(sector_size).max(SECTOR);
        let data = self.disk.length.saturating_sub(header.data_offset());
        let sectors = data.checked_div(size).unwrap_or_default().saturating_mul(size) / SECTOR;
        if let Some(mac) = &self.unlocked.mac {
            let both = SecretBytes::new([&self.unlocked.key.expose()[..], &mac.expose()[..]].concat());
            let part = IntegrityTable { device, offset, sectors, sector_size, access };
            return integrity::map(name, &part, both.expose(), content);
        }
        let table = VolumeTable { device, offset, sectors, sector_size, access };
        map_volume(&format!("coffer-vol-{name}"), &table, self.unlocked.key.expose())
            .map(|mapped| vec![mapped])
            .map_err(|why| VolumeError::Map { name: name.clone(), why })
    }

    pub(crate) const fn integrity(&self) -> Integrity {
        self.disk.header.integrity()
    }
}
