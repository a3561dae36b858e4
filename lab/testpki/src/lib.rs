//! Certificate authorities and quotes that tests make for themselves.
