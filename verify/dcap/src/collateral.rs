//! Documents with their signatures followed to a root, remembered by their digests.

use std::sync::Arc;

use coffer_verify_api::{Check, Document, Timestamp};
use coffer_verify_x509::{Certificate, Crl};

use crate::Dcap;
use crate::documents::{self, DocumentError, Identity, Opened, TcbInfo};
use crate::platform::verify_p256;
use crate::remember::{Remembered, name};
use crate::window::{Window, text};

/// As many FMSPCs as a site has, and a few versions of each document.
const MAX_DOCUMENTS: usize = 256;
const PCS: &str = "Intel SGX and TDX Provisioning Certification Service API, version 4";
const REMEDY: &str =
    "fetch the collateral again; if it stays so, correct the broker's clock or its source of collateral";

/// A document that Intel's signing key signed.
#[derive(Debug)]
pub(crate) struct Issued<T> {
    pub(crate) content: T,
    /// The serial number of the signing certificate.
    pub(crate) signer: Vec<u8>,
    pub(crate) anchor: usize,
    /// Of the certificates.
    pub(crate) window: Window,
    pub(crate) issued: i64,
    pub(crate) next_update: i64,
}

/// A revocation list that its issuer signed.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) crl: Crl,
    pub(crate) issued: i64,
    pub(crate) next_update: i64,
}

/// The documents that were verified before.
#[derive(Debug)]
pub(crate) struct Collaterals {
    tcb_infos: Remembered<Issued<TcbInfo>>,
    identities: Remembered<Issued<Identity>>,
    lists: Remembered<Listed>,
}

impl Default for Collaterals {
    fn default() -> Self {
        Self {
            tcb_infos: Remembered::new(MAX_DOCUMENTS),
            identities: Remembered::new(MAX_DOCUMENTS),
            lists: Remembered::new(MAX_DOCUMENTS),
        }
    }
}

/// Why a document cannot be used.
struct Refused {
    tail: &'static str,
    found: String,
}

impl Refused {
    fn check(self, prefix: &str, what: &str) -> Box<Check> {
        let title = match self.tail {
            "format" => format!("The {what} cannot be read"),
            "signature" => format!("The {what} is not signed by the key that it must be signed by"),
            _ => format!("The key that signs the {what} is not certified by a trusted root"),
        };
        let failed = Check::failed(format!("{prefix}.collateral.{}", self.tail), title)
            .found(self.found)
            .source(PCS)
            .remedy(REMEDY);
        Box::new(failed)
    }
}

impl Dcap {
    pub(crate) fn tcb_info(
        &self,
        prefix: &str,
        document: &Document,
        at: Timestamp,
    ) -> Result<Arc<Issued<TcbInfo>>, Box<Check>> {
        let found = self.issued(
            &self.collaterals.tcb_infos,
            document,
            at,
            documents::tcb_info,
            TcbInfo::parse,
            |info| (info.issued, info.next_update),
        );
        found.map_err(|refused| refused.check(prefix, "TCB info"))
    }

    pub(crate) fn identity(
        &self,
        prefix: &str,
        document: &Document,
        at: Timestamp,
    ) -> Result<Arc<Issued<Identity>>, Box<Check>> {
        let found = self.issued(
            &self.collaterals.identities,
            document,
            at,
            documents::enclave_identity,
            Identity::parse,
            |identity| (identity.issued, identity.next_update),
        );
        found.map_err(|refused| refused.check(prefix, "quoting enclave's identity"))
    }

    fn issued<T>(
        &self,
        remembered: &Remembered<Issued<T>>,
        document: &Document,
        at: Timestamp,
        open: fn(&[u8]) -> Result<Opened<'_>, DocumentError>,
        parse: fn(&[u8]) -> Result<T, DocumentError>,
        dates: fn(&T) -> (i64, i64),
    ) -> Result<Arc<Issued<T>>, Refused> {
        let known = remembered.get(document.digest());
        if let Some(known) = known.filter(|known| known.window.holds(at.as_second())) {
            return Ok(known);
        }
        let unread = |cause: DocumentError| Refused { tail: "format", found: cause.to_string() };
        let (signed, signature) = open(document.body()).map_err(unread)?;
        let (signer, anchor, window) = self.signer(document.issuer_chain(), at)?;
        if !verify_p256(signer.public_key(), signed, &signature) {
            return Err(Refused { tail: "signature", found: format!("not by {:?}", signer.subject_cn()) });
        }
        // Parsed only now: nothing of it is believed before.
        let content = parse(signed).map_err(unread)?;
        let (issued, next_update) = dates(&content);
        let signer = signer.serial().to_vec();
        let found = Arc::new(Issued { content, signer, anchor, window, issued, next_update });
        remembered.keep(*document.digest(), Arc::clone(&found));
        Ok(found)
    }

    /// The certificate that signs documents, which a root must have issued itself.
    fn signer(&self, pem: &[u8], at: Timestamp) -> Result<(Certificate, usize, Window), Refused> {
        let refused = |found: String| Refused { tail: "chain", found };
        let mut chain = Certificate::parse_pem(pem).map_err(|cause| refused(cause.to_string()))?;
        // Some sources send the root first.
        let place = chain.iter().position(|one| !one.is_ca());
        let place = place.ok_or_else(|| refused("no certificate of a signing key".into()))?;
        let signer = chain.remove(place);
        let mut leaf_first = vec![signer.der().to_vec()];
        leaf_first.extend(chain.iter().map(|one| one.der().to_vec()));
        let path = self.paths.verify(&leaf_first, &[], at.as_second());
        let path = path.map_err(|cause| refused(cause.to_string()))?;
        let anchor = self.anchors.get(path.anchor).ok_or_else(|| refused("no root".into()))?;
        let direct = signer.issuer_der() == anchor.subject_der() && signer.verify_signed_by(anchor).is_ok();
        // A platform's key is certified under the same root, and must not pass for the one that signs documents.
        let named = signer.subject_cn();
        if !direct || !named.contains("TCB Signing") {
            return Err(refused(format!("{named:?}, which is not the root's certificate for TCB signing")));
        }
        let window = Window::of(&signer).and(Window::of(anchor));
        Ok((signer, path.anchor, window))
    }

    /// A revocation list by this issuer.
    pub(crate) fn list(
        &self,
        prefix: &str,
        what: &str,
        document: &Document,
        issuer: &Certificate,
    ) -> Result<Arc<Listed>, Box<Check>> {
        let key = name(&[document.digest().as_bytes(), issuer.der()]);
        if let Some(known) = self.collaterals.lists.get(&key) {
            return Ok(known);
        }
        let refused = |tail, found: String| Refused { tail, found }.check(prefix, what);
        let crl = Crl::parse(document.body()).map_err(|cause| refused("format", cause.to_string()))?;
        crl.verify_signed_by(issuer).map_err(|cause| refused("signature", cause.to_string()))?;
        let next_update =
            crl.next_update().ok_or_else(|| refused("format", "it has no nextUpdate".into()))?;
        let found = Arc::new(Listed { issued: crl.this_update(), next_update, crl });
        self.collaterals.lists.keep(key, Arc::clone(&found));
        Ok(found)
    }

    /// Whether a document is valid at the time; None where there is nothing to say.
    pub(crate) fn dated(
        &self,
        prefix: &str,
        what: &str,
        issued: i64,
        next_update: i64,
        at: i64,
    ) -> Option<Check> {
        let limit = next_update.saturating_add(self.stale_seconds);
        let dates = |check: Check, expected: String| {
            Some(check.expected(expected).found(text(at)).source(PCS).remedy(REMEDY))
        };
        if at < issued {
            let check = Check::failed(
                format!("{prefix}.collateral.not-yet-valid"),
                format!("The {what} is of a later time"),
            );
            return dates(check, format!("a time from {} on", text(issued)));
        }
        if at > limit {
            let check =
                Check::failed(format!("{prefix}.collateral.expired"), format!("The {what} has expired"));
            return dates(check, format!("a time until {}", text(limit)));
        }
        if at > next_update {
            let check = Check::informational(
                format!("{prefix}.collateral.stale"),
                format!(
                    "The {what} should have been replaced; it is used because stale collateral is allowed"
                ),
            );
            return dates(check, format!("a time until {}", text(next_update)));
        }
        None
    }
}
