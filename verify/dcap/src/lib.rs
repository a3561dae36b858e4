//! What all of Intel's quotes have in common: signatures, certificates, TCB levels and enclave identities.
//!
//! Two steps, so that a judge can refuse what it can without collateral: [`Dcap::signatures`] follows the signatures
//! from the quote to a root, [`Dcap::appraise`] adds revocation lists, TCB info and the quoting enclave's identity.
//! Left out: what the body says (`verify/tdx`, `verify/sgx`), and whether a TCB status is good enough
//! (`verify/appraisal`).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod appraise;
mod collateral;
mod documents;
mod pck;
mod platform;
mod remember;
mod report_data;
mod tcb;
mod verdict;
mod window;

#[cfg(test)]
mod tests;

use coffer_verify_x509::{Certificate, CertificateError, Paths};

pub use appraise::Appraised;
pub use documents::{Dates, DocumentError, document_dates};
pub use pck::PckExtension;
pub use platform::Signed;
pub use report_data::{Expected, init_data, report_data};
pub use verdict::PlatformVerdict;

use collateral::Collaterals;
use platform::Platforms;

/// "Intel SGX Root CA", valid until 2049, as Intel publishes it for download
/// (`Intel_SGX_Provisioning_Certification_RootCA.cer`).
const INTEL_ROOT: &[u8] = include_bytes!("data/intel-sgx-root-ca.der");

/// The judge of what quotes have in common. It remembers certificates and documents that it has verified.
#[derive(Debug)]
pub struct Dcap {
    anchors: Vec<Certificate>,
    paths: Paths,
    platforms: Platforms,
    collaterals: Collaterals,
    stale_seconds: i64,
}

impl Dcap {
    /// Believes Intel's root alone.
    pub fn intel() -> Result<Self, CertificateError> {
        Self::new(vec![INTEL_ROOT.to_vec()])
    }

    /// Believes these roots, in DER.
    pub fn new(roots: Vec<Vec<u8>>) -> Result<Self, CertificateError> {
        let anchors = roots.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
        Ok(Self {
            anchors,
            paths: Paths::new(roots),
            platforms: Platforms::default(),
            collaterals: Collaterals::default(),
            stale_seconds: 0,
        })
    }

    /// Accepts TCB info, identities and revocation lists for so long after their next update. Within that time
    /// nobody learns of what was revoked or found meanwhile; it is for sites that cannot fetch often.
    #[must_use]
    pub fn insecure_accept_stale_collateral(mut self, seconds: u32) -> Self {
        self.stale_seconds = i64::from(seconds);
        self
    }
}
