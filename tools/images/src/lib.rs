//! Seals, signs and inspects images in layouts and registries.
