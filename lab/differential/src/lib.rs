//! Our judges beside those of others on the same evidence.
