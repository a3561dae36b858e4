//! Data keys wrapped by keys that stay in the broker: the Hadoop KMS and Vault transit calls.
