//! Mounts, kernel modules and block devices of the guest.
