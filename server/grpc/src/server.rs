//! The serving side: from connections to backends.

mod caller;
mod intake;
mod listen;
pub(crate) mod refusal;
mod services;

pub use caller::{Peer, TENANT_METADATA, is_grpc};
pub use intake::{Intake, Limits, Share};
pub use listen::{Listener, Security, ServeError, serve};
pub use refusal::CODE_METADATA;
pub use services::Services;
