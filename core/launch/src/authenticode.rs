//! The hash of a PE image that firmware measures before it starts the image.
//!
//! SPEC: Microsoft, "Windows Authenticode Portable Executable Signature Format", section "Calculating the PE
//! Image Hash": the whole file but for the checksum, the certificate table's directory entry and the certificate
//! table itself, sections in the order of their place in the file.

use coffer_core_digest::{Algorithm, Digest, Hasher};

use crate::LaunchError;
use crate::bytes::{slice, u16_at, u32_at, usize_at};

/// Real kernels have fewer than ten.
const MAX_SECTIONS: u16 = 96;
const CERTIFICATE_TABLE: usize = 4;
const DIRECTORY_ENTRY: usize = 8;
const SECTION_HEADER: usize = 40;

/// Hashes `image` as Authenticode does.
pub fn hash(algorithm: Algorithm, image: &[u8]) -> Result<Digest, LaunchError> {
    let layout = Layout::read(image).ok_or(LaunchError::Kernel("its PE header is missing or damaged"))?;
    layout.hash(algorithm, image).ok_or(LaunchError::Kernel("a section lies outside of the file"))
}

/// Where the parts are that are hashed or left out.
struct Layout {
    checksum: usize,
    /// The certificate table's directory entry, if the header has one.
    certificate_entry: Option<usize>,
    certificate_size: usize,
    headers: usize,
    /// Offset and size of each section with content, in file order.
    sections: Vec<(usize, usize)>,
}

impl Layout {
    fn read(image: &[u8]) -> Option<Self> {
        (slice(image, 0, 2)? == b"MZ").then_some(())?;
        let pe = usize_at(image, 0x3c)?;
        (slice(image, pe, 4)? == b"PE\0\0").then_some(())?;
        let count = u16_at(image, pe.checked_add(6)?)?;
        (count <= MAX_SECTIONS).then_some(())?;
        let optional_size = usize::from(u16_at(image, pe.checked_add(20)?)?);
        let optional = pe.checked_add(24)?;
        // PE32 and PE32+ differ in the width of four fields before the directories.
        let (directory_count, directories) = match u16_at(image, optional)? {
            0x10b => (optional.checked_add(92)?, optional.checked_add(96)?),
            0x20b => (optional.checked_add(108)?, optional.checked_add(112)?),
            _ => return None,
        };
        let has_certificates = usize_at(image, directory_count)? > CERTIFICATE_TABLE;
        let entry = directories.checked_add(CERTIFICATE_TABLE.checked_mul(DIRECTORY_ENTRY)?)?;
        let certificate_size = match has_certificates {
            true => usize_at(image, entry.checked_add(4)?)?,
            false => 0,
        };
        let table = optional.checked_add(optional_size)?;
        let mut sections = Vec::new();
        for index in 0..usize::from(count) {
            let header = table.checked_add(index.checked_mul(SECTION_HEADER)?)?;
            let size = usize_at(image, header.checked_add(16)?)?;
            let offset = usize_at(image, header.checked_add(20)?)?;
            if size != 0 {
                sections.push((offset, size));
            }
        }
        sections.sort_unstable();
        Some(Self {
            checksum: optional.checked_add(64)?,
            certificate_entry: has_certificates.then_some(entry),
            certificate_size,
            headers: usize::try_from(u32_at(image, optional.checked_add(60)?)?).ok()?,
            sections,
        })
    }

    fn hash(&self, algorithm: Algorithm, image: &[u8]) -> Option<Digest> {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(image.get(..self.checksum)?);
        let after_checksum = self.checksum.checked_add(4)?;
        match self.certificate_entry {
            Some(entry) => {
                hasher.update(image.get(after_checksum..entry)?);
                hasher.update(image.get(entry.checked_add(DIRECTORY_ENTRY)?..self.headers)?);
            }
            None => hasher.update(image.get(after_checksum..self.headers)?),
        }
        let mut hashed = self.headers;
        for (offset, size) in &self.sections {
            hasher.update(slice(image, *offset, *size)?);
            hashed = hashed.checked_add(*size)?;
        }
        // What lies behind the sections, but for the certificates at the very end.
        let end = image.len().checked_sub(self.certificate_size)?;
        if end > hashed {
            hasher.update(image.get(hashed..end)?);
        }
        Some(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small PE32+ with one section, and certificates of four bytes at its end.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x40;
        image[0x40..0x44].copy_from_slice(b"PE\0\0");
        image[0x46] = 1;
        image[0x54] = 0xf0;
        let optional = 0x58;
        image[optional..optional + 2].copy_from_slice(&0x20bu16.to_le_bytes());
        image[optional + 60..optional + 64].copy_from_slice(&0x200u32.to_le_bytes());
        image[optional + 108] = 16;
        image[optional + 112 + 36] = 4;
        let section = optional + 0xf0;
        image[section + 16..section + 20].copy_from_slice(&0x100u32.to_le_bytes());
        image[section + 20..section + 24].copy_from_slice(&0x200u32.to_le_bytes());
        image
    }

    #[test]
    fn checksum_and_certificates_are_left_out_and_all_else_is_covered() {
        let image = image();
        let good = hash(Algorithm::Sha256, &image).unwrap();
        for at in 0..image.len() {
            let mut other = image.clone();
            other[at] ^= 0x80;
            let same = hash(Algorithm::Sha256, &other) == Ok(good);
            let optional = 0x58;
            let checksum = (optional + 64..optional + 68).contains(&at);
            // The address of the table is left out; its size says how much is left out at the end.
            let entry = (optional + 144..optional + 148).contains(&at);
            let certificates = at >= 0x3fc;
            assert_eq!(same, checksum || entry || certificates, "byte {at:#x}");
        }
    }

    #[test]
    fn sections_outside_of_the_file_are_refused() {
        let mut image = image();
        let section = 0x58 + 0xf0;
        image[section + 20..section + 24].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
        assert!(matches!(hash(Algorithm::Sha256, &image), Err(LaunchError::Kernel(_))));
        assert!(matches!(hash(Algorithm::Sha256, b"MZ"), Err(LaunchError::Kernel(_))));
    }
}
