//! Claims about findings: each is made where it is due, and not where it is not.

use super::*;

/// A policy in upstream's dialect that asks for what matters.
const GOOD: &str = r#"package policy

import rego.v1

default executables := 33
default hardware := 97
default configuration := 36

trust_claims := {"executables": executables, "hardware": hardware, "configuration": configuration}

executables := 3 if {
    input.snp
    input.snp.measurement in query_reference_value("launch")
}

hardware := 2 if {
    input.snp
    input.snp.reported_tcb_snp in query_reference_value("least_snp")
}

configuration := 2 if {
    input.snp
    input.snp.policy_debug_allowed == false
    some event in input.snp.uefi_event_logs
    event.details.string == "x"
}
"#;

fn codes(kind: Kind, rego: &str) -> Vec<(String, Option<u32>)> {
    check(kind, rego).findings.into_iter().map(|finding| (finding.code, finding.line)).collect()
}

fn appraisal(rego: &str) -> Vec<(String, Option<u32>)> {
    codes(Kind::Appraisal, rego)
}

fn found(code: &str, line: u32) -> (String, Option<u32>) {
    (code.to_owned(), Some(line))
}

#[test]
fn a_policy_that_asks_for_what_matters_has_no_findings_and_tells_what_it_asks_for() {
    let report = check(Kind::Appraisal, GOOD);
    assert_eq!(report.findings, []);
    assert!(report.is_usable());
    assert_eq!(report.asks_for.into_iter().collect::<Vec<_>>(), ["launch", "least_snp"]);
}

#[test]
fn errors_of_syntax_are_told_with_their_line() {
    let broken =
        GOOD.replace("input.snp.policy_debug_allowed == false", "input.snp.policy_debug_allowed == = false");
    assert_eq!(appraisal(&broken)[0], found("lint.syntax", 23));
    assert_eq!(appraisal("package other\nexecutables := 2")[0].0, "lint.package");
    assert_eq!(appraisal("package policy\nfoo := 2")[0].0, "lint.no-rule");
    assert_eq!(codes(Kind::Resource, "package policy\nfoo := 2")[0].0, "lint.no-rule");
    assert_eq!(appraisal("package policy\nexecutables := 1000")[0].0, "lint.trust-claim");
}

#[test]
fn an_unknown_claim_is_told_with_the_nearest_and_makes_its_rule_never_hold() {
    let misspelled = GOOD.replace("input.snp.measurement in", "input.snp.mesurement in");
    let report = check(Kind::Appraisal, &misspelled);
    let unknown = report.findings.iter().find(|finding| finding.code == "lint.unknown-claim").unwrap();
    assert_eq!((unknown.line, unknown.remedy.as_deref()), (Some(13), Some("Did you mean `measurement`?")));
    assert!(
        report.findings.iter().any(|finding| finding.code == "lint.never-fires" && finding.line == Some(13))
    );
    assert!(!report.is_usable());
    // Through a variable and through an element of a list as well.
    let deep = GOOD.replace("event.details.string", "event.detail.string");
    assert!(appraisal(&deep).contains(&found("lint.unknown-claim", 25)));
}

#[test]
fn conditions_that_contradict_each_other_never_hold() {
    let with = |conditions: &str| {
        let rego = GOOD.replace(
            "    input.snp.policy_debug_allowed == false\n",
            &format!("    input.snp.policy_debug_allowed == false\n    {conditions}\n"),
        );
        appraisal(&rego).iter().any(|(code, line)| code == "lint.never-fires" && *line == Some(24))
    };
    for never in [
        "input.snp.policy_debug_allowed == true",
        "input.snp.policy_debug_allowed != false",
        "input.snp.policy_debug_allowed == \"false\"",
        "input.snp.vmpl > 3; input.snp.vmpl < 2",
        "input.snp.vmpl >= 2; 2 > input.snp.vmpl",
        "input.snp.vmpl == 2; input.snp.vmpl in {0, 1}",
        "input.snp.policy_abi_major in [\"1\"]",
        "input.tdx.td_attributes.debug == false",
        "1 == 2",
        "false",
        "not true",
        "impossible",
    ] {
        let rego = never.replace("impossible", "helper");
        assert!(
            with(&format!("{rego}\n}}\n\nhelper if {{\n    input.snp.nothing\n")) || with(&rego),
            "{never}"
        );
    }
    for sometimes in [
        "input.snp.vmpl >= 2; input.snp.vmpl <= 2",
        "input.snp.vmpl != 2; input.snp.vmpl > 1",
        "input.snp.vmpl in {0, 1}; input.snp.vmpl == 1",
        "object.get(input.snp, \"nothing\", 1) == 1",
        "not input.snp.policy_smt_allowed",
        "input.init_data_claims[\"x\"].y == 1",
        "x := false; x == false",
    ] {
        assert!(!with(sometimes), "{sometimes}: {:?}", appraisal(sometimes));
    }
}

#[test]
fn a_rule_that_needs_one_that_never_holds_never_holds() {
    let rego = format!(
        "{GOOD}\nfile_system := 2 if {{\n    input.snp\n    helper\n}}\n\nhelper if {{\n    input.snp.vmpl == 1\n    input.snp.vmpl == 2\n}}\n"
    );
    let told = appraisal(&rego);
    assert!(told.contains(&found("lint.never-fires", 30)), "{told:?}");
    assert!(told.contains(&found("lint.never-fires", 35)), "{told:?}");
    // With a default it always has a value.
    let told = appraisal(&format!("{rego}\ndefault helper := true\n"));
    assert!(!told.contains(&found("lint.never-fires", 30)), "{told:?}");
}

#[test]
fn names_that_are_nothing_and_rules_that_nobody_asks_for_are_told() {
    let rego = GOOD.replace("\"configuration\": configuration}", "\"configuration\": configuratoin}");
    let report = check(Kind::Appraisal, &rego);
    let undefined = report.findings.iter().find(|finding| finding.code == "lint.undefined-rule").unwrap();
    assert_eq!(undefined.remedy.as_deref(), Some("Did you mean `configuration`?"));
    assert!(report.findings.iter().any(|finding| finding.code == "lint.unused-rule"));
}

#[test]
fn a_policy_that_affirms_a_debug_guest_is_told() {
    let careless = GOOD.replace("    input.snp.policy_debug_allowed == false\n", "");
    let report = check(Kind::Appraisal, &careless);
    let told = report.findings.iter().find(|finding| finding.code == "lint.allows-debug").unwrap();
    assert!(told.remedy.as_deref().unwrap().contains("policy_debug_allowed"), "{told:?}");
    let anyone = "package policy\nexecutables := 2\n";
    assert!(appraisal(anyone).iter().any(|(code, _)| code == "lint.allows-anyone"));
}

#[test]
fn resource_policies_are_tried_with_results_that_few_owners_want() {
    let allows = |body: &str| -> Vec<String> {
        let rego =
            format!("package policy\nimport rego.v1\ndefault allow := false\nallow if {{\n    {body}\n}}\n");
        codes(Kind::Resource, &rego).into_iter().map(|(code, _)| code).collect()
    };
    let status = "input.submods.cpu0[\"ear.status\"] == \"affirming\"";
    // Not named, software gets nothing, whatever the other rules say.
    assert_eq!(allows(status), [""; 0]);
    let named = format!("{status}\n}}\ninsecure_software_evidence if {{\n    input.submods");
    assert_eq!(allows(&named), ["lint.allows-software"]);
    let hardware = "input.submods.cpu0[\"ear.veraison.annotated-evidence\"].coffer.hardware == true";
    assert_eq!(allows(&format!("{status}\n    {hardware}")), [""; 0]);
    assert_eq!(
        allows("input.submods.cpu0[\"ear.status\"]"),
        ["lint.allows-debug", "lint.allows-refused", "lint.allows-warning"]
    );
    assert_eq!(allows("input.submods"), ["lint.allows-anyone"]);
    assert_eq!(allows("true"), ["lint.allows-anyone"]);
    // A path and init-data that the policy names are found.
    let narrow = "startswith(data[\"resource-path\"], \"alice/\")\n    input.submods.cpu0[\"ear.veraison.annotated-evidence\"].init_data == \"ab\"";
    assert!(allows(narrow).contains(&"lint.allows-debug".to_owned()));
    assert_eq!(
        allows("input.submods.cpu0[\"ear.statsu\"] == \"affirming\""),
        ["lint.never-fires", "lint.unknown-claim"]
    );
}

#[test]
fn the_built_in_dialects_are_understood() {
    let own = r#"package policy
import rego.v1
cpu := object.get(object.get(input, "submods", {}), "cpu0", {})
about := object.get(object.get(cpu, "ear.veraison.annotated-evidence", {}), "coffer", {})
deny contains "not affirmed" if object.get(cpu, "ear.status", "none") != "affirming"
deny contains "software" if object.get(about, "hardware", false) != true
deny contains cause.title if some cause in object.get(about, "causes", [])
"#;
    assert_eq!(check(Kind::Resource, own).findings, []);
    let old = "package policy\ndefault allow = false\nallow { input.submods.cpu0[\"ear.status\"] == \"affirming\" }";
    assert_eq!(codes(Kind::Resource, old), []);
    let named = format!("{old}\ndefault insecure_software_evidence = true");
    assert_eq!(codes(Kind::Resource, &named), [("lint.allows-software".to_owned(), None)]);
}

#[test]
fn a_bound_that_holds_without_its_reference_value_is_told() {
    let rego =
        GOOD.replace("in query_reference_value(\"least_snp\")", ">= query_reference_value(\"least_snp\")");
    assert_eq!(appraisal(&rego), [found("lint.missing-reference", 18)]);
}

#[test]
fn no_text_makes_it_fail() {
    let deep = format!("package policy\nallow if {{ input{} }}", ".a".repeat(20_000));
    check(Kind::Resource, &deep);
    for length in 0..GOOD.len() {
        if let Some(text) = GOOD.get(..length)
            && length % 37 == 0
        {
            check(Kind::Appraisal, text);
        }
    }
}

/// Upstream's own policies, where the tests are told where they are.
#[test]
fn upstream_policies_are_understood() {
    let Ok(folder) = std::env::var("COFFER_TRUSTEE_POLICIES") else {
        println!("skipped: no upstream policies (COFFER_TRUSTEE_POLICIES)");
        return;
    };
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let report = check(Kind::Appraisal, &std::fs::read_to_string(entry.path()).unwrap());
        let errors: Vec<_> =
            report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{:?}: {errors:#?}", entry.path());
        println!("{:?}: {report:#?}", entry.path());
    }
}
