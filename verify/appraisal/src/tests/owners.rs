//! Appraisal policies of owners, and the verdicts that are made without an appraisal.

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_initdata::InitData;
use coffer_core_policy::{AppraisalPolicy, NamedValues};
use coffer_verify_api::{Check, Claims, CollateralKey, Outcome, Posture, Status, Verdict};
use serde_json::{Value, json};

use super::kinds::{claims, sha384, verified};
use super::{NOW, codes, find};
use crate::{PlatformPolicy, Sent, Standards, annotated_evidence, appraise, rejected, unavailable};

const INIT_DATA: &str =
    "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"coffer.toml\" = \"url = 'kbs'\"\n";
const POLICY: &str = r#"package policy
import rego.v1
default executables := 33
default hardware := 97
trust_claims := {"executables": executables, "hardware": hardware, "configuration": 2}
executables := 3 if input.snp.measurement in query_reference_value("launch")
executables := 3 if input.init_data_claims["coffer.toml"]
hardware := 2 if input.snp.chip == "good"
hardware := 32 if input.snp.chip == "old"
extensions := [{"name": "ear.trustee.identifiers", "key": -18, "value": {"nonce": input.runtime_data_claims.nonce}}]
"#;

fn guest(measurement: &str, chip: &str) -> Claims {
    let json = json!({ "measurement": measurement, "chip": chip, "report_data": "00", "init_data": "11" });
    let zero = Digest::zero(Algorithm::Sha256);
    Claims {
        json: json.as_object().unwrap().clone(),
        ..claims(Tee::Snp, &[("measurement", sha384(measurement)), ("host-data", zero)])
    }
}

fn judged(claims: &Claims, policy: &str, sent: Option<&InitData>) -> Verdict {
    let policy = AppraisalPolicy::compile(policy).unwrap();
    let values: NamedValues = [("launch".to_owned(), json!(["a"]))].into_iter().collect();
    let appraiser = policy.with(&values);
    let platform = PlatformPolicy::default();
    let standards = Standards { references: &[], platform: &platform, policy: Some(&appraiser) };
    let runtime = json!({ "nonce": "n" });
    let sent = Sent { init_data: sent, runtime_claims: &runtime };
    appraise(&verified(claims.clone()), &standards, &sent, NOW.parse().unwrap())
}

#[test]
fn a_policy_decides_in_place_of_the_reference_values_which_then_inform() {
    let verdict = judged(&guest("a", "good"), POLICY, None);
    assert_eq!((verdict.status, codes(&verdict)), (Status::Affirming, vec![]));
    assert_eq!(
        (verdict.trust.executables, verdict.trust.hardware, verdict.trust.instance_identity),
        (3, 2, 0)
    );
    assert_eq!(verdict.identifiers, Some(json!({ "nonce": "n" })));
    assert_eq!(find(&verdict.checks, "reference.none").unwrap().outcome, Outcome::Informational);
    assert_eq!(find(&verdict.checks, "appraisal.executables").unwrap().outcome, Outcome::Passed);
    let warned = judged(&guest("b", "old"), POLICY, None);
    assert_eq!(warned.status, Status::Warning);
    assert_eq!(codes(&warned), ["appraisal.executables", "appraisal.hardware"]);
    let refused = judged(&guest("b", "unknown"), POLICY, None);
    assert_eq!((refused.status, codes(&refused)), (Status::Contraindicated, vec!["appraisal.hardware"]));
}

#[test]
fn a_policy_cannot_be_kinder_than_the_platform_policy() {
    let mut debug = guest("a", "good");
    debug.posture = Posture { debug: Some(true), ..Posture::default() };
    let verdict = judged(&debug, POLICY, None);
    assert_eq!((verdict.status, codes(&verdict)), (Status::Contraindicated, vec!["platform.debug"]));
    assert_eq!(verdict.trust.configuration, 96);
}

#[test]
fn a_policy_cannot_make_hardware_of_software() {
    let mut software = claims(Tee::Tpm, &[]);
    software.json.insert("pcr09".to_owned(), json!("a"));
    assert!(!software.hardware);
    let all = "package policy\nhardware := 2\nruntime_opaque := 3\nstorage_opaque := 2\n";
    let verdict = judged(&software, &format!("{all}executables := 2"), None);
    let trust = &verdict.trust;
    assert_eq!((trust.hardware, trust.runtime_opaque, trust.storage_opaque, trust.executables), (0, 0, 0, 2));
    assert_eq!((verdict.status, verdict.hardware), (Status::Affirming, false));
    let told = find(&verdict.checks, "appraisal.hardware").unwrap();
    assert_eq!(told.outcome, Outcome::Informational);
    // With nothing else to affirm, nothing is affirmed, and that is told.
    let nothing = judged(&software, all, None);
    assert_eq!((nothing.status, codes(&nothing)), (Status::None, vec!["appraisal.nothing"]));
    // What is worse than nothing stays.
    let worse = judged(&software, "package policy\nhardware := 96\nruntime_opaque := 32", None);
    assert_eq!((worse.trust.hardware, worse.trust.runtime_opaque), (96, 32));
    // And hardware keeps what the policy says of it.
    let genuine = Claims { hardware: true, ..software };
    assert_eq!(judged(&genuine, all, None).trust.runtime_opaque, 3);
}

#[test]
fn init_data_that_is_not_bound_is_refused_whatever_the_policy_says() {
    let sent = InitData::parse(INIT_DATA.as_bytes()).unwrap();
    let verdict = judged(&guest("a", "good"), POLICY, Some(&sent));
    assert_eq!((verdict.status, codes(&verdict)), (Status::Contraindicated, vec!["measurement.init-data"]));
    let mut bound = guest("b", "good");
    let digest =
        coffer_core_launch::place_init_data(Tee::Snp, Algorithm::Sha384, Some(&sent.digest())).unwrap().1;
    bound.registers.insert("host-data".into(), digest);
    assert_eq!(judged(&bound, POLICY, Some(&sent)).status, Status::Affirming);
}

#[test]
fn a_policy_that_gives_no_answer_affirms_nothing() {
    let nothing = judged(&guest("a", "good"), "package policy\nhardware := 2 if input.tdx", None);
    assert_eq!((nothing.status, codes(&nothing)), (Status::None, vec!["appraisal.nothing"]));
    let broken =
        judged(&guest("a", "good"), "package policy\nhardware := 2 if to_number(input.snp.chip) > 1", None);
    assert_eq!((broken.status, codes(&broken)), (Status::Contraindicated, vec!["appraisal.no-answer"]));
}

#[test]
fn annotated_evidence_is_arranged_as_upstream_does() {
    let sent = InitData::parse(INIT_DATA.as_bytes()).unwrap();
    let runtime = json!({ "nonce": "n" });
    let all = |init_data| {
        Value::Object(annotated_evidence(&guest("a", "good"), &Sent { init_data, runtime_claims: &runtime }))
    };
    let own = all(Some(&sent));
    assert_eq!(own["snp"], json!({ "measurement": "a", "chip": "good" }));
    assert_eq!(
        (&own["report_data"], &own["init_data"], &own["runtime_data_claims"]),
        (&json!("00"), &json!("11"), &runtime)
    );
    assert!(own["init_data_claims"].get("coffer.toml").is_some());
    assert!(all(None).get("init_data_claims").is_none());
}

#[test]
fn what_is_not_genuine_and_what_cannot_be_judged_are_told_apart() {
    let rejected = rejected(Tee::Snp, vec![Check::failed("snp.report.signature", "x")]);
    assert_eq!((rejected.status, codes(&rejected)), (Status::Contraindicated, vec!["snp.report.signature"]));
    assert!(!rejected.hardware && rejected.claims.is_empty());
    let keys = [CollateralKey::TdQeIdentity, CollateralKey::IntelRootCrl];
    let missing = unavailable(Tee::Tdx, &keys);
    assert_eq!((missing.status, codes(&missing)), (Status::None, vec!["collateral.unavailable"; 2]));
    assert!(!missing.checks.iter().any(Check::has_failed));
    assert!(missing.causes()[0].remedy.as_deref().unwrap().contains("coffer collateral"));
    let back: Verdict = serde_json::from_value(serde_json::to_value(&missing).unwrap()).unwrap();
    assert_eq!(back.checks, missing.checks);
}
