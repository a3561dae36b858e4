//! A server that answers Vault's KV version 2 and transit calls as Vault does, for tests.
