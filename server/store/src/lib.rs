//! The broker's durable store, encrypted at rest under a master key.
