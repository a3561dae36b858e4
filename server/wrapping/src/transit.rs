//! The Vault transit calls for encryption keys, and the few of Vault's own that its clients make beside them.
//!
//! SPEC: HashiCorp Vault HTTP API, "Transit secrets engine". Keys are `aes256-gcm96`; a ciphertext is
//! `vault:v1:` and base64, as clients store and parse it, and opens here only.
//! Not done, and refused by name: export, backup and restore, import, convergent encryption, a nonce of the caller's,
//! making a key by encrypting, automatic rotation, signing, HMAC and hashing. Tokens are the broker's own.

mod call;
mod forms;
mod handle;

pub use call::{Call, Operation, ROUTES};
pub use handle::{Caller, handle};

use crate::{Answer, KeyName, Keyring, Moment, Permission, Request, authorize};

/// Reads a request, asks the gate, and handles it.
pub fn answer(
    request: &Request<'_>,
    keyring: &Keyring,
    caller: &Caller<'_>,
    now: Moment,
    gate: impl FnOnce(Permission, &[&KeyName]) -> bool,
) -> Answer {
    let permitted = Call::read(request).and_then(|call| authorize(call, gate));
    match permitted {
        Ok(call) => handle(call, keyring, caller, now),
        Err(refused) => refused,
    }
}

#[cfg(test)]
pub(crate) mod tests;
