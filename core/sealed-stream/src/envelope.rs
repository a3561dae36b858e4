//! The signed statement of an artifact: which sealed manifest is whose, and where the key is.
//!
//! SPEC: `docs/formats/sealed-stream.md`, section 3; DSSE 1.0 (secure-systems-lab/dsse). Keys and signatures are
//! those of images: what `coffer image keygen` makes and cosign imports. INVARIANT: nothing of a statement is read
//! before its signature was verified; a [`Verified`] exists only then.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_oci::cosign::PublicKey;
use coffer_core_protocol::jcs;
use coffer_core_protocol::uri::ResourceUri;
use serde::{Deserialize, Serialize};

use crate::bound::MAX_ENVELOPE;
use crate::wire::{VERSION, key, parse_version};
use crate::{ArtifactError, ArtifactId};

/// The envelope's `payloadType`.
pub const PAYLOAD_TYPE: &str = "application/vnd.coffer.sealed-stream.statement.v1+json";
/// The most signatures of one envelope.
const MAX_SIGNATURES: usize = 16;

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    artifact: ArtifactId,
    key: ResourceUri,
    digest: Digest,
    size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    artifact: String,
    key: String,
    manifest: WireManifest,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireManifest {
    digest: Digest,
    size: u64,
}

/// A signature and a hint at whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The signature over [`Statement::signing_bytes`].
    pub bytes: Vec<u8>,
    /// The signer's key, as in `sha256:…` over its SubjectPublicKeyInfo. Readers ignore it.
    pub key_id: String,
}

/// A DSSE envelope. Members that are not known say nothing, as DSSE has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
struct WireSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Statement {
    pub(crate) const fn new(artifact: ArtifactId, key: ResourceUri, digest: Digest, size: u64) -> Self {
        Self { artifact, key, digest, size }
    }

    /// The artifact's id.
    #[must_use]
    pub const fn artifact(&self) -> &ArtifactId {
        &self.artifact
    }

    /// Where the broker has the key.
    #[must_use]
    pub const fn key(&self) -> &ResourceUri {
        &self.key
    }

    /// SHA-256 over the sealed manifest.
    #[must_use]
    pub const fn manifest_digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes of the sealed manifest.
    #[must_use]
    pub const fn manifest_size(&self) -> u64 {
        self.size
    }

    /// The canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        let wire = Wire {
            artifact: self.artifact.to_string(),
            key: self.key.to_string(),
            manifest: WireManifest { digest: self.digest, size: self.size },
            version: VERSION,
        };
        jcs::canonical(&wire)
            .map_err(|error| ArtifactError::Form { what: "statement", why: error.to_string() })
    }

    /// What a signer signs: DSSE's pre-authentication encoding.
    pub fn signing_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        Ok(pre_authentication(&self.to_bytes()?))
    }

    /// The envelope that carries the statement.
    pub fn envelope(&self, signatures: &[Signature]) -> Result<Vec<u8>, ArtifactError> {
        let signatures = signatures
            .iter()
            .map(|own| WireSignature { keyid: own.key_id.clone(), sig: STANDARD.encode(&own.bytes) })
            .collect();
        let payload = STANDARD.encode(self.to_bytes()?);
        let envelope = Envelope { payload, payload_type: PAYLOAD_TYPE.into(), signatures };
        serde_json::to_vec(&envelope).map_err(|error| ArtifactError::Envelope(error.to_string()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        const WHAT: &str = "statement";
        let wire: Wire = parse_version(WHAT, bytes)?;
        let WireManifest { digest, size } = wire.manifest;
        let own = Self::new(wire.artifact.parse()?, key(WHAT, &wire.key)?, digest, size);
        if digest.algorithm() != Algorithm::Sha256 {
            let why = format!("its manifest's digest is {}; expected sha256", digest.algorithm());
            return Err(ArtifactError::Form { what: WHAT, why });
        }
        if own.to_bytes()? == bytes { Ok(own) } else { Err(ArtifactError::NotCanonical { what: WHAT }) }
    }
}

fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// An envelope of which nothing is known yet.
pub struct Unverified {
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Unverified {
    /// Reads an envelope from hostile bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(ArtifactError::EnvelopeTooLarge { found: bytes.len() });
        }
        let refuse = |why: &str| ArtifactError::Envelope(why.into());
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|error| ArtifactError::Envelope(error.to_string()))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            let found = crate::path::shown(&envelope.payload_type);
            return Err(ArtifactError::Envelope(format!(
                "its payload is {found:?}; expected {PAYLOAD_TYPE:?}"
            )));
        }
        if envelope.signatures.len() > MAX_SIGNATURES {
            return Err(refuse("it has more than 16 signatures"));
        }
        // DSSE lets writers choose either alphabet.
        let decode = |text: &str| STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
        let payload = decode(&envelope.payload).map_err(|_| refuse("its payload is not base64"))?;
        let signatures = envelope.signatures.iter().map(|own| decode(&own.sig)).collect::<Result<_, _>>();
        Ok(Self { payload, signatures: signatures.map_err(|_| refuse("a signature is not base64"))? })
    }

    /// Verifies that one of `keys` made one of the signatures, and only then reads the statement.
    pub fn verify(self, keys: &[PublicKey]) -> Result<Verified, ArtifactError> {
        let message = pre_authentication(&self.payload);
        let signed = |key: &&PublicKey| {
            self.signatures.iter().any(|signature| key.verify_message(&message, signature).is_ok())
        };
        let signer = keys.iter().find(signed).ok_or(ArtifactError::Signature { keys: keys.len() })?;
        let statement = Statement::parse(&self.payload)?;
        Ok(Verified { statement, signer: *signer.fingerprint(), digest: Digest::sha256(&self.payload) })
    }
}

/// A statement that somebody known signed. Only [`Unverified::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    statement: Statement,
    signer: Digest,
    digest: Digest,
}

impl Verified {
    /// What was signed.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The fingerprint of the key that signed.
    #[must_use]
    pub const fn signer(&self) -> &Digest {
        &self.signer
    }

    /// SHA-256 over the statement: what a policy pins when it means this artifact and no other of the signer's.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}
