//! A manifest as a document: verified once, compared with each report.

use coffer_core_digest::Digest;
use coffer_verify_api::{Check, Document, Timestamp};
use coffer_verify_x509::Certificate;

use crate::chain::{self, Path, Whose};
use crate::dsig;
use crate::rim::{self, RimValues};
use crate::xml::Element;

const SOURCE: &str = "TCG Reference Integrity Manifest; XML Signature 1.1";

/// A manifest that could be read. Whether it is believed, its checks say.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) values: RimValues,
    /// The signer's path, if there is one.
    pub(crate) path: Option<Path>,
    /// What was wrong, whatever the time.
    failed: Vec<Check>,
}

impl Manifest {
    /// Reads a manifest and verifies all but its time. A manifest that cannot be read gives the check that says so.
    pub(crate) fn read(document: &Document, id: &str, anchors: &[Certificate]) -> Result<Self, Box<Check>> {
        let malformed = |found: String| {
            Box::new(
                Check::failed("nvidia.rim.format", format!("Manifest {id} cannot be read"))
                    .found(found)
                    .source(SOURCE)
                    .remedy("fetch the manifest again, or import the right one"),
            )
        };
        let root = Element::parse(document.body()).map_err(|cause| malformed(cause.to_string()))?;
        let values = rim::values(&root).map_err(|cause| malformed(cause.to_string()))?;
        let unsigned = |cause: dsig::SignatureError| {
            Check::failed("nvidia.rim.signature", format!("The signature of manifest {id} is not valid"))
                .expected("a signature by the first certificate over the whole manifest")
                .found(cause.to_string())
                .source(SOURCE)
                .remedy("fetch the manifest again; never use one that was changed")
        };
        let mut failed = Vec::new();
        let mut path = None;
        match dsig::certificates(&root) {
            Err(cause) => failed.push(unsigned(cause)),
            Ok(certificates) => {
                if let Some(Err(cause)) = certificates.first().map(|signer| dsig::verify(&root, signer)) {
                    failed.push(unsigned(cause));
                }
                match chain::walk(&certificates, anchors) {
                    Ok(found) => path = Some(found),
                    Err(broken) => failed.push(broken.check(Whose::Manifest)),
                }
            }
        }
        Ok(Self { values, path, failed })
    }

    /// Whether this manifest may be believed at a time, for a version of a chip.
    pub(crate) fn trust(&self, id: &str, version: &str, chip: &str, at: Timestamp) -> Check {
        let mut checks = self.failed.clone();
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_valid_at(at)) {
            checks.extend(path.expired(at).map(|broken| broken.check(Whose::Manifest)));
        }
        let values = &self.values;
        if !values.version.eq_ignore_ascii_case(version) {
            checks.push(
                Check::failed("nvidia.rim.version", format!("Manifest {id} is for another version"))
                    .expected(version)
                    .found(values.version.clone())
                    .source(SOURCE)
                    .remedy("fetch the manifest of the version that the device has"),
            );
        }
        if !values.product.to_ascii_uppercase().starts_with(chip) {
            checks.push(
                Check::failed("nvidia.rim.product", format!("Manifest {id} is for another chip"))
                    .expected(format!("{chip}…"))
                    .found(values.product.clone())
                    .source(SOURCE),
            );
        }
        if checks.is_empty() {
            checks.push(
                Check::passed("nvidia.rim.trust", format!("NVIDIA signed manifest {id}")).source(SOURCE),
            );
        }
        Check::group("nvidia.rim", format!("Manifest {id} can be believed"), checks)
    }
}

/// What a manifest is remembered by.
pub(crate) fn name(document: &Document) -> Digest {
    *document.digest()
}
