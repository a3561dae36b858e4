//! Claims about replay: what changes is told with its causes, and nothing else is.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_launch::ReferenceValues;
use coffer_core_policy::{AppraisalPolicy, NamedValues};
use coffer_verify_api::{OBLIGATORY, Posture};
use coffer_verify_appraisal::PlatformPolicy;

use super::*;

const MEASUREMENT: [u8; 48] = [7; 48];

fn verified(debug: bool, measurement: [u8; 48]) -> Verified<Claims> {
    let digest = Digest::from_bytes(Algorithm::Sha384, &measurement).unwrap();
    let registers = [("measurement", digest), ("host-data", Digest::zero(Algorithm::Sha256))];
    let claims = Claims {
        tee: Tee::Snp,
        hardware: true,
        registers: registers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        events: Vec::new(),
        posture: Posture { debug: Some(debug), ..Posture::default() },
        json: json!({ "measurement": digest.hex(), "policy_debug_allowed": debug, "report_data": "00" })
            .as_object()
            .unwrap()
            .clone(),
    };
    let checks = OBLIGATORY.map(|name| Check::passed(format!("snp.report.{name}"), name)).to_vec();
    Verified::from_checks(claims, checks).unwrap()
}

fn reference() -> ReferenceValues {
    let digest = Digest::from_bytes(Algorithm::Sha384, &MEASUREMENT).unwrap();
    let registers = BTreeMap::from([("measurement".to_owned(), digest)]);
    ReferenceValues::from_registers(Tee::Snp, Algorithm::Sha384, registers, BTreeMap::new(), None).unwrap()
}

fn attempt<'a>(id: &str, verified: &'a Verified<Claims>) -> Attempt<'a> {
    Attempt { id: id.to_owned(), verified, sent: Sent::NOTHING, at: "2026-12-01T00:00:00Z".parse().unwrap() }
}

fn names(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.attempt.as_str()).collect()
}

#[test]
fn a_looser_platform_policy_newly_accepts_and_a_stricter_one_newly_refuses() {
    let references = [reference()];
    let strict = PlatformPolicy::default();
    let loose = PlatformPolicy::from_toml("debug = \"accept\"").unwrap();
    let rules = |platform| Rules {
        standards: Standards { references: &references, platform, policy: None },
        resources: None,
    };
    let (good, debug, other) =
        (verified(false, MEASUREMENT), verified(true, MEASUREMENT), verified(false, [8; 48]));
    let attempts = [attempt("good", &good), attempt("debug", &debug), attempt("other", &other)];
    let found = replay(&rules(&strict), &rules(&loose), &attempts);
    assert_eq!(names(&found.newly_accepted), ["debug"]);
    assert_eq!((found.newly_refused.len(), found.otherwise_changed.len(), found.unchanged), (0, 0, 2));
    assert_eq!(found.newly_accepted[0].before.causes[0].code, "platform.debug");
    let back = replay(&rules(&loose), &rules(&strict), &attempts);
    assert_eq!(names(&back.newly_refused), ["debug"]);
    assert_eq!(serde_json::from_value::<Replay>(serde_json::to_value(&back).unwrap()).unwrap(), back);
}

#[test]
fn a_resource_policy_is_replayed_over_the_paths_that_it_opens() {
    let references = [reference()];
    let platform = PlatformPolicy::default();
    let compile = |condition: &str| {
        let rego =
            format!("package policy\nimport rego.v1\ndefault allow := false\nallow if {{ {condition} }}");
        Policy::compile(&rego).unwrap()
    };
    let old = compile("input.submods.cpu0[\"ear.status\"] == \"affirming\"");
    let new = compile(
        "input.submods.cpu0[\"ear.status\"] == \"affirming\"; startswith(data[\"resource-path\"], \"a/\"); \
         input.submods.cpu0[\"ear.veraison.annotated-evidence\"].coffer.hardware",
    );
    let paths = ["a/key/1".to_owned(), "b/key/1".to_owned()];
    let rules = |policy| Rules {
        standards: Standards { references: &references, platform: &platform, policy: None },
        resources: Some(Resources { policy, paths: &paths }),
    };
    let (good, debug) = (verified(false, MEASUREMENT), verified(true, MEASUREMENT));
    let attempts = [attempt("good", &good), attempt("debug", &debug)];
    let found = replay(&rules(&old), &rules(&new), &attempts);
    assert_eq!((names(&found.otherwise_changed), found.unchanged), (vec!["good"], 1));
    assert_eq!(found.otherwise_changed[0].after.opens, ["a/key/1"]);
    let never = compile("false");
    assert_eq!(names(&replay(&rules(&old), &rules(&never), &attempts).newly_refused), ["good"]);
}

#[test]
fn software_evidence_opens_only_what_a_policy_opens_that_names_it() {
    let references = [reference()];
    let platform = PlatformPolicy::default();
    let old = Policy::compile(
        "package policy\nimport rego.v1\nallow if input.submods.cpu0[\"ear.status\"] == \"affirming\"",
    );
    let new = Policy::compile("package policy\nallow := true\ninsecure_software_evidence := true");
    let (old, new) = (old.unwrap(), new.unwrap());
    let paths = ["a/key/1".to_owned()];
    let rules = |policy| Rules {
        standards: Standards { references: &references, platform: &platform, policy: None },
        resources: Some(Resources { policy, paths: &paths }),
    };
    let good = verified(false, MEASUREMENT);
    let software = Claims { hardware: false, ..good.get().clone() };
    let software = Verified::from_checks(software, good.checks().to_vec()).unwrap();
    let attempts = [attempt("hardware", &good), attempt("software", &software)];
    let found = replay(&rules(&old), &rules(&new), &attempts);
    assert_eq!((names(&found.newly_accepted), found.unchanged), (vec!["software"], 1));
    let before = &found.newly_accepted[0].before;
    assert_eq!((before.status, before.causes.len()), (Status::Affirming, 1));
    assert_eq!(before.causes[0].code, "policy.software-evidence");
}

#[test]
fn an_appraisal_policy_is_replayed_with_its_values() {
    let platform = PlatformPolicy::default();
    let policy = AppraisalPolicy::compile(
        "package policy\nimport rego.v1\ndefault executables := 33\nhardware := 2\nconfiguration := 2\n\
         executables := 3 if input.snp.measurement in query_reference_value(\"launch\")",
    )
    .unwrap();
    let known: NamedValues = [("launch".to_owned(), json!(["07".repeat(48)]))].into_iter().collect();
    let unknown = NamedValues::default();
    let (with, without) = (policy.with(&known), policy.with(&unknown));
    let rules = |policy| Rules {
        standards: Standards { references: &[], platform: &platform, policy: Some(policy) },
        resources: None,
    };
    let good = verified(false, MEASUREMENT);
    let found = replay(&rules(&without), &rules(&with), &[attempt("good", &good)]);
    assert_eq!(names(&found.newly_accepted), ["good"]);
    assert_eq!(found.newly_accepted[0].before.causes[0].code, "appraisal.executables");
}
