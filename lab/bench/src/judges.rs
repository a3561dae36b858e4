//! Verdicts: CPU for one with warm collateral, for each TEE, beside other verifiers and beside the signature library.
//!
//! Evidence and authorities are made here, so the figures need nothing from outside. AMD's authorities of this bench
//! have RSA keys of 2048 bits where AMD's have 4096, which favours the other verifier where it walks the chain.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm,
    KeyPair, UnparsedPublicKey,
};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::azure::{AzureEvidence, PlatformProof};
use coffer_core_evidence::dcap::{SgxEvidence, TdxEvidence};
use coffer_core_evidence::snp::{CertificateEntry, CertificateKind, Report, SnpEvidence};
use coffer_lab_testpki::dcap::{DcapFixture, Enclave, ISSUED, NEXT_UPDATE, TrustDomain};
use coffer_lab_testpki::{
    AzureFixture, CcaFixture, CcaProfile, CsvFixture, CsvReport, NitroFixture, NvidiaCertificate,
    NvidiaDevice, NvidiaKey, NvidiaReport, NvidiaRim, SnpAuthority, SnpKey,
};
use coffer_verify_api::{
    Collateral, CollateralKey, DeviceVerifier as _, Document, Judgement, NoCollateral, Question, Shelf,
    Timestamp, Verifier,
};
use coffer_verify_azure::AzureSnpJudge;
use coffer_verify_cca::{CcaJudge, TrustAnchors};
use coffer_verify_csv::CsvJudge;
use coffer_verify_dcap::Dcap;
use coffer_verify_nitro::NitroJudge;
use coffer_verify_nvidia::NvidiaJudge;
use coffer_verify_sgx::SgxJudge;
use coffer_verify_snp::{Revocation, Root, Roots, SnpJudge};
use coffer_verify_tdx::TdxJudge;
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::verify::QuoteVerifier;
use serde_json::{Value, json};
use sev::certs::snp::{Certificate, Verifiable};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

use crate::clock::{cpu, us};
use crate::release::Guests;

const TCB: [u8; 8] = [3, 0, 0, 0, 0, 0, 8, 115];
const CHIP: [u8; 64] = [0x5a; 64];

/// Measures and prints.
pub(crate) fn measure(rounds: u32) -> Result<()> {
    let p256 = verifications(&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_FIXED, rounds)?;
    let p384 = verifications(&ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED, rounds)?;
    println!("\nverdicts with warm collateral: CPU for one, on one core");
    println!("  one verification of the crypto library: P-256 {:.1} µs, P-384 {:.1} µs", us(p256), us(p384));
    let at = Timestamp::from_second(i64::try_from(ISSUED)? + 86_400)?;
    intel(rounds, at, p256)?;
    amd(rounds, at, p384)?;
    let fixture = NitroFixture::default();
    let evidence = fixture.evidence(&session().field::<64>());
    let nitro = ours(&NitroJudge::new(vec![fixture.root_der()]), &evidence, &NoCollateral, at, rounds)?;
    line("nitro", nitro, "P-384", p384);
    let fixture = CcaFixture::new(CcaProfile::Of2023);
    let judge = CcaJudge::new(TrustAnchors::from_json(&fixture.anchors())?);
    let cca = ours(&judge, &fixture.evidence(&session().field()), &NoCollateral, at, rounds)?;
    line("cca", cca, "P-384", p384);
    others(rounds, at, p384)
}

fn session() -> ReportData {
    ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"))
}

/// CPU for one of many.
pub(crate) fn each(rounds: u32, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    // Warm first: what is remembered is not part of a verdict with warm collateral.
    for _ in 0..3 {
        work()?;
    }
    let began = cpu();
    for _ in 0..rounds {
        work()?;
    }
    Ok((cpu() - began) / rounds)
}

fn verifications(
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static EcdsaVerificationAlgorithm,
    rounds: u32,
) -> Result<Duration> {
    let key = EcdsaKeyPair::generate(signing).ok().context("no key")?;
    let message = [7; 1184];
    let signature = key.sign(&SystemRandom::new(), &message).ok().context("no signature")?;
    let public = UnparsedPublicKey::new(verifying, key.public_key().as_ref());
    each(rounds, || public.verify(&message, signature.as_ref()).ok().context("not verified"))
}

/// From the wire form to verified claims.
fn ours(
    judge: &dyn Verifier,
    evidence: &Value,
    collateral: &dyn Collateral,
    at: Timestamp,
    rounds: u32,
) -> Result<Duration> {
    let report_data = session();
    each(rounds, || {
        let question = Question { evidence, report_data: &report_data, init_data: None, collateral, at };
        match judge.verify(&question)? {
            Judgement::Verified(verified) => {
                black_box(verified);
                Ok(())
            }
            Judgement::Rejected(checks) => {
                let causes: Vec<_> = checks.iter().flat_map(|check| check.causes()).collect();
                bail!("{} evidence of the bench is refused: {causes:?}", judge.tee())
            }
        }
    })
}

fn line(name: &str, time: Duration, of: &str, signature: Duration) {
    println!(
        "  {name:<6} {:>8.1} µs  {:>6.0}/s  {:.2} of the {of} verification rate",
        us(time),
        1.0 / time.as_secs_f64(),
        signature.as_secs_f64() / time.as_secs_f64()
    );
}

fn against(name: &str, own: Duration, other: &str, theirs: Duration, promise: &str) {
    println!(
        "  {name:<6} against {other}: {:.1} µs, {:.1}x (promise: {promise})",
        us(theirs),
        theirs.as_secs_f64() / own.as_secs_f64()
    );
}

fn intel(rounds: u32, at: Timestamp, p256: Duration) -> Result<()> {
    let fixture = DcapFixture::tdx();
    let body = TrustDomain { report_data: session().field(), ..TrustDomain::default() }.body(2);
    let quote = fixture.quote(4, &body);
    let (shelf, dcap) = trusted(&fixture)?;
    let evidence = TdxEvidence { quote: quote.clone(), cc_eventlog: None }.to_wire();
    let tdx = ours(&TdxJudge::new(dcap), &evidence, &shelf, at, rounds)?;
    line("tdx", tdx, "P-256", p256);
    against("tdx", tdx, "dcap-qvl 0.7", theirs(&fixture, &quote, at, rounds)?, "5x");

    let fixture = DcapFixture::sgx();
    let quote = fixture.quote(3, &Enclave { report_data: session().field(), ..Enclave::default() }.report());
    let (shelf, dcap) = trusted(&fixture)?;
    let evidence = SgxEvidence { quote: quote.clone() }.to_wire();
    let sgx = ours(&SgxJudge::new(dcap), &evidence, &shelf, at, rounds)?;
    line("sgx", sgx, "P-256", p256);
    against("sgx", sgx, "dcap-qvl 0.7", theirs(&fixture, &quote, at, rounds)?, "5x");
    Ok(())
}

fn trusted(fixture: &DcapFixture) -> Result<(Shelf, Arc<Dcap>)> {
    Ok((fixture.shelf(), Arc::new(Dcap::new(vec![fixture.root.der().to_vec()])?)))
}

/// The same quote and the same collateral.
fn theirs(fixture: &DcapFixture, quote: &[u8], at: Timestamp, rounds: u32) -> Result<Duration> {
    let chain = [fixture.signer.pem(), fixture.root.pem()].concat();
    let sign = |content: &Value| hex::encode(fixture.signer.sign(content.to_string().as_bytes()));
    let (info, identity) = (fixture.tcb_info(), fixture.identity());
    let collateral: QuoteCollateralV3 = serde_json::from_value(json!({
        "pck_crl_issuer_chain": format!("{}{}", fixture.ca.pem(), fixture.root.pem()),
        "root_ca_crl": hex::encode(fixture.root.crl(&[], ISSUED, NEXT_UPDATE)),
        "pck_crl": hex::encode(fixture.ca.crl(&[], ISSUED, NEXT_UPDATE)),
        "tcb_info_issuer_chain": chain,
        "tcb_info": info.to_string(),
        "tcb_info_signature": sign(&info),
        "qe_identity_issuer_chain": chain,
        "qe_identity": identity.to_string(),
        "qe_identity_signature": sign(&identity),
    }))?;
    let verifier = QuoteVerifier::new(fixture.root.der().to_vec());
    let now = u64::try_from(at.as_second())?;
    // It is some ten times slower, so fewer rounds say as much.
    each(rounds.div_ceil(5), || match verifier.verify(quote, &collateral, now) {
        Ok(report) => {
            black_box(report);
            Ok(())
        }
        Err(cause) => bail!("dcap-qvl refuses the quote of the bench: {cause:#}"),
    })
}

/// A judge of AMD's kind with a root of the bench, a certified key, and who certified it.
fn milan() -> (SnpJudge, SnpKey, SnpAuthority) {
    let authority = SnpAuthority::new("Milan");
    let key = authority.certify(&authority.content(TCB, &CHIP));
    let root = Root {
        product: "Milan".into(),
        ark: authority.ark(),
        ask: Some(authority.ask()),
        asvk: Some(authority.asvk()),
    };
    (SnpJudge::new(Roots::default().with(root), Revocation::NotChecked), key, authority)
}

fn amd(rounds: u32, at: Timestamp, p384: Duration) -> Result<()> {
    let (judge, key, authority) = milan();
    let mut bytes = authority.report(3, TCB, &CHIP, &session().field::<64>());
    key.sign(&mut bytes);
    let entry = CertificateEntry { kind: CertificateKind::Vcek, data: key.certificate() };
    let evidence = SnpEvidence { report: Report::parse(&bytes)?, certificates: vec![entry] }.to_value();
    let snp = ours(&judge, &evidence, &NoCollateral, at, rounds)?;
    line("snp", snp, "P-384", p384);
    println!("  snp    promise: at least 0.80 of the P-384 verification rate");

    let (ask, vek) = (Certificate::from_der(&authority.ask())?, Certificate::from_der(&key.certificate())?);
    let ark = Certificate::from_der(&authority.ark())?;
    let report = || AttestationReport::from_bytes(&bytes);
    let alone = each(rounds.div_ceil(5), || {
        ensure!((&vek, &report()?).verify().is_ok(), "sev refuses the report of the bench");
        Ok(())
    })?;
    against("snp", snp, "sev 8, signature alone", alone, "1.5x");
    let whole = each(rounds.div_ceil(5), || {
        ensure!((&ark, &ask).verify().is_ok() && (&ask, &vek).verify().is_ok(), "sev refuses the chain");
        ensure!((&vek, &report()?).verify().is_ok(), "sev refuses the report of the bench");
        Ok(())
    })?;
    against("snp", snp, "sev 8, with the chain", whole, "1.5x");
    Ok(())
}

/// Those that are not compared with another verifier.
fn others(rounds: u32, at: Timestamp, p384: Duration) -> Result<()> {
    let guests = Guests::new();
    let tpm = ours(&guests.judge(), &guests.evidence_of(&session()), &NoCollateral, at, rounds)?;
    line("tpm", tpm, "P-384", p384);

    let (judge, certificate, authority) = milan();
    let azure = AzureFixture::default();
    let runtime_data = azure.runtime_data(&session().field());
    let mut report = authority.report(3, TCB, &CHIP, &AzureFixture::report_data(&runtime_data));
    certificate.sign(&mut report);
    let pcrs = [Digest::zero(Algorithm::Sha256); 24];
    let evidence = AzureEvidence {
        version: 2,
        quote: azure.quote(session().digest().as_bytes(), &pcrs),
        hcl_report: AzureFixture::hcl_report(false, &report, &runtime_data),
        proof: PlatformProof::Snp(Some(certificate.certificate())),
    };
    let azure = ours(&AzureSnpJudge::new(Arc::new(judge)), &evidence.to_value(), &NoCollateral, at, rounds)?;
    line("az-snp", azure, "P-384", p384);

    let fixture = CsvFixture::default();
    let report = CsvReport { report_data: session().field(), ..CsvReport::default() };
    let judge = CsvJudge::with_roots(vec![fixture.root()]);
    let csv = ours(&judge, &fixture.evidence(&report, None), &NoCollateral, at, rounds.div_ceil(5))?;
    line("csv", csv, "P-384", p384);
    gpu(rounds.div_ceil(5), at, p384)
}

fn gpu(rounds: u32, at: Timestamp, p384: Duration) -> Result<()> {
    let root = Arc::new(NvidiaKey::root(&NvidiaCertificate::new("device root", true)));
    let rim_root = NvidiaKey::root(&NvidiaCertificate::new("manifest root", true));
    let signer = rim_root.issue(&NvidiaCertificate::new("signer", false));
    let device = NvidiaDevice::new(&root, "GH100", "48B02D92494BADF4");
    let report = NvidiaReport::hopper(session().field(), &device.fwid);
    let mut shelf = Shelf::default();
    for (id, version, indexes) in [
        ("NV_GPU_DRIVER_GH100_550.90.07", "550.90.07", &[20, 21, 35][..]),
        ("NV_GPU_VBIOS_1010_0200_882_96009F000A", "96.00.9f.00.0a", &[0, 1, 2, 9]),
    ] {
        let manifest = NvidiaRim::of("GH100", version, &report, indexes).sign(&[&signer, &rim_root]);
        shelf.put(CollateralKey::NvidiaRim(id.into()), Document::new(manifest, Vec::new()).into());
    }
    let evidence = json!({"device_evidence_list": [device.entry("HOPPER", &report)]});
    let judge = NvidiaJudge::with_roots(vec![root.der().to_vec()], vec![rim_root.der().to_vec()])
        .revocation(coffer_verify_nvidia::Revocation::IfPresent);
    let report_data = session();
    let time = each(rounds, || {
        let question = Question {
            evidence: &evidence,
            report_data: &report_data,
            init_data: None,
            collateral: &shelf,
            at,
        };
        let devices = judge.verify(&question)?;
        ensure!(
            devices.iter().all(|device| matches!(device.judgement, Judgement::Verified(_))),
            "the device of the bench is refused"
        );
        Ok(())
    })?;
    line("nvidia", time, "P-384", p384);
    Ok(())
}
