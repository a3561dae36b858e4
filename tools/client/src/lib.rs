//! The owner's client of a broker: admin calls and the KBS handshake over HTTP.
//!
//! The broker's certificate authority is pinned; there is no way to trust the system's roots or no one's.
//! Left out: evidence. [`KbsClient`] asks a closure for it.

mod admin;
mod error;
mod http;
mod kbs;
mod token;

pub use admin::AdminClient;
pub use coffer_core_admin::{
    Attempt, AttemptSummary, Cause, Decision, Info, NamedTrustAnchor, PolicyBody, PolicyList, ResourceInfo,
    ResourceTerms, TenantName, TrustAnchor,
};
pub use error::{ClientError, Refusal};
pub use kbs::{Evidence, KbsClient, KbsSession};
