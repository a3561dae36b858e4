//! The names of TEEs, as the KBS protocol writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A TEE by its KBS name. Those without a judge of ours are known by name, so that a refusal can say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Tee {
    /// TPM 2.0 quote, software or virtual.
    Tpm,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
    /// Intel SGX.
    Sgx,
    /// AMD SEV-SNP under Azure's paravisor.
    AzSnpVtpm,
    /// Intel TDX under Azure's paravisor.
    AzTdxVtpm,
    /// Arm CCA.
    Cca,
    /// Hygon CSV.
    Csv,
    /// IBM Secure Execution.
    Se,
    /// AWS Nitro Enclaves. Not a name of upstream's.
    Nitro,
    /// NVIDIA GPUs and switches: never alone, always beside the evidence of the machine.
    Nvidia,
    /// Upstream's evidence for tests. Never accepted by a shipped program.
    Sample,
}

impl Tee {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::Tdx => "tdx",
            Self::Snp => "snp",
            Self::Sgx => "sgx",
            Self::AzSnpVtpm => "az-snp-vtpm",
            Self::AzTdxVtpm => "az-tdx-vtpm",
            Self::Cca => "cca",
            Self::Csv => "csv",
            Self::Se => "se",
            Self::Nitro => "nitro",
            Self::Nvidia => "nvidia",
            Self::Sample => "sample",
        }
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
