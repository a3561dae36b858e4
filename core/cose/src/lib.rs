//! Signed CBOR: COSE_Sign1 read from hostile bytes, verified and made.
