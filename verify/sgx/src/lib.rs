//! The judge for SGX quotes.
