//! Reports of chips made here: every product, every version, both kinds of keys; and the same with one defect, refused
//! for that one.

use std::sync::{Arc, OnceLock};

use coffer_core_evidence::snp::{SnpError, SnpEvidence, wire_of_raw};
use coffer_core_policy::{AppraisalPolicy, NamedValues};
use coffer_lab_testpki::{SnpAuthority, SnpKey, VekContent};
use coffer_verify_api::{CollateralKey, Document, Fault, Judgement, Question, Shelf, Verifier as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Revocation, Root, Roots};

const CHIP: [u8; 64] = [0xc5; 64];
const TURIN_CHIP: [u8; 8] = [0x7e; 8];
/// Boot loader 4, TEE 1, SNP 24, microcode 219.
const TCB: [u8; 8] = [4, 1, 0, 0, 0, 0, 24, 219];
/// FMC 1, boot loader 4, TEE 1, SNP 24, microcode 219.
const TURIN_TCB: [u8; 8] = [1, 4, 1, 24, 0, 0, 0, 219];

/// Keys of 2048 bits take their time, so each product's authorities are made once.
fn authority(product: &str) -> &'static SnpAuthority {
    static MADE: OnceLock<Vec<(&str, SnpAuthority)>> = OnceLock::new();
    let products = ["Milan", "Genoa", "Turin", "Venice", "foreign"];
    let made = MADE.get_or_init(|| {
        let new = |name| SnpAuthority::new(if name == "foreign" { "Milan" } else { name });
        products.map(|name| (name, new(name))).into()
    });
    &made.iter().find(|(name, _)| *name == product).unwrap().1
}

fn root(product: &str) -> Root {
    let own = authority(product);
    Root { product: product.into(), ark: own.ark(), ask: Some(own.ask()), asvk: Some(own.asvk()) }
}

fn judge() -> SnpJudge {
    SnpJudge::new(
        Roots::default().with(root("Milan")).with(root("Genoa")).with(root("Turin")),
        Revocation::NotChecked,
    )
}

/// A chip with its key, and a report that it has not signed yet.
struct Chip {
    key: SnpKey,
    report: [u8; 1184],
}

impl Chip {
    fn new(product: &str, version: u32) -> Self {
        Self::with(product, version, |_| ())
    }

    fn with(product: &str, version: u32, change: impl FnOnce(&mut VekContent)) -> Self {
        let (tcb, chip): (_, &[u8]) = match product {
            "Turin" | "Venice" => (TURIN_TCB, &TURIN_CHIP),
            _ => (TCB, &CHIP),
        };
        let own = authority(product);
        let mut content = own.content(tcb, chip);
        change(&mut content);
        let report = own.report(version, tcb, chip, &[0x5a; 64]);
        Self { key: own.certify(&content), report }
    }

    fn vlek() -> Self {
        let mut own = Self::with("Milan", 3, |content| {
            content.hardware_id = None;
            content.provider = Some("CN=cloud.example".into());
            content.by_asvk = true;
        });
        own.report[0x48] = 1 << 2;
        own.report[0x1a0..0x1e0].fill(0);
        own
    }

    fn certificates(&self) -> Vec<CertificateEntry> {
        match self.report[0x48] >> 2 & 7 {
            1 => vlek(&self.key.certificate()),
            _ => vcek(&self.key.certificate()),
        }
    }

    fn signed(&self) -> Report {
        let mut report = self.report;
        self.key.sign(&mut report);
        Report::parse(&report).unwrap()
    }

    /// The causes of a refusal, of a report that is signed after the change.
    fn refused(&self, change: impl FnOnce(&mut [u8; 1184])) -> Vec<String> {
        let mut changed = self.report;
        change(&mut changed);
        self.key.sign(&mut changed);
        found(&judge(), &Report::parse(&changed).unwrap(), &self.certificates())
    }
}

fn found(judge: &SnpJudge, report: &Report, certificates: &[CertificateEntry]) -> Vec<String> {
    causes(&examine(judge, report, certificates, NOW).checks).into_iter().map(str::to_owned).collect()
}

#[test]
fn every_product_and_version_is_genuine_under_its_own_root() {
    for (product, version) in
        [("Milan", 2), ("Milan", 3), ("Genoa", 2), ("Genoa", 4), ("Genoa", 5), ("Turin", 3), ("Turin", 5)]
    {
        let chip = Chip::new(product, version);
        let report = chip.signed();
        let examined = examine(&judge(), &report, &chip.certificates(), NOW);
        assert_eq!(causes(&examined.checks), [""; 0], "{product} {version}");
        assert_eq!(examined.product.as_deref(), Some(product));
        let said = crate::claims::json(&report, &examined);
        assert_eq!(said["reported_tcb_snp"], 24, "{product} {version}");
        assert_eq!(said["reported_tcb_microcode"], 219, "{product} {version}");
        assert_eq!(said.contains_key("reported_tcb_fmc"), product == "Turin");
        assert_eq!(said.contains_key("launch_mit_vector"), version == 5);
        assert_eq!(said.contains_key("cpuid"), version > 2);
        let sent = SnpEvidence { report, certificates: chip.certificates() };
        let wire = sent.to_value();
        assert_eq!(wire.get("report"), None, "{product} {version} is not written exactly");
        assert_eq!(SnpEvidence::parse(&wire).unwrap(), sent);
    }
    let vlek = Chip::vlek();
    let examined = examine(&judge(), &vlek.signed(), &vlek.certificates(), NOW);
    assert_eq!(causes(&examined.checks), [""; 0]);
    assert_eq!(examined.provider.as_deref(), Some("CN=cloud.example"));
}

/// One owner's wishes, in both dialects of KBS peers.
#[test]
fn policies_in_both_dialects_affirm_a_report_and_refuse_its_debug_twin() {
    const FLAT: &str = r#"
        executables := 3 if input.snp.measurement in query_reference_value("launch")
        hardware := 2 if {
            input.snp.reported_tcb_bootloader in query_reference_value("bootloader")
            input.snp.reported_tcb_microcode in query_reference_value("microcode")
            input.snp.reported_tcb_snp in query_reference_value("snp")
            input.snp.reported_tcb_tee in query_reference_value("tee")
        }
        configuration := 2 if {
            input.snp.policy_debug_allowed == false
            input.snp.policy_migrate_ma == false
            input.snp.policy_smt_allowed == input.snp.platform_smt_enabled
            input.snp.policy_abi_major == query_reference_value("abi_major")
            input.snp.policy_single_socket == false
            input.snp.platform_tsme_enabled == false
        }"#;
    const NESTED: &str = r#"
        report := input.snp.evidence
        executables := 3 if report.measurement in query_reference_value("launch")
        hardware := 2 if {
            input.snp.generation == "milan"
            report.reported_tcb.fmc == null
            report.reported_tcb.bootloader in query_reference_value("bootloader")
            report.reported_tcb.microcode in query_reference_value("microcode")
            report.reported_tcb.snp in query_reference_value("snp")
            report.reported_tcb.tee in query_reference_value("tee")
        }
        configuration := 2 if {
            report.policy.debug_allowed == false
            report.policy.migrate_ma_allowed == false
            report.policy.smt_allowed == report.plat_info.smt_enabled
            report.policy.abi_major == query_reference_value("abi_major")
            report.policy.single_socket_required == false
            report.plat_info.tsme_enabled == false
            report.key_info.signing_key == 0
            report.vmpl == 0
        }"#;
    let mut chip = Chip::new("Milan", 5);
    // Bits of POLICY: ABI 1.31, SMT; reserved bit 17 is one. PLATFORM_INFO: SMT.
    chip.report[0x08..0x10].copy_from_slice(&(31 | 1 << 8 | 1 << 16 | 1_u64 << 17).to_le_bytes());
    chip.report[0x30..0x34].fill(0);
    chip.report[0x40..0x48].copy_from_slice(&1_u64.to_le_bytes());
    let launch = hex::encode(&chip.report[0x90..0xc0]);
    let values = json!({
        "launch": [launch], "bootloader": [4], "tee": [1], "snp": [24], "microcode": [219], "abi_major": 1,
    });
    let values: NamedValues = values.as_object().unwrap().clone().into_iter().collect();
    let mut appraised = |rules: &str, debug: bool| {
        chip.report[0x0a] = 1 << 1 | 1 | u8::from(debug) << 3;
        let report = chip.signed();
        let examined = examine(&judge(), &report, &chip.certificates(), NOW);
        assert_eq!(causes(&examined.checks), [""; 0]);
        let policy = AppraisalPolicy::compile(&format!("package policy\nimport rego.v1\n{rules}")).unwrap();
        let input = json!({"snp": crate::claims::json(&report, &examined)});
        policy.appraise(&input, &values).unwrap().trust
    };
    for rules in [FLAT, NESTED] {
        let trust = appraised(rules, false);
        assert_eq!((trust.executables, trust.hardware, trust.configuration), (3, 2, 2), "{rules}");
        let trust = appraised(rules, true);
        assert_eq!((trust.executables, trust.hardware, trust.configuration), (3, 2, 0), "{rules}");
    }
}

#[test]
fn the_built_in_certificates_are_amds() {
    // SHA-256 of the files in `roots/`: of each product the root, and the authorities for chips and for providers.
    for (product, digests) in [
        ("Milan", ["69d063b45344d26a", "67d303bd3905fd38", "c5e081f59b7efab1"]),
        ("Genoa", ["4c6598d19c18719c", "5464738c1546aed5", "197e610743a917d6"]),
        ("Turin", ["1f084161a44bb6d9", "5b77ef5fe7a7a004", "104e10a8bd060a3c"]),
    ] {
        let roots = Roots::amd();
        let built_in = roots.product(product).unwrap();
        let ask = built_in.authority(crate::roots::Kind::Vcek).unwrap().unwrap();
        let asvk = built_in.authority(crate::roots::Kind::Vlek).unwrap().unwrap();
        for (certificate, digest) in [&ask.ark, &ask.certificate, &asvk.certificate].into_iter().zip(digests)
        {
            assert!(Digest::sha256(certificate.der()).hex().starts_with(digest), "{product}");
            assert!(certificate.subject_cn().ends_with(product));
        }
    }
}

#[test]
fn bergamo_and_siena_are_certified_as_genoa() {
    let chip = Chip::new("Genoa", 3);
    assert_eq!(chip.refused(|report| report[0x189] = 0xa0), [""; 0]);
    assert_eq!(chip.refused(|report| report[0x189] = 0x01), ["snp.vek.product"]);
    assert_eq!(chip.refused(|report| report[0x189] = 0x20), ["snp.vek.product"]);
}

#[test]
fn a_chip_id_inside_an_octet_string_is_read_as_one_that_is_not() {
    let chip = Chip::with("Milan", 3, |content| content.wrapped_id = true);
    assert_eq!(chip.refused(|_| ()), [""; 0]);
}

#[test]
fn a_certificate_in_pem_is_read_as_one_in_der() {
    let chip = Chip::new("Milan", 3);
    let pem = vcek(&SnpAuthority::pem(&[chip.key.certificate(), authority("Milan").ask()]));
    assert_eq!(found(&judge(), &chip.signed(), &pem), [""; 0]);
    assert_eq!(found(&judge(), &chip.signed(), &vcek(b"-----BEGIN CERTIFICATE-----\n")), ["snp.vek.format"]);
}

#[test]
fn a_signed_report_with_one_defect_is_refused_for_that_one() {
    let chip = Chip::new("Milan", 3);
    let put = |at: usize, byte: u8| chip.refused(|report| report[at] = byte);
    assert_eq!(put(0x34, 2), ["snp.report.algorithm"]);
    assert_eq!(put(0x30, 4), ["snp.report.vmpl"]);
    assert_eq!(chip.refused(|report| report[0x30..0x34].fill(0xff)), ["snp.report.vmpl"]);
    assert_eq!(put(0x30, 3), [""; 0]);
    assert_eq!(put(0x48, 2), ["snp.report.unsigned"]);
    assert_eq!(put(0x48, 7 << 2), ["snp.report.unsigned"]);
    assert_eq!(put(0x48, 3 << 2), ["snp.report.signing-key"]);
    assert_eq!(put(0x1a0, 0), ["snp.vek.chip"]);
    // The level reported, committed and run.
    assert_eq!(put(0x180, 5), ["snp.tcb.order", "snp.vek.tcb"]);
    assert_eq!(put(0x180, 3), ["snp.vek.tcb"]);
    assert_eq!(put(0x182, 1), ["snp.vek.tcb"]);
    assert_eq!(put(0x186, 23), ["snp.vek.tcb"]);
    assert_eq!(put(0x187, 218), ["snp.vek.tcb"]);
    assert_eq!(put(0x1e0, 5), ["snp.tcb.order"]);
    assert_eq!(put(0x1e6, 23), ["snp.tcb.order"]);
    assert_eq!(put(0x3e, 23), ["snp.tcb.order"]);
    assert_eq!(put(0x3e, 25), [""; 0]);
    assert_eq!(put(0x1ed, 56), ["snp.tcb.order"]);
    // Another processor, of another layout as well.
    assert_eq!(put(0x188, 0x1a)[..], ["snp.vek.product", "snp.vek.tcb", "snp.vek.chip"]);
    assert_eq!(put(0x188, 0x17), ["snp.vek.product"]);
}

#[test]
fn what_owners_decide_on_is_told_and_not_refused() {
    let mut chip = Chip::new("Genoa", 5);
    chip.report[0x0a] = 0b1_1111;
    chip.report[0x40] = 1;
    chip.report[0x30] = 2;
    chip.report[0x04] = 9;
    let report = chip.signed();
    let examined = examine(&judge(), &report, &chip.certificates(), NOW);
    assert_eq!(causes(&examined.checks), [""; 0]);
    let posture = crate::claims::posture(&report, &examined);
    assert_eq!((posture.debug, posture.migration, posture.smt), (Some(true), Some(true), Some(true)));
    assert_eq!(posture.vmpl, Some(2));
    assert_eq!(posture.chip.as_deref(), Some("c5".repeat(64).as_str()));
    assert_eq!(posture.versions["guest-svn"], 9);
    assert_eq!(posture.tcb.unwrap().components["snp"], 24);
}

#[test]
fn a_certificate_with_one_defect_is_refused_for_that_one() {
    let refused = |product: &str, change: fn(&mut VekContent)| Chip::with(product, 3, change).refused(|_| ());
    assert_eq!(refused("Milan", |content| content.tcb[0] = 3), ["snp.vek.tcb"]);
    assert_eq!(refused("Milan", |content| content.tcb[1] = 0), ["snp.vek.tcb"]);
    assert_eq!(refused("Milan", |content| content.tcb[3] = 1), ["snp.vek.tcb"]);
    assert_eq!(refused("Milan", |content| content.tcb[6] = 25), ["snp.vek.tcb"]);
    assert_eq!(refused("Milan", |content| content.tcb[7] = 220), ["snp.vek.tcb"]);
    assert_eq!(refused("Turin", |content| content.tcb[0] = 0), ["snp.vek.tcb"]);
    assert_eq!(refused("Turin", |content| content.tcb[3] = 25), ["snp.vek.tcb"]);
    assert_eq!(refused("Turin", |content| content.tcb[5] = 1), ["snp.vek.tcb"]);
    assert_eq!(refused("Turin", |content| content.without = vec!["3.9"]), ["snp.vek.tcb"]);
    assert_eq!(refused("Milan", |content| content.hardware_id = Some(vec![1; 64])), ["snp.vek.chip"]);
    assert_eq!(refused("Milan", |content| content.hardware_id = Some(vec![0xc5; 8])), ["snp.vek.chip"]);
    assert_eq!(refused("Turin", |content| content.hardware_id = Some(vec![0x7e; 64])), ["snp.vek.chip"]);
    assert_eq!(refused("Milan", |content| content.hardware_id = None), ["snp.vek.chip"]);
    // The name is that of another product, whose root exists and did not sign it.
    assert_eq!(refused("Milan", |content| content.product = "Genoa".into()), ["snp.vek.chain"]);
    assert_eq!(refused("Milan", |content| content.product = "Naples".into()), ["snp.ark.unknown"]);
    assert_eq!(refused("Milan", |content| content.product = "Milan-B0".into()), [""; 0]);
    assert_eq!(refused("Milan", |content| content.by_asvk = true), ["snp.vek.chain"]);
    assert_eq!(refused("Milan", |content| content.p256 = true), ["snp.vek.key"]);
    assert_eq!(refused("Milan", |content| content.until = NOW - 1), ["snp.vek.validity"]);
    assert_eq!(refused("Milan", |content| content.from = NOW + 1), ["snp.vek.validity"]);
    for missing in ["2", "3.1", "3.2", "3.3", "3.8"] {
        let chip = Chip::with("Milan", 3, |content| content.without = vec![missing]);
        assert_eq!(chip.refused(|_| ()), ["snp.vek.format"], "{missing}");
    }
}

#[test]
fn a_providers_key_names_a_provider_and_no_chip() {
    let vlek = |change: fn(&mut VekContent)| {
        let mut own = Chip::with("Milan", 3, |content| {
            (content.hardware_id, content.provider, content.by_asvk) = (None, Some("CN=cloud".into()), true);
            change(content);
        });
        own.report[0x48] = 1 << 2;
        own.refused(|_| ())
    };
    assert_eq!(vlek(|_| ()), [""; 0]);
    assert_eq!(vlek(|content| content.provider = None), ["snp.vek.provider"]);
    assert_eq!(vlek(|content| content.hardware_id = Some(CHIP.to_vec())), ["snp.vek.provider"]);
    assert_eq!(vlek(|content| content.by_asvk = false), ["snp.vek.chain"]);
    assert_eq!(vlek(|content| content.tcb[6] = 1), ["snp.vek.tcb"]);
}

#[test]
fn every_link_of_the_chain_is_needed() {
    let chip = Chip::new("Milan", 3);
    let report = chip.signed();
    let with = |change: fn(&mut Root)| {
        let mut changed = root("Milan");
        change(&mut changed);
        let judge = SnpJudge::new(Roots::default().with(changed), Revocation::NotChecked);
        found(&judge, &report, &chip.certificates())
    };
    let foreign = || authority("foreign");
    assert_eq!(with(|_| ()), [""; 0]);
    assert_eq!(with(|root| root.ask = Some(authority("foreign").ask())), ["snp.ask.chain"]);
    assert_eq!(with(|root| root.ask = Some(root.asvk.clone().unwrap())), ["snp.vek.chain"]);
    assert_eq!(with(|root| root.ask = Some(root.ark.clone())), ["snp.vek.chain"]);
    assert_eq!(with(|root| *root.ask.as_mut().unwrap().last_mut().unwrap() ^= 1), ["snp.ask.chain"]);
    assert_eq!(with(|root| root.ask = Some(vec![0x30, 0])), ["snp.ask.chain"]);
    assert_eq!(with(|root| root.ark = authority("foreign").ark()), ["snp.ask.chain"]);
    assert_eq!(with(|root| *root.ark.last_mut().unwrap() ^= 1), ["snp.ark.chain"]);
    assert_eq!(with(|root| root.ark = root.ask.clone().unwrap()), ["snp.ark.chain"]);
    assert_eq!(with(|root| root.ark = Vec::new()), ["snp.ark.chain"]);
    // All of the same names, and of another root.
    let judge = judge();
    let own = foreign().certify(&foreign().content(TCB, &CHIP));
    let mut forged = chip.report;
    own.sign(&mut forged);
    let forged = Report::parse(&forged).unwrap();
    assert_eq!(found(&judge, &forged, &vcek(&own.certificate())), ["snp.vek.chain"]);
    assert_eq!(found(&SnpJudge::amd(), &report, &chip.certificates()), ["snp.vek.chain"]);
}

#[test]
fn keys_that_are_swapped_or_doubled_are_refused() {
    let (chip, other) = (Chip::new("Milan", 3), Chip::new("Milan", 3));
    assert_eq!(found(&judge(), &chip.signed(), &other.certificates()), ["snp.report.signature"]);
    let both = [chip.certificates(), other.certificates()].concat();
    assert_eq!(found(&judge(), &chip.signed(), &both), ["snp.vek.ambiguous"]);
    let vlek = Chip::vlek();
    let mislabelled = vcek(&vlek.key.certificate());
    assert_eq!(found(&judge(), &chip.signed(), &mislabelled), ["snp.vek.chain"]);
    // Beside other entries, the right one is found.
    let mut table = vlek.certificates();
    table.extend(chip.certificates());
    table.push(CertificateEntry { kind: CertificateKind::Ask, data: authority("foreign").ask() });
    assert_eq!(found(&judge(), &chip.signed(), &table), [""; 0]);
}

#[test]
fn a_certificate_that_nobody_has_is_asked_for_or_refused() {
    let judge = judge();
    let missing = |report: &Report| match judge.examine(report, &[], &NoCollateral, at(NOW)) {
        Err(Fault::CollateralUnavailable(keys)) => Ok(keys),
        Err(other) => panic!("{other}"),
        Ok(examined) => Err(causes(&examined.checks).join(" ")),
    };
    let tcb = u64::from_le_bytes(TCB);
    let vcek = |product: &str| CollateralKey::AmdVcek { product: product.into(), chip: CHIP.to_vec(), tcb };
    assert_eq!(missing(&Chip::new("Genoa", 3).signed()), Ok(vec![vcek("Genoa")]));
    // Version 2 does not say which of the two.
    assert_eq!(missing(&Chip::new("Genoa", 2).signed()), Ok(vec![vcek("Milan"), vcek("Genoa")]));
    let tcb = u64::from_le_bytes(TURIN_TCB);
    let turin = CollateralKey::AmdVcek { product: "Turin".into(), chip: TURIN_CHIP.to_vec(), tcb };
    assert_eq!(missing(&Chip::new("Turin", 5).signed()), Ok(vec![turin.clone()]));
    assert_eq!(missing(&Chip::new("Turin", 2).signed()), Ok(vec![turin]));
    assert_eq!(missing(&Chip::vlek().signed()), Err("snp.vek.missing".into()));
    let mut masked = Chip::new("Milan", 3);
    masked.report[0x1a0..0x1e0].fill(0);
    assert_eq!(missing(&masked.signed()), Err("snp.vek.missing".into()));
    let mut unknown = Chip::new("Milan", 3);
    unknown.report[0x189] = 0x70;
    assert_eq!(missing(&unknown.signed()), Err("snp.vek.missing".into()));
    // What is refused anyhow asks for nothing.
    let mut wrong = Chip::new("Milan", 3);
    wrong.report[0x34] = 7;
    assert_eq!(missing(&wrong.signed()), Err("snp.report.algorithm".into()));
}

#[test]
fn an_authority_that_is_not_built_in_is_asked_for_and_must_be_under_the_configured_root() {
    let own = authority("Venice");
    let root = Root { product: "Venice".into(), ark: own.ark(), ask: None, asvk: None };
    let judge = SnpJudge::new(Roots::default().with(root), Revocation::NotChecked);
    let chip = Chip::new("Venice", 5);
    let report = chip.signed();
    let key = CollateralKey::AmdVcekChain("Venice".into());
    let Err(Fault::CollateralUnavailable(keys)) =
        judge.examine(&report, &chip.certificates(), &NoCollateral, at(NOW))
    else {
        panic!("judged without an authority")
    };
    assert_eq!(keys, std::slice::from_ref(&key));
    let shelf = |ask: Vec<u8>, ark: Vec<u8>| {
        let mut shelf = Shelf::default();
        let chain = SnpAuthority::pem(&[ask, ark]);
        shelf.put(key.clone(), Arc::new(Document::new(chain, Vec::new())));
        shelf
    };
    let foreign = authority("foreign");
    let wrong =
        examine_with(&judge, &report, &chip.certificates(), &shelf(foreign.ask(), foreign.ark()), NOW);
    assert_eq!(causes(&wrong.checks), ["snp.ask.chain"]);
    let right = examine_with(&judge, &report, &chip.certificates(), &shelf(own.ask(), own.ark()), NOW);
    assert_eq!(causes(&right.checks), [""; 0]);
}

#[test]
fn revocation_lists_are_heeded_as_the_judge_was_made_to() {
    const DAY: i64 = 86_400;
    let own = authority("Milan");
    let chip = Chip::new("Milan", 3);
    let report = chip.signed();
    let key = CollateralKey::AmdCrl("Milan".into());
    let roots = || Roots::default().with(root("Milan"));
    let outcome = |judge: &SnpJudge, crl: Option<Vec<u8>>| {
        let mut shelf = Shelf::default();
        if let Some(crl) = crl {
            shelf.put(key.clone(), Arc::new(Document::new(crl, Vec::new())));
        }
        match judge.examine(&report, &chip.certificates(), &shelf, at(NOW)) {
            Ok(examined) => (causes(&examined.checks).join(" "), examined.stale_collateral),
            Err(missing) => (missing.to_string(), None),
        }
    };
    let list = |from: i64, until: i64, revoked: &[&[u8]]| {
        Some(own.crl(NOW + from * DAY, NOW + until * DAY, revoked))
    };
    let required = SnpJudge::new(roots(), Revocation::Required);
    let present = SnpJudge::new(roots(), Revocation::WhenPresent);
    let never = SnpJudge::new(roots(), Revocation::NotChecked);
    assert_eq!(outcome(&required, None).0, "collateral is missing: amd/crl/Milan");
    assert_eq!(outcome(&present, None), (String::new(), None));
    assert_eq!(outcome(&never, list(-1, 1, &[&[2]])), (String::new(), None));
    for judge in [&required, &present] {
        assert_eq!(outcome(judge, list(-1, 1, &[])), (String::new(), Some(false)));
        assert_eq!(outcome(judge, list(-1, 1, &[&[3], &[0]])), (String::new(), Some(false)));
        assert_eq!(outcome(judge, list(-1, 1, &[&[9], &[2]])).0, "snp.ask.revoked");
        assert_eq!(outcome(judge, list(-1, 1, &[&[1]])).0, "snp.ask.revoked");
        assert_eq!(outcome(judge, list(-2, -1, &[])).0, "snp.crl.validity");
        assert_eq!(outcome(judge, list(1, 2, &[])).0, "snp.crl.validity");
        let foreign = authority("foreign").crl(NOW - DAY, NOW + DAY, &[]);
        assert_eq!(outcome(judge, Some(foreign)).0, "snp.crl.signature");
        let mut changed = list(-1, 1, &[]).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(outcome(judge, Some(changed)).0, "snp.crl.signature");
        assert_eq!(outcome(judge, Some(vec![0x30, 0])).0, "snp.crl.format");
    }
    let patient =
        SnpJudge::new(roots(), Revocation::Required).insecure_accept_stale_collateral(2 * DAY as u32);
    assert_eq!(outcome(&patient, list(-9, -1, &[])), (String::new(), Some(true)));
    assert_eq!(outcome(&patient, list(-9, -1, &[&[2]])).0, "snp.ask.revoked");
    assert_eq!(outcome(&patient, list(-9, -3, &[])).0, "snp.crl.validity");
}

fn question<'a>(
    evidence: &'a Value,
    report_data: &'a ReportData,
    init_data: Option<&'a Digest>,
) -> Question<'a> {
    Question { evidence, report_data, init_data, collateral: &NoCollateral, at: at(NOW) }
}

fn refused(judge: &SnpJudge, question: &Question<'_>) -> Vec<String> {
    match judge.verify(question).unwrap() {
        Judgement::Verified(_) => Vec::new(),
        Judgement::Rejected(reasons) => causes(&reasons).into_iter().map(str::to_owned).collect(),
    }
}

#[test]
fn a_report_is_bound_to_its_challenge_and_its_init_data() {
    let session = Digest::of(Algorithm::Sha384, b"nonce and key");
    let init_data = Digest::of(Algorithm::Sha384, b"init-data");
    let mut chip = Chip::new("Milan", 3);
    chip.report[0x50..0x90].copy_from_slice(&ReportData::from_runtime_hash(session).field::<64>());
    chip.report[0xc0..0xe0].copy_from_slice(&init_data.as_bytes()[..32]);
    let evidence = SnpEvidence { report: chip.signed(), certificates: chip.certificates() }.to_value();
    let (judge, bound) = (judge(), ReportData::from_runtime_hash(session));
    assert_eq!(refused(&judge, &question(&evidence, &bound, None)), [""; 0]);
    assert_eq!(refused(&judge, &question(&evidence, &bound, Some(&init_data))), [""; 0]);
    let other = Digest::sha256(b"other");
    assert_eq!(refused(&judge, &question(&evidence, &bound, Some(&other))), ["snp.init-data.binding"]);
    for foreign in [other, Digest::of(Algorithm::Sha384, b"another")] {
        let foreign = ReportData::from_runtime_hash(foreign);
        assert_eq!(refused(&judge, &question(&evidence, &foreign, None)), ["snp.report.freshness"]);
    }
}

#[test]
fn what_is_no_snp_evidence_is_refused_by_name() {
    let chip = Chip::new("Milan", 3);
    let (judge, bound) = (judge(), ReportData::from_runtime_hash(Digest::sha256(b"")));
    let good = SnpEvidence { report: chip.signed(), certificates: chip.certificates() }.to_value();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        refused(&judge, &question(&changed, &bound, None)).join(" ")
    };
    let report = |member: &'static str, value: Value| {
        refused(&|evidence| evidence["attestation_report"][member] = value.clone())
    };
    assert_eq!(refused(&|evidence| *evidence = json!("text")), "snp.evidence.format");
    assert_eq!(refused(&|evidence| *evidence = json!({})), "snp.evidence.format");
    assert_eq!(
        refused(&|evidence| evidence["cert_chain"] = json!([{"cert_type": "XEK", "data": []}])),
        "snp.evidence.format"
    );
    assert_eq!(refused(&|evidence| evidence["cert_chain"] = json!("none")), "snp.evidence.format");
    assert_eq!(
        refused(&|evidence| evidence["cert_chain"] = vec![json!({"cert_type": "ARK", "data": []}); 17].into()),
        "snp.evidence.format"
    );
    assert_eq!(report("version", json!(1)), "snp.report.version");
    assert_eq!(report("version", json!(6)), "snp.report.version");
    assert_eq!(report("version", json!(-1)), "snp.evidence.format");
    assert_eq!(report("measurement", json!(vec![0; 47])), "snp.evidence.format");
    assert_eq!(report("measurement", json!(vec![0; 49])), "snp.evidence.format");
    assert_eq!(report("measurement", json!(vec![256; 48])), "snp.evidence.format");
    assert_eq!(report("measurement", json!("00")), "snp.evidence.format");
    assert_eq!(report("signature", json!({"r": vec![0; 72]})), "snp.evidence.format");
    assert_eq!(report("reported_tcb", Value::Null), "snp.evidence.format");
    assert_eq!(refused(&|evidence| evidence["report"] = json!("*")), "snp.evidence.format");
    assert_eq!(refused(&|evidence| evidence["report"] = json!("AAAA")), "snp.report.length");
}

#[test]
fn a_report_with_reserved_bytes_is_sent_as_it_was_signed() {
    let mut chip = Chip::new("Milan", 3);
    chip.report[0x250] = 1;
    let report = chip.signed();
    let sent = wire_of_raw(report.as_bytes(), &[]).unwrap();
    assert!(sent["report"].is_string());
    let read = SnpEvidence::parse(&sent).unwrap();
    assert_eq!(read.report, report);
    assert_eq!(found(&judge(), &read.report, &chip.certificates()), [""; 0]);
    assert!(matches!(wire_of_raw(&report.as_bytes()[1..], &[]), Err(SnpError::Length(1183))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_change_of_any_byte_of_a_report_is_refused(at in 0_usize..1184 - 368, by in 1_u8..) {
        static CHIPS: OnceLock<Vec<(Chip, Report)>> = OnceLock::new();
        let chips = CHIPS.get_or_init(|| {
            let chips = [Chip::new("Milan", 2), Chip::new("Genoa", 5), Chip::new("Turin", 5), Chip::vlek()];
            chips.map(|chip| { let report = chip.signed(); (chip, report) }).into()
        });
        for (chip, report) in chips {
            let mut changed = *report.as_bytes();
            changed[at] ^= by;
            if let Ok(changed) = Report::parse(&changed) {
                prop_assert!(!found(&judge(), &changed, &chip.certificates()).is_empty());
            }
        }
    }
}
