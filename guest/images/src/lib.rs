//! Images in the guest: fetched as ciphertext, verified, decrypted, mounted.
//!
//! What holds: bytes are used only after they matched the digest that an authorized manifest names; no key is asked
//! for before; a changed byte of a sealed image never becomes other content. Left out: pushing, caching on disk
//! (the host's ciphertext is the cache), and which image may run, which is `guest/gate`.

mod decompress;
mod error;
mod find;
mod kmsg;
mod layers;
mod lazy;
mod process;
mod registry;
mod sealed;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod unpack;
mod workshop;

pub use error::{ImageError, ImageFault};
pub use find::{Found, MAX_SIGNATURES};
pub use lazy::{Parts, Ranges};
pub use process::Process;
pub use registry::{Credentials, Registry, RegistryAccess};
pub use sealed::Integrity;
pub use source::{BlobSource, Chunks, Pending};
pub use store::{ImageStore, Prepared};
pub use workshop::Progress;
