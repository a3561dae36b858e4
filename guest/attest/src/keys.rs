//! What the rest of the guest asks of attestation, so that tests can stand in for a broker.

use std::future::Future;
use std::pin::Pin;

use coffer_core_evidence::Tee;
use coffer_core_evidence::eventlog::RuntimeEvent;
use coffer_core_protocol::counter::{Counter, MoveCounter};
use coffer_core_protocol::ear::Status;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;

use crate::{AttestError, RecordError};

/// An answer that comes later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, AttestError>> + Send + 'a>>;

/// The end of a recording, which comes later.
pub type Recorded<'a> = Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>>;

/// The result of an attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// What the appraisal says of the machine.
    pub status: Status,
    /// The broker's name for the attempt.
    pub attempt: String,
}

/// What the workload's data becomes in evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// SHA-512 over a prefix of its own and the data: no handshake with a broker ends in such report data.
    Workload,
    /// The data itself, as upstream has it: whoever chooses it can attest as this guest.
    Raw,
}

/// Where secrets come from.
pub trait Keys: Send + Sync {
    /// A resource of the broker.
    fn resource<'a>(&'a self, path: &'a ResourcePath) -> Pending<'a, SecretBytes>;

    /// How often the volume of this key was opened, as far as the broker knows.
    fn counter<'a>(&'a self, _: &'a ResourcePath) -> Pending<'a, Counter> {
        Box::pin(async { Err(AttestError::Broker { why: "it keeps no counters".into() }) })
    }

    /// Moves the counter of a volume by one, and gives the new one. Asked for again after a lost reply, it is the same.
    fn move_counter<'a>(&'a self, _: &'a ResourcePath, _: &'a MoveCounter) -> Pending<'a, Counter> {
        Box::pin(async { Err(AttestError::Broker { why: "it keeps no counters".into() }) })
    }

    /// A valid attestation token and the key that it is bound to, in the form of the attestation agent's `kbs` token.
    fn token(&self) -> Pending<'_, SecretBytes>;

    /// Evidence over data of the workload's, as JSON.
    fn evidence<'a>(&'a self, runtime_data: &'a [u8], binding: Binding) -> Pending<'a, Vec<u8>>;

    /// Evidence of the devices over data of the workload's, as JSON: a map from kind to evidence.
    fn additional_evidence<'a>(&'a self, _: &'a [u8], _: Binding) -> Pending<'a, Vec<u8>> {
        Box::pin(async { Ok(b"{}".to_vec()) })
    }

    /// Measures an event of the running guest.
    fn record(&self, _: RuntimeEvent) -> Recorded<'_> {
        Box::pin(async { Err(RecordError::NotSupported("nothing is attested".into())) })
    }

    /// The TEE.
    fn tee(&self) -> Tee;
}
