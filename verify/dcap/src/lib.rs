//! Intel's quotes: signatures, certificates, TCB info and enclave identities.
