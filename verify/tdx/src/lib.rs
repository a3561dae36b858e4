//! The judge for TDX quotes.
