//! Kernel modules.

use crate::MountError;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Loads one uncompressed kernel module; that it is loaded already is fine.
///
/// # Errors
/// When the file cannot be opened or the kernel refuses it.
pub fn load_module(module: &Path) -> Result<(), MountError> {
    let failed = |source| MountError::Module { module: module.to_owned(), source };
    let file = File::open(module).map_err(failed)?;
    // SAFETY: the descriptor is open for the call, and the parameters are a NUL-terminated string that outlives it.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EEXIST) { Ok(()) } else { Err(failed(error)) }
}

/// Loads the modules that a file lists, one path in a line, in that order.
///
/// # Errors
/// At the first module that cannot be loaded, or when the list cannot be read.
pub fn load_modules_listed_in(list: &Path) -> Result<usize, MountError> {
    let text = std::fs::read_to_string(list).map_err(|source| MountError::Path {
        step: "reading the list of modules",
        path: list.to_owned(),
        source,
    })?;
    let modules = text.lines().map(str::trim).filter(|line| !line.is_empty());
    modules.map(|module| load_module(Path::new(module))).try_fold(0, |count, one| one.map(|()| count + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_module_is_named_in_the_error() {
        let error = load_module(Path::new("/nowhere/dm-none.ko")).expect_err("no such file");
        assert!(error.to_string().starts_with("loading the kernel module /nowhere/dm-none.ko: "));
    }
}
