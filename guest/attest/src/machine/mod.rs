//! The machine's TEE: found, bound to init-data, and asked for evidence.
//!
//! Probing goes through a fixed order: the processor's TEE through configfs-tsm, then its older device files, Azure's
//! paravisor in the TPM, the Nitro Security Module, a plain TPM. What comes from a TPM stands behind what comes from the
//! processor, because a host can give any guest a TPM with anything in it, and must not choose by that how init-data is
//! bound. INVARIANT: evidence is asked for only of a [`Bound`] machine, that is one whose init-data was bound to a
//! register, or compared with the field into which the host had to put it at launch (I-5).

mod azure;
mod cca;
mod field;
mod imds;
mod nitro;
mod probe;
mod snp;
mod tdx;
mod tpm;

use coffer_core_digest::Digest;
use coffer_core_evidence::{ReportData, Tee};
use serde_json::Value;

pub use probe::{Machine, Places, ProbeError, probe};

use crate::runtime::{Registers, RuntimeLog};
use crate::{AttestError, BindError};

/// What the log of runtime events holds, and what the machine is asked for.
pub(crate) struct Request<'a> {
    /// What the evidence is bound to.
    pub(crate) report_data: &'a ReportData,
    /// The runtime events so far.
    pub(crate) log: Option<&'a RuntimeLog>,
    /// The kernel's command line, for verdicts to show.
    pub(crate) command_line: &'a str,
}

/// One kind of machine. Its calls may take long; they are made where that holds nobody up.
pub(crate) trait Platform: Send {
    fn tee(&self) -> Tee;

    /// Binds init-data or compares its field. Says how, in a few words.
    fn bind(&mut self, init_data: &Digest) -> Result<&'static str, BindError>;

    fn evidence(&mut self, request: &Request<'_>) -> Result<Value, AttestError>;

    /// The register for runtime events; the reason where there is none.
    fn registers(&mut self) -> Result<Box<dyn Registers + '_>, String>;
}

/// A machine to which init-data is bound.
pub struct Bound {
    pub(crate) platform: Box<dyn Platform>,
    how: &'static str,
}

impl Machine {
    /// Binds init-data to the machine, or compares the field that the host had to fill at launch.
    ///
    /// # Errors
    /// When the register was used before, or the field holds something else.
    pub fn bind(mut self, init_data: &Digest) -> Result<Bound, BindError> {
        let how = self.0.bind(init_data)?;
        Ok(Bound { platform: self.0, how })
    }
}

impl Bound {
    /// The TEE.
    #[must_use]
    pub fn tee(&self) -> Tee {
        self.platform.tee()
    }

    /// How init-data is bound, in a few words.
    #[must_use]
    pub const fn how(&self) -> &'static str {
        self.how
    }
}
