//! Reference values as CoRIM: read, written and signed.
