//! Evidence of confidential guests on Azure, where a paravisor owns the platform's report and gives its guest a TPM.
//!
//! The paravisor's report (`HCL report`, in the TPM at 0x01400001) holds the platform's report and the runtime data
//! that the platform's report hashes; among them the TPM's attestation key. Forms of the evidence are those of KBS
//! attesters, versions 0, 1 and 2. Left out: judging, which is `verify/azure`.

mod hcl;
mod wire;

#[cfg(test)]
mod tests;

pub use hcl::{HclError, HclReport, Platform, RsaKey, RuntimeClaims};
pub use wire::{AzureError, AzureEvidence, AzureQuote, PlatformProof};
