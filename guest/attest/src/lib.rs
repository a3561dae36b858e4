//! The guest's side of attestation: evidence, handshake, keys.
