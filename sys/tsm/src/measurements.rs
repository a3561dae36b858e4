//! Registers that the guest may read and extend, as newer kernels show them (`Documentation/ABI/testing/
//! sysfs-devices-virtual-misc-tdx_guest`): one file for each register and hash, as in `rtmr3:sha384`.

use std::path::{Path, PathBuf};

use crate::TsmError;
use crate::file::{read, write};

/// Where the registers of a TD are.
pub const MEASUREMENTS: &str = "/sys/devices/virtual/misc/tdx_guest/measurements";

/// A folder of registers.
#[derive(Clone, Debug)]
pub struct Measurements {
    root: PathBuf,
}

impl Measurements {
    /// The registers at their place, or at another one.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether the register of this name is there to be extended.
    #[must_use]
    pub fn has(&self, register: &str) -> bool {
        let path = self.root.join(register);
        // A register that the kernel only shows has no permission to write.
        path.metadata()
            .is_ok_and(|file| std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o200 != 0)
    }

    /// The register's value.
    pub fn value(&self, register: &str, length: usize) -> Result<Vec<u8>, TsmError> {
        let path = self.path(register)?;
        let value = read(&path, length)?;
        match value.len() == length {
            true => Ok(value),
            false => Err(TsmError::Malformed {
                path,
                expected: "a whole register",
                found: format!("{} bytes", value.len()),
            }),
        }
    }

    /// Extends the register by a digest.
    pub fn extend(&self, register: &str, digest: &[u8]) -> Result<(), TsmError> {
        if !self.has(register) {
            return Err(self.absent(register));
        }
        write(&self.path(register)?, digest)
    }

    fn path(&self, register: &str) -> Result<PathBuf, TsmError> {
        let path = self.root.join(register);
        match path.exists() && Path::new(register).file_name().is_some_and(|name| name == register) {
            true => Ok(path),
            false => Err(self.absent(register)),
        }
    }

    fn absent(&self, register: &str) -> TsmError {
        TsmError::NotSupported { path: self.root.clone(), register: register.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_register_is_read_whole_and_extended_only_where_the_kernel_allows_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, [7; 48]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        file("rtmr3:sha384", 0o644);
        file("mrtd:sha384", 0o444);
        let registers = Measurements::at(folder.path());
        assert_eq!(registers.value("rtmr3:sha384", 48).unwrap(), [7; 48]);
        assert!(registers.value("rtmr3:sha384", 32).is_err());
        assert!(registers.value("rtmr3:sha384", 64).is_err());
        registers.extend("rtmr3:sha384", &[1; 48]).unwrap();
        for register in ["mrtd:sha384", "rtmr2:sha384", "../x"] {
            let error = registers.extend(register, &[1; 48]).unwrap_err();
            assert!(matches!(error, TsmError::NotSupported { .. }), "{error}");
        }
    }
}
