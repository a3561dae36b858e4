//! Rego policies as a set of denials: allowed means that the set is empty.
