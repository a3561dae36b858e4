//! The guest's end.

use std::time::Duration;

use crate::{Channel, GUEST_PORT, Kind, TransportError, virtio, vsock};

/// Longer than any host needs to connect after it started the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Opens the channel and waits until the host is there.
///
/// # Errors
/// When the machine has no such device, or the host does not come.
pub async fn open_guest(kind: Kind) -> Result<Box<dyn Channel>, TransportError> {
    Ok(match kind {
        Kind::Virtio => Box::new(virtio::open_port(PATIENCE).await?),
        Kind::Vsock => Box::new(vsock::accept_host(GUEST_PORT, PATIENCE).await?),
    })
}
