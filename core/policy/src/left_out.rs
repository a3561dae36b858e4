//! Claims that were too long for the attestation result, which then names them under `coffer.omitted`.
//!
//! Whoever makes a claim long must not thereby escape a rule about it: a policy that mentions one that was left out
//! denies. Holds true for policies that write the claim's name, or walk over everything. Left out: a policy that runs
//! over all claims of a TEE without naming one.

use std::collections::BTreeSet;

use regorus::Value as Rego;

use crate::decision::Denial;
use crate::text::{Part, without_comments};

const EVIDENCE: &str = "ear.veraison.annotated-evidence";

/// What a policy mentions.
pub(crate) struct Mentions(String);

impl Mentions {
    pub(crate) fn of(rego: &str) -> Self {
        Self(without_comments(rego, Part::Code))
    }

    /// A name is the claim's place in the evidence, as in `tdx.uefi_event_logs`.
    fn has(&self, name: &str) -> bool {
        let claim = name.split_once('.').map_or(name, |(_, claim)| claim);
        self.0.contains(claim) || self.0.contains("walk(")
    }

    /// The denial of an input in which a claim was left out that the policy mentions.
    pub(crate) fn denial(&self, input: &Rego) -> Option<Denial> {
        let mut names = BTreeSet::new();
        for submodule in input["submods"].as_object().ok()?.values() {
            match &submodule[EVIDENCE]["coffer"]["omitted"] {
                Rego::Array(omitted) => {
                    names.extend(
                        omitted.iter().filter_map(|name| name.as_string().ok()).map(|name| name.to_string()),
                    );
                }
                _ => continue,
            }
        }
        names.retain(|name| self.has(name));
        let names: Vec<String> = names.into_iter().collect();
        (!names.is_empty()).then(|| Denial {
            code: "policy.claim-left-out".to_owned(),
            message: "The policy looks at a claim that was too long for the attestation result.".to_owned(),
            expected: Some("every claim that the policy looks at".to_owned()),
            found: Some(format!("without {}", names.join(", "))),
            remedy: Some("Judge this claim in an appraisal policy, which sees all claims.".to_owned()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use crate::Policy;

    fn result(omitted: Value) -> Value {
        json!({"submods": {"cpu0": {"ear.status": "affirming", "ear.veraison.annotated-evidence": {
            "tdx": {"quote": {}}, "coffer": {"omitted": omitted},
        }}}})
    }

    fn codes(rego: &str, input: &Value) -> Vec<String> {
        let decision = Policy::compile(rego).unwrap().decide(input, &json!({})).unwrap();
        decision.denials.into_iter().map(|denial| denial.code).collect()
    }

    const ABOUT_LOGS: &str = r#"package policy
import rego.v1
deny contains "a bad event" if {
    some e in input.submods.cpu0["ear.veraison.annotated-evidence"].tdx.uefi_event_logs
    e.type_name == "EV_BAD"
}
"#;

    #[test]
    fn a_rule_on_a_claim_that_was_left_out_denies() {
        let left_out = result(json!(["init_data_claims", "tdx.uefi_event_logs"]));
        assert_eq!(codes(ABOUT_LOGS, &left_out), ["policy.claim-left-out"]);
        assert_eq!(codes(ABOUT_LOGS, &result(json!(["init_data_claims"]))), Vec::<String>::new());
        assert_eq!(codes(ABOUT_LOGS, &result(json!([]))), Vec::<String>::new());
        let walking = super::Mentions::of("deny contains place if [place, \"EV_BAD\"] = walk(input)");
        assert!(walking.has("tdx.uefi_event_logs"));
    }

    #[test]
    fn a_policy_that_does_not_look_at_it_is_not_disturbed() {
        let status = "package policy\n# not uefi_event_logs\nallow if input.submods.cpu0[\"ear.status\"] == \"affirming\"";
        assert_eq!(codes(status, &result(json!(["tdx.uefi_event_logs"]))), Vec::<String>::new());
    }
}
