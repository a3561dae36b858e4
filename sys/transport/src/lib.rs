//! The byte channel between host and guest: vsock, virtio-serial port or unix socket.
