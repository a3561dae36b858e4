//! Why there is no channel.

use std::io;
use std::path::PathBuf;

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The name of the transport is not known.
    #[error("unknown channel {found:?}; expected virtio or vsock")]
    Kind {
        /// What was found.
        found: String,
    },
    /// The machine has no virtio-serial port of the channel's name.
    #[error("no virtio-serial port is named {expected}; found: {}", if found.is_empty() { "none".to_owned() } else { found.join(", ") })]
    NoPort {
        /// The name that was looked for.
        expected: &'static str,
        /// The names that are there.
        found: Vec<String>,
    },
    /// The other side did not come within the time given.
    #[error("the host did not open the channel within {seconds} s")]
    Absent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A file or socket operation failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// Somebody else than the host connected.
    #[error("vsock: expected a connection from the host (CID {expected}), found CID {found}")]
    Peer {
        /// The host's CID.
        expected: u32,
        /// Who connected.
        found: u32,
    },
    /// The path of the socket.
    #[error("the socket {} does not exist yet", path.display())]
    NoSocket {
        /// Where it should be.
        path: PathBuf,
    },
}

impl TransportError {
    pub(crate) fn io(what: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), cause: cause.into() }
    }

    /// Whether the other side may just not be there yet, so that trying again can help.
    #[must_use]
    pub fn is_not_there_yet(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, TimedOut};
        match self {
            Self::NoSocket { .. } | Self::NoPort { .. } => true,
            Self::Io { cause, .. } => {
                matches!(cause.kind(), ConnectionRefused | ConnectionReset | NotFound | TimedOut)
                    || matches!(cause.raw_os_error(), Some(libc::ENODEV | libc::EHOSTUNREACH))
            }
            _ => false,
        }
    }
}
