//! The gRPC faces of a broker: attestation service, reference values, plugins.
