//! Keys and objects in a PKCS#11 token.
