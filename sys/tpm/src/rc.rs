//! `TPM_RC` (Part 2, section 6.6): the TPM's refusals with their names and remedies.

use std::fmt;

/// A TPM's answer other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseCode(pub u32);

impl ResponseCode {
    /// The code without the number of the handle, session or parameter that it is about.
    pub const fn base(self) -> u32 {
        match self.is_format_one() {
            true => self.0 & 0xbf,
            false => self.0 & 0xfff,
        }
    }

    /// The name in the specification, or `TPM_RC` for one that is not in our table.
    pub fn name(self) -> &'static str {
        self.entry().map_or("TPM_RC", |(_, name, _)| name)
    }

    /// Whether the TPM asks for the same command again.
    pub const fn asks_to_repeat(self) -> bool {
        matches!(self.base(), RETRY | YIELDED | TESTING)
    }

    /// Whether TPM2_Startup was refused only because the TPM was started before.
    pub const fn is_already_started(self) -> bool {
        self.base() == INITIALIZE
    }

    /// Whether a handle, as of an NV index, names nothing.
    pub const fn is_no_such_handle(self) -> bool {
        self.base() == HANDLE
    }

    /// Whether a policy is not fulfilled, as when a register has another value.
    pub const fn is_policy_failure(self) -> bool {
        matches!(self.base(), POLICY_FAIL | PCR_CHANGED)
    }

    /// Whether a private area was not made by this TPM under this parent, or was changed.
    pub const fn is_foreign_object(self) -> bool {
        matches!(self.base(), INTEGRITY | BINDING)
    }

    const fn is_format_one(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// What a format-one code is about.
    fn subject(self) -> Option<String> {
        let number = self.0 >> 8 & 0xf;
        match self.is_format_one() && number != 0 {
            true if self.0 & 0x40 != 0 => Some(format!("parameter {number}")),
            true if number & 8 != 0 => Some(format!("session {}", number & 7)),
            true => Some(format!("handle {number}")),
            false => None,
        }
    }

    fn entry(self) -> Option<&'static (u32, &'static str, &'static str)> {
        TABLE.iter().find(|(code, _, _)| *code == self.base())
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#x})", self.name(), self.0)?;
        if let Some(subject) = self.subject() {
            write!(f, " about {subject}")?;
        }
        match self.entry() {
            Some((_, _, meaning)) => write!(f, ": {meaning}"),
            None => f.write_str(": see the TPM 2.0 Library, Part 2, section 6.6"),
        }
    }
}

const INITIALIZE: u32 = 0x100;
const HANDLE: u32 = 0x08b;
const POLICY_FAIL: u32 = 0x09d;
const INTEGRITY: u32 = 0x09f;
const BINDING: u32 = 0x0a5;
const PCR_CHANGED: u32 = 0x128;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90a;
const RETRY: u32 = 0x922;

const TABLE: &[(u32, &str, &str)] = &[
    (
        INITIALIZE,
        "TPM_RC_INITIALIZE",
        "the TPM was not started, or was started before; send TPM2_Startup once",
    ),
    (
        0x101,
        "TPM_RC_FAILURE",
        "the TPM is in failure mode; restart it, and if that does not help replace its state",
    ),
    (0x120, "TPM_RC_DISABLED", "the command or hierarchy is disabled; enable it in the firmware's settings"),
    (0x121, "TPM_RC_EXCLUSIVE", "another program holds an exclusive audit session; end that program"),
    (0x12d, "TPM_RC_NEEDS_REBOOT", "the change works only after a restart of the TPM"),
    (
        0x142,
        "TPM_RC_COMMAND_SIZE",
        "the command's size field is not its size; this is a defect of this program",
    ),
    (
        0x143,
        "TPM_RC_COMMAND_CODE",
        "the TPM does not have this command; a TPM 2.0 of the PC Client profile is needed",
    ),
    (0x145, "TPM_RC_AUTH_CONTEXT", "no session was expected; this is a defect of this program"),
    (0x146, "TPM_RC_NV_RANGE", "beyond the end of the NV index"),
    (0x147, "TPM_RC_NV_SIZE", "the NV index is larger than this TPM allows"),
    (0x148, "TPM_RC_NV_LOCKED", "the NV index is locked until the next restart"),
    (0x149, "TPM_RC_NV_AUTHORIZATION", "the NV index does not allow this to this authorization"),
    (0x14a, "TPM_RC_NV_UNINITIALIZED", "nothing was written to the NV index"),
    (0x14b, "TPM_RC_NV_SPACE", "no NV memory is left; remove an index that is no longer needed"),
    (0x14c, "TPM_RC_NV_DEFINED", "the NV index is there already; remove it first, or use a fresh TPM state"),
    (0x152, "TPM_RC_CPHASH", "the authorization does not cover this command"),
    (0x081, "TPM_RC_ASYMMETRIC", "the TPM does not support this asymmetric algorithm"),
    (0x082, "TPM_RC_ATTRIBUTES", "these attributes do not go together"),
    (0x083, "TPM_RC_HASH", "the TPM does not support this hash algorithm"),
    (0x084, "TPM_RC_VALUE", "a value is out of range"),
    (0x085, "TPM_RC_HIERARCHY", "the hierarchy is disabled or not right for this"),
    (0x087, "TPM_RC_KEY_SIZE", "the TPM does not support this key size"),
    (0x089, "TPM_RC_MODE", "the TPM does not support this mode"),
    (0x08a, "TPM_RC_TYPE", "the type is not right for this"),
    (HANDLE, "TPM_RC_HANDLE", "there is nothing at this handle"),
    (
        0x08e,
        "TPM_RC_AUTH_FAIL",
        "the authorization value is wrong; somebody set a password on this hierarchy or object",
    ),
    (0x092, "TPM_RC_SCHEME", "the key does not have this signing scheme"),
    (0x095, "TPM_RC_SIZE", "a size is out of range"),
    (0x09a, "TPM_RC_INSUFFICIENT", "the command ends too early; this is a defect of this program"),
    (0x09c, "TPM_RC_KEY", "the key's fields do not go together"),
    (
        0x0a2,
        "TPM_RC_BAD_AUTH",
        "the authorization value is wrong; somebody set a password on this hierarchy or object",
    ),
    (POLICY_FAIL, "TPM_RC_POLICY_FAIL", "the policy is not fulfilled; the registers have other values"),
    (INTEGRITY, "TPM_RC_INTEGRITY", "the object was changed, or another TPM or another key of it made it"),
    (BINDING, "TPM_RC_BINDING", "the object's public and private parts do not belong together"),
    (PCR_CHANGED, "TPM_RC_PCR_CHANGED", "a register changed while the policy was evaluated; repeat it"),
    (0x0a6, "TPM_RC_CURVE", "the TPM does not support this curve"),
    (0x902, "TPM_RC_OBJECT_MEMORY", "no memory for keys is left; use /dev/tpmrm0, or flush keys"),
    (0x903, "TPM_RC_SESSION_MEMORY", "no memory for sessions is left; use /dev/tpmrm0, or flush sessions"),
    (0x904, "TPM_RC_MEMORY", "no memory is left; use /dev/tpmrm0, or flush keys and sessions"),
    (0x907, "TPM_RC_LOCALITY", "not allowed at this locality"),
    (YIELDED, "TPM_RC_YIELDED", "the TPM paused the command; repeat it"),
    (0x909, "TPM_RC_CANCELED", "the command was cancelled"),
    (TESTING, "TPM_RC_TESTING", "the TPM is testing itself; repeat later"),
    (0x920, "TPM_RC_NV_RATE", "too many NV writes; wait some seconds"),
    (0x921, "TPM_RC_LOCKOUT", "too many wrong authorizations; reset the lockout or wait"),
    (RETRY, "TPM_RC_RETRY", "the TPM was busy; repeat the command"),
    (0x923, "TPM_RC_NV_UNAVAILABLE", "the NV memory cannot be reached now; repeat later"),
];
