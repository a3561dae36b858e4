//! Why a guest is not attested, or does not get a key.

use coffer_core_channel::Refusal;
use coffer_core_protocol::error::{Cause, ErrorBody};
use coffer_sys_tpm::TpmError;
use coffer_sys_tsm::TsmError;

use crate::refused;

/// Why a guest is not attested, or does not get a key.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// Init-data's broker cannot be used.
    #[error("the broker that init-data names cannot be used: {why}")]
    Broker {
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers.
    #[error("the broker at {url} does not answer after {attempts} attempts: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        why: String,
    },
    /// Somebody answers who has not the pinned certificate.
    #[error("whoever answers at {url} does not have the broker's certificate: {why}")]
    Certificate {
        /// Where.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A reply is not what the protocol says.
    #[error("the broker's reply to {step} is not what the protocol says: {why}")]
    Protocol {
        /// The step.
        step: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The broker refused.
    #[error("the broker refused {step}: {body}")]
    Refused {
        /// The step.
        step: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: Box<ErrorBody>,
        /// The attempt's name.
        attempt: Option<String>,
    },
    /// The evidence is genuine, and the machine is not what was expected.
    #[error("the broker judged this machine: not as expected")]
    Contraindicated {
        /// The failed checks.
        causes: Vec<Cause>,
        /// The attempt's name.
        attempt: String,
    },
    /// The TPM did not give evidence.
    #[error("the TPM gives no evidence: {0}")]
    Tpm(#[from] TpmError),
    /// The kernel's driver did not give evidence.
    #[error("the TEE gives no evidence: {0}")]
    Tsm(#[from] TsmError),
    /// A part of the evidence cannot be read.
    #[error("a part of the evidence cannot be had: {what}: {why}")]
    Evidence {
        /// The part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The workload asked for evidence over more than a quote can carry.
    #[error("runtime data has {found} bytes; evidence carries at most {limit}")]
    RuntimeData {
        /// The limit.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// The cryptographic provider failed.
    #[error("no session key could be made: {why}")]
    Provider {
        /// Why.
        why: String,
    },
}

impl AttestError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> String {
        self.refusal().code
    }

    /// What the host is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let plain = |code: &str, remedy: &str| Refusal {
            code: code.into(),
            message: self.to_string(),
            expected: None,
            found: None,
            remedy: Some(remedy.into()),
            attempt: None,
        };
        match self {
            Self::Broker { .. } => {
                plain("broker.config", "Correct the broker's address and certificate in init-data.")
            }
            Self::Unreachable { .. } => plain(
                "broker.unreachable",
                "Start the broker, and make sure that the guest's network reaches the address in init-data.",
            ),
            Self::Certificate { .. } => plain(
                "broker.certificate",
                "Put the broker's present certificate into init-data. If it did not change, somebody answers in \
                 its place.",
            ),
            Self::Protocol { .. } => {
                plain("broker.protocol", "Use a broker that speaks KBS protocol 0.4 at this address.")
            }
            Self::Tpm(_) | Self::Tsm(_) | Self::Evidence { .. } => plain(
                "attestation.evidence",
                "Give the machine a TEE whose driver the guest's kernel has, or a TPM 2.0 with a certified attestation \
                 key (`coffer doctor` says what is missing).",
            ),
            Self::RuntimeData { .. } => {
                plain("attestation.runtime-data", "Hash the data and send the digest.")
            }
            Self::Provider { .. } => plain("attestation.provider", "Start the machine again."),
            Self::Refused { body, attempt, .. } => {
                refused::from_body(&self.to_string(), body, attempt.clone())
            }
            Self::Contraindicated { causes, attempt } => refused::from_causes(
                "attestation.contraindicated",
                &self.to_string(),
                "Compare the machine with the reference values: `coffer explain`.",
                causes,
                Some(attempt.clone()),
            ),
        }
    }

    /// Whether attesting again may help (KBS protocol, client rule on 401).
    pub(crate) fn asks_to_attest_again(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }
}
