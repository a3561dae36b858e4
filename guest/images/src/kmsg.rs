//! What the kernel says about a changed block. The kernel is measured, so its log is to be believed.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// The longest record (kernel documentation: ABI/testing/dev-kmsg; `CONSOLE_EXT_LOG_MAX`).
const MAX_RECORD: usize = 8192;

/// The kernel's first words about a block that does not match, as in `data block 2926`.
pub(crate) fn corrupt_block() -> Option<String> {
    // O_NONBLOCK: the end of the log is an error, not a wait.
    let mut log = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut record = vec![0; MAX_RECORD];
    loop {
        match log.read(&mut record) {
            Ok(0) => return None,
            Ok(count) => {
                let text = record.get(..count).map(String::from_utf8_lossy).unwrap_or_default();
                if let Some(block) = block_in(&text) {
                    return Some(block);
                }
            }
            // The record was overwritten while it was read; the next one is there.
            Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => return None,
        }
    }
}

fn block_in(record: &str) -> Option<String> {
    let (_, said) = record.split_once("device-mapper: verity: ")?;
    let (_device, said) = said.split_once(": ")?;
    let (block, _) = said.split_once(" is corrupted")?;
    Some(format!("{block} does not match the signed root hash"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_read_from_the_kernels_words() {
        let record = "3,611,2104523,-;device-mapper: verity: 254:0: data block 2926 is corrupted\n";
        assert_eq!(block_in(record).as_deref(), Some("data block 2926 does not match the signed root hash"));
        assert_eq!(
            block_in("6,1,1,-;device-mapper: verity: sha256 using implementation \"sha256-ni\"\n"),
            None
        );
        assert_eq!(block_in("6,1,1,-;erofs: mounted"), None);
    }
}
