//! How a session ends other than with the workload's exit code.

use coffer_core_channel::Refusal;
use coffer_guest_attest::{AttestError, BindError, RecordError};
use coffer_guest_gate::GateError;
use coffer_guest_hub::UnsealError;
use coffer_guest_images::ImageError;
use coffer_guest_volumes::VolumeError;

/// Why nothing runs, or no longer.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Refused, with the reason that the host is told.
    Refused(Box<Refusal>),
    /// Nobody is there to be told.
    HostGone,
}

macro_rules! refused {
    ($($error:ty),*) => {$(
        impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::Refused(Box::new(error.refusal()))
            }
        }
    )*};
}

refused!(AttestError, BindError, GateError, ImageError, RecordError, UnsealError, VolumeError);
