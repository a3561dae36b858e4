//! Keys in files: private ones are new files that only their owner reads.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;

/// PKCS #8 in PEM (RFC 7468).
pub(crate) fn pem(der: &SecretBytes) -> SecretBytes {
    let body = SecretBytes::new(STANDARD.encode(der.expose()).into_bytes());
    let mut text = Vec::with_capacity(body.expose().len().saturating_add(128));
    text.extend_from_slice(b"-----BEGIN PRIVATE KEY-----\n");
    for line in body.expose().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    SecretBytes::new(text)
}

/// A new file that only its owner reads.
pub(crate) fn write_private(path: &Path, content: &SecretBytes) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("{} cannot be made", path.display()))?;
    file.write_all(content.expose()).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(file.sync_all()?)
}
