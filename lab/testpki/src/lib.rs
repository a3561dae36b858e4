//! Certificate authorities and quotes that tests make for themselves.
//!
//! Everything is made of real keys at run time; nothing here is a fixture that somebody could mistake for a
//! secret. Left out: imitations of a TPM's commands. Tests of those run a real swtpm.

mod authority;
mod azure;
mod cca;
mod csv;
pub mod dcap;
mod log;
mod nitro;
mod nvidia;
pub mod sigstore;
mod snp;
mod tpm;

pub use authority::{Authority, Leaf, spki_of};
pub use azure::AzureFixture;
pub use cca::{CcaFixture, CcaProfile};
pub use csv::{CSV_SERIAL, CsvFixture, CsvReport, ca_json, chip_json};
pub use log::EventLogBuilder;
pub use nitro::NitroFixture;
pub use nvidia::{
    NvidiaCertificate, NvidiaDevice, NvidiaKey, NvidiaReport, NvidiaRim, NvidiaState, nvidia_answer,
    nvidia_pem,
};
pub use rcgen::{BasicConstraints, IsCa};
pub use snp::{SnpAuthority, SnpKey, VekContent};
pub use tpm::{KeyKind, TpmFixture, registers};

/// `tcg-kp-AIKCertificate`.
pub const EKU_ATTESTATION_KEY: [u64; 5] = [2, 23, 133, 8, 3];
/// `id-kp-serverAuth`, as a purpose that is wrong for an attestation key.
pub const EKU_SERVER: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
