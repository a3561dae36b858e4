//! TPM 2.0 commands to a device file or a software TPM's socket.
