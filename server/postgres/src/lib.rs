//! The store's rows in PostgreSQL, for many replicas.
