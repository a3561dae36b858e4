//! Who an admin is: local keys, OIDC tokens and client certificates, and the roles they carry.
//!
//! INVARIANT: an [`Identity`] exists only after a signature of a key that was configured for its scope was verified
//! together with audience and time (or TLS verified a client certificate), and an [`Authorized`] only after the
//! identity's roles were found to allow the permission in that scope.
//! Left out: HTTP, the store, TLS, and sessions. A token is good again until it ends: a body's digest is not in it.

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

mod algorithm;
mod authenticator;
mod cache;
mod certificate;
mod claims;
mod error;
mod fetch;
mod identity;
mod issuer;
mod json;
mod key;
mod key_set;
mod local;
mod permission;
mod roles;
mod scope;
mod token;
mod verifier;

#[cfg(test)]
mod tests;

pub use algorithm::Algorithm;
pub use authenticator::{Authenticator, Presented};
pub use cache::{CacheTimes, KeyCache};
pub use certificate::{CertificateRule, ClientCertificate, Names};
pub use claims::{ClaimPath, NotAPath};
pub use error::{FetchError, Forbidden, KeyError, SettingsError, Unauthenticated};
pub use fetch::{FetchSettings, Proxy, Reach};
pub use identity::{Authorized, Identity, Via};
pub use issuer::{Issuer, IssuerSettings, Requirement, RoleRule, SpeaksFor};
pub use key::PublicKey;
pub use key_set::{KeySet, KeySlot, KeySource, MAX_KEYS};
pub use local::LocalKey;
pub use permission::{Level, Permission};
pub use roles::RoleSet;
pub use scope::Scope;
pub use token::{MAX_TOKEN, Token};
pub use verifier::{Asked, KeysAtHand, Verifier};
