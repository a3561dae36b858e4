//! The bytes of a device mapper request (`struct dm_ioctl`, `struct dm_target_spec`; linux/dm-ioctl.h).

use crate::DmError;

/// `sizeof(struct dm_ioctl)`.
pub(crate) const HEADER: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const TARGET: usize = 40;
/// `DM_NAME_LEN`, with the final NUL.
const NAME: usize = 128;
/// The interface's major version; minor and patch 0 ask for nothing newer.
const MAJOR: u32 = 4;

/// `DM_READONLY_FLAG`.
pub(crate) const READ_ONLY: u32 = 1;
/// `DM_SUSPEND_FLAG`: with it the command suspends, without it the command resumes.
#[cfg(test)]
pub(crate) const SUSPEND: u32 = 1 << 1;

/// One target over the whole device.
pub(crate) struct Target<'a> {
    /// The target's name: `verity`, `crypt`.
    pub(crate) kind: &'a str,
    /// Length in sectors of 512 bytes.
    pub(crate) sectors: u64,
    /// The target's own parameters.
    pub(crate) parameters: &'a str,
}

/// Encodes a request for a mapping: header, then the target if there is one. `room` bytes are kept for the reply.
pub(crate) fn encode(
    name: &str,
    flags: u32,
    target: Option<&Target<'_>>,
    room: usize,
) -> Result<Vec<u8>, DmError> {
    let invalid = |why: &str| DmError::Invalid { name: name.to_owned(), why: why.to_owned() };
    if name.len() >= NAME {
        return Err(invalid("the name is longer than 127 bytes"));
    }
    if name.is_empty() || name.contains(['/', '\0']) {
        return Err(invalid("the name is empty or has a slash or a zero byte"));
    }
    let mut bytes = vec![0; HEADER];
    if let Some(target) = target {
        if target.kind.len() >= 16 || target.parameters.contains('\0') || target.kind.contains('\0') {
            return Err(invalid("the target's name or parameters do not fit"));
        }
        // Parameters end with NUL; the next target begins at a multiple of 8.
        let length = (TARGET + target.parameters.len() + 1).next_multiple_of(8);
        bytes.extend(0_u64.to_ne_bytes());
        bytes.extend(target.sectors.to_ne_bytes());
        bytes.extend(0_i32.to_ne_bytes());
        bytes.extend(u32::try_from(length).map_err(|_| invalid("the table is too long"))?.to_ne_bytes());
        bytes.extend(target.kind.as_bytes());
        bytes.resize(HEADER + 24 + 16, 0);
        bytes.extend(target.parameters.as_bytes());
        bytes.resize(HEADER + length, 0);
    }
    let size = bytes.len().max(HEADER + room);
    bytes.resize(size, 0);
    let size = u32::try_from(size).map_err(|_| invalid("the table is too long"))?;
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(0, MAJOR);
    put(12, size);
    put(16, HEADER as u32);
    put(20, u32::from(target.is_some()));
    put(28, flags);
    bytes[48..48 + name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

/// Reads the interface's version from a reply.
pub(crate) fn version_of(reply: &[u8]) -> (u32, u32, u32) {
    (word(reply, 0), word(reply, 4), word(reply, 8))
}

/// Reads the text of the first target from a reply to a status request: it follows `struct dm_target_spec` at the
/// place that the header names, and ends with NUL.
pub(crate) fn status_of(reply: &[u8]) -> String {
    let start = usize::try_from(word(reply, 16)).unwrap_or(usize::MAX).saturating_add(TARGET);
    let text = reply.get(start..).unwrap_or_default();
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Reads the device number, as major and minor, from a reply.
pub(crate) fn device_of(reply: &[u8]) -> (u32, u32) {
    // The kernel writes `huge_encode_dev`, which is the layout of `dev_t` in user space.
    let number = (u64::from(word(reply, 44)) << 32) | u64::from(word(reply, 40));
    (libc::major(number), libc::minor(number))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_layout_of_struct_dm_ioctl() {
        let bytes = encode("image", READ_ONLY, None, 0).expect("encoded");
        assert_eq!(bytes.len(), 312);
        assert_eq!(&bytes[0..4], &4_u32.to_ne_bytes());
        assert_eq!(&bytes[12..16], &312_u32.to_ne_bytes(), "data_size");
        assert_eq!(&bytes[16..20], &312_u32.to_ne_bytes(), "data_start");
        assert_eq!(&bytes[20..24], &0_u32.to_ne_bytes(), "target_count");
        assert_eq!(&bytes[28..32], &1_u32.to_ne_bytes(), "flags");
        assert_eq!(&bytes[48..54], b"image\0");
        assert_ne!(READ_ONLY, SUSPEND);
    }

    #[test]
    fn target_follows_the_header_and_ends_on_eight_bytes() {
        let target = Target { kind: "verity", sectors: 80, parameters: "1 /dev/vda" };
        let bytes = encode("image", 0, Some(&target), 0).expect("encoded");
        assert_eq!(bytes.len(), 312 + 56);
        assert_eq!(&bytes[20..24], &1_u32.to_ne_bytes());
        let spec = &bytes[312..];
        assert_eq!(&spec[0..8], &0_u64.to_ne_bytes(), "sector_start");
        assert_eq!(&spec[8..16], &80_u64.to_ne_bytes(), "length");
        assert_eq!(&spec[20..24], &56_u32.to_ne_bytes(), "next");
        assert_eq!(&spec[24..31], b"verity\0");
        assert_eq!(&spec[40..51], b"1 /dev/vda\0");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for name in ["", "a/b", "a\0b", &"x".repeat(128)] {
            assert!(matches!(encode(name, 0, None, 0), Err(DmError::Invalid { .. })), "{name:?}");
        }
        assert!(encode(&"x".repeat(127), 0, None, 0).is_ok());
    }

    #[test]
    fn status_is_the_text_after_the_target_where_the_header_says() {
        let mut reply = encode("image", 0, None, 256).expect("encoded");
        reply[HEADER + TARGET..HEADER + TARGET + 2].copy_from_slice(b"C\0");
        assert_eq!(status_of(&reply), "C");
        assert_eq!(status_of(&reply[..HEADER]), "");
    }

    #[test]
    fn device_number_is_read_from_a_reply() {
        let mut reply = vec![0; HEADER];
        reply[40..48].copy_from_slice(&libc::makedev(254, 3).to_ne_bytes());
        assert_eq!(device_of(&reply), (254, 3));
    }
}
