//! GPUs: NVML, `nvml.h`, "Confidential Compute".

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::library::{Library, function};
use crate::{DeviceEvidence, NONCE, NvidiaError};

/// The library.
pub const NVML: &str = "libnvidia-ml.so.1";

const CERT_CHAIN: usize = 0x1000;
const ATTESTATION_CERT_CHAIN: usize = 0x1400;
const REPORT: usize = 0x2000;
const CEC_REPORT: usize = 0x1000;
/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE`.
const UUID: usize = 96;
/// More than any machine has.
const MOST: c_uint = 64;

/// `nvmlDeviceArchitecture_t`.
const HOPPER: c_uint = 9;
const BLACKWELL: c_uint = 10;

type Device = *mut c_void;

/// `nvmlConfComputeGpuCertificate_t`.
#[repr(C)]
struct Certificate {
    cert_chain_size: c_uint,
    attestation_cert_chain_size: c_uint,
    cert_chain: [u8; CERT_CHAIN],
    attestation_cert_chain: [u8; ATTESTATION_CERT_CHAIN],
}

/// `nvmlConfComputeGpuAttestationReport_t`.
#[repr(C)]
struct Report {
    is_cec_report_present: c_uint,
    report_size: c_uint,
    cec_report_size: c_uint,
    nonce: [u8; NONCE],
    report: [u8; REPORT],
    cec_report: [u8; CEC_REPORT],
}

/// The GPUs of this machine.
pub struct Gpus {
    count: unsafe extern "C" fn(*mut c_uint) -> c_int,
    handle: unsafe extern "C" fn(c_uint, *mut Device) -> c_int,
    architecture: unsafe extern "C" fn(Device, *mut c_uint) -> c_int,
    uuid: unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int,
    report: unsafe extern "C" fn(Device, *mut Report) -> c_int,
    certificate: unsafe extern "C" fn(Device, *mut Certificate) -> c_int,
    shutdown: unsafe extern "C" fn() -> c_int,
}

impl Gpus {
    /// Opens and starts the library of this name.
    pub fn open(library: &str) -> Result<Self, NvidiaError> {
        let library = Library::open(library)?;
        let init = function!(library, c"nvmlInit_v2" as unsafe extern "C" fn() -> c_int);
        let gpus = Self {
            count: function!(library, c"nvmlDeviceGetCount_v2" as unsafe extern "C" fn(*mut c_uint) -> c_int),
            handle: function!(
                library,
                c"nvmlDeviceGetHandleByIndex_v2" as unsafe extern "C" fn(c_uint, *mut Device) -> c_int
            ),
            architecture: function!(
                library,
                c"nvmlDeviceGetArchitecture" as unsafe extern "C" fn(Device, *mut c_uint) -> c_int
            ),
            uuid: function!(
                library,
                c"nvmlDeviceGetUUID" as unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int
            ),
            report: function!(
                library,
                c"nvmlDeviceGetConfComputeGpuAttestationReport"
                    as unsafe extern "C" fn(Device, *mut Report) -> c_int
            ),
            certificate: function!(
                library,
                c"nvmlDeviceGetConfComputeGpuCertificate"
                    as unsafe extern "C" fn(Device, *mut Certificate) -> c_int
            ),
            shutdown: function!(library, c"nvmlShutdown" as unsafe extern "C" fn() -> c_int),
        };
        // SAFETY: the function takes nothing and may be called at any time.
        check("nvmlInit_v2", unsafe { init() })?;
        Ok(gpus)
    }

    /// The evidence of every GPU over this nonce, in the library's order.
    pub fn evidence(&self, nonce: &[u8; NONCE]) -> Result<Vec<DeviceEvidence>, NvidiaError> {
        let mut count = 0;
        // SAFETY: the pointer is to a number that the function writes.
        check("nvmlDeviceGetCount_v2", unsafe { (self.count)(&raw mut count) })?;
        (0..count.min(MOST)).map(|index| self.one(index, nonce)).collect()
    }

    fn one(&self, index: c_uint, nonce: &[u8; NONCE]) -> Result<DeviceEvidence, NvidiaError> {
        let mut device: Device = std::ptr::null_mut();
        // SAFETY: the pointer is to a handle that the function writes.
        check("nvmlDeviceGetHandleByIndex_v2", unsafe { (self.handle)(index, &raw mut device) })?;
        let uuid = self.name(device)?;
        let mut architecture = 0;
        // SAFETY: the handle is the library's own; the pointer is to a number that the function writes.
        check("nvmlDeviceGetArchitecture", unsafe { (self.architecture)(device, &raw mut architecture) })?;
        let architecture = match architecture {
            HOPPER => "HOPPER",
            BLACKWELL => "BLACKWELL",
            found => return Err(NvidiaError::Architecture { uuid, found: found.into() }),
        };
        Ok(DeviceEvidence {
            architecture,
            uuid,
            report: self.report_of(device, nonce)?,
            certificates: self.certificates_of(device)?,
        })
    }

    fn name(&self, device: Device) -> Result<String, NvidiaError> {
        let mut text = [0u8; UUID];
        let room = c_uint::try_from(UUID).unwrap_or(0);
        // SAFETY: the handle is the library's own; the buffer has the room that is told.
        check("nvmlDeviceGetUUID", unsafe { (self.uuid)(device, text.as_mut_ptr().cast(), room) })?;
        Ok(text.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect())
    }

    fn report_of(&self, device: Device, nonce: &[u8; NONCE]) -> Result<Vec<u8>, NvidiaError> {
        const FUNCTION: &str = "nvmlDeviceGetConfComputeGpuAttestationReport";
        let mut report = Box::new(Report {
            is_cec_report_present: 0,
            report_size: 0,
            cec_report_size: 0,
            nonce: *nonce,
            report: [0; REPORT],
            cec_report: [0; CEC_REPORT],
        });
        // SAFETY: the handle is the library's own; the structure is the header's, with the nonce filled in.
        check(FUNCTION, unsafe { (self.report)(device, &raw mut *report) })?;
        part(FUNCTION, "a report", &report.report, report.report_size)
    }

    fn certificates_of(&self, device: Device) -> Result<Vec<u8>, NvidiaError> {
        const FUNCTION: &str = "nvmlDeviceGetConfComputeGpuCertificate";
        let mut certificate = Box::new(Certificate {
            cert_chain_size: 0,
            attestation_cert_chain_size: 0,
            cert_chain: [0; CERT_CHAIN],
            attestation_cert_chain: [0; ATTESTATION_CERT_CHAIN],
        });
        // SAFETY: the handle is the library's own; the structure is the header's.
        check(FUNCTION, unsafe { (self.certificate)(device, &raw mut *certificate) })?;
        let size = certificate.attestation_cert_chain_size;
        part(FUNCTION, "certificates", &certificate.attestation_cert_chain, size)
    }
}

impl Drop for Gpus {
    fn drop(&mut self) {
        // SAFETY: the library was started, and no handle of it is used afterwards.
        let _its_own_affair = unsafe { (self.shutdown)() };
    }
}

fn check(function: &'static str, code: c_int) -> Result<(), NvidiaError> {
    match code {
        0 => Ok(()),
        code => Err(NvidiaError::Failed { function, code }),
    }
}

/// As much of a buffer as the library says, which is something and not more than there is.
pub(crate) fn part(
    function: &'static str,
    what: &'static str,
    buffer: &[u8],
    size: u32,
) -> Result<Vec<u8>, NvidiaError> {
    let found = usize::try_from(size).unwrap_or(usize::MAX);
    let part = buffer.get(..found).filter(|part| !part.is_empty());
    part.map(<[u8]>::to_vec).ok_or(NvidiaError::Length { function, what, limit: buffer.len(), found })
}
