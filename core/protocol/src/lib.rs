//! The KBS protocol 0.4 on the wire, and its handshake as two sans-I/O state machines.
