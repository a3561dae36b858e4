//! What a platform's maker does once for each TPM: banks, attestation key, certificate.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use coffer_core_digest::Algorithm;
use coffer_sys_tpm::{Hierarchy, StartupType, TpmError, ak};

use crate::{PERMANENT_STATE, VtpmCa, VtpmError, swtpm};

/// A `TPMT_PUBLIC` template: ECC, SHA-256 names; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth,
/// restricted, sign; no policy; no symmetric algorithm; ECDSA with SHA-256 on P-256; no KDF; an empty point.
const TEMPLATE: [u8; 24] =
    [0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0];

/// Makes the TPM beside its place and moves its one file there at the end, so that whatever ends this process
/// leaves either a whole TPM or none.
pub(crate) fn manufacture(ca: &VtpmCa, state: &Path, sandbox: &str) -> Result<(), VtpmError> {
    let workshop = state.join("making");
    let file = |what, path: &Path| {
        let path = path.to_path_buf();
        move |cause| VtpmError::File { what, path, cause }
    };
    remove(&workshop).map_err(file("remove", &workshop))?;
    DirBuilder::new().mode(0o700).create(&workshop).map_err(file("create the directory", &workshop))?;
    let made = make(ca, &workshop, state, sandbox).map_err(|cause| match cause {
        // An end of the connection means an end of swtpm, and its log says why.
        VtpmError::Tpm(TpmError::Io { cause, .. }) => {
            VtpmError::Swtpm { what: "answer", why: cause.to_string(), log: swtpm::log_of(state) }
        }
        other => other,
    });
    let placed = made.and_then(|()| {
        let place = state.join(PERMANENT_STATE);
        std::fs::rename(workshop.join(PERMANENT_STATE), &place).map_err(file("write", &place))
    });
    remove(&workshop).map_err(file("remove", &workshop)).and(placed)
}

fn make(ca: &VtpmCa, workshop: &Path, log: &Path, sandbox: &str) -> Result<(), VtpmError> {
    // Banks change at the next start, so the factory starts the TPM twice.
    let (running, mut tpm) = swtpm::connect(workshop, log)?;
    tpm.pcr_allocate(&[Algorithm::Sha256])?;
    tpm.shutdown(StartupType::Clear)?;
    drop(tpm);
    running.wait()?;

    let (running, mut tpm) = swtpm::connect(workshop, log)?;
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

fn remove(workshop: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(workshop) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}
