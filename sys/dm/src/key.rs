//! A key on its way into the kernel (keyrings(7), add_key(2)).

use crate::DmError;
use std::ffi::CString;
use std::io;

/// A `logon` key in the calling thread's keyring: the kernel can use it and no program can read it. It is taken out
/// when this is dropped; a mapping made meanwhile keeps its own copy.
pub(crate) struct LogonKey {
    description: String,
    serial: libc::c_long,
}

/// `KEY_SPEC_THREAD_KEYRING`: the kernel looks here first, and the ring dies with the thread.
const THREAD_KEYRING: libc::c_long = -1;
/// `KEYCTL_UNLINK`.
const UNLINK: libc::c_long = 9;

impl LogonKey {
    pub(crate) fn add(name: &str, key: &[u8]) -> Result<Self, DmError> {
        let failed = |source| DmError::Key { name: name.to_owned(), source };
        // A logon key's description has a prefix, so that it cannot be mistaken for another program's.
        let description = format!("coffer:{name}");
        let text = CString::new(description.as_str()).map_err(|e| failed(e.into()))?;
        // SAFETY: type and description are NUL-terminated strings and the payload is a slice with its length; all
        // outlive the call, and the kernel copies them.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"logon".as_ptr(),
                text.as_ptr(),
                key.as_ptr(),
                key.len(),
                THREAD_KEYRING,
            )
        };
        if serial < 0 { Err(failed(io::Error::last_os_error())) } else { Ok(Self { description, serial }) }
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }
}

impl Drop for LogonKey {
    fn drop(&mut self) {
        // SAFETY: `keyctl` with KEYCTL_UNLINK takes two serial numbers and touches no memory.
        unsafe { libc::syscall(libc::SYS_keyctl, UNLINK, self.serial, THREAD_KEYRING, 0, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_gone_from_the_keyring_after_use() {
        /// `KEYCTL_SEARCH`.
        const SEARCH: libc::c_long = 10;
        let find = || {
            // SAFETY: type and description are NUL-terminated literals; the call reads them and nothing else.
            unsafe {
                let (kind, text) = (c"logon".as_ptr(), c"coffer:test".as_ptr());
                libc::syscall(libc::SYS_keyctl, SEARCH, THREAD_KEYRING, kind, text, 0)
            }
        };
        let key = match LogonKey::add("test", &[7; 64]) {
            Ok(key) => key,
            Err(error) => {
                println!("skipped: {error}");
                return;
            }
        };
        assert_eq!(find(), key.serial);
        drop(key);
        assert_eq!(find(), -1);
    }
}
