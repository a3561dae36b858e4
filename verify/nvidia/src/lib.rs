//! The judge for NVIDIA GPUs and switches.
//!
//! It checks that a device under NVIDIA's root signed its measurements for this challenge and this key, and that they
//! are those of manifests that NVIDIA signed. Left out: which versions of driver and firmware an owner wants, which is
//! `verify/appraisal`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod chain;
mod claims;
mod device;
mod dice;
mod dsig;
mod list;
mod manifest;
mod measure;
mod memory;
mod ocsp;
mod opaque;
mod rim;
mod spdm;
mod xml;

use std::sync::Arc;

use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_evidence::Tee;
use coffer_verify_api::{
    Check, CollateralKey, Device, DeviceVerifier, Document, Fault, Judgement, Question, Timestamp, Verified,
};
use coffer_verify_x509::{Certificate, pem_certificates};

use device::{Chains, Inspected};
use manifest::Manifest;
use memory::Memory;

pub use dsig::SignatureError;
pub use ocsp::{Answer, OcspError, State, verify as verify_ocsp};
pub use opaque::{Opaque, OpaqueError};
pub use rim::{MinimumSvn, RimError, RimMeasurement, RimValues, rim_values};
pub use spdm::{Report, ReportError, SIGNATURE};
pub use xml::{MAX_DOCUMENT, XmlError};

/// `NVIDIA Device Identity CA`, as NVIDIA publishes it.
const DEVICE_ROOT: &[u8] = include_bytes!("../roots/device-identity-ca.pem");
/// `NVIDIA CoRIM signing Root CA`, as NVIDIA publishes it.
const RIM_ROOT: &[u8] = include_bytes!("../roots/corim-signing-root-ca.pem");

/// Whether NVIDIA is asked about certificates (OCSP).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revocation {
    /// An answer about each certificate must be there.
    Required,
    /// Answers that are there are believed; those that are not are not missed.
    #[default]
    IfPresent,
}

/// The judge of `nvidia` evidence.
#[derive(Clone, Debug)]
pub struct NvidiaJudge {
    device_roots: Vec<Certificate>,
    rim_roots: Vec<Certificate>,
    revocation: Revocation,
    chains: Arc<Chains>,
    manifests: Arc<Memory<Manifest>>,
    answers: Arc<Memory<Answer>>,
}

impl Default for NvidiaJudge {
    fn default() -> Self {
        Self::new()
    }
}

impl NvidiaJudge {
    /// A judge that trusts NVIDIA's roots.
    pub fn new() -> Self {
        let read = |pem| pem_certificates(pem).unwrap_or_default();
        Self::with_roots(read(DEVICE_ROOT), read(RIM_ROOT))
    }

    /// A judge that trusts these roots instead, certificates in DER: those of devices, and those of manifests. With
    /// none, or none that can be read, it believes nothing.
    pub fn with_roots(device_roots: Vec<Vec<u8>>, rim_roots: Vec<Vec<u8>>) -> Self {
        let read =
            |roots: Vec<Vec<u8>>| roots.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        Self {
            device_roots: read(device_roots),
            rim_roots: read(rim_roots),
            revocation: Revocation::default(),
            chains: Arc::default(),
            manifests: Arc::default(),
            answers: Arc::default(),
        }
    }

    /// The same with another rule on revocation.
    #[must_use]
    pub fn revocation(mut self, revocation: Revocation) -> Self {
        self.revocation = revocation;
        self
    }

    /// Reads a manifest that one of the roots vouches for at this time; the checks that failed, if none does.
    pub fn verified_rim(&self, xml: &[u8], at: Timestamp) -> Result<RimValues, Vec<Check>> {
        let document = Document::new(xml.to_vec(), Vec::new());
        let manifest = Manifest::read(&document, "given", &self.rim_roots).map_err(|reason| vec![*reason])?;
        let trust = manifest.trust("given", &manifest.values.version, "", at);
        match trust.has_failed() {
            true => Err(vec![trust]),
            false => Ok(manifest.values),
        }
    }
}

impl DeviceVerifier for NvidiaJudge {
    fn tee(&self) -> Tee {
        Tee::Nvidia
    }

    fn verify(&self, question: &Question<'_>) -> Result<Vec<Device>, Fault> {
        list::judge(self, question)
    }
}

/// One device's judgement, or the documents that are missing for it.
// One is made for each device, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Outcome {
    Judged(Judgement),
    Missing(Vec<CollateralKey>),
}

impl NvidiaJudge {
    /// Judges one device whose own evidence holds. What is there is judged first, so that a device that is refused
    /// anyway is refused without waiting for documents.
    fn judge(&self, mut device: Inspected<'_>, question: &Question<'_>) -> Outcome {
        let chip = device::prefix_of(device.sent.arch);
        let mut missing = Vec::new();
        let mut found: Vec<(String, Arc<Manifest>)> = Vec::new();
        let mut asked =
            self.revoked(&device.path.certificates, 1, question, &mut missing, &mut device.checks);
        for (id, version) in &device.manifests {
            let key = CollateralKey::NvidiaRim(id.clone());
            let Some(document) = question.collateral.find(&key) else {
                missing.push(key);
                continue;
            };
            match self.manifest(&document, id) {
                Err(reason) => device.checks.push(*reason),
                Ok(manifest) => {
                    device.checks.push(manifest.trust(id, version, chip, question.at));
                    if let Some(path) = &manifest.path {
                        let certificates = &path.certificates;
                        asked &= self.revoked(certificates, 0, question, &mut missing, &mut device.checks);
                    }
                    found.push((id.clone(), manifest));
                }
            }
        }
        let manifests: Vec<(String, &Manifest)> =
            found.iter().map(|(id, manifest)| (id.clone(), manifest.as_ref())).collect();
        device.checks.push(measure::compare(&device.report, &manifests));
        let failed = device.checks.iter().any(Check::has_failed);
        if !failed && !missing.is_empty() {
            return Outcome::Missing(missing);
        }
        let claims = claims::claims(&device, &claims::Judged { manifests: &manifests, asked });
        Outcome::Judged(match Verified::from_checks(claims, device.checks) {
            Ok(verified) => Judgement::Verified(verified),
            Err(checks) => Judgement::Rejected(checks),
        })
    }

    fn manifest(&self, document: &Document, id: &str) -> Result<Arc<Manifest>, Box<Check>> {
        let name = manifest::name(document);
        match self.manifests.find(&name) {
            Some(known) => Ok(known),
            None => Ok(self.manifests.keep(name, Manifest::read(document, id, &self.rim_roots)?)),
        }
    }

    /// Adds what is said of each certificate between `first` and the anchor. Whether all of them are said to be good.
    ///
    /// Devices issue their own leaf, of which NVIDIA knows nothing: for them the first that is asked about is the
    /// second.
    fn revoked(
        &self,
        certificates: &[Certificate],
        first: usize,
        question: &Question<'_>,
        missing: &mut Vec<CollateralKey>,
        checks: &mut Vec<Check>,
    ) -> bool {
        let mut all = true;
        let pairs = certificates.iter().zip(certificates.iter().skip(1)).skip(first);
        for (certificate, issuer) in pairs {
            let digest = Digest::sha256(certificate.der());
            let Ok(digest) = <[u8; 32]>::try_from(digest.as_bytes()) else { continue };
            let key = CollateralKey::NvidiaOcsp(digest);
            let Some(document) = question.collateral.find(&key) else {
                all = false;
                if self.revocation == Revocation::Required && !missing.contains(&key) {
                    missing.push(key);
                }
                continue;
            };
            let about = format!("Certificate {:?}", certificate.subject_cn());
            let check = match self.answer(&document, certificate, issuer) {
                Ok(answer) => answer.check(&about, question.at),
                Err(cause) => cause.check(&about),
            };
            all &= !check.has_failed();
            checks.push(check);
        }
        all
    }

    fn answer(
        &self,
        document: &Document,
        certificate: &Certificate,
        issuer: &Certificate,
    ) -> Result<Arc<Answer>, OcspError> {
        let mut name = Hasher::new(Algorithm::Sha256);
        for part in [document.digest(), &Digest::sha256(certificate.der()), &Digest::sha256(issuer.der())] {
            name.update(part.as_bytes());
        }
        let name = name.finish();
        match self.answers.find(&name) {
            Some(known) => Ok(known),
            None => Ok(self.answers.keep(name, ocsp::verify(document.body(), certificate, issuer)?)),
        }
    }
}
