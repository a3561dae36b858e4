//! The KBS wire form of evidence.
