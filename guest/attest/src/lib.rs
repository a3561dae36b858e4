//! The guest's side of attestation: evidence, handshake, keys.
//!
//! What holds: one broker, pinned by init-data, over TLS; secrets only as `Secret`; bounded retries. The broker's
//! refusals become refusals of ours with its code and causes. Evidence comes from the machine that init-data is bound to,
//! one quote for each session key. Left out: which image a key is for, which is
//! `guest/images`, and what the workload may ask for, which is `guest/hub`.

mod binding;
mod client;
mod devices;
mod error;
mod http;
mod keys;
mod machine;
mod pair;
mod refused;
mod runtime;
mod source;
#[cfg(test)]
mod tests;

pub use binding::BindError;
pub use client::KeyClient;
pub use coffer_core_evidence::eventlog::{COCO_DOMAIN, RuntimeEvent, RuntimeEventError};
pub use devices::{Devices, GPU_EVIDENCE};
pub use error::AttestError;
pub use http::{Broker, Patience, add_roots, is_certificate, reasons, tls_client};
pub use keys::{Attested, Binding, Keys, Pending, Recorded};
pub use machine::{Bound, Machine, Places, ProbeError, probe};
pub use runtime::{RUNTIME_LOG, RecordError};
pub use source::{EvidenceSource, MachineSource};
