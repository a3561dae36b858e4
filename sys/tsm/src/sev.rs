//! `/dev/sev-guest`: SEV-SNP reports of kernels without configfs-tsm (`include/uapi/linux/sev-guest.h`).

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::{REPORT_DATA, TsmError};

/// Where the device is.
pub const SEV_GUEST: &str = "/dev/sev-guest";

/// `struct snp_report_resp`: what the firmware writes, with its header.
const RESPONSE: usize = 4000;
/// The header of `MSG_REPORT_RSP` (SEV-SNP firmware ABI, section 7.3): status, size and reserved bytes.
const RESPONSE_HEADER: usize = 32;
/// `SEV_FW_BLOB_MAX_SIZE`: the kernel takes no more pages for certificates.
const MAX_CERTIFICATES: usize = 0x4000;
/// `SNP_GUEST_VMM_ERR_INVALID_LEN` in the upper half: the host's table is longer than the room for it.
const ROOM_TOO_SMALL: u64 = 1 << 32;

/// `struct snp_report_req`.
#[repr(C)]
struct ReportRequest {
    user_data: [u8; REPORT_DATA],
    vmpl: u32,
    reserved: [u8; 28],
}

/// `struct snp_ext_report_req`.
#[repr(C)]
struct ExtendedRequest {
    data: ReportRequest,
    certs_address: u64,
    certs_len: u32,
}

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    msg_version: u8,
    req_data: u64,
    resp_data: u64,
    exitinfo2: u64,
}

nix::ioctl_readwrite!(snp_get_report, b'S', 0, GuestRequest);
nix::ioctl_readwrite!(snp_get_ext_report, b'S', 2, GuestRequest);

/// Room for the firmware's answer.
#[repr(C, align(8))]
struct Response([u8; RESPONSE]);

/// A report with the host's table of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedReport {
    /// The report.
    pub report: Vec<u8>,
    /// The table. Empty if the host gives none.
    pub certificates: Vec<u8>,
}

/// The device.
pub struct SevGuest {
    device: File,
    path: PathBuf,
}

impl SevGuest {
    /// Opens it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TsmError> {
        let path = path.as_ref().to_owned();
        let device = OpenOptions::new().read(true).write(true).open(&path);
        Ok(Self { device: device.map_err(TsmError::io("opening", &path))?, path })
    }

    /// A report over these bytes at this privilege level, with the host's certificates where it has any
    /// (`SNP_GET_EXT_REPORT`), else without (`SNP_GET_REPORT`).
    pub fn report(&self, data: &[u8; REPORT_DATA], level: u32) -> Result<ExtendedReport, TsmError> {
        let mut certificates = vec![0; MAX_CERTIFICATES];
        match self.extended(data, level, &mut certificates) {
            Ok(report) => {
                // The kernel does not say how much of it was written; the table's end is looked for by who reads it.
                let end = certificates.iter().rposition(|byte| *byte != 0);
                certificates.truncate(end.map_or(0, |last| last.saturating_add(1)));
                Ok(ExtendedReport { report, certificates })
            }
            // A table that is too long is the host's whim. The broker fetches what it lacks.
            Err(TsmError::Firmware { status, .. }) if status & ROOM_TOO_SMALL != 0 => {
                let report = self.plain(data, level)?;
                Ok(ExtendedReport { report, certificates: Vec::new() })
            }
            Err(error) => Err(error),
        }
    }

    fn plain(&self, data: &[u8; REPORT_DATA], level: u32) -> Result<Vec<u8>, TsmError> {
        let request = ReportRequest { user_data: *data, vmpl: level, reserved: [0; 28] };
        let mut response = Response([0; RESPONSE]);
        let mut message = GuestRequest {
            msg_version: 1,
            req_data: address(&raw const request),
            resp_data: address(&raw mut response),
            exitinfo2: 0,
        };
        // SAFETY: the descriptor is open; `message` is a `snp_guest_request_ioctl` whose addresses are those of a
        // `snp_report_req` and of `snp_report_resp`'s 4000 bytes, all of which outlive the call.
        let done = unsafe { snp_get_report(self.device.as_raw_fd(), &raw mut message) };
        self.finish(done, &message, &response)
    }

    fn extended(
        &self,
        data: &[u8; REPORT_DATA],
        level: u32,
        certificates: &mut [u8],
    ) -> Result<Vec<u8>, TsmError> {
        let request = ExtendedRequest {
            data: ReportRequest { user_data: *data, vmpl: level, reserved: [0; 28] },
            certs_address: address(certificates.as_mut_ptr()),
            certs_len: u32::try_from(certificates.len()).unwrap_or(0),
        };
        let mut response = Response([0; RESPONSE]);
        let mut message = GuestRequest {
            msg_version: 1,
            req_data: address(&raw const request),
            resp_data: address(&raw mut response),
            exitinfo2: 0,
        };
        // SAFETY: as above, with a `snp_ext_report_req` that names a buffer and its exact length, a multiple of a page.
        let done = unsafe { snp_get_ext_report(self.device.as_raw_fd(), &raw mut message) };
        self.finish(done, &message, &response)
    }

    fn finish(
        &self,
        done: nix::Result<i32>,
        message: &GuestRequest,
        response: &Response,
    ) -> Result<Vec<u8>, TsmError> {
        let path = || self.path.clone();
        if message.exitinfo2 != 0 {
            return Err(TsmError::Firmware { path: path(), status: message.exitinfo2 });
        }
        if let Err(cause) = done {
            return Err(TsmError::Io { step: "asking", path: path(), cause: cause.into() });
        }
        unwrap(&response.0).map_err(|status| match status {
            Some(status) => TsmError::Firmware { path: path(), status: status.into() },
            None => TsmError::Malformed {
                path: path(),
                expected: "a report within the response",
                found: "a longer one".into(),
            },
        })
    }
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// The report out of the firmware's answer; else the status that it gives, or none where the size is impossible.
fn unwrap(response: &[u8]) -> Result<Vec<u8>, Option<u32>> {
    let word = |at: usize| {
        let bytes = response.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    match (word(0), word(4)) {
        (Some(0), Some(size)) => {
            let report = response.get(RESPONSE_HEADER..).unwrap_or_default();
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            report.get(..size).filter(|report| !report.is_empty()).map(<[u8]>::to_vec).ok_or(None)
        }
        (status, _) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_have_the_kernel_s_sizes() {
        // include/uapi/linux/sev-guest.h
        assert_eq!(size_of::<ReportRequest>(), 96);
        assert_eq!(size_of::<ExtendedRequest>(), 112);
        assert_eq!(size_of::<GuestRequest>(), 32);
    }

    #[test]
    fn the_report_is_taken_out_of_the_firmware_s_answer_or_its_status_is_told() {
        let mut answer = vec![0; RESPONSE];
        answer[4..8].copy_from_slice(&1184u32.to_le_bytes());
        answer[32] = 2;
        let report = unwrap(&answer).unwrap();
        assert_eq!((report.len(), report[0]), (1184, 2));
        answer[4..8].copy_from_slice(&4000u32.to_le_bytes());
        assert_eq!(unwrap(&answer), Err(None));
        answer[4..8].copy_from_slice(&0u32.to_le_bytes());
        assert_eq!(unwrap(&answer), Err(None));
        answer[0] = 0x16;
        assert_eq!(unwrap(&answer), Err(Some(0x16)));
        assert_eq!(unwrap(&[]), Err(None));
    }

    #[test]
    fn an_absent_device_is_absent_and_a_file_in_its_place_is_not() {
        let error = SevGuest::open("/nowhere/sev-guest").err().unwrap();
        assert!(error.is_absent(), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = SevGuest::open(file.path()).unwrap().report(&[0; 64], 0).unwrap_err();
        assert!(!error.is_absent(), "{error}");
        assert!(error.to_string().starts_with("asking "), "{error}");
    }
}
