//! OCI words: references, manifests, sealed-block parameters and simple-signing payloads.
