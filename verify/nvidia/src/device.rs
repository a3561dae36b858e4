//! One device: what can be told from its own evidence alone.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use coffer_core_digest::Digest;
use coffer_core_evidence::ReportData;
use coffer_core_evidence::nvidia::{Architecture, DeviceEvidence};
use coffer_verify_api::{Check, CollateralKey, Timestamp};
use coffer_verify_x509::{Certificate, pem_certificates};

use crate::chain::{self, Path, Whose};
use crate::dice;
use crate::memory::Memory;
use crate::opaque::{Opaque, OpaqueError, field};
use crate::spdm::Report;

const SPDM: &str = "DMTF DSP0274 1.1, section 10.11; NVIDIA attestation report";
/// Bytes in an uncompressed point of P-384.
const P384_POINT: usize = 97;
/// What a switch does not say of itself: project, project SKU and chip SKU of LS10, as NVIDIA's service names them.
const LS10_BIOS: &str = "NV_SWITCH_BIOS_5612_0002_890_";

/// Chains by the digest of the text that they were sent in.
pub(crate) type Chains = Memory<Path>;

/// A device whose own evidence holds.
pub(crate) struct Inspected<'a> {
    pub(crate) sent: &'a DeviceEvidence,
    pub(crate) report: Report,
    pub(crate) path: std::sync::Arc<Path>,
    /// The driver's version; switches have none.
    pub(crate) driver: Option<String>,
    /// The firmware's version.
    pub(crate) vbios: String,
    /// The manifests that it needs: id, version that they must have.
    pub(crate) manifests: Vec<(String, String)>,
    pub(crate) checks: Vec<Check>,
}

/// Makes every check that needs nothing else; all reasons if one fails.
pub(crate) fn inspect<'a>(
    sent: &'a DeviceEvidence,
    report_data: &ReportData,
    anchors: &[Certificate],
    chains: &Chains,
    at: Timestamp,
) -> Result<Inspected<'a>, Vec<Check>> {
    let report = Report::parse(&sent.evidence, sent.arch.is_switch()).map_err(|cause| {
        vec![
            Check::failed("nvidia.report.format", "The report cannot be read")
                .found(cause.to_string())
                .source(SPDM),
        ]
    })?;
    let mut checks = vec![Check::passed("nvidia.report.format", "The report can be read").source(SPDM)];
    let certificates = certificates(&sent.certificate).map_err(|reason| vec![*reason])?;
    checks.push(signature(&report, &sent.evidence, certificates.first()));
    checks.extend(freshness_and_binding(&report, report_data));
    let path = match walk(&sent.certificate, &certificates, anchors, chains, at) {
        Ok(path) => {
            checks.push(
                Check::passed("nvidia.device.chain", "NVIDIA's root certifies the device").source(SPDM),
            );
            Some(path)
        }
        Err(broken) => {
            let title = "NVIDIA's root does not certify the device";
            checks.push(Check::group("nvidia.device.chain", title, vec![broken.check(Whose::Device)]));
            None
        }
    };
    if let Some(leaf) = certificates.first() {
        checks.extend(fwid(&report.opaque, leaf));
        checks.push(architecture(sent.arch, leaf));
    }
    let named = names(sent.arch, &report.opaque);
    if let Err(reason) = &named {
        checks.push((**reason).clone());
    }
    match (path, named) {
        (Some(path), Ok(named)) if !checks.iter().any(Check::has_failed) => Ok(Inspected {
            sent,
            report,
            path,
            driver: named.driver,
            vbios: named.vbios,
            manifests: named.manifests,
            checks,
        }),
        _ => Err(checks),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, Box<Check>> {
    let malformed = |found: String| {
        Box::new(
            Check::failed("nvidia.device-certificate.malformed", "The device's certificates cannot be read")
                .expected("certificates in PEM, leaf first")
                .found(found)
                .source("RFC 7468; RFC 5280"),
        )
    };
    let ders = pem_certificates(pem).map_err(|cause| malformed(cause.to_string()))?;
    ders.iter().map(|der| Certificate::parse(der).map_err(|cause| malformed(cause.to_string()))).collect()
}

/// As [`chain::walk`], remembered; the time is asked each time.
fn walk(
    pem: &[u8],
    certificates: &[Certificate],
    anchors: &[Certificate],
    chains: &Chains,
    at: Timestamp,
) -> Result<std::sync::Arc<Path>, chain::Broken> {
    let name = Digest::sha256(pem);
    let path = match chains.find(&name) {
        Some(known) => known,
        None => chains.keep(name, chain::walk(certificates, anchors)?),
    };
    match path.expired(at) {
        Some(broken) => Err(broken),
        None => Ok(path),
    }
}

fn signature(report: &Report, bytes: &[u8], leaf: Option<&Certificate>) -> Check {
    const CODE: &str = "nvidia.report.signature";
    let failed = |found: &str| {
        Check::failed(CODE, "The device did not sign the report")
            .expected("a signature by the device's certificate over request and response (ECDSA, P-384)")
            .found(found)
            .source(SPDM)
    };
    let key = leaf.map(Certificate::public_key).filter(|key| key.len() == P384_POINT);
    let (Some(key), Some((signed, signature))) = (key, report.split(bytes)) else {
        return failed("a key that is not on P-384");
    };
    match UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(signed, signature) {
        Ok(()) => Check::passed(CODE, "The device signed the report (ECDSA on P-384)").source(SPDM),
        Err(_) => failed("not by this key or not over this report"),
    }
}

/// One comparison proves two things, because the nonce hashes the challenge's nonce together with the key that will
/// receive secrets. When it fails, nobody can tell which of the two differs.
fn freshness_and_binding(report: &Report, report_data: &ReportData) -> [Check; 2] {
    const SOURCE: &str = "KBS protocol 0.4, report data of devices; DMTF DSP0274 1.1, nonce";
    let expected: [u8; 32] = report_data.field();
    let (wanted, found) = (hex::encode(expected), hex::encode(report.nonce));
    if expected == report.nonce {
        return [
            Check::passed("nvidia.report.freshness", "The report was made for this challenge")
                .expected(wanted)
                .found(found)
                .source(SOURCE),
            Check::passed(
                "nvidia.report.binding",
                "The report is bound to the key that secrets will be encrypted to",
            )
            .source(SOURCE),
        ];
    }
    [
        Check::failed("nvidia.report.freshness", "The report was made for another challenge or another key")
            .expected(wanted)
            .found(found)
            .source(SOURCE)
            .remedy("attest again, with the nonce of this challenge and the key of this session"),
        Check::unavailable("nvidia.report.binding", "Not told, because the nonce is another hash")
            .source(SOURCE),
    ]
}

/// The firmware that the report names must be the one that the device's certificate was issued to. Older firmware
/// does not name itself.
fn fwid(opaque: &Opaque, leaf: &Certificate) -> Option<Check> {
    const CODE: &str = "nvidia.device.fwid";
    const SOURCE: &str = "TCG DICE Attestation Architecture 1.1, section 6.1";
    let reported = opaque.bytes(field::FWID)?;
    let certified = dice::fwid(leaf);
    Some(match certified.as_deref() == Some(reported) {
        true => Check::passed(CODE, "The certificate was issued to the firmware that the report names")
            .source(SOURCE),
        false => Check::failed(CODE, "The certificate was issued to other firmware than the report names")
            .expected(certified.map_or_else(|| "a certificate that names firmware".to_owned(), hex::encode))
            .found(hex::encode(reported))
            .source(SOURCE),
    })
}

/// The attester's word for the generation against the chip that the certificate names.
fn architecture(said: Architecture, leaf: &Certificate) -> Check {
    const CODE: &str = "nvidia.device.architecture";
    let chip = dice::device_info(leaf)
        .map_or_else(|| leaf.subject_cn(), |(product, _)| product)
        .to_ascii_uppercase();
    let known = ["GH", "GB", "LS"].iter().find(|prefix| chip.starts_with(**prefix));
    match known {
        Some(prefix) if *prefix != prefix_of(said) => {
            Check::failed(CODE, "The device is of another generation than the evidence says")
                .expected(said.name())
                .found(chip.chars().take(64).collect::<String>())
                .source("NVIDIA device identity certificates")
        }
        Some(_) => Check::passed(CODE, format!("The device is of generation {}", said.name())),
        None => Check::informational(CODE, "The certificate does not name the chip"),
    }
}

/// What names of chips of a generation begin with.
pub(crate) const fn prefix_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Hopper => "GH",
        Architecture::Blackwell => "GB",
        Architecture::Ls10 => "LS",
    }
}

struct Names {
    driver: Option<String>,
    vbios: String,
    manifests: Vec<(String, String)>,
}

/// Which manifests the report asks for, by the names of NVIDIA's service.
fn names(architecture: Architecture, opaque: &Opaque) -> Result<Names, Box<Check>> {
    let malformed = |found: String| {
        Box::new(
            Check::failed(
                "nvidia.report.version",
                "The report does not say which firmware and driver it is of",
            )
            .found(found)
            .source("NVIDIA opaque data"),
        )
    };
    let named = read_names(architecture, opaque).map_err(|cause| malformed(cause.to_string()))?;
    // The names are parts of addresses and of files' names.
    match named.manifests.iter().find(|(id, _)| !CollateralKey::is_name(id)) {
        Some((id, _)) => Err(malformed(format!("{id:?}, which names no manifest"))),
        None => Ok(named),
    }
}

fn read_names(architecture: Architecture, opaque: &Opaque) -> Result<Names, OpaqueError> {
    let vbios = opaque.vbios_version()?;
    let dotless = vbios.replace('.', "");
    if architecture.is_switch() {
        let manifests = vec![(format!("{LS10_BIOS}{dotless}"), vbios.clone())];
        return Ok(Names { driver: None, vbios, manifests });
    }
    let driver = opaque.driver_version()?;
    let driver_id = match architecture {
        Architecture::Blackwell => {
            let chip = match opaque.bytes(field::CHIP_INFO) {
                Some(_) => opaque.text(field::CHIP_INFO, "the chip's name")?,
                None => "GB100".to_owned(),
            };
            format!("NV_GPU_CC_DRIVER_{chip}_{driver}")
        }
        _ => format!("NV_GPU_DRIVER_GH100_{driver}"),
    };
    let vbios_id = format!(
        "NV_GPU_VBIOS_{}_{}_{}_{dotless}",
        opaque.text(field::PROJECT, "the project")?,
        opaque.text(field::PROJECT_SKU, "the project's SKU")?,
        opaque.text(field::CHIP_SKU, "the chip's SKU")?,
    );
    let manifests = vec![(driver_id, driver.clone()), (vbios_id, vbios.clone())];
    Ok(Names { driver: Some(driver), vbios, manifests })
}
