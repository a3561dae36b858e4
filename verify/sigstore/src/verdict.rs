//! The verdict on a bundle, in the order of its checks: log, certificate, identity, entry, signature.

use coffer_core_digest::{Algorithm, Digest};
use coffer_verify_x509::Certificate;

use crate::bundle::Bundle;
use crate::content::Statement;
use crate::error::SigstoreError;
use crate::identity::{self, Identity};
use crate::key::Key;
use crate::trust_root::TrustRoot;
use crate::{chain, content, entry, log, sct};

/// What the bundle should show.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The artifact's SHA-256: of a file, or of an image's manifest.
    pub artifact: &'a Digest,
    /// Who should have signed it.
    pub identity: &'a Identity,
}

/// An artifact that a signer signed, in public. Only [`Bundle::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    artifact: Digest,
    identity: Identity,
    at: i64,
    log_index: u64,
    statement: Option<Statement>,
}

impl Signed {
    /// The artifact.
    #[must_use]
    pub const fn artifact(&self) -> &Digest {
        &self.artifact
    }

    /// The signer.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When a log took the first entry, in seconds since 1970.
    #[must_use]
    pub const fn integrated_time(&self) -> i64 {
        self.at
    }

    /// The first entry's index over all shards of its log.
    #[must_use]
    pub const fn log_index(&self) -> u64 {
        self.log_index
    }

    /// The statement that was signed. None if it was the artifact itself.
    #[must_use]
    pub const fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
}

impl Bundle {
    /// Verifies that the expected signer signed the expected artifact while its certificate was valid.
    ///
    /// Every entry of the bundle must hold. No time is asked for: a signature stays good after its certificate's end.
    ///
    /// # Errors
    /// The first check that fails, each with its own [`SigstoreError::code`].
    pub fn verify(&self, root: &TrustRoot, expected: &Expected<'_>) -> Result<Signed, SigstoreError> {
        let algorithm = expected.artifact.algorithm();
        if algorithm != Algorithm::Sha256 {
            return Err(SigstoreError::ArtifactAlgorithm { found: algorithm.name() });
        }
        let times =
            self.entries.iter().map(|entry| log::verify(entry, root)).collect::<Result<Vec<_>, _>>()?;
        let (Some(at), Some(first)) = (times.first(), self.entries.first()) else {
            return Err(SigstoreError::Entries { found: 0 });
        };

        let leaf = Certificate::parse(&self.certificate);
        let leaf = leaf.map_err(|cause| SigstoreError::Certificate(cause.to_string()))?;
        for at in &times {
            let issuer = chain::verify(&leaf, root, *at)?;
            sct::verify(&leaf, issuer, root)?;
        }
        identity::verify(&leaf, expected.identity)?;

        for entry in &self.entries {
            entry::verify(entry, &leaf, &self.content)?;
        }
        let kinds = "ECDSA P-256, ECDSA P-384, Ed25519 or RSA from 2048 bits";
        let key = Key::from_spki(leaf.spki_der());
        let key = key.map_err(|found| SigstoreError::Key { expected: kinds, found })?;
        let statement = content::verify(&self.content, &key, expected.artifact)?;
        Ok(Signed {
            artifact: *expected.artifact,
            identity: expected.identity.clone(),
            at: *at,
            log_index: first.log_index.0,
            statement,
        })
    }
}
