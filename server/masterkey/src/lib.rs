//! Master keys that are not files: in a TPM, in a PKCS#11 token, in a key management service.
