//! Claims about policies: both dialects, both rules, and that every doubt refuses.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

/// Decides; gives the codes of the denials.
fn codes(rego: &str, input: Value, data: Value) -> Vec<String> {
    let decision = Policy::compile(rego).unwrap().decide(&input, &data).unwrap();
    decision.denials.into_iter().map(|denial| denial.code).collect()
}

#[test]
fn an_empty_set_of_denials_allows_and_each_denial_explains() {
    let rego = r#"package policy
        deny contains {"code": "a.b", "message": "No.", "remedy": "Do."} if not input.good
        deny contains "plain words" if input.bad"#;
    assert!(codes(rego, json!({"good": true}), json!({})).is_empty());
    assert_eq!(codes(rego, json!({}), json!({})), ["a.b"]);
    assert_eq!(codes(rego, json!({"good": true, "bad": true}), json!({})), ["policy.denied"]);
    assert_eq!(codes(rego, json!({"bad": true}), json!({})), ["a.b", "policy.denied"]);
}

#[test]
fn upstream_policies_are_read_in_both_dialects() {
    let old = "package policy\ndefault allow = false\nallow { input.ok == true }";
    let new = "package policy\nimport rego.v1\ndefault allow := false\nallow if input.ok == true";
    for rego in [old, new] {
        assert!(codes(rego, json!({"ok": true}), json!({})).is_empty());
        assert_eq!(codes(rego, json!({"ok": false}), json!({})), ["policy.not-allowed"]);
        assert_eq!(codes(rego, json!({}), json!({})), ["policy.not-allowed"]);
    }
}

#[test]
fn old_style_partial_sets_are_denials() {
    let rego = "package policy\ndeny[msg] { input.x > 1\n msg := \"too large\" }";
    assert!(codes(rego, json!({"x": 1}), json!({})).is_empty());
    assert_eq!(codes(rego, json!({"x": 2}), json!({})), ["policy.denied"]);
}

#[test]
fn the_resource_path_and_the_plugin_are_data() {
    let rego = r#"package policy
        import rego.v1
        default allow := false
        path := split(data["resource-path"], "/")
        allow if { data.plugin == "resource"; path[0] == "alice" }"#;
    let data = |path: &str| json!({"plugin": "resource", "resource-path": path});
    assert!(codes(rego, json!({}), data("alice/key/1")).is_empty());
    assert_eq!(codes(rego, json!({}), data("bob/key/1")), ["policy.not-allowed"]);
}

#[test]
fn an_allow_alone_that_is_undefined_refuses() {
    let rego = "package policy\nallow if input.ok";
    assert_eq!(codes(rego, json!({}), json!({})), ["policy.not-allowed"]);
}

#[test]
fn an_allow_that_is_false_refuses_even_without_a_denial() {
    let rego = "package policy\ndefault allow := false\nallow if input.ok\ndeny contains \"x\" if input.bad";
    assert_eq!(codes(rego, json!({}), json!({})), ["policy.not-allowed"]);
    assert_eq!(codes(rego, json!({"ok": true, "bad": true}), json!({})), ["policy.denied"]);
    assert!(codes(rego, json!({"ok": true}), json!({})).is_empty());
}

#[test]
fn what_is_not_a_policy_is_refused_with_the_reason() {
    let cases = [
        ("package policy\nx := 1", "neither a `deny` nor an `allow`"),
        ("package other\ndefault allow := true", "found other"),
        ("package policy\nallow if {", "is not Rego"),
        ("", "is not Rego"),
        ("package policy\nallow if no_such_function(input.x)", "could not be evaluated"),
    ];
    for (rego, reason) in cases {
        let error = Policy::compile(rego).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(reason), "{rego:?}: {error}");
    }
    assert!(matches!(Policy::compile(&" ".repeat(MAX_POLICY + 1)), Err(PolicyError::TooLong { .. })));
}

#[test]
fn a_rule_of_another_type_decides_nothing() {
    for rego in
        ["package policy\nallow := 1", "package policy\nallow := \"yes\"", "package policy\ndeny contains 7"]
    {
        let error = Policy::compile(rego).unwrap().decide(&json!({}), &json!({})).unwrap_err();
        assert!(matches!(error, PolicyError::Type { .. }), "{rego}: {error}");
    }
}

#[test]
fn a_builtin_that_fails_in_a_denial_is_an_error_and_not_an_absent_denial() {
    let rego = "package policy\ndeny contains \"x\" if to_number(input.n) > 1";
    let policy = Policy::compile(rego).unwrap();
    assert!(policy.decide(&json!({"n": "0"}), &json!({})).unwrap().is_allowed());
    assert!(policy.decide(&json!({"n": "not a number"}), &json!({})).is_err());
}

#[test]
fn long_input_is_refused_before_it_is_evaluated() {
    let policy = Policy::compile("package policy\ndefault allow := true").unwrap();
    let long = json!("x".repeat(MAX_INPUT));
    assert!(matches!(policy.decide(&long, &json!({})), Err(PolicyError::InputTooLong { what: "input" })));
    assert!(matches!(policy.decide(&json!({}), &long), Err(PolicyError::InputTooLong { what: "data" })));
}

#[test]
fn a_policy_that_runs_too_long_is_stopped() {
    let rego = "package policy\ndefault allow := false\n\
        allow if { some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b < 0; input.go }";
    let rego = format!("{rego}\n").replace("some a", "input.go; some a");
    let policy = Policy::compile(&rego).unwrap();
    assert!(policy.decide(&json!({"go": true}), &json!({})).is_err());
}

#[test]
fn one_decision_leaves_nothing_for_the_next() {
    let policy =
        Policy::compile("package policy\ndefault allow := false\nallow if data.seen == input.seen").unwrap();
    assert!(policy.decide(&json!({"seen": 1}), &json!({"seen": 1})).unwrap().is_allowed());
    assert!(!policy.decide(&json!({"seen": 1}), &json!({"seen": 2})).unwrap().is_allowed());
    assert!(!policy.decide(&json!({"seen": 1}), &json!({})).unwrap().is_allowed());
}

#[test]
fn an_engine_that_is_used_again_decides_as_a_new_one() {
    let rego = r#"package policy
        deny contains {"code": "a.b", "message": m} if { some m in input.bad }
        deny contains "path" if not startswith(data["resource-path"], input.prefix)
        deny contains "number" if to_number(input.n) > helper(input.n)
        helper(n) := to_number(n) - 1 if input.strict
        default allow := false
        allow if { count(input.bad) == 0; data.plugin == "resource" }"#;
    let kept = Policy::compile(rego).unwrap();
    let inputs = [
        json!({"bad": [], "prefix": "a", "n": "1"}),
        json!({"bad": ["x", "y"], "prefix": "a", "n": "1", "strict": true}),
        json!({"bad": [], "prefix": "b", "n": "no number"}),
        json!({"bad": [], "prefix": "b", "n": "2"}),
        json!({"prefix": "a"}),
        json!({}),
    ];
    for round in 0..3 {
        for input in &inputs {
            for path in ["a/b/c", "b/c/d"] {
                let data = json!({"plugin": "resource", "resource-path": path});
                let new =
                    Policy::compile(rego).unwrap().decide(input, &data).map_err(|error| error.to_string());
                let again = kept.decide(input, &data).map_err(|error| error.to_string());
                assert_eq!(again, new, "round {round}: {input} {data}");
            }
        }
    }
}

#[test]
fn no_more_engines_are_kept_than_the_bound() {
    let policy = Policy::compile("package policy\ndefault allow := true").unwrap();
    for number in 0..MAX_PREPARED + 5 {
        assert!(policy.decide(&json!({}), &json!({"n": number})).unwrap().is_allowed());
    }
    assert_eq!(policy.prepared.lock().unwrap().len(), MAX_PREPARED);
}

#[test]
fn a_malformed_code_is_replaced() {
    let rego = "package policy\ndeny contains {\"code\": \"Bad code\\n\", \"message\": \"m\"}";
    assert_eq!(codes(rego, json!({}), json!({})), ["policy.denied"]);
}

#[test]
fn software_evidence_is_denied_by_a_policy_that_does_not_name_it() {
    let of_software = |rego: &str, input: Value| {
        let decision = Policy::compile(rego).unwrap().decide(&input, &json!({})).unwrap().of_software();
        decision.denials.into_iter().map(|denial| denial.code).collect::<Vec<_>>()
    };
    let allows = "package policy\nimport rego.v1\nallow := true\n";
    let denied = ["policy.software-evidence"];
    let with = |rule: &str| of_software(&format!("{allows}{rule}"), json!({"lab": true, "text": "true"}));
    assert_eq!(with(""), denied);
    for named in [
        "insecure_software_evidence := true",
        "insecure_software_evidence if input.lab",
        "default insecure_software_evidence := true",
    ] {
        assert_eq!(with(named), [""; 0], "{named}");
    }
    for other in [
        "insecure_software_evidence := false",
        "insecure_software_evidence := \"true\"",
        "insecure_software_evidence := 1",
        "insecure_software_evidence := input.text",
        "insecure_software_evidence := input.nothing",
        "insecure_software_evidence := null",
        "insecure_software_evidence contains true",
        "insecure_software_evidence if input.nothing",
        "insecure_software_evidenc := true",
        "# insecure_software_evidence := true",
        "x := \"insecure_software_evidence := true\"",
    ] {
        assert_eq!(with(other), denied, "{other}");
    }
    // What contradicts itself or cannot be evaluated allows nothing either.
    for broken in [
        "insecure_software_evidence.x := true",
        "insecure_software_evidence := true\ninsecure_software_evidence := false",
        "insecure_software_evidence if to_number(input.text) > 0",
    ] {
        let policy = Policy::compile(&format!("{allows}{broken}"));
        let input = json!({"lab": true, "text": "true"});
        assert!(policy.and_then(|policy| policy.decide(&input, &json!({}))).is_err(), "{broken}");
    }
    // Its own words are kept, and hardware is nobody's business here.
    let own = "package policy\nimport rego.v1\ndeny contains {\"code\": \"policy.software-evidence\", \"message\": \"Mine.\"}";
    let decision = Policy::compile(own).unwrap().decide(&json!({}), &json!({})).unwrap().of_software();
    assert_eq!((decision.denials.len(), decision.denials[0].message.as_str()), (1, "Mine."));
    assert_eq!(codes(allows, json!({}), json!({})), [""; 0]);
    // Both rules in the older Rego.
    let old = "package policy\ndefault allow = true\ndefault insecure_software_evidence = true";
    assert_eq!(of_software(old, json!({})), [""; 0]);
}
