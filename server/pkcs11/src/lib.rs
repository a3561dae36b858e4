//! Keys and objects in a PKCS#11 token: a smart card, an HSM, or SoftHSM.
//!
//! SPEC: PKCS #11 Cryptographic Token Interface, version 2.40 (base specification and current mechanisms).
//! Holds true: the module is trusted, as code in our process is; keys that wrap stay in it. Left out: signatures,
//! asymmetric keys, and the security officer's work.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod error;
mod module;
mod object;
mod source;
mod token;
mod wrap;

pub use error::Pkcs11Error;
pub use object::Selector;
pub use source::PkcsSource;
pub use token::{Token, TokenConfig};
pub use wrap::{Method, WrappingKey};
