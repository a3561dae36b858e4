//! Switches: NSCQ, `nscq.h` and its attestation paths. The library answers by calling back, once for each device.

use std::ffi::{CString, c_char, c_void};

use crate::gpu::part;
use crate::library::{Library, function};
use crate::{DeviceEvidence, NONCE, NvidiaError};

/// The library.
pub const NSCQ: &str = "libnvidia-nscq.so.2";

const UUIDS: &str = "/drv/nvswitch/{device}/uuid";
const MOUNT_DEVICES: u32 = 1;
/// `NSCQ_ARCH_LS10`, the only one with attestation.
const LS10: i8 = 2;
const REPORT: usize = 0x2000;
const CERT_CHAIN: usize = 0x1400;
const LABEL: usize = 64;
/// More than any machine has.
const MOST: usize = 64;

type Session = *mut c_void;
type Callback = unsafe extern "C" fn();

#[repr(C)]
struct Uuid([u8; 16]);

#[repr(C)]
struct Label([u8; LABEL]);

#[repr(C)]
struct SessionResult {
    code: i8,
    session: Session,
}

/// `nscq_attestation_report_t`.
#[repr(C)]
struct Report {
    size: u32,
    report: [u8; REPORT],
}

/// `nscq_attestation_certificate_t`.
#[repr(C)]
struct Certificate {
    chain: [u8; CERT_CHAIN],
    size: u32,
}

type UuidToLabel = unsafe extern "C" fn(*const Uuid, *mut Label, u32) -> i8;

/// The switches of this machine.
pub struct Switches {
    session: Session,
    observe: unsafe extern "C" fn(Session, *const c_char, Callback, *mut c_void, u32) -> i8,
    set_input: unsafe extern "C" fn(Session, u32, *mut c_void, u32) -> i8,
    uuid_to_label: UuidToLabel,
    destroy: unsafe extern "C" fn(Session),
}

/// What one observation found, and what the library said of it.
struct Found<T> {
    code: i8,
    value: Option<T>,
}

/// What the observation of names collects.
struct Names {
    code: i8,
    to_label: UuidToLabel,
    names: Vec<String>,
}

impl Switches {
    /// Opens the library of this name and a session with its devices.
    pub fn open(library: &str) -> Result<Self, NvidiaError> {
        let library = Library::open(library)?;
        let create = function!(library, c"nscq_session_create" as unsafe extern "C" fn(u32) -> SessionResult);
        let destroy = function!(library, c"nscq_session_destroy" as unsafe extern "C" fn(Session));
        let observe = function!(
            library,
            c"nscq_session_path_observe"
                as unsafe extern "C" fn(Session, *const c_char, Callback, *mut c_void, u32) -> i8
        );
        let set_input = function!(
            library,
            c"nscq_session_set_input" as unsafe extern "C" fn(Session, u32, *mut c_void, u32) -> i8
        );
        let uuid_to_label = function!(library, c"nscq_uuid_to_label" as UuidToLabel);
        // SAFETY: the function takes flags alone.
        let result = unsafe { create(MOUNT_DEVICES) };
        check("nscq_session_create", result.code)?;
        Ok(Self { session: result.session, observe, set_input, uuid_to_label, destroy })
    }

    /// The evidence of every switch over this nonce, in the library's order.
    pub fn evidence(&self, nonce: &[u8; NONCE]) -> Result<Vec<DeviceEvidence>, NvidiaError> {
        let mut names = Names { code: 0, to_label: self.uuid_to_label, names: Vec::new() };
        // SAFETY: on this path the library calls back as `on_uuid` is declared, with the pointer to `names`, before it
        // returns.
        unsafe {
            self.look(UUIDS, std::mem::transmute::<OnUuid, Callback>(on_uuid), (&raw mut names).cast())?
        };
        check("nscq_session_path_observe", names.code)?;
        names.names.into_iter().map(|uuid| self.one(uuid, nonce)).collect()
    }

    fn one(&self, uuid: String, nonce: &[u8; NONCE]) -> Result<DeviceEvidence, NvidiaError> {
        let architecture: i8 = self.value(&format!("/{uuid}/id/arch"))?;
        if architecture != LS10 {
            return Err(NvidiaError::Architecture { uuid, found: architecture.into() });
        }
        let mut nonce = *nonce;
        let length = u32::try_from(NONCE).unwrap_or(0);
        // SAFETY: the session is open; the buffer has the length that is told and outlives the call.
        let code = unsafe { (self.set_input)(self.session, 0, nonce.as_mut_ptr().cast(), length) };
        check("nscq_session_set_input", code)?;
        let report: Report = self.value(&format!("/{uuid}/config/attestation_report"))?;
        let report = part("attestation_report", "a report", &report.report, report.size)?;
        let chain: Certificate = self.value(&format!("/{uuid}/config/certificate"))?;
        let certificates = part("certificate", "certificates", &chain.chain, chain.size)?;
        Ok(DeviceEvidence { architecture: "LS10", uuid, report, certificates })
    }

    /// The one value at a path. `T` is what the header says the path has.
    fn value<T>(&self, path: &str) -> Result<T, NvidiaError> {
        let mut found = Found::<T> { code: 0, value: None };
        // SAFETY: the library calls back with a `T` by value, as the header says for this path, and with the pointer to
        // `found`, before it returns.
        unsafe {
            self.look(
                path,
                std::mem::transmute::<OnValue<T>, Callback>(on_value::<T>),
                (&raw mut found).cast(),
            )?
        };
        check("nscq_session_path_observe", found.code)?;
        found.value.ok_or(NvidiaError::Failed { function: "nscq_session_path_observe", code: 0 })
    }

    /// Observes a path.
    ///
    /// # Safety
    /// The callback's true type must be that of the path, and `data` what it takes.
    // SAFETY: the two callers name the path's type in the header beside the call.
    unsafe fn look(&self, path: &str, callback: Callback, data: *mut c_void) -> Result<(), NvidiaError> {
        const FUNCTION: &str = "nscq_session_path_observe";
        let path = CString::new(path).map_err(|_| NvidiaError::Failed { function: FUNCTION, code: 0 })?;
        // SAFETY: the session is open, the path is NUL-terminated, and the caller answers for callback and data.
        check(FUNCTION, unsafe { (self.observe)(self.session, path.as_ptr(), callback, data, 0) })
    }
}

impl Drop for Switches {
    fn drop(&mut self) {
        // SAFETY: the session is open, and is not used afterwards.
        unsafe { (self.destroy)(self.session) }
    }
}

type OnUuid = unsafe extern "C" fn(*const Uuid, i8, *const Uuid, *mut c_void);
type OnValue<T> = unsafe extern "C" fn(*const Uuid, i8, T, *mut c_void);

unsafe extern "C" fn on_uuid(_: *const Uuid, code: i8, uuid: *const Uuid, data: *mut c_void) {
    // SAFETY: the library gives back the pointer to `Names` that it was given, and nobody else holds it meanwhile.
    let names = unsafe { &mut *data.cast::<Names>() };
    if code < 0 || uuid.is_null() || names.names.len() >= MOST {
        names.code = if code == 0 { i8::MIN } else { code };
        return;
    }
    let mut label = Label([0; LABEL]);
    // SAFETY: the name is the library's own, and the label has the header's room.
    match unsafe { (names.to_label)(uuid, &raw mut label, 0) } {
        0 => {
            let text = label.0.iter().take_while(|byte| **byte != 0);
            names.names.push(text.map(|byte| char::from(*byte)).collect());
        }
        code => names.code = code,
    }
}

unsafe extern "C" fn on_value<T>(_: *const Uuid, code: i8, value: T, data: *mut c_void) {
    // SAFETY: the library gives back the pointer to `Found<T>` that it was given, and nobody else holds it meanwhile.
    let found = unsafe { &mut *data.cast::<Found<T>>() };
    match code {
        0 => found.value = Some(value),
        code => found.code = code,
    }
}

/// Negative answers are errors; positive ones are warnings, as of a driver of another version.
fn check(function: &'static str, code: i8) -> Result<(), NvidiaError> {
    match code {
        0.. => Ok(()),
        code => Err(NvidiaError::Failed { function, code: code.into() }),
    }
}
