#![allow(missing_docs)]
use std::time::Instant;
use coffer_core_evidence::snp::*;
use coffer_core_evidence::ReportData;
use coffer_core_digest::{Algorithm, Digest};
use coffer_verify_api::*;
fn main() {
    let own = coffer_lab_testpki::SnpAuthority::new("Genoa");
    let tcb = [4, 0, 0, 0, 0, 0, 24, 219];
    let key = own.certify(&own.content(tcb, &[0xc5; 64]));
    let d = Digest::of(Algorithm::Sha384, b"x");
    let rd = ReportData::from_runtime_hash(d);
    let mut report = own.report(5, tcb, &[0xc5; 64], &rd.field::<64>());
    key.sign(&mut report);
    let root = coffer_verify_snp::Root { product: "Genoa".into(), ark: own.ark(), ask: Some(own.ask()), asvk: None };
    let judge = coffer_verify_snp::SnpJudge::new(coffer_verify_snp::Roots::default().with(root), coffer_verify_snp::Revocation::NotChecked);
    let ev = SnpEvidence { report: Report::parse(&report).unwrap(), certificates: vec![CertificateEntry { kind: CertificateKind::Vcek, data: key.certificate() }] }.to_value();
    let at = Timestamp::from_second(1_795_132_800).unwrap();
    let q = || Question { evidence: &ev, report_data: &rd, init_data: None, collateral: &NoCollateral, at };
    for _ in 0..3 {
        let n = 2000;
        let t = Instant::now();
        for _ in 0..n { assert!(matches!(judge.verify(&q()), Ok(Judgement::Verified(_)))); }
        let a = t.elapsed() / n;
        let t = Instant::now();
        for _ in 0..n { std::hint::black_box(SnpEvidence::parse(&ev).unwrap()); }
        let b = t.elapsed() / n;
        let cert = coffer_verify_x509::Certificate::parse(&key.certificate()).unwrap();
        let pk = aws_lc_rs::signature::ParsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED, cert.public_key()).unwrap();
        let mut sig = [0u8; 96];
        for i in 0..48 { sig[47 - i] = report[0x2a0 + i]; sig[95 - i] = report[0x2e8 + i]; }
        let t = Instant::now();
        for _ in 0..n { pk.verify_sig(&report[..0x2a0], &sig).unwrap(); }
        let c = t.elapsed() / n;
        let parsed = SnpEvidence::parse(&ev).unwrap();
        let t = Instant::now();
        for _ in 0..n { std::hint::black_box(judge.examine(&parsed.report, &parsed.certificates, &NoCollateral, at).unwrap()); }
        let e = t.elapsed() / n;
        let ex = judge.examine(&parsed.report, &parsed.certificates, &NoCollateral, at).unwrap();
        let t = Instant::now();
        for _ in 0..n { std::hint::black_box((coffer_verify_snp::claims::json(&parsed.report, &ex), coffer_verify_snp::claims::posture(&parsed.report, &ex), coffer_verify_snp::claims::registers(&parsed.report))); }
        let j = t.elapsed() / n;
        println!("examine {e:?} claims {j:?}");
        println!("verdict {a:?} parse {b:?} p384 {c:?} ratio {:.3}", c.as_secs_f64() / a.as_secs_f64());
    }
}
