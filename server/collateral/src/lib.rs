//! Collateral fetched once, kept on disk for its lifetime, and served without network.
