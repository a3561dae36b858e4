//! Images in the guest: fetched as ciphertext, verified, decrypted, mounted.
