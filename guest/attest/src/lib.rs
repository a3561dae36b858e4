//! The guest's side of attestation: evidence, handshake, keys.
//!
//! What holds: one broker, pinned by init-data, over TLS; secrets only as `Secret`; bounded retries. The broker's
//! refusals become refusals of ours with its code and causes. Left out: which image a key is for, which is
//! `guest/images`, and what the workload may ask for, which is `guest/hub`.

mod binding;
mod client;
mod error;
mod http;
mod keys;
mod pair;
mod refused;
mod source;
#[cfg(test)]
mod tests;

pub use binding::{BindError, Bound, bind_init_data};
pub use client::KeyClient;
pub use error::AttestError;
pub use http::{Broker, Patience, add_roots, is_certificate, reasons, tls_client};
pub use keys::{Attested, Binding, Keys, Pending};
pub use source::{EvidenceSource, TpmSource};
