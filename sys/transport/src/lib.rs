//! The byte channel between host and guest: vsock, or a virtio-serial port and its socket on the host.
//!
//! What holds: one ordered stream of bytes, whichever carries it; an end of file means that the other side is gone
//! for good; nothing spins while it waits. Left out: multiplexing, frames, and every belief about the peer.

#![allow(
    unsafe_code,
    reason = "the reactor and accept4 take and give raw descriptors; each block says why it is sound"
)]

mod error;
mod guest;
mod host;
mod stream;
mod virtio;
mod vsock;

use std::fmt;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};

pub use error::TransportError;
pub use guest::open_guest;
pub use host::{HostEnd, connect_host};

/// The vsock port on which the guest listens.
pub const GUEST_PORT: u32 = 1024;
/// The name of the virtio-serial port.
pub const PORT_NAME: &str = "coffer.channel";

/// One ordered stream of bytes between host and guest.
pub trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// What carries the channel. The measured command line names it: `coffer.channel=virtio|vsock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A virtio-serial port, where the host has no vhost-vsock.
    Virtio,
    /// Vsock; the guest listens.
    Vsock,
}

impl Kind {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Vsock => "vsock",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Self, TransportError> {
        match text {
            "virtio" => Ok(Self::Virtio),
            "vsock" => Ok(Self::Vsock),
            other => Err(TransportError::Kind { found: other.chars().take(32).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_and_write_the_same_and_others_are_refused() {
        for kind in [Kind::Virtio, Kind::Vsock] {
            assert_eq!(kind.name().parse::<Kind>().expect("known"), kind);
        }
        assert!(matches!("serial".parse::<Kind>(), Err(TransportError::Kind { .. })));
    }
}
