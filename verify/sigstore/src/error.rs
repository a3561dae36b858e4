//! Why a bundle does not show that an artifact is signed. One error and one code for each check.

use crate::limits::{MAX_BUNDLE, MAX_ENTRIES, MAX_TRUST_ROOT};

/// Why a bundle or a trust root is refused. Text of others in it is cut and without control characters.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SigstoreError {
    /// The bundle is longer than any honest one.
    #[error(
        "the bundle has {found} bytes; expected at most {MAX_BUNDLE}. Attach the signature with a smaller payload"
    )]
    BundleSize {
        /// Bytes found.
        found: usize,
    },
    /// The bundle is of another type or version.
    #[error(
        "the bundle has the media type {found:?}; expected {expected:?}. Sign again with a client that writes it"
    )]
    BundleMediaType {
        /// The one that is read.
        expected: &'static str,
        /// The one found.
        found: String,
    },
    /// The bundle cannot be read.
    #[error("the bundle cannot be read: {0}. Fetch it again, or sign again")]
    Bundle(String),
    /// The bundle has no log entry, or too many.
    #[error(
        "the bundle has {found} log entries; expected 1 to {MAX_ENTRIES}. Sign again with a transparency log"
    )]
    Entries {
        /// Entries found.
        found: usize,
    },
    /// The trust root is longer than any honest one.
    #[error(
        "the trust root has {found} bytes; expected at most {MAX_TRUST_ROOT}. Configure a trusted_root.json"
    )]
    TrustRootSize {
        /// Bytes found.
        found: usize,
    },
    /// The trust root is of another type or version.
    #[error(
        "the trust root has the media type {found:?}; expected {expected:?}. Configure a trusted_root.json of it"
    )]
    TrustRootMediaType {
        /// The one that is read.
        expected: &'static str,
        /// The one found.
        found: String,
    },
    /// The trust root cannot be read.
    #[error("the trust root cannot be read: {0}. Correct the configured trusted_root.json")]
    TrustRoot(String),
    /// The artifact is named by a hash that bundles do not use.
    #[error("the artifact is named by {found}; expected sha256. Ask with the artifact's SHA-256")]
    ArtifactAlgorithm {
        /// The algorithm found.
        found: &'static str,
    },
    /// The entry is of a log that nobody trusts.
    #[error(
        "the log {found} is not in the trust root. Expected one of its logs; update the trust root or sign again"
    )]
    LogUnknown {
        /// The log's identifier in hexadecimal.
        found: String,
    },
    /// The log's key was not in use when it says that it took the entry.
    #[error(
        "the entry's time {at} is outside of {window} of the log's key. Update the trust root or sign again"
    )]
    LogWindow {
        /// The integrated time (RFC 3339).
        at: String,
        /// The key's window.
        window: String,
    },
    /// There is no signed entry timestamp, the only source of time.
    #[error("the log entry has no signed entry timestamp; expected one. Sign again with a log that gives it")]
    PromiseMissing,
    /// The signed entry timestamp is not the log's for this entry, time and place.
    #[error(
        "the signed entry timestamp is not by the log {log} over this entry's body, time and index. Sign again"
    )]
    PromiseSignature {
        /// The log's identifier in hexadecimal.
        log: String,
    },
    /// The leaf is not within the tree.
    #[error(
        "the leaf's index {found} is not within the tree of {size} leaves. Fetch the bundle again, or sign again"
    )]
    InclusionIndex {
        /// The index found.
        found: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The path has another length than the tree's shape says.
    #[error(
        "the inclusion proof has {found} hashes; expected {expected}. Fetch the bundle again, or sign again"
    )]
    InclusionLength {
        /// Hashes that lead from the leaf to the root.
        expected: usize,
        /// Hashes found.
        found: usize,
    },
    /// The path does not lead from the body to the root.
    #[error(
        "the inclusion proof leads to root {found}; expected {expected}. The entry is not in the log: sign again"
    )]
    InclusionRoot {
        /// The proof's root in hexadecimal.
        expected: String,
        /// The root computed from body and path.
        found: String,
    },
    /// The checkpoint is not a signed note with a tree head.
    #[error("the checkpoint cannot be read: expected {0}. Fetch the bundle again, or sign again")]
    Checkpoint(&'static str),
    /// The checkpoint is signed under other names than its origin.
    #[error(
        "the checkpoint's origin is {found:?}; expected {expected:?}, who signed it. Fetch the bundle again, or sign again"
    )]
    CheckpointOrigin {
        /// The names under which it is signed.
        expected: String,
        /// The checkpoint's origin.
        found: String,
    },
    /// None of the checkpoint's signatures is the log's.
    #[error(
        "no signature on the checkpoint is by the log {log}; expected one. Fetch the bundle again, or sign again"
    )]
    CheckpointSignature {
        /// The log's identifier in hexadecimal.
        log: String,
    },
    /// The checkpoint is of a tree of another size.
    #[error("the checkpoint is of {found} leaves; expected {expected}, as in the proof. Sign again")]
    CheckpointSize {
        /// The proof's.
        expected: u64,
        /// The checkpoint's.
        found: u64,
    },
    /// The checkpoint is of a tree with another root.
    #[error("the checkpoint has root {found}; expected {expected}, as in the proof. Sign again")]
    CheckpointRoot {
        /// The proof's, in hexadecimal.
        expected: String,
        /// The checkpoint's.
        found: String,
    },
    /// The certificate cannot be read.
    #[error("the signer's certificate cannot be read: {0}; expected X.509 in DER. Sign again")]
    Certificate(String),
    /// The certificate leads to no authority of the trust root.
    #[error(
        "expected a certificate of an authority of the trust root, valid at {at}: {why}. Update the trust root or sign again"
    )]
    Chain {
        /// The integrated time (RFC 3339).
        at: String,
        /// What X.509 says.
        why: String,
    },
    /// A certificate was not valid when the log took the entry.
    #[error(
        "expected certificates valid at the entry's time: {0}. Sign again: an entry must be logged at once"
    )]
    CertificateTime(String),
    /// The authority was not in use when the log took the entry.
    #[error(
        "the entry's time {at} is outside of {window} of the certificate's authority. Update the trust root or sign again"
    )]
    AuthorityWindow {
        /// The integrated time (RFC 3339).
        at: String,
        /// The authority's window.
        window: String,
    },
    /// The certificate is not for signing code.
    #[error(
        "{which} is not for code signing (1.3.6.1.5.5.7.3.3), as expected. Sign with a certificate that is"
    )]
    Purpose {
        /// Which certificate of the chain.
        which: &'static str,
    },
    /// The certificate has no embedded timestamp of a CT log.
    #[error(
        "the certificate has no signed certificate timestamp; expected one. Use an authority that logs certificates"
    )]
    SctMissing,
    /// The embedded timestamps cannot be read.
    #[error(
        "the signed certificate timestamps cannot be read: {0}; expected the list of RFC 6962, 3.3. Sign again"
    )]
    SctMalformed(&'static str),
    /// All embedded timestamps are of CT logs that nobody trusts.
    #[error(
        "the certificate is in CT log {found}; expected one of the trust root. Update the trust root or sign again"
    )]
    SctLogUnknown {
        /// The log's identifier in hexadecimal.
        found: String,
    },
    /// The CT log's key was not in use at the timestamp.
    #[error(
        "the certificate's timestamp {at} is outside of {window} of the CT log's key. Update the trust root or sign again"
    )]
    SctWindow {
        /// The timestamp (RFC 3339).
        at: String,
        /// The key's window.
        window: String,
    },
    /// The embedded timestamp is not the CT log's over this certificate.
    #[error(
        "the certificate's timestamp is not by CT log {log} over this certificate, as expected. Sign again"
    )]
    SctSignature {
        /// The log's identifier in hexadecimal.
        log: String,
    },
    /// The signer is another.
    #[error(
        "the signer is {found:?}; expected {expected:?}. Correct the expected subject, or have the right signer sign"
    )]
    Subject {
        /// The subject asked for.
        expected: String,
        /// The certificate's.
        found: String,
    },
    /// The signer was identified by another issuer.
    #[error(
        "the signer's identity is vouched for by {found:?}; expected {expected:?}. Correct the expected issuer, or sign there"
    )]
    Issuer {
        /// The issuer asked for.
        expected: String,
        /// The certificate's.
        found: String,
    },
    /// The entry is of a kind that does not go with the bundle's content, or of another version.
    #[error("the log entry is {found:?}; expected {expected:?}. Sign again with a client that logs it")]
    EntryKind {
        /// Kind and version that go with the content.
        expected: &'static str,
        /// Kind and version found.
        found: String,
    },
    /// The entry's body cannot be read.
    #[error("the log entry's body cannot be read: {0}. Sign again")]
    Entry(String),
    /// The entry is about another certificate.
    #[error("the log entry's certificate is not the bundle's, as expected. Sign again")]
    EntryCertificate,
    /// The entry is about another signature.
    #[error("the log entry's signature is not the bundle's, as expected. Sign again")]
    EntrySignature,
    /// The entry is about other content.
    #[error("the log entry's hash is {found}; expected {expected}, as in the bundle. Sign again")]
    EntryHash {
        /// Of the bundle's content, in hexadecimal.
        expected: String,
        /// The entry's.
        found: String,
    },
    /// The certificate's key cannot verify this signature.
    #[error("the certificate's key is {found}; expected {expected}. Sign with such a key")]
    Key {
        /// The kinds that can.
        expected: &'static str,
        /// The kind found.
        found: String,
    },
    /// The signature is not by the certificate's key over the content.
    #[error("the signature is not by the certificate's {key} key over the content, as expected. Sign again")]
    Signature {
        /// The key's kind.
        key: &'static str,
    },
    /// The envelope holds something else than a statement.
    #[error("the envelope's payload is {found:?}; expected {expected:?}. Sign an in-toto statement")]
    PayloadType {
        /// The one that is read.
        expected: &'static str,
        /// The one found.
        found: String,
    },
    /// The payload is not an in-toto statement that can be read.
    #[error("the envelope's statement cannot be read: {0}. Sign an in-toto statement v1")]
    Statement(String),
    /// What is signed is not the artifact.
    #[error(
        "the signature is over {found}; expected the artifact {expected}. Take the bundle that belongs to the artifact"
    )]
    Artifact {
        /// The artifact asked about.
        expected: String,
        /// What is signed instead.
        found: String,
    },
}

impl SigstoreError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BundleSize { .. } => "sigstore.bundle.size",
            Self::BundleMediaType { .. } => "sigstore.bundle.media-type",
            Self::Bundle(_) => "sigstore.bundle.malformed",
            Self::Entries { .. } => "sigstore.bundle.entries",
            Self::TrustRootSize { .. } => "sigstore.trust-root.size",
            Self::TrustRootMediaType { .. } => "sigstore.trust-root.media-type",
            Self::TrustRoot(_) => "sigstore.trust-root.malformed",
            Self::ArtifactAlgorithm { .. } => "sigstore.artifact.algorithm",
            Self::LogUnknown { .. } => "sigstore.log.unknown",
            Self::LogWindow { .. } => "sigstore.log.window",
            Self::PromiseMissing => "sigstore.promise.missing",
            Self::PromiseSignature { .. } => "sigstore.promise.signature",
            Self::InclusionIndex { .. } => "sigstore.inclusion.index",
            Self::InclusionLength { .. } => "sigstore.inclusion.length",
            Self::InclusionRoot { .. } => "sigstore.inclusion.root",
            Self::Checkpoint(_) => "sigstore.checkpoint.malformed",
            Self::CheckpointOrigin { .. } => "sigstore.checkpoint.origin",
            Self::CheckpointSignature { .. } => "sigstore.checkpoint.signature",
            Self::CheckpointSize { .. } => "sigstore.checkpoint.size",
            Self::CheckpointRoot { .. } => "sigstore.checkpoint.root",
            Self::Certificate(_) => "sigstore.certificate.malformed",
            Self::Chain { .. } => "sigstore.certificate.chain",
            Self::CertificateTime(_) => "sigstore.certificate.time",
            Self::AuthorityWindow { .. } => "sigstore.certificate.authority-window",
            Self::Purpose { .. } => "sigstore.certificate.purpose",
            Self::SctMissing => "sigstore.sct.missing",
            Self::SctMalformed(_) => "sigstore.sct.malformed",
            Self::SctLogUnknown { .. } => "sigstore.sct.unknown-log",
            Self::SctWindow { .. } => "sigstore.sct.window",
            Self::SctSignature { .. } => "sigstore.sct.signature",
            Self::Subject { .. } => "sigstore.identity.subject",
            Self::Issuer { .. } => "sigstore.identity.issuer",
            Self::EntryKind { .. } => "sigstore.entry.kind",
            Self::Entry(_) => "sigstore.entry.malformed",
            Self::EntryCertificate => "sigstore.entry.certificate",
            Self::EntrySignature => "sigstore.entry.signature",
            Self::EntryHash { .. } => "sigstore.entry.hash",
            Self::Key { .. } => "sigstore.signature.key",
            Self::Signature { .. } => "sigstore.signature",
            Self::PayloadType { .. } => "sigstore.payload.type",
            Self::Statement(_) => "sigstore.payload.statement",
            Self::Artifact { .. } => "sigstore.artifact.other",
        }
    }
}
