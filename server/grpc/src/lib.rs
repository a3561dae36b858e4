//! The gRPC faces of a broker: attestation service, reference values, plugins.
//!
//! What arrives here is hostile: it is bounded in bytes and time before it is read, and parsed before the broker sees
//! it. What a plugin answers is bounded and parsed too. Decisions are the backends'.
//! Left out: streaming calls, compression, reflection, and HTTP/1.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod attestation;
mod backend;
mod channel;
mod codec;
mod endpoint;
mod plugin;
mod reference;
pub mod rest;
mod server;
pub mod wire;

pub use attestation::{
    AttestationBackend, ChallengeParameters, EvaluateRequest, IndividualRequest, InitData, PolicyInfo,
    RuntimeData, SetPolicy,
};
pub use backend::{AuthContext, BackendError, BoxFuture, Kind};
pub use channel::{CallError, CallOptions, Channel};
pub use endpoint::{ClientIdentity, Endpoint, EndpointError, Plaintext};
pub use plugin::{
    Plugin, PluginCall, PluginClient, PluginConfig, PluginConfigError, PluginError, PluginReply,
};
pub use reference::{ReferenceBackend, Registration};
pub use server::{
    CODE_METADATA, Intake, Limits, Listener, Peer, Security, ServeError, Services, Share, TENANT_METADATA,
    is_grpc, serve,
};

/// The longest message in either direction, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;
