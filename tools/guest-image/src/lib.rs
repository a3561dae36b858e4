//! Builds the guest's initramfs, the same bytes from the same inputs.
