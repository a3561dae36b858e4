//! A platform's attestation key: made again from its template, with the certificates that vouch for it.
//!
//! The indices are those of Google's platforms, which our own vTPM uses too: a `TPMT_PUBLIC` template from
//! which TPM2_CreatePrimary under the endorsement hierarchy always makes the same key, and its certificates.

use coffer_core_digest::Algorithm;
use coffer_core_evidence::tpm::Public;

use crate::{Hierarchy, Key, Tpm, TpmError};

/// Where the certificates of the ECC key are.
pub const ECC_CERTIFICATES: u32 = 0x01c1_0002;
/// Where the template of the ECC key is.
pub const ECC_TEMPLATE: u32 = 0x01c1_0003;
/// Where the certificates of the RSA key are.
pub const RSA_CERTIFICATES: u32 = 0x01c1_0000;
/// Where the template of the RSA key is.
pub const RSA_TEMPLATE: u32 = 0x01c1_0001;

/// More certificates than any chain has.
const MAX_CERTIFICATES: usize = 8;

/// A loaded attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    /// Its handle.
    pub handle: u32,
    /// Its public area.
    pub public: Public,
    /// Its certificates in DER, leaf first. Empty if the platform has none.
    pub certificates: Vec<Vec<u8>>,
}

/// Loads the platform's attestation key: ECC if there is one, else RSA.
pub fn load(tpm: &mut Tpm) -> Result<AttestationKey, TpmError> {
    for (template, certificates) in [(ECC_TEMPLATE, ECC_CERTIFICATES), (RSA_TEMPLATE, RSA_CERTIFICATES)] {
        let Some(template) = read_if_there(tpm, template)? else { continue };
        let certificates = read_if_there(tpm, certificates)?.unwrap_or_default();
        let Key { handle, public } = tpm.create_primary(Hierarchy::Endorsement, &template)?;
        return Ok(AttestationKey { handle, public, certificates: split_certificates(&certificates) });
    }
    Err(TpmError::NoAttestationKey { ecc: ECC_TEMPLATE, rsa: RSA_TEMPLATE })
}

impl AttestationKey {
    /// Quotes registers of a bank: the `TPMS_ATTEST` and the `TPMT_SIGNATURE`.
    pub fn quote(
        &self,
        tpm: &mut Tpm,
        qualifying_data: &[u8],
        bank: Algorithm,
        pcrs: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        tpm.quote(self.handle, qualifying_data, bank, pcrs)
    }
}

fn read_if_there(tpm: &mut Tpm, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
    match tpm.nv_read(index) {
        Err(TpmError::Refused { code, .. }) if code.is_no_such_handle() => Ok(None),
        other => other.map(Some),
    }
}

/// Certificates that stand one after another. What follows the last whole one, as padding, is left out.
pub fn split_certificates(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut certificates = Vec::new();
    while let Some(length) = element_length(bytes).filter(|_| certificates.len() < MAX_CERTIFICATES) {
        let Some((certificate, rest)) = bytes.split_at_checked(length) else { break };
        certificates.push(certificate.to_vec());
        bytes = rest;
    }
    certificates
}

/// The whole length of the DER sequence that begins here.
fn element_length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0x30, 0x82, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])).checked_add(4),
        [0x30, 0x81, length, ..] => usize::from(*length).checked_add(3),
        [0x30, length @ 0..=0x7f, ..] => usize::from(*length).checked_add(2),
        _ => None,
    }
}
