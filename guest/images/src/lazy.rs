//! A sealed blob that is fetched as it is read: a block device of the kernel, whose reads become ranges of the registry.
//!
//! INVARIANT: nothing that comes this way is believed. It is ciphertext below dm-verity, which refuses each block that the
//! signed root hash does not name; the blob's own digest is not looked at, for that would need all of it.
//! What serves the device has a thread, a runtime and connections of its own: the rest of this program may wait for a page
//! of the device, and what the page waits for must not wait for that.

mod pieces;
mod serve;
#[cfg(test)]
mod tests;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use coffer_sys_nbd::Device;

use crate::source::Pending;
use crate::{ImageError, ImageFault};

use pieces::Pieces;

pub(crate) use pieces::PIECE;

/// Parts of one blob, from somebody who may lie about them.
pub trait Ranges: Send + Sync {
    /// What is at `offset`: exactly `length` bytes.
    fn range(&self, offset: u64, length: usize) -> Pending<'_, Bytes>;
}

/// A blob that can be had in parts.
pub struct Parts {
    /// Its length in bytes.
    pub size: u64,
    /// Its first piece, which told that there are ranges.
    pub first: Bytes,
    /// The rest.
    pub ranges: Box<dyn Ranges>,
}

/// The device. Dropped, it is gone.
pub(crate) struct Lazy {
    device: Device,
    failure: Arc<Failure>,
}

/// The last range that could not be had.
#[derive(Default)]
pub(crate) struct Failure(Mutex<Option<ImageError>>);

impl Failure {
    fn note(&self, failure: ImageError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    fn take(&self) -> Option<ImageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Lazy {
    /// Makes the device.
    ///
    /// # Errors
    /// When the kernel has no such devices, or there is no thread to serve one.
    pub(crate) fn attach(parts: Parts) -> Result<Self, ImageError> {
        let failed = |step: &'static str| {
            move |cause| ImageFault::file(step, Path::new("a network block device"), cause)
        };
        let size = parts.size;
        let (kernel, ours) = UnixStream::pair().map_err(failed("making the socket of"))?;
        let failure = Arc::new(Failure::default());
        let told = Arc::clone(&failure);
        thread::Builder::new()
            .name("image".into())
            .spawn(move || serve::run(ours, Pieces::new(parts), &told))
            .map_err(failed("starting the thread of"))?;
        // If this fails the kernel's end is closed, and with it the thread ends.
        let device = coffer_sys_nbd::attach(kernel.into(), size)?;
        Ok(Self { device, failure })
    }

    pub(crate) fn path(&self) -> &Path {
        self.device.path()
    }

    /// Why a read failed, if it did for want of data.
    pub(crate) fn failure(&self) -> Option<ImageError> {
        self.failure.take()
    }
}

impl std::fmt::Debug for Lazy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Lazy").field(&self.device).finish()
    }
}
