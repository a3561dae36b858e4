//! `/dev/tdx_guest`: the TD's own report, without a quote (`include/uapi/linux/tdx-guest.h`).
//!
//! A TDREPORT can be checked on its own machine only. It says what a quote would say, at no cost, so the guest reads
//! its MRCONFIGID and its registers here.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::{REPORT_DATA, TsmError};

/// Where the device is.
pub const TDX_GUEST: &str = "/dev/tdx_guest";
/// The length of a TDREPORT.
pub const TD_REPORT: usize = 1024;

/// `struct tdx_report_req`.
#[repr(C)]
struct Request {
    report_data: [u8; REPORT_DATA],
    report: [u8; TD_REPORT],
}

nix::ioctl_readwrite!(tdx_cmd_get_report0, b'T', 1, Request);

/// The device.
pub struct TdxGuest {
    device: File,
    path: PathBuf,
}

impl TdxGuest {
    /// Opens it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TsmError> {
        let path = path.as_ref().to_owned();
        let device = OpenOptions::new().read(true).write(true).open(&path);
        Ok(Self { device: device.map_err(TsmError::io("opening", &path))?, path })
    }

    /// A TDREPORT over these bytes (`TDX_CMD_GET_REPORT0`).
    pub fn report(&self, data: &[u8; REPORT_DATA]) -> Result<[u8; TD_REPORT], TsmError> {
        let mut request = Request { report_data: *data, report: [0; TD_REPORT] };
        // SAFETY: the descriptor is open, and `request` is a `tdx_report_req` that outlives the call.
        match unsafe { tdx_cmd_get_report0(self.device.as_raw_fd(), &raw mut request) } {
            Ok(_) => Ok(request.report),
            Err(cause) => Err(TsmError::Io { step: "asking", path: self.path.clone(), cause: cause.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_kernel_s_size_and_an_absent_device_is_absent() {
        assert_eq!(size_of::<Request>(), 1088);
        assert!(TdxGuest::open("/nowhere/tdx_guest").err().unwrap().is_absent());
    }
}
