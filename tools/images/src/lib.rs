//! Seals, signs and inspects images in layouts and registries.
//!
//! The owner's side: plaintext layers are read here, and what is written is ciphertext and signatures. Writes
//! to a layout are atomic; a registry sees a manifest only after its blobs.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod copy;
mod error;
mod flatten;
mod folder;
mod inspect;
mod keys;
mod layout;
mod open;
mod place;
mod progress;
mod publish;
mod registry;
mod seal;
mod sign;
mod tarball;
mod unseal;

pub use copy::{copy, resolve};
pub use error::ImageError;
pub use flatten::{Flat, Limits};
pub use inspect::{Inspection, LayerInspection, SignatureInspection, inspect};
pub use keys::{KeyPair, keygen, new_image_key};
pub use layout::Layout;
pub use open::Resolved;
pub use place::{Destination, PlaceError, Source, Transport};
pub use progress::{Progress, Step};
pub use publish::publish;
pub use seal::{SealFormat, SealOptions, SealedImage, export, open_sealed, seal, unseal};
pub use sign::{Signature, sign, sign_as, sign_message, verify};
pub use unseal::OpeningKeys;
