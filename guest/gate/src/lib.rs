//! The gate: nothing runs that the owner's policy does not name.
