//! What a platform's maker does once for each TPM: banks, attestation key, certificate.

use std::path::Path;

use coffer_core_digest::Algorithm;
use coffer_sys_tpm::{Hierarchy, StartupType, ak};

use crate::{VtpmCa, VtpmError, swtpm};

/// A `TPMT_PUBLIC` template: ECC, SHA-256 names; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth,
/// restricted, sign; no policy; no symmetric algorithm; ECDSA with SHA-256 on P-256; no KDF; an empty point.
const TEMPLATE: [u8; 24] =
    [0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0];

pub(crate) fn manufacture(ca: &VtpmCa, state: &Path, sandbox: &str) -> Result<(), VtpmError> {
    // Banks change at the next start, so the factory starts the TPM twice.
    let (running, mut tpm) = swtpm::connect(state)?;
    tpm.pcr_allocate(&[Algorithm::Sha256])?;
    tpm.shutdown(StartupType::Clear)?;
    drop(tpm);
    running.wait()?;

    let (running, mut tpm) = swtpm::connect(state)?;
    let key = tpm.create_primary(Hierarchy::Endorsement, &TEMPLATE)?;
    let certificate = ca.certify(&key.public, sandbox)?;
    for (index, content) in
        [(ak::ECC_TEMPLATE, TEMPLATE.as_slice()), (ak::ECC_CERTIFICATES, certificate.as_slice())]
    {
        tpm.nv_define(index, content.len())?;
        tpm.nv_write(index, content)?;
    }
    tpm.flush(key.handle)?;
    tpm.shutdown(StartupType::Clear)?;
    drop(tpm);
    running.wait()
}
