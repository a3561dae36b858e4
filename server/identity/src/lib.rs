//! Who an admin is: local keys and OIDC tokens, and the roles they carry.
