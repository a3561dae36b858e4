//! Revocation, TCB level and the quoting enclave's identity: what needs collateral.

use std::sync::Arc;

use coffer_core_evidence::dcap::{Body, Quote};
use coffer_verify_api::{Check, Collateral, CollateralKey, Document, Fault, Timestamp};

use crate::Dcap;
use crate::collateral::{Issued, Listed};
use crate::documents::{EnclaveId, Grade, Identity, TcbInfo};
use crate::platform::{Platform, Signed};
use crate::tcb::{self, NoLevel};
use crate::verdict::PlatformVerdict;
use crate::window::Window;

const PCS: &str = "Intel SGX and TDX Provisioning Certification Service API, version 4";
const CRL: &str = "Intel SGX PCK Certificate and CRL Profile; RFC 5280, section 5";
const UPDATE: &str = "update the platform's BIOS, microcode and TDX module, then register it again";

/// What collateral says of a platform.
#[derive(Debug)]
pub struct Appraised {
    /// The checks that were made. One of them may have failed.
    pub checks: Vec<Check>,
    /// What is known of the platform; none if a check failed.
    pub verdict: Option<PlatformVerdict>,
}

struct Documents {
    tcb_info: Arc<Document>,
    identity: Arc<Document>,
    root_list: Arc<Document>,
    pck_list: Arc<Document>,
}

struct Verified {
    info: Arc<Issued<TcbInfo>>,
    identity: Arc<Issued<Identity>>,
    root_list: Arc<Listed>,
    pck_list: Arc<Listed>,
}

struct Levels {
    grade: Grade,
    current: Option<Grade>,
}

impl Dcap {
    /// Appraises the platform whose signatures are good. Codes begin with `prefix`.
    ///
    /// All documents that are known to be missing are named at once.
    pub fn appraise(
        &self,
        prefix: &str,
        quote: &Quote<'_>,
        signed: &Signed,
        collateral: &dyn Collateral,
        at: Timestamp,
    ) -> Result<Appraised, Fault> {
        let is_tdx = matches!(quote.body, Body::Td(_));
        let found = documents(signed, is_tdx, collateral).map_err(Fault::CollateralUnavailable)?;
        let Some((platform, documents)) = found else {
            return Ok(Appraised { checks: Vec::new(), verdict: None });
        };
        let mut checks = Vec::new();
        let verified = self.verify(prefix, &platform, &documents, at, &mut checks);
        let Some(verified) = verified else {
            return Ok(Appraised { checks, verdict: None });
        };
        self.dates(prefix, &verified, at.as_second(), &mut checks);
        self.revocation(prefix, &platform, &verified, &mut checks);
        belongs(prefix, &platform, &verified, is_tdx, &mut checks);
        let enclave = enclave(prefix, quote, &verified.identity.content, &mut checks);
        let levels = levels(prefix, quote, &platform, &verified.info.content, &mut checks);
        if checks.iter().any(Check::has_failed) {
            return Ok(Appraised { checks, verdict: None });
        }
        let (Some(enclave), Some(levels)) = (enclave, levels) else {
            return Ok(Appraised { checks, verdict: None });
        };
        let verdict = self.verdict(quote, &platform, &verified, levels, &enclave, at.as_second());
        checks.push(verdict.status_check(prefix));
        Ok(Appraised { checks, verdict: Some(verdict) })
    }

    fn verify(
        &self,
        prefix: &str,
        platform: &Platform,
        documents: &Documents,
        at: Timestamp,
        checks: &mut Vec<Check>,
    ) -> Option<Verified> {
        let root = self.anchors.get(platform.anchor)?;
        let info = self.tcb_info(prefix, &documents.tcb_info, at);
        let identity = self.identity(prefix, &documents.identity, at);
        let root_list = self.list(prefix, "root's revocation list", &documents.root_list, root);
        let pck_list =
            self.list(prefix, "platform CA's revocation list", &documents.pck_list, &platform.issuer);
        // Each defect is told, not only the first.
        match (info, identity, root_list, pck_list) {
            (Ok(info), Ok(identity), Ok(root_list), Ok(pck_list)) => {
                let title = "Intel signed the collateral";
                checks.push(Check::passed(format!("{prefix}.collateral.signature"), title).source(PCS));
                Some(Verified { info, identity, root_list, pck_list })
            }
            (info, identity, root_list, pck_list) => {
                let found = [info.err(), identity.err(), root_list.err(), pck_list.err()];
                checks.extend(found.into_iter().flatten().map(|check| *check));
                None
            }
        }
    }

    fn dates(&self, prefix: &str, verified: &Verified, at: i64, checks: &mut Vec<Check>) {
        let before = checks.len();
        for (what, issued, next_update) in verified.dates() {
            checks.extend(self.dated(prefix, what, issued, next_update, at));
        }
        if checks.len() == before {
            let code = format!("{prefix}.collateral.expired");
            checks.push(Check::passed(code, "The collateral is valid at this time").source(PCS));
        }
    }

    fn revocation(&self, prefix: &str, platform: &Platform, verified: &Verified, checks: &mut Vec<Check>) {
        let (root, pck) = (&verified.root_list.crl, &verified.pck_list.crl);
        let anchor = self.anchors.get(platform.anchor);
        let revoked = [
            ("pck.revocation", "The platform's key", pck.revokes(&platform.serial)),
            ("pck-ca.revocation", "The platform CA", root.revokes(platform.issuer.serial())),
            ("root.revocation", "The root", anchor.is_none_or(|anchor| root.revokes(anchor.serial()))),
            (
                "collateral.revocation",
                "The key that signs collateral",
                root.revokes(&verified.info.signer) || root.revokes(&verified.identity.signer),
            ),
        ];
        for (tail, who, revoked) in revoked {
            let code = format!("{prefix}.{tail}");
            checks.push(match revoked {
                false => Check::passed(code, format!("{who} is not revoked")).source(CRL),
                true => Check::failed(code, format!("{who} is revoked"))
                    .expected("a certificate that its issuer has not revoked")
                    .found("its serial number in the issuer's revocation list")
                    .source(CRL)
                    .remedy("use another platform; Intel does not trust this one any more"),
            });
        }
    }

    fn verdict(
        &self,
        quote: &Quote<'_>,
        platform: &Platform,
        verified: &Verified,
        levels: Levels,
        enclave: &Grade,
        at: i64,
    ) -> PlatformVerdict {
        let grade = tcb::join(levels.grade, enclave);
        // The date that Intel's library tells is that of the platform alone.
        let current = levels.current.map(|current| tcb::join(current, enclave));
        let status = match &current {
            Some(current) => tcb::relaunch(grade.status, current.status),
            None => grade.status,
        };
        let mut window = platform.window.and(verified.info.window).and(verified.identity.window);
        let mut stale = false;
        for (_, issued, next_update) in verified.dates() {
            window = window.and(Window::new(issued, next_update));
            stale |= at > next_update;
        }
        PlatformVerdict {
            pck: platform.pck.clone(),
            tee_tcb_svn: match &quote.body {
                Body::Td(report) => Some(report.tee_tcb_svn),
                Body::Sgx(_) => None,
            },
            qe_svn: quote.authentication.qe_report.isv_svn,
            status,
            date: grade.date.to_string(),
            advisories: grade.advisories,
            current: current.map(|current| (current.status, current.date.to_string(), current.advisories)),
            evaluation: verified.info.content.evaluation.min(verified.identity.content.evaluation),
            window,
            stale,
            root_key: self.anchors.get(platform.anchor).map(|anchor| anchor.public_key().to_vec()),
            root_list: verified.root_list.crl.number().map(<[u8]>::to_vec),
            pck_list: verified.pck_list.crl.number().map(<[u8]>::to_vec),
        }
    }
}

impl Verified {
    fn dates(&self) -> [(&'static str, i64, i64); 4] {
        [
            ("TCB info", self.info.issued, self.info.next_update),
            ("quoting enclave's identity", self.identity.issued, self.identity.next_update),
            ("root's revocation list", self.root_list.issued, self.root_list.next_update),
            ("platform CA's revocation list", self.pck_list.issued, self.pck_list.next_update),
        ]
    }
}

type Found = Option<(Arc<Platform>, Documents)>;

/// The documents, or the keys of all that are known to be missing.
fn documents(
    signed: &Signed,
    is_tdx: bool,
    collateral: &dyn Collateral,
) -> Result<Found, Vec<CollateralKey>> {
    let mut missing: Vec<CollateralKey> = signed.missing.iter().cloned().collect();
    let mut find = |key: CollateralKey| {
        let found = collateral.find(&key);
        if found.is_none() {
            missing.push(key);
        }
        found
    };
    let identity = find(match is_tdx {
        true => CollateralKey::TdQeIdentity,
        false => CollateralKey::SgxQeIdentity,
    });
    let root_list = find(CollateralKey::IntelRootCrl);
    let of_platform = signed.platform.as_ref().map(|platform| {
        let fmspc = platform.pck.fmspc;
        let tcb_info = find(match is_tdx {
            true => CollateralKey::TdxTcbInfo(fmspc),
            false => CollateralKey::SgxTcbInfo(fmspc),
        });
        (Arc::clone(platform), tcb_info, find(CollateralKey::PckCrl(platform.ca)))
    });
    if !missing.is_empty() {
        return Err(missing);
    }
    Ok(match (of_platform, identity, root_list) {
        (Some((platform, Some(tcb_info), Some(pck_list))), Some(identity), Some(root_list)) => {
            Some((platform, Documents { tcb_info, identity, root_list, pck_list }))
        }
        _ => None,
    })
}

/// The documents are for this platform, this TEE and this root.
fn belongs(prefix: &str, platform: &Platform, verified: &Verified, is_tdx: bool, checks: &mut Vec<Check>) {
    let (info, identity) = (&verified.info.content, &verified.identity.content);
    let roots = [verified.info.anchor, verified.identity.anchor];
    if roots.iter().any(|root| *root != platform.anchor) {
        checks.push(
            Check::failed(
                format!("{prefix}.collateral.root"),
                "The collateral is signed under another root than the platform's key",
            )
            .expected("collateral of the platform's own root")
            .found("collateral of another configured root")
            .source(PCS),
        );
    }
    let tee = |is_tdx: bool| if is_tdx { "TDX" } else { "SGX" };
    let id = |id: EnclaveId| if id == EnclaveId::TdQe { "TD_QE" } else { "QE" };
    let wanted = if is_tdx { EnclaveId::TdQe } else { EnclaveId::Qe };
    let compared = [
        (
            "tcb-info.tee",
            "The TCB info is for the quote's TEE",
            tee(is_tdx).to_owned(),
            tee(info.is_tdx).to_owned(),
        ),
        (
            "qe-identity.tee",
            "The identity is that of the quote's quoting enclave",
            id(wanted).into(),
            id(identity.id).into(),
        ),
        (
            "tcb-info.fmspc",
            "The TCB info is for the platform's FMSPC",
            hex::encode(platform.pck.fmspc),
            hex::encode(info.fmspc),
        ),
        (
            "tcb-info.pce-id",
            "The TCB info is for the platform's provisioning enclave",
            hex::encode(platform.pck.pce_id),
            hex::encode(info.pce_id),
        ),
    ];
    for (tail, title, expected, found) in compared {
        checks.push(Check::equal(format!("{prefix}.{tail}"), title, &expected, &found).source(PCS));
    }
}

fn enclave(prefix: &str, quote: &Quote<'_>, identity: &Identity, checks: &mut Vec<Check>) -> Option<Grade> {
    let report = &quote.authentication.qe_report;
    let code = format!("{prefix}.qe.identity");
    if let Some((expected, found)) = tcb::mismatch(identity, report) {
        let check = Check::failed(code, "Another enclave than Intel's quoting enclave made the quote");
        checks.push(check.expected(expected).found(found).source(PCS));
        return None;
    }
    checks.push(Check::passed(code, "Intel's quoting enclave made the quote").source(PCS));
    let grade = tcb::isv_level(&identity.levels, report.isv_svn).cloned();
    if grade.is_none() {
        checks.push(
            Check::failed(
                format!("{prefix}.qe.level"),
                "The quoting enclave is older than every known level",
            )
            .expected(tcb::lowest(&identity.levels))
            .found(format!("ISVSVN {}", report.isv_svn))
            .source(PCS)
            .remedy("update the quoting enclave"),
        );
    }
    grade
}

fn levels(
    prefix: &str,
    quote: &Quote<'_>,
    platform: &Platform,
    info: &TcbInfo,
    checks: &mut Vec<Check>,
) -> Option<Levels> {
    let mut refuse = |none: NoLevel, current: bool| {
        let (tail, title) = match (none.tail, current) {
            ("module", _) => ("tcb.module", "The TDX module is not one of Intel's"),
            ("module-level", _) => ("tcb.module-level", "The TDX module is older than every known level"),
            (_, false) => ("tcb.level", "The platform is older than every known TCB level"),
            (_, true) => ("tcb.current-level", "The platform's current TCB is older than every known level"),
        };
        let check = Check::failed(format!("{prefix}.{tail}"), title).expected(none.expected);
        checks.push(check.found(none.found).source(PCS).remedy(UPDATE));
    };
    let Body::Td(report) = &quote.body else {
        return match tcb::sgx(info, &platform.pck) {
            Ok(grade) => Some(Levels { grade, current: None }),
            Err(none) => {
                refuse(none, false);
                None
            }
        };
    };
    // A TCB info of SGX has no module to compare with, and was refused already.
    if !info.is_tdx {
        return None;
    }
    let module = tcb::check_module(info, report).map_err(|none| refuse(none, false)).is_ok();
    let grade = tcb::tdx(info, &platform.pck, &report.tee_tcb_svn).map_err(|none| refuse(none, false)).ok();
    let grade = grade.filter(|_| module)?;
    let current = report.td15.as_ref().map(|td15| tcb::tdx(info, &platform.pck, &td15.tee_tcb_svn2));
    let current = current.transpose().map_err(|none| refuse(none, true)).ok()?;
    Some(Levels { grade, current })
}
