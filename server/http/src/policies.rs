//! Resource policies: the built-in ones, and the one in force.

use coffer_core_admin::PolicyBody;
use coffer_core_policy::{Policy, PolicyError};
use coffer_server_store::{Store, StoreError, Table};

/// The one policy there is: it decides who gets resources.
pub(crate) const RESOURCE: &str = "resource";
/// The built-in policy that is in force until an owner puts another one.
pub(crate) const DEFAULT: &str = "default";

/// The built-in policies.
pub(crate) const PRESETS: [(&str, &str); 2] = [
    (DEFAULT, include_str!("../policies/default.rego")),
    ("insecure-lab", include_str!("../policies/insecure-lab.rego")),
];

/// The policy in force.
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    pub(crate) body: PolicyBody,
}

/// Why a policy cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("there is no built-in policy {0:?}; there are: default, insecure-lab")]
    Preset(String),
    #[error("a policy is either a text (rego) or a built-in one's name (preset)")]
    Form,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InForce {
    /// Reads a policy as it is put.
    pub(crate) fn compile(body: PolicyBody) -> Result<Self, PutError> {
        let rego = match (&body.rego, &body.preset) {
            (Some(rego), None) => rego.as_str(),
            (None, Some(preset)) => preset_text(preset)?,
            _ => return Err(PutError::Form),
        };
        Ok(Self { policy: Policy::compile(rego)?, body })
    }

    /// Loads the policy in force.
    pub(crate) fn load(store: &Store) -> Result<Self, PutError> {
        let body = match store.get(Table::Policies, RESOURCE)? {
            Some(bytes) => serde_json::from_slice(bytes.expose()).map_err(|_| PutError::Form)?,
            None => PolicyBody { rego: None, preset: Some(DEFAULT.to_string()) },
        };
        Self::compile(body)
    }

    /// Makes it the one that is loaded from now on.
    pub(crate) fn save(&self, store: &Store) -> Result<(), PutError> {
        let body = serde_json::to_vec(&self.body).map_err(|_| PutError::Form)?;
        Ok(store.put(Table::Policies, RESOURCE, &body)?)
    }

    /// The text and, if it is a built-in one, the name.
    pub(crate) fn shown(&self) -> PolicyBody {
        let preset = self.body.preset.clone();
        let text = preset.as_deref().and_then(|preset| preset_text(preset).ok()).map(str::to_string);
        PolicyBody { rego: text.or_else(|| self.body.rego.clone()), preset }
    }

    /// The built-in policy's name, or `own`.
    pub(crate) fn name(&self) -> String {
        self.body.preset.clone().unwrap_or_else(|| "own".to_string())
    }
}

fn preset_text(name: &str) -> Result<&'static str, PutError> {
    let found = PRESETS.iter().find(|(preset, _)| *preset == name);
    found.map(|(_, text)| *text).ok_or_else(|| PutError::Preset(name.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn codes(preset: &str, input: &Value) -> Vec<String> {
        let body = PolicyBody { rego: None, preset: Some(preset.to_string()) };
        let policy = InForce::compile(body).unwrap().policy;
        let decision =
            policy.decide(input, &json!({"plugin": "resource", "resource-path": "a/b/c"})).unwrap();
        decision.denials.into_iter().map(|denial| denial.code).collect()
    }

    fn claims(status: &str, hardware: Value, causes: Value) -> Value {
        json!({"submods": {"cpu0": {
            "ear.status": status,
            "ear.veraison.annotated-evidence": {"coffer": {"hardware": hardware, "causes": causes}},
        }}})
    }

    #[test]
    fn default_wants_an_affirmed_guest_on_hardware() {
        assert!(codes("default", &claims("affirming", json!(true), json!([]))).is_empty());
        assert_eq!(
            codes("default", &claims("affirming", json!(false), json!([]))),
            ["policy.software-evidence"]
        );
        let cause = json!([{"code": "measurement.kernel", "title": "Another kernel"}]);
        assert_eq!(
            codes("default", &claims("contraindicated", json!(true), cause)),
            ["measurement.kernel", "policy.not-affirming"]
        );
    }

    #[test]
    fn insecure_lab_takes_software_and_nothing_else_that_default_refuses() {
        assert!(codes("insecure-lab", &claims("affirming", json!(false), json!([]))).is_empty());
        for status in ["none", "warning", "contraindicated"] {
            assert_eq!(
                codes("insecure-lab", &claims(status, json!(true), json!([]))),
                ["policy.not-affirming"]
            );
        }
    }

    #[test]
    fn what_is_missing_from_the_input_refuses() {
        for preset in ["default", "insecure-lab"] {
            for input in [json!({}), json!({"submods": {}}), json!({"submods": {"cpu0": {}}})] {
                assert!(
                    codes(preset, &input).contains(&"policy.not-affirming".to_string()),
                    "{preset} {input}"
                );
            }
        }
        for hardware in [Value::Null, json!("true"), json!(1)] {
            let found = codes("default", &claims("affirming", hardware.clone(), json!([])));
            assert_eq!(found, ["policy.software-evidence"], "{hardware}");
        }
    }

    const SEPARATE: &str = include_str!("../policies/examples/separate.rego");
    const LISTED: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// What the example says of an affirmed guest on hardware with these claims.
    fn separate(path: &str, evidence: Value) -> Vec<String> {
        let body = PolicyBody { rego: Some(SEPARATE.to_string()), preset: None };
        let mut input = claims("affirming", json!(true), json!([]));
        let own = &mut input["submods"]["cpu0"]["ear.veraison.annotated-evidence"];
        for (name, value) in evidence.as_object().unwrap() {
            own[name] = value.clone();
        }
        let data = json!({"plugin": "resource", "resource-path": path, "method": "GET"});
        let decision = InForce::compile(body).unwrap().policy.decide(&input, &data).unwrap();
        decision.denials.into_iter().map(|denial| denial.code).collect()
    }

    #[test]
    fn the_example_releases_a_path_only_to_guests_that_are_listed_for_it() {
        let none: [&str; 0] = [];
        let by_init_data = json!({"init_data": LISTED});
        let by_reference = json!({"tpm": {"reference": {"id": "tpm-000000000000000000000000"}}});
        for listed in [by_init_data, by_reference] {
            assert_eq!(separate("a/key/1", listed.clone()), none);
            for path in ["b/key/1", "aa/key/1", "", "b/a/key"] {
                assert_eq!(separate(path, listed.clone()), ["policy.not-listed"], "{path}");
            }
        }
        let other = LISTED.replace('0', "1");
        for stranger in [
            json!({}),
            json!({"init_data": other}),
            json!({"init_data": ""}),
            json!({"init_data": null}),
            json!({"init_data": [LISTED]}),
            // What the guest itself says, in its init-data's text, names nobody.
            json!({"init_data_claims": {"init_data": LISTED}}),
            json!({"tpm": {"reference": {"id": "tpm-111111111111111111111111"}}}),
            json!({"tpm": {"id": "tpm-000000000000000000000000"}}),
        ] {
            assert_eq!(separate("a/key/1", stranger.clone()), ["policy.not-listed"], "{stranger}");
        }
    }

    #[test]
    fn the_example_refuses_what_default_refuses_even_to_guests_that_are_listed() {
        let refused = |status, hardware| {
            let body = PolicyBody { rego: Some(SEPARATE.to_string()), preset: None };
            let mut input = claims(status, hardware, json!([]));
            input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["init_data"] = LISTED.into();
            let data = json!({"plugin": "resource", "resource-path": "a/key/1"});
            let decision = InForce::compile(body).unwrap().policy.decide(&input, &data).unwrap();
            decision.denials.into_iter().map(|denial| denial.code).collect::<Vec<_>>()
        };
        assert_eq!(refused("warning", json!(true)), ["policy.not-affirming"]);
        assert_eq!(refused("affirming", json!(false)), ["policy.software-evidence"]);
        assert_eq!(refused("affirming", Value::Null), ["policy.software-evidence"]);
    }

    #[test]
    fn an_unknown_preset_is_refused() {
        let body = PolicyBody { rego: None, preset: Some("lab".into()) };
        assert!(matches!(InForce::compile(body), Err(PutError::Preset(_))));
    }
}
