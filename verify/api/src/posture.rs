//! What platforms differ in and owners decide on: debug, migration, patch level, chip.
//!
//! A judge states what it found; whether that is good enough is for the appraisal. None means that the platform
//! has no such notion, never that nobody looked.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a platform, as far as its evidence tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Posture {
    /// Whether the host may read the guest with a debugger.
    pub debug: Option<bool>,
    /// Whether the host may read and write the registers of a guest that it interrupts (CSV without ES).
    pub open_registers: Option<bool>,
    /// Whether the guest may be moved by a migration agent or service.
    pub migration: Option<bool>,
    /// Whether two threads may share a core.
    pub smt: Option<bool>,
    /// The privilege level that asked for the evidence: 0 is the highest (SNP).
    pub vmpl: Option<u8>,
    /// Whether a service TD was bound to the guest (TDX 1.5).
    pub service_td: Option<bool>,
    /// How well the platform is patched.
    pub tcb: Option<Tcb>,
    /// What names this one chip or platform, in lower-case hexadecimal. None where the evidence hides it.
    pub chip: Option<String>,
    /// The generation: `Milan`, an FMSPC in hexadecimal, `HOPPER`.
    pub generation: Option<String>,
    /// Numbers that reference values set a bound to: `isvprodid` and `isvsvn` of an enclave, `guest-svn`.
    pub versions: BTreeMap<String, u64>,
    /// Whether documents past their time were used, which a judge does only where it was made to.
    pub stale_collateral: Option<bool>,
}

/// How well a platform is patched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Tcb {
    /// What the vendor says of this level, where the vendor publishes it.
    pub status: Option<TcbStatus>,
    /// The date of that level, RFC 3339.
    pub date: Option<String>,
    /// The number of the vendor's evaluation that says so (Intel's `tcbEvaluationDataNumber`).
    pub evaluation: Option<u32>,
    /// The advisories that apply to it, as in `INTEL-SA-00615`.
    pub advisories: Vec<String>,
    /// The security version of each component: `bootloader`, `snp`, `microcode`; `sgx-01`, `pce`.
    pub components: BTreeMap<String, u64>,
}

/// What Intel says of a TCB level (PCS API, "TCB info", `tcbStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing to mend.
    UpToDate,
    /// Software in the enclave must be hardened.
    SWHardeningNeeded,
    /// The platform must be configured.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSWHardeningNeeded,
    /// The guest must be started again on the patched platform.
    TDRelaunchAdvised,
    /// The guest must be started again and the platform configured.
    TDRelaunchAdvisedConfigurationNeeded,
    /// Patches are missing.
    OutOfDate,
    /// Patches are missing and the platform must be configured.
    OutOfDateConfigurationNeeded,
    /// The vendor has withdrawn it.
    Revoked,
}

impl TcbStatus {
    /// The vendor's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::TDRelaunchAdvised => "TDRelaunchAdvised",
            Self::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
