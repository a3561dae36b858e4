//! Init-data: what the owner tells the guest, bound to its measurement by one digest.
