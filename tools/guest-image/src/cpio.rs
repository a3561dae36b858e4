//! The `newc` archive of the kernel's initramfs (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Everything that could differ between two builds is fixed: owner 0, time 0, inode numbers in the order of names.

use std::collections::BTreeMap;

use crate::error::GuestImageError;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive under construction; names are sorted however they are added.
#[derive(Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    content: Vec<u8>,
}

impl Archive {
    pub(crate) fn directory(&mut self, name: &str, permissions: u32) {
        self.entries.insert(name.into(), Entry { mode: DIRECTORY | permissions, content: Vec::new() });
    }

    pub(crate) fn file(&mut self, name: &str, permissions: u32, content: Vec<u8>) {
        self.entries.insert(name.into(), Entry { mode: REGULAR | permissions, content });
    }

    /// The archive's bytes.
    pub(crate) fn finish(self) -> Result<Vec<u8>, GuestImageError> {
        let mut out = Vec::new();
        for (inode, (name, entry)) in (1u32..).zip(&self.entries) {
            append(&mut out, inode, name, entry)?;
        }
        append(&mut out, 0, "TRAILER!!!", &Entry { mode: 0, content: Vec::new() })?;
        Ok(out)
    }
}

fn append(out: &mut Vec<u8>, inode: u32, name: &str, entry: &Entry) -> Result<(), GuestImageError> {
    let too_large = |size| GuestImageError::TooLarge { name: name.into(), size };
    let size = u32::try_from(entry.content.len()).map_err(|_| too_large(entry.content.len()))?;
    let name_size = u32::try_from(name.len() + 1).map_err(|_| too_large(name.len()))?;
    let links = if entry.mode & DIRECTORY != 0 && entry.mode & REGULAR == 0 { 2 } else { 1 };
    // inode, mode, uid, gid, links, mtime, size, device (4), name size, check
    let fields = [inode, entry.mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.content);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let mut one = Archive::default();
        one.directory("etc", 0o755);
        one.file("etc/a", 0o644, b"a".to_vec());
        one.file("init", 0o755, b"#".to_vec());
        let mut other = Archive::default();
        other.file("init", 0o755, b"#".to_vec());
        other.file("etc/a", 0o644, b"a".to_vec());
        other.directory("etc", 0o755);
        assert_eq!(one.finish().unwrap(), other.finish().unwrap());
    }

    #[test]
    fn a_header_is_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"abcde".to_vec());
        let bytes = archive.finish().unwrap();
        let header = "070701\
            00000001000081ed00000000000000000000000100000000\
            00000005000000000000000000000000000000000000000500000000";
        assert_eq!(std::str::from_utf8(&bytes[..110]).unwrap(), header);
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..124], b"abcde\0\0\0");
        assert!(bytes.len().is_multiple_of(4));
    }
}
