//! Primary keys and quotes.

use std::collections::BTreeSet;

use coffer_core_digest::Algorithm;
use coffer_core_evidence::tpm::{PcrSelection, Public};

use crate::command::Command;
use crate::{Hierarchy, Tpm, TpmError};

const ALG_NULL: u16 = 0x0010;

/// A key that is loaded. It stays in the TPM until [`Tpm::flush`], or until the device is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its handle.
    pub handle: u32,
    /// Its public area.
    pub public: Public,
}

impl Tpm {
    /// TPM2_CreatePrimary from a `TPMT_PUBLIC` template. The same template gives the same key again.
    pub fn create_primary(&mut self, hierarchy: Hierarchy, template: &[u8]) -> Result<Key, TpmError> {
        const NAME: &str = "TPM2_CreatePrimary";
        let command = Command::new(NAME, 0x131)
            .authorized(hierarchy.handle())
            .giving_handle()
            // TPM2B_SENSITIVE_CREATE with neither authorization nor data.
            .sized("the sensitive part", &[0; 4])
            .sized("the template", template)
            // Neither outside information nor registers at creation.
            .u16(0)
            .u32(0);
        let response = self.run(&command)?;
        let public = response.parameters().sized()?;
        let public = Public::parse(public).map_err(|cause| TpmError::Structure { command: NAME, cause })?;
        Ok(Key { handle: response.handle(), public })
    }

    /// TPM2_ReadPublic.
    pub fn read_public(&mut self, handle: u32) -> Result<Public, TpmError> {
        const NAME: &str = "TPM2_ReadPublic";
        let response = self.run(&Command::new(NAME, 0x173).handle(handle))?;
        let public = response.parameters().sized()?;
        Public::parse(public).map_err(|cause| TpmError::Structure { command: NAME, cause })
    }

    /// TPM2_FlushContext.
    pub fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        // The handle is a parameter here, not in the handle area (Part 3, section 28.4).
        self.run(&Command::new("TPM2_FlushContext", 0x165).u32(handle)).map(drop)
    }

    /// TPM2_Quote with the key's own scheme: the `TPMS_ATTEST` and the `TPMT_SIGNATURE`.
    pub fn quote(
        &mut self,
        handle: u32,
        qualifying_data: &[u8],
        bank: Algorithm,
        pcrs: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        let selection = PcrSelection { bank, pcrs: pcrs.iter().copied().collect::<BTreeSet<u8>>() };
        let command = Command::new("TPM2_Quote", 0x158)
            .authorized(handle)
            .sized("the qualifying data", qualifying_data)
            .u16(ALG_NULL)
            .u32(1)
            .raw(&selection.to_bytes());
        let response = self.run(&command)?;
        let mut parameters = response.parameters();
        let attest = parameters.sized()?.to_vec();
        Ok((attest, parameters.rest().to_vec()))
    }
}
