//! Claims about appraisal policies: upstream's dialects, its reference values, and that every doubt is an error.
#![allow(clippy::unwrap_used)]

use coffer_core_evidence::ar4si::Status;
use serde_json::json;

use super::*;

const POLICY: &str = r#"package policy

import rego.v1

default executables := 33

default hardware := 97

trust_claims := {"executables": executables, "hardware": hardware, "file-system": 0}

executables := 3 if {
    input.snp
    input.snp.measurement in query_reference_value("launch")
}

hardware := 2 if {
    input.snp.reported_tcb_snp >= query_reference_value("least")
} else := 32 if {
    input.snp.reported_tcb_snp > 3
}

extensions := [{"name": "ear.trustee.identifiers", "key": -18, "value": {"validated": {"images": images}}}]

images := [image | image := input.init_data_claims.images[_]]
"#;

fn values(values: Value) -> NamedValues {
    serde_json::from_value(values).unwrap()
}

fn evidence(measurement: &str, snp: u32) -> Value {
    json!({ "snp": { "measurement": measurement, "reported_tcb_snp": snp }, "init_data_claims": { "images": ["a"] } })
}

#[test]
fn claims_follow_evidence_and_named_values() {
    let policy = AppraisalPolicy::compile(POLICY).unwrap();
    let known = values(json!({ "launch": ["aa", "bb"], "least": 5 }));
    let trust = |evidence: Value, values: &NamedValues| {
        let trust = policy.appraise(&evidence, values).unwrap().trust;
        (trust.executables, trust.hardware, trust.status())
    };
    assert_eq!(trust(evidence("bb", 5), &known), (3, 2, Status::Affirming));
    assert_eq!(trust(evidence("bb", 4), &known), (3, 32, Status::Warning));
    assert_eq!(trust(evidence("cc", 5), &known), (33, 2, Status::Warning));
    assert_eq!(trust(json!({}), &known), (33, 97, Status::Contraindicated));
    // What is not known is null, as upstream has it: nothing is in it, and every number is more.
    let unknown = trust(evidence("bb", 1), &NamedValues::default());
    assert_eq!((unknown.0, unknown.1), (33, 2));
}

#[test]
fn one_appraisal_leaves_nothing_for_the_next() {
    let policy = AppraisalPolicy::compile(POLICY).unwrap();
    let (one, other) =
        (values(json!({ "launch": ["aa"], "least": 1 })), values(json!({ "launch": ["bb"], "least": 9 })));
    for _ in 0..3 {
        for (values, measurement, executables) in
            [(&one, "aa", 3), (&other, "aa", 33), (&other, "bb", 3), (&one, "bb", 33)]
        {
            let said = policy.appraise(&evidence(measurement, 4), values).unwrap();
            let new = AppraisalPolicy::compile(POLICY)
                .unwrap()
                .appraise(&evidence(measurement, 4), values)
                .unwrap();
            assert_eq!((said.trust.executables, &said), (executables, &new));
        }
    }
    assert!(policy.idle.lock().unwrap().len() <= 1);
}

#[test]
fn identifiers_of_the_workload_are_taken_from_the_extensions() {
    let policy = AppraisalPolicy::compile(POLICY).unwrap();
    let said = policy.appraise(&evidence("aa", 1), &NamedValues::default()).unwrap();
    assert_eq!(said.identifiers, Some(json!({ "validated": { "images": ["a"] } })));
    let none = AppraisalPolicy::compile("package policy\nexecutables := 2").unwrap();
    assert_eq!(none.appraise(&json!({}), &NamedValues::default()).unwrap().identifiers, None);
}

#[test]
fn older_dialects_are_read() {
    let old = "package policy\ndefault executables = 33\nexecutables = 3 { input.snp.measurement == data.reference.launch[_] }\nfile_system = 2 { input.snp }";
    let policy = AppraisalPolicy::compile(old).unwrap();
    for (known, executables) in [("aa", 3), ("bb", 33), ("aa", 3)] {
        let said = policy.appraise(&evidence("aa", 1), &values(json!({ "launch": [known] }))).unwrap();
        assert_eq!(
            (said.trust.executables, said.trust.file_system, said.trust.hardware),
            (executables, 2, 0)
        );
    }
}

#[test]
fn a_claim_that_means_nothing_is_an_error_and_no_claim() {
    let claims =
        |claims: &str| AppraisalPolicy::compile(&format!("package policy\ntrust_claims := {claims}"));
    assert!(claims("{\"file_system\": 2, \"hardware\": -128}").is_ok());
    for wrong in ["{\"hardwear\": 2}", "{\"hardware\": 128}", "{\"hardware\": 2.5}", "{\"hardware\": \"2\"}"]
    {
        assert!(matches!(claims(wrong), Err(PolicyError::Claim { .. })), "{wrong}");
    }
    assert!(matches!(claims("[2]"), Err(PolicyError::Type { .. })));
    assert!(matches!(AppraisalPolicy::compile("package policy\nallow := true"), Err(PolicyError::NoClaims)));
    assert!(matches!(
        AppraisalPolicy::compile("package other\nhardware := 2"),
        Err(PolicyError::Package { .. })
    ));
    assert!(AppraisalPolicy::compile("package policy\nhardware := nothing(1)").is_err());
    assert!(
        AppraisalPolicy::compile("package policy\nhardware := 2 if query_reference_value(1, 2)").is_err()
    );
}

#[test]
fn a_policy_that_claims_nothing_of_some_evidence_says_nothing() {
    let policy =
        AppraisalPolicy::compile("package policy\ntrust_claims := {\"hardware\": 2} if input.snp").unwrap();
    let said = policy.appraise(&json!({}), &NamedValues::default()).unwrap();
    assert_eq!(said.trust.status(), Status::None);
}

#[test]
fn what_takes_too_long_or_is_too_long_affirms_nothing() {
    let slow = "package policy\nhardware := 2 if { input.go; some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b < 0 }";
    let policy = AppraisalPolicy::compile(slow).unwrap();
    assert!(policy.appraise(&json!({ "go": true }), &NamedValues::default()).is_err());
    assert!(policy.idle.lock().unwrap().is_empty());
    let long = json!("x".repeat(MAX_EVIDENCE));
    assert!(matches!(
        policy.appraise(&long, &NamedValues::default()),
        Err(PolicyError::EvidenceTooLong { .. })
    ));
}

#[test]
fn threads_that_appraise_at_once_do_not_see_each_others_values() {
    let policy = AppraisalPolicy::compile(POLICY).unwrap();
    std::thread::scope(|scope| {
        for name in ["aa", "bb", "cc", "dd"] {
            let policy = &policy;
            scope.spawn(move || {
                let own = values(json!({ "launch": [name], "least": 1 }));
                for asked in ["aa", "bb", "cc", "dd"] {
                    let trust = policy.appraise(&evidence(asked, 1), &own).unwrap().trust;
                    assert_eq!(trust.executables == 3, asked == name);
                }
            });
        }
    });
}

/// Upstream's default policies, where the tests are told where they are.
#[test]
fn upstream_policies_run_unchanged() {
    let Ok(folder) = std::env::var("COFFER_TRUSTEE_POLICIES") else {
        println!("skipped: no upstream policies (COFFER_TRUSTEE_POLICIES)");
        return;
    };
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let cpu = AppraisalPolicy::compile(&read("cpu.rego")).unwrap();
    let tdx = json!({ "tdx": {
        "quote": {
            "header": { "tee_type": "81000000", "vendor_id": "939a7233f79c4ca9940a0db3957f0607" },
            "body": { "mr_td": "td", "rtmr_1": "one", "rtmr_2": "two", "xfam": "xfam" },
        },
        "td_attributes": { "debug": false },
        "tcb_status": "UpToDate",
        "collateral_expiration_status": "0",
        "uefi_event_logs": [
            { "type_name": "EV_EFI_BOOT_SERVICES_APPLICATION", "details": { "device_paths": ["File(kernel)"] },
              "digests": [{ "alg": "SHA-384", "digest": "kernel" }] },
            { "type_name": "EV_EVENT_TAG", "details": { "string": "LOADED_IMAGE::LoadOptions" },
              "digests": [{ "alg": "SHA-384", "digest": "options" }] },
        ],
    }});
    let known = values(json!({ "mr_td": ["td"], "rtmr_1": ["one"], "rtmr_2": ["two"], "xfam": ["xfam"],
        "tdvfkernel": "kernel", "tdvfkernelparams": "options" }));
    let said = cpu.appraise(&tdx, &known).unwrap();
    assert_eq!((said.trust.executables, said.trust.hardware, said.trust.configuration), (3, 2, 2));
    assert_eq!(said.identifiers, Some(json!({ "validated": {} })));
    let said = cpu.appraise(&tdx, &NamedValues::default()).unwrap();
    assert_eq!((said.trust.executables, said.trust.hardware, said.trust.configuration), (33, 97, 36));
    let gpu = AppraisalPolicy::compile(&read("gpu.rego")).unwrap();
    let card = json!({ "nvidia": { "verifier": "local", "arch": "Hopper", "measurements": { "1": "aa" },
        "config": { "driver_version": "550", "vbios_version": "96", "fwid": "ff" } } });
    let known = values(json!({ "allowed_driver_versions": ["550"], "allowed_vbios_versions": ["96"],
        "allowed_gpu_fwids": ["ff"], "allowed_gpu_measurements": { "1": "aa" } }));
    let said = gpu.appraise(&card, &known).unwrap();
    assert_eq!((said.trust.executables, said.trust.hardware, said.trust.configuration), (3, 2, 2));
    assert_eq!(gpu.appraise(&card, &NamedValues::default()).unwrap().trust.configuration, 36);
}
