//! A client of HashiCorp Vault and OpenBao: KV version 2 and transit.
