//! The Hadoop KMS calls, version 1: what `KMSClientProvider` of Hadoop, and through it HDFS, Spark and HBase, say.
//!
//! SPEC: Hadoop KMS documentation, "KMS HTTP REST API"; what it leaves out is as Hadoop 3's own client asks for it.
//! Versions are `name@0`, `name@1` there and 1, 2 here. An encrypted key's material is ours: to the client it is
//! opaque, and its IV is random, echoed, and authenticated with it.
//! Not done: bringing or fetching a wrapping key's material, and delegation tokens, which are Kerberos's.

mod call;
mod forms;
mod handle;

pub use call::{Call, Operation, ROUTES};
pub use handle::handle;

use crate::{Answer, KeyName, Keyring, Moment, Permission, Request, authorize};

/// Reads a request, asks the gate, and handles it.
pub fn answer(
    request: &Request<'_>,
    keyring: &Keyring,
    now: Moment,
    gate: impl FnOnce(Permission, &[&KeyName]) -> bool,
) -> Answer {
    let permitted = Call::read(request).and_then(|call| authorize(call, gate));
    match permitted {
        Ok(call) => handle(call, keyring, now),
        Err(refused) => refused,
    }
}

#[cfg(test)]
mod tests;
