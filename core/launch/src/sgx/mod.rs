//! What an SGX enclave will report: its pages' measurement, its signer, product and version.
//!
//! Left out: which attributes the launcher sets (the report shows them, and a policy decides), and key separation
//! fields that no SIGSTRUCT has.

mod pages;
mod sigstruct;

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;

pub use pages::mrenclave;
pub use sigstruct::Sigstruct;

use crate::reference::Prediction;
use crate::{Artifacts, Bound, LaunchError, ReferenceValues};

/// What an enclave is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinned {
    /// Exactly these pages.
    #[default]
    Enclave,
    /// Any enclave of the SIGSTRUCT's signer, of its product and at least its version.
    Signer,
}

/// The inputs of a launch.
#[derive(Clone, Copy)]
pub struct SgxLaunch<'a> {
    /// The enclave's page stream (`.sgxs`).
    pub enclave: &'a [u8],
    /// Its SIGSTRUCT, if it is signed already.
    pub sigstruct: Option<&'a [u8]>,
    /// What the values are to require.
    pub pinned: Pinned,
    /// The init-data's digest, if the enclave is given any.
    pub init_data: Option<Digest>,
}

/// Predicts MRENCLAVE and CONFIGID, and with a SIGSTRUCT also MRSIGNER, the product and the least version.
pub fn predict_sgx(launch: &SgxLaunch<'_>) -> Result<ReferenceValues, LaunchError> {
    let measured = mrenclave(launch.enclave)?;
    let mut registers = BTreeMap::new();
    match (launch.pinned, launch.sigstruct) {
        (Pinned::Enclave, _) => drop(registers.insert("mrenclave".to_owned(), measured)),
        (Pinned::Signer, Some(_)) => {}
        (Pinned::Signer, None) => {
            return Err(LaunchError::Sigstruct("there is none, and its signer is to be known"));
        }
    }
    let mut versions = BTreeMap::new();
    if let Some(bytes) = launch.sigstruct {
        let signed = Sigstruct::parse(bytes)?;
        if signed.mrenclave != measured {
            let (expected, found) = (Box::new(measured), Box::new(signed.mrenclave));
            return Err(LaunchError::OtherEnclave { expected, found });
        }
        registers.insert("mrsigner".to_owned(), signed.mrsigner);
        versions.insert("isvprodid".to_owned(), Bound::Exactly(u64::from(signed.isv_prod_id)));
        versions.insert("isvsvn".to_owned(), Bound::AtLeast(u64::from(signed.isv_svn)));
    }
    let artifacts = Artifacts { enclave: Some(Digest::sha256(launch.enclave)), ..Artifacts::default() };
    let prediction = Prediction {
        platform: Tee::Sgx,
        bank: Algorithm::Sha256,
        measured: registers,
        replayed: Vec::new(),
        versions,
        events: Vec::new(),
        artifacts,
        init_data: launch.init_data,
    };
    Ok(prediction.finish([]))
}

#[cfg(test)]
mod tests;
