//! What a judge is: evidence, collateral and time in; claims and a tree of checks out.
//!
//! A [`Verified`] value exists only if signature, certificate chain, freshness and key binding were all
//! checked and passed (invariant I-2). Judges are pure, so every verdict can be repeated (I-8).
//! Left out: comparing claims with reference values, which is `verify/appraisal`.

mod collateral;
mod posture;
mod tree;

use std::collections::BTreeMap;

use coffer_core_digest::Digest;
pub use coffer_core_evidence::ar4si::{Status, TrustVector};
use coffer_core_evidence::eventlog::Event;
use coffer_core_evidence::{ReportData, Tee};
pub use jiff::Timestamp;
use serde_json::{Map, Value};

pub use collateral::{Collateral, CollateralKey, Document, NoCollateral, PckCa, Shelf, UnknownCollateral};
pub use posture::{Posture, Tcb, TcbStatus};
pub use tree::{Check, Outcome, Verdict};

/// What one judge is asked.
pub struct Question<'a> {
    /// The TEE's evidence in its KBS wire form (`primary_evidence`).
    pub evidence: &'a Value,
    /// What the evidence must be bound to: the hash over nonce and key.
    pub report_data: &'a ReportData,
    /// The digest of the init-data that the attester sent, if it sent any.
    pub init_data: Option<&'a Digest>,
    /// Where the judge finds what it needs beside the evidence.
    pub collateral: &'a dyn Collateral,
    /// The time at which certificates and collateral must be valid.
    pub at: Timestamp,
}

/// A judge of one TEE's evidence. Its trust anchors were given when it was made.
pub trait Verifier: Send + Sync {
    /// The TEE it judges.
    fn tee(&self) -> Tee;

    /// Judges. A refusal is a [`Judgement::Rejected`]; an [`Err`] means that no judgement was possible.
    fn verify(&self, question: &Question<'_>) -> Result<Judgement, Fault>;
}

/// A judge of devices, whose evidence comes beside that of the machine and is bound to the same nonce and key.
pub trait DeviceVerifier: Send + Sync {
    /// The kind of devices.
    fn tee(&self) -> Tee;

    /// Judges all devices of one request. `question.evidence` is the value under the TEE's name in
    /// `additional_evidence`, and `question.report_data` the hash that devices are bound to.
    fn verify(&self, question: &Question<'_>) -> Result<Vec<Device>, Fault>;
}

/// What is said of one device.
pub struct Device {
    /// The name of its submodule in the attestation result: `gpu0`, `switch1`.
    pub submodule: String,
    /// What the judge says.
    pub judgement: Judgement,
}

/// No judgement was possible: rejected is not unavailable.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Collateral that the judge needs is not there. Asked again with these documents, the judge goes on.
    #[error("collateral is missing: {}", list(.0))]
    CollateralUnavailable(Vec<CollateralKey>),
    /// A judge was asked about a TEE that it does not know.
    #[error("no judge for {0} evidence is configured")]
    NoJudge(Tee),
}

fn list(keys: &[CollateralKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a judge says of evidence.
// One is made for each attestation, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
pub enum Judgement {
    /// Genuine, fresh and bound to the key. Whether it is *wanted* is for the appraisal to say.
    Verified(Verified<Claims>),
    /// Not to be believed; at least one check failed.
    Rejected(Vec<Check>),
}

/// What genuine evidence says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The TEE.
    pub tee: Tee,
    /// Whether hardware protects the guest from its host. False for a software TPM.
    pub hardware: bool,
    /// Quoted registers by name, as in `pcr4`.
    pub registers: BTreeMap<String, Digest>,
    /// The event log that replays to the registers, if the evidence had one that does.
    pub events: Vec<Event>,
    /// What platforms differ in and owners decide on.
    pub posture: Posture,
    /// Claims by name, for policies and tokens.
    pub json: Map<String, Value>,
}

/// Proof that the four obligatory checks were made and passed. Made only by [`Verified::from_checks`].
#[derive(Clone, Debug)]
pub struct Verified<E> {
    value: E,
    checks: Vec<Check>,
}

/// Ends of the codes of the checks without which nothing is [`Verified`].
pub const OBLIGATORY: [&str; 4] = ["signature", "chain", "freshness", "binding"];

impl<E> Verified<E> {
    /// Makes the proof, or gives the checks back as the reasons why there is none.
    ///
    /// INVARIANT I-2: each of [`OBLIGATORY`] must be the last segment of a passed check's code (as in
    /// `tpm.quote.signature`), and no check anywhere in the tree may have failed.
    pub fn from_checks(value: E, mut checks: Vec<Check>) -> Result<Self, Vec<Check>> {
        for name in OBLIGATORY {
            if !checks.iter().any(|check| check.proves(name)) {
                checks.push(Check::failed(format!("verify.{name}"), format!("The {name} was not checked")));
            }
        }
        match checks.iter().any(Check::has_failed) {
            true => Err(checks),
            false => Ok(Self { value, checks }),
        }
    }

    /// What was verified.
    pub fn get(&self) -> &E {
        &self.value
    }

    /// The checks that were made.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
}
