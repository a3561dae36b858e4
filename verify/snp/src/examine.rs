//! Whether a report is genuine: the key that signed it, who certified that key, and what for.
//!
//! What it is bound to is the caller's to check, because a paravisor's report is bound to other bytes than a guest's.

use std::sync::Arc;

use coffer_core_digest::{Algorithm, Hasher};
use coffer_core_evidence::snp::{CertificateEntry, CertificateKind, Report, SigningKey, TcbLayout};
use coffer_verify_api::{Check, Collateral, CollateralKey, Fault, Timestamp};
use coffer_verify_x509::Certificate;

use crate::SnpJudge;
use crate::product::product_of;
use crate::roots::{Authority, Kind, Untrusted};
use crate::vek::{Facts, Vek};

const ABI: &str = "SEV-SNP Firmware ABI (AMD 56860), table 23";
const KDS: &str = "VCEK Certificate and KDS Interface (AMD 57230), section 3";

/// What an examination found. Genuine only if no check failed.
#[derive(Debug)]
pub struct Examination {
    /// The checks that were made.
    pub checks: Vec<Check>,
    /// The product that the key is certified for: `Milan`, `Genoa`, `Turin`.
    pub product: Option<String>,
    /// The provider that a VLEK is certified for, as in `CN=cc-us-east-2.amazonaws.com`.
    pub provider: Option<String>,
    /// Whether a revocation list past its end was heeded; none if there was no list.
    pub stale_collateral: Option<bool>,
}

/// What to do without a key's certificate.
enum Missing {
    /// It can be fetched.
    Keys(Vec<CollateralKey>),
    /// The evidence must have it, and has not, or what it has is not good.
    Refused(Box<Check>),
}

impl SnpJudge {
    /// Examines a report, with the certificates that came with it. Missing certificates are asked for, unless the
    /// report is refused already.
    pub fn examine(
        &self,
        report: &Report,
        certificates: &[CertificateEntry],
        collateral: &dyn Collateral,
        at: Timestamp,
    ) -> Result<Examination, Fault> {
        let mut checks = vec![algorithm(report), requester(report), tcb_order(report)];
        let done = |checks| Ok(Examination { checks, product: None, provider: None, stale_collateral: None });
        let kind = match signing_key(report) {
            Ok((kind, check)) => {
                checks.push(check);
                kind
            }
            Err(refused) => {
                checks.push(*refused);
                return done(checks);
            }
        };
        let refused = checks.iter().any(Check::has_failed);
        let vek = match self.vek(report, kind, certificates, collateral) {
            Ok(vek) => vek,
            Err(Missing::Refused(check)) => {
                checks.push(*check);
                return done(checks);
            }
            Err(Missing::Keys(_)) if refused => return done(checks),
            Err(Missing::Keys(mut keys)) => {
                keys.extend(self.missing_lists(report, collateral));
                return Err(Fault::CollateralUnavailable(keys));
            }
        };
        checks.push(signature(report, &vek));
        checks.push(chain(&vek));
        checks.extend(validity(&vek, at));
        checks.push(product(report, &vek));
        checks.push(tcb(report, &vek));
        checks.push(match kind {
            Kind::Vcek => chip(report, &vek),
            Kind::Vlek => provider(&vek),
        });
        let line = vek.facts.line().to_owned();
        let stale_collateral = match self.revocation(&vek.authority, &line, collateral, at) {
            Ok((found, stale)) => {
                checks.extend(found);
                stale
            }
            Err(_) if checks.iter().any(Check::has_failed) => None,
            Err(key) => return Err(Fault::CollateralUnavailable(vec![key])),
        };
        Ok(Examination {
            checks,
            product: Some(line),
            provider: vek.facts.provider.clone(),
            stale_collateral,
        })
    }

    /// The key that signed, with its verified path.
    fn vek(
        &self,
        report: &Report,
        kind: Kind,
        certificates: &[CertificateEntry],
        collateral: &dyn Collateral,
    ) -> Result<Arc<Vek>, Missing> {
        let wanted = match kind {
            Kind::Vcek => CertificateKind::Vcek,
            Kind::Vlek => CertificateKind::Vlek,
        };
        let mut sent = certificates.iter().filter(|entry| entry.kind == wanted && !entry.data.is_empty());
        match (sent.next(), sent.next()) {
            (Some(one), None) => self.certified(kind, &one.data, collateral),
            (Some(_), Some(_)) => {
                let failed =
                    Check::failed("snp.vek.ambiguous", "More than one key may have signed the report")
                        .expected(format!("one {} certificate", kind.name()))
                        .found("several")
                        .source(KDS);
                Err(Missing::Refused(Box::new(failed)))
            }
            (None, _) => {
                let keys = fetchable(report, kind)?;
                match keys.iter().find_map(|key| collateral.find(key)) {
                    Some(document) => self.certified(kind, document.body(), collateral),
                    None => Err(Missing::Keys(keys)),
                }
            }
        }
    }

    /// The key of a certificate, if an authority of its product certifies it.
    fn certified(
        &self,
        kind: Kind,
        certificate: &[u8],
        collateral: &dyn Collateral,
    ) -> Result<Arc<Vek>, Missing> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(kind.name().as_bytes());
        hasher.update(certificate);
        let name = hasher.finish();
        if let Some(vek) = self.keys.get(&name) {
            return Ok(vek);
        }
        Ok(self.keys.keep(name, self.certify(kind, certificate, collateral)?))
    }

    fn certify(&self, kind: Kind, certificate: &[u8], collateral: &dyn Collateral) -> Result<Vek, Missing> {
        let refused = |check: Check| Missing::Refused(Box::new(check));
        let facts = Facts::read(certificate).map_err(|cause| {
            let failed = Check::failed("snp.vek.format", "The key's certificate cannot be read");
            refused(
                failed
                    .expected(format!("a {} certificate", kind.name()))
                    .found(cause.to_string())
                    .source(KDS),
            )
        })?;
        let Some(product) = self.roots.product(facts.line()) else {
            let failed = Check::failed("snp.ark.unknown", "No root is configured for the product")
                .expected(self.roots.names())
                .found(facts.product.clone())
                .source(KDS)
                .remedy("if this product is to be trusted, add its root to the broker's SNP trust anchors");
            return Err(refused(failed));
        };
        let untrusted = |cause: Untrusted| {
            let code = match cause {
                Untrusted::Root(_) | Untrusted::RootSignature(_) => "snp.ark.chain",
                _ => "snp.ask.chain",
            };
            let failed = Check::failed(code, "The authority above the key is not to be believed")
                .expected(format!("an authority under the root of {}", facts.line()))
                .found(cause.to_string())
                .source(KDS);
            refused(failed)
        };
        let authority = match product.authority(kind).map_err(untrusted)? {
            Some(authority) => authority,
            None => {
                let key = match kind {
                    Kind::Vcek => CollateralKey::AmdVcekChain(facts.line().to_owned()),
                    Kind::Vlek => CollateralKey::AmdVlekChain(facts.line().to_owned()),
                };
                let document = collateral.find(&key).ok_or(Missing::Keys(vec![key]))?;
                product.fetched(document.body()).map_err(untrusted)?
            }
        };
        if !facts.is_signed_by(&authority) {
            let failed = Check::failed("snp.vek.chain", "AMD did not certify the key that signed the report")
                .expected(format!(
                    "a {} certificate signed by {}",
                    kind.name(),
                    authority.certificate.subject_cn()
                ))
                .found(format!(
                    "{}, which names {} as its issuer and is not signed by that key",
                    facts.certificate.subject_cn(),
                    facts.certificate.issuer_cn()
                ))
                .source(KDS)
                .remedy("send the certificate that AMD's key service gives for this chip and firmware level");
            return Err(refused(failed));
        }
        let Some(key) = facts.key() else {
            let failed = Check::failed("snp.vek.key", "The certified key cannot sign reports")
                .expected("a key on P-384")
                .found("a key of another kind")
                .source(KDS);
            return Err(refused(failed));
        };
        Ok(Vek { kind, authority, facts, key })
    }

    /// The lists that will be asked for once the key's certificate is there, as far as the product is known now.
    fn missing_lists(&self, report: &Report, collateral: &dyn Collateral) -> Option<CollateralKey> {
        let product = report.cpuid().and_then(product_of)?;
        let key = CollateralKey::AmdCrl(product.to_owned());
        let required = self.revocation == crate::Revocation::Required;
        (required && collateral.find(&key).is_none()).then_some(key)
    }
}

/// Under which names AMD's key service has the chip's certificate.
///
/// Version 2 of the report does not name the processor. Its firmware ran on Milan and on Genoa, so either may have it.
fn fetchable(report: &Report, kind: Kind) -> Result<Vec<CollateralKey>, Missing> {
    let refused = |title: &str, found: &str, remedy: &str| {
        let failed = Check::failed("snp.vek.missing", title)
            .expected(format!("the {} certificate in cert_chain", kind.name()))
            .found(found)
            .source("GHCB (AMD 56421), section 4.1.8.1")
            .remedy(remedy);
        Missing::Refused(Box::new(failed))
    };
    if kind == Kind::Vlek {
        return Err(refused(
            "Nobody else than the provider has the certificate of its key",
            "no VLEK certificate",
            "attest with an extended report, which has the provider's certificate beside it",
        ));
    }
    let Some(chip) = report.chip() else {
        return Err(refused(
            "The host hides which chip it is, so its key's certificate cannot be fetched",
            "no VCEK certificate, and a chip id of zeros",
            "attest with an extended report, or have the host not mask the chip id",
        ));
    };
    let products: Vec<&str> = match (report.cpuid(), report.tcb_layout()) {
        (Some(cpuid), _) => product_of(cpuid).into_iter().collect(),
        (None, TcbLayout::Turin) => vec!["Turin"],
        (None, TcbLayout::Legacy) => vec!["Milan", "Genoa"],
    };
    if products.is_empty() {
        return Err(refused(
            "The processor is not one that is known, so its key's certificate cannot be fetched",
            "no VCEK certificate",
            "attest with an extended report",
        ));
    }
    let key = |product: &str| CollateralKey::AmdVcek {
        product: product.to_owned(),
        chip: chip.to_vec(),
        tcb: report.reported_tcb_raw(),
    };
    Ok(products.into_iter().map(key).collect())
}

/// ECDSA on P-384 with SHA-384 is the one algorithm there is.
fn algorithm(report: &Report) -> Check {
    const CODE: &str = "snp.report.algorithm";
    const SOURCE: &str = "SEV-SNP Firmware ABI (AMD 56860), table 139";
    match report.signature_algorithm() {
        1 => Check::passed(CODE, "The report is signed with ECDSA on P-384").source(SOURCE),
        other => Check::failed(CODE, "The report is signed with an algorithm that there is not")
            .expected("1, ECDSA on P-384 with SHA-384")
            .found(other.to_string())
            .source(SOURCE),
    }
}

/// A report that the host asked for says nothing of what the guest wanted to be signed.
fn requester(report: &Report) -> Check {
    const CODE: &str = "snp.report.vmpl";
    match report.vmpl() {
        vmpl @ 0..=3 => {
            Check::passed(CODE, "The guest asked for the report").found(format!("VMPL {vmpl}")).source(ABI)
        }
        other => Check::failed(CODE, "The guest did not ask for the report")
            .expected("VMPL 0 to 3")
            .found(format!("{other:#x}"))
            .source(ABI),
    }
}

/// Firmware is never reported newer than committed, nor committed newer than it runs.
fn tcb_order(report: &Report) -> Check {
    const CODE: &str = "snp.tcb.order";
    const SOURCE: &str = "SEV-SNP Firmware ABI (AMD 56860), section 3.3";
    let (reported, committed, current) =
        (report.reported_tcb(), report.committed_tcb(), report.current_tcb());
    let (old, new) = (report.committed_version(), report.current_version());
    match reported.is_at_most(&committed) && committed.is_at_most(&current) && old <= new {
        true => {
            Check::passed(CODE, "The firmware levels are in order").found(reported.to_string()).source(SOURCE)
        }
        false => Check::failed(CODE, "The firmware levels contradict each other")
            .expected("reported at most committed, committed at most current")
            .found(format!("reported {reported}; committed {committed}; current {current}"))
            .source(SOURCE),
    }
}

fn signing_key(report: &Report) -> Result<(Kind, Check), Box<Check>> {
    let failed = |code: &str, title: &str, found: String| {
        let failed = Check::failed(code, title).expected("VCEK or VLEK").found(found).source(ABI);
        Box::new(failed.remedy("have the host let the firmware sign reports"))
    };
    const CODE: &str = "snp.report.signing-key";
    let kind = match report.signing_key() {
        SigningKey::Vcek if report.mask_chip_key() => {
            let title = "The firmware may not use the chip's key, so the report is not signed";
            return Err(failed("snp.report.unsigned", title, "MASK_CHIP_KEY".into()));
        }
        SigningKey::Vcek => Kind::Vcek,
        SigningKey::Vlek => Kind::Vlek,
        SigningKey::None => {
            return Err(failed("snp.report.unsigned", "The report is not signed", "no key".into()));
        }
        SigningKey::Reserved(other) => {
            return Err(failed(CODE, "The key that signed is not known", format!("signing key {other}")));
        }
    };
    let passed = Check::passed(CODE, format!("The report names the key that signed it: {}", kind.name()));
    Ok((kind, passed.source(ABI)))
}

/// `r` and `s`, little-endian in 72 bytes each, over the first 672 bytes (tables 23 and 140).
fn signature(report: &Report, vek: &Vek) -> Check {
    const CODE: &str = "snp.report.signature";
    const SOURCE: &str = "SEV-SNP Firmware ABI (AMD 56860), tables 23 and 140";
    let mut fixed = [0; 96];
    let (r, s) = fixed.split_at_mut(48);
    let fits = big_endian(report.signature_r(), r) && big_endian(report.signature_s(), s);
    match fits && vek.key.verify_sig(report.signed(), &fixed).is_ok() {
        true => Check::passed(CODE, format!("The {} signed the report", vek.kind.name())).source(SOURCE),
        false => Check::failed(CODE, "The certified key did not sign the report")
            .expected(format!("a signature by the {} over the report", vek.kind.name()))
            .found("a signature by another key, or over another report")
            .source(SOURCE),
    }
}

/// Turns a number around. One that does not fit into the field is no signature.
fn big_endian(little: &[u8; 72], field: &mut [u8]) -> bool {
    for (to, from) in field.iter_mut().rev().zip(little) {
        *to = *from;
    }
    little.iter().skip(field.len()).all(|byte| *byte == 0)
}

fn chain(vek: &Vek) -> Check {
    let Authority { ark, certificate } = vek.authority.as_ref();
    Check::passed("snp.vek.chain", format!("AMD certifies the {} that signed the report", vek.kind.name()))
        .found(format!(
            "{} under {} under {}",
            vek.facts.certificate.subject_cn(),
            certificate.subject_cn(),
            ark.subject_cn()
        ))
        .source(KDS)
}

fn validity(vek: &Vek, at: Timestamp) -> [Check; 3] {
    let said =
        |second: i64| Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string());
    let check = |code: &str, certificate: &Certificate, remedy: &str| {
        let name = certificate.subject_cn();
        let dates = format!("{} to {}", said(certificate.not_before()), said(certificate.not_after()));
        match certificate.is_valid_at(at.as_second()) {
            true => Check::passed(code, format!("{name} is valid")).found(dates).source(KDS),
            false => Check::failed(code, format!("{name} is not valid at this time"))
                .expected(format!("a certificate that is valid at {at}"))
                .found(dates)
                .source(KDS)
                .remedy(remedy),
        }
    };
    const CLOCK: &str = "correct the broker's clock, or update its trust anchors";
    let renew = match vek.kind {
        Kind::Vcek => "fetch the chip's certificate again, or correct the broker's clock",
        Kind::Vlek => "ask the provider to renew the key's certificate, or correct the broker's clock",
    };
    [
        check("snp.vek.validity", &vek.facts.certificate, renew),
        check("snp.ask.validity", &vek.authority.certificate, CLOCK),
        check("snp.ark.validity", &vek.authority.ark, CLOCK),
    ]
}

/// The processor in the report is of the product that the key is certified for.
fn product(report: &Report, vek: &Vek) -> Check {
    const CODE: &str = "snp.vek.product";
    let certified = vek.facts.product.as_str();
    let (named, shown) = match report.cpuid() {
        Some(cpuid) => (
            product_of(cpuid),
            format!("family {:#04x}, model {:#04x}, stepping {}", cpuid.family, cpuid.model, cpuid.stepping),
        ),
        // Version 2 says it by the layout only.
        None => {
            let turin = (report.tcb_layout() == TcbLayout::Turin).then_some("Turin");
            let older = Some(vek.facts.line()).filter(|line| *line != "Turin");
            (turin.or(older), "version 2, which names no processor".to_owned())
        }
    };
    match named == Some(vek.facts.line()) {
        true => Check::passed(CODE, format!("The key is certified for this product: {certified}"))
            .found(shown)
            .source(KDS),
        false => Check::failed(CODE, "The key is certified for another product than the report's")
            .expected(certified)
            .found(shown)
            .source(KDS),
    }
}

/// The key was derived for the level that the report claims.
fn tcb(report: &Report, vek: &Vek) -> Check {
    const CODE: &str = "snp.vek.tcb";
    let certified = u64::from_le_bytes(vek.facts.tcb_bytes(report.tcb_layout()));
    let shown = |raw: u64, tcb: String| format!("{tcb} ({raw:#018x})");
    let (expected, found) = (
        shown(certified, vek.facts.tcb().to_string()),
        shown(report.reported_tcb_raw(), report.reported_tcb().to_string()),
    );
    match certified == report.reported_tcb_raw() {
        true => Check::passed(CODE, "The key is certified for the firmware level that the report claims")
            .found(found)
            .source(KDS),
        false => {
            Check::failed(CODE, "The key is certified for another firmware level than the report claims")
                .expected(expected)
                .found(found)
                .source(KDS)
                .remedy("send the certificate of the reported level")
        }
    }
}

/// The key was derived for the chip that the report names.
fn chip(report: &Report, vek: &Vek) -> Check {
    const CODE: &str = "snp.vek.chip";
    let certified = vek.facts.hardware_id.as_deref();
    let named = report.chip();
    let shown = |id: Option<&[u8]>| id.map_or_else(|| "no chip".to_owned(), hex::encode);
    match certified.is_some() && certified == named {
        true => Check::passed(CODE, "The key is certified for this chip").found(shown(named)).source(KDS),
        false => Check::failed(CODE, "The key is certified for another chip than the report names")
            .expected(shown(certified))
            .found(shown(named))
            .source(KDS)
            .remedy("send the certificate of this chip, and have the host not mask the chip id"),
    }
}

/// A provider's key names the provider, and no chip.
fn provider(vek: &Vek) -> Check {
    const CODE: &str = "snp.vek.provider";
    const SOURCE: &str = "VLEK Certificate Definition (AMD 58369)";
    match (&vek.facts.provider, &vek.facts.hardware_id) {
        (Some(name), None) => {
            Check::passed(CODE, "The key is certified for a provider").found(name.clone()).source(SOURCE)
        }
        (name, id) => Check::failed(CODE, "The key is not certified as a provider's")
            .expected("a provider (csp_id) and no chip (hwID)")
            .found(format!(
                "{} and {}",
                name.as_deref().unwrap_or("no provider"),
                id.as_ref().map_or_else(|| "no chip".to_owned(), hex::encode)
            ))
            .source(SOURCE),
    }
}
