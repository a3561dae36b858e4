//! Resource policies: the built-in ones, and those in force, each for its part of the resources.
//!
//! A policy that names paths or TEEs decides about what it names; all that name a request must allow it. What none
//! names is decided by the policy `resource`, which names nothing and is always there.

use coffer_core_admin::PolicyBody;
use coffer_core_policy::{Decision, Policy, PolicyError};
use coffer_server_store::{Scope, StoreError, Table};
use serde_json::Value;

/// The policy for what no other one names.
pub(crate) const RESOURCE: &str = "resource";
/// The built-in policy that is in force until an owner puts another one.
pub(crate) const DEFAULT: &str = "default";

/// The built-in policies.
pub(crate) const PRESETS: [(&str, &str); 2] = [
    (DEFAULT, include_str!("../policies/default.rego")),
    ("insecure-lab", include_str!("../policies/insecure-lab.rego")),
];

const MAX_NAME: usize = 64;
const MAX_PATTERNS: usize = 64;
const MAX_PATTERN: usize = 256;

/// One policy in force.
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
    #[error("a policy's name has 1 to {MAX_NAME} letters, digits, '.', '_' and '-'")]
    Name,
    #[error(
        "the policy `resource` decides about what no other one names, so it names neither paths nor TEEs"
    )]
    Scoped,
    #[error("a policy other than `resource` names the paths or the TEEs that it decides about")]
    Unscoped,
    #[error(
        "{0:?} is no pattern of paths; write parts between '/', each a name or '*', and '**' at the end for the rest"
    )]
    Pattern(String),
    #[error("{0:?} is no TEE that is known here")]
    Tee(String),
    #[error("a policy names at most {MAX_PATTERNS} paths and TEEs")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a policy is asked about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// `resource`, or a plugin's name.
    pub(crate) plugin: &'a str,
    /// The path after the plugin's name.
    pub(crate) path: &'a str,
    /// The call's method.
    pub(crate) method: &'a str,
    /// The TEE of the token, if it names one.
    pub(crate) tee: &'a str,
}

/// The policies in force, in the order of their names.
pub(crate) struct Policies {
    unscoped: InForce,
    scoped: Vec<(String, InForce)>,
}

impl Policies {
    /// Loads them; the policy `resource` is the built-in default until an owner puts another one.
    pub(crate) fn load(rows: &Scope) -> Result<Self, PutError> {
        let mut unscoped = None;
        let mut scoped = Vec::new();
        for (name, bytes) in rows.list(Table::Policies)? {
            let body = serde_json::from_slice(bytes.expose()).map_err(|_| PutError::Form)?;
            let policy = InForce::compile(&name, body)?;
            match name == RESOURCE {
                true => unscoped = Some(policy),
                false => scoped.push((name, policy)),
            }
        }
        let unscoped = match unscoped {
            Some(policy) => policy,
            None => InForce::compile(RESOURCE, PolicyBody::built_in(DEFAULT))?,
        };
        Ok(Self { unscoped, scoped })
    }

    /// The policy of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&InForce> {
        if name == RESOURCE {
            return Some(&self.unscoped);
        }
        self.scoped.iter().find(|(own, _)| own == name).map(|(_, policy)| policy)
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let scoped = self.scoped.iter().map(|(name, _)| name.clone());
        let mut names: Vec<String> = scoped.chain([RESOURCE.to_string()]).collect();
        names.sort_unstable();
        names
    }

    /// Asks every policy that decides about it. `claims` is the attestation result as JSON text, `data` what is asked for.
    /// Software evidence must be named by each of them.
    pub(crate) fn decide(
        &self,
        asked: &Asked<'_>,
        claims: &str,
        data: &Value,
    ) -> Result<Decision, PolicyError> {
        let mut matching =
            self.scoped.iter().map(|(_, policy)| policy).filter(|policy| policy.names(asked)).peekable();
        if matching.peek().is_none() {
            return self.unscoped.policy.decide_text(claims, data);
        }
        let mut all = Decision { denials: Vec::new(), names_software: true };
        for policy in matching {
            let one = policy.policy.decide_text(claims, data)?;
            all.names_software &= one.names_software;
            all.denials.extend(one.denials);
        }
        all.denials.sort();
        all.denials.dedup();
        Ok(all)
    }
}

impl InForce {
    /// Reads a policy as it is put.
    pub(crate) fn compile(name: &str, body: PolicyBody) -> Result<Self, PutError> {
        check_scope(name, &body)?;
        let rego = match (&body.rego, &body.preset) {
            (Some(rego), None) => rego.as_str(),
            (None, Some(preset)) => preset_text(preset)?,
            _ => return Err(PutError::Form),
        };
        Ok(Self { policy: Policy::compile(rego)?, body })
    }

    /// The row that it is loaded from.
    pub(crate) fn row(&self) -> Result<Vec<u8>, PutError> {
        serde_json::to_vec(&self.body).map_err(|_| PutError::Form)
    }

    /// The text and, if it is a built-in one, the name.
    pub(crate) fn shown(&self) -> PolicyBody {
        let preset = self.body.preset.as_deref();
        let text = preset.and_then(|preset| preset_text(preset).ok()).map(str::to_string);
        PolicyBody { rego: text.or_else(|| self.body.rego.clone()), ..self.body.clone() }
    }

    /// The built-in policy's name, or `own`.
    pub(crate) fn name(&self) -> String {
        self.body.preset.clone().unwrap_or_else(|| "own".to_string())
    }

    /// Whether it decides about this.
    fn names(&self, asked: &Asked<'_>) -> bool {
        let (paths, tees) = (&self.body.paths, &self.body.tees);
        let path = asked.plugin == "resource" && paths.iter().any(|pattern| matches(pattern, asked.path));
        (paths.is_empty() || path) && (tees.is_empty() || tees.iter().any(|tee| tee == asked.tee))
    }
}

fn check_scope(name: &str, body: &PolicyBody) -> Result<(), PutError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err(PutError::Name);
    }
    let names_nothing = body.paths.is_empty() && body.tees.is_empty();
    match (name == RESOURCE, names_nothing) {
        (true, false) => return Err(PutError::Scoped),
        (false, true) => return Err(PutError::Unscoped),
        _ => (),
    }
    if body.paths.len().saturating_add(body.tees.len()) > MAX_PATTERNS {
        return Err(PutError::TooMany);
    }
    let short = |text: &str| text.chars().take(64).collect::<String>();
    if let Some(bad) = body.paths.iter().find(|pattern| !is_pattern(pattern)) {
        return Err(PutError::Pattern(short(bad)));
    }
    match body.tees.iter().find(|tee| !is_tee(tee)) {
        Some(bad) => Err(PutError::Tee(short(bad))),
        None => Ok(()),
    }
}

fn is_tee(name: &str) -> bool {
    serde_json::from_value::<coffer_core_evidence::Tee>(name.into()).is_ok()
}

fn is_pattern(pattern: &str) -> bool {
    let mut parts = pattern.split('/').rev();
    let name = |part: &str| !part.is_empty() && (part == "*" || !part.contains('*'));
    let last = parts.next().is_some_and(|last| last == "**" || name(last));
    pattern.len() <= MAX_PATTERN && last && parts.all(name)
}

/// Whether a pattern of parts, `*` and a last `**` matches a path.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (Some("**"), Some(_)) => return true,
            (Some(one), Some(other)) if one == "*" || one == other => (),
            (None, None) => return true,
            _ => return false,
        }
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
        let policy = InForce::compile(RESOURCE, PolicyBody::built_in(preset)).unwrap().policy;
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
        let body = PolicyBody::text(SEPARATE);
        let mut input = claims("affirming", json!(true), json!([]));
        let own = &mut input["submods"]["cpu0"]["ear.veraison.annotated-evidence"];
        for (name, value) in evidence.as_object().unwrap() {
            own[name] = value.clone();
        }
        let data = json!({"plugin": "resource", "resource-path": path, "method": "GET"});
        let decision = InForce::compile(RESOURCE, body).unwrap().policy.decide(&input, &data).unwrap();
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
            let body = PolicyBody::text(SEPARATE);
            let mut input = claims(status, hardware, json!([]));
            input["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["init_data"] = LISTED.into();
            let data = json!({"plugin": "resource", "resource-path": "a/key/1"});
            let decision = InForce::compile(RESOURCE, body).unwrap().policy.decide(&input, &data).unwrap();
            decision.denials.into_iter().map(|denial| denial.code).collect::<Vec<_>>()
        };
        assert_eq!(refused("warning", json!(true)), ["policy.not-affirming"]);
        assert_eq!(refused("affirming", json!(false)), ["policy.software-evidence"]);
        assert_eq!(refused("affirming", Value::Null), ["policy.software-evidence"]);
    }

    #[test]
    fn an_unknown_preset_is_refused() {
        let body = PolicyBody::built_in("lab");
        assert!(matches!(InForce::compile(RESOURCE, body), Err(PutError::Preset(_))));
    }

    const ALLOW: &str = "package policy\nimport rego.v1\ndefault allow := true\n";

    fn put(name: &str, paths: &[&str], tees: &[&str], rego: &str) -> Result<InForce, String> {
        let body = PolicyBody {
            rego: Some(rego.into()),
            preset: None,
            paths: paths.iter().map(ToString::to_string).collect(),
            tees: tees.iter().map(ToString::to_string).collect(),
        };
        InForce::compile(name, body).map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_match_whole_parts() {
        for (pattern, path, expected) in [
            ("a/b/c", "a/b/c", true),
            ("a/*/c", "a/b/c", true),
            ("a/**", "a/b/c", true),
            ("**", "a/b/c", true),
            ("a/*", "a/b/c", false),
            ("a/b/c", "a/b/cc", false),
            ("a/b/c/**", "a/b/c", false),
            ("aa/**", "a/b/c", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        for bad in ["", "a//b", "/a", "a/", "**/a", "a*/b", "***"] {
            assert!(put("one", &[bad], &[], ALLOW).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_policy_for_the_rest_names_nothing_and_every_other_one_names_something() {
        assert!(put(RESOURCE, &["a/**"], &[], ALLOW).is_err());
        assert!(put("other", &[], &[], ALLOW).is_err());
        assert!(put("other", &[], &["no-such-tee"], ALLOW).is_err());
        assert!(put("../x", &["a/**"], &[], ALLOW).is_err());
        assert!(put("other", &[], &["tpm"], ALLOW).is_ok());
    }

    #[test]
    fn every_policy_that_names_a_request_must_allow_it_and_name_software() {
        let deny = "package policy\nimport rego.v1\ndefault allow := false\n";
        let software = format!("{ALLOW}insecure_software_evidence := true\n");
        let policies = Policies {
            unscoped: InForce::compile(RESOURCE, PolicyBody::built_in(DEFAULT)).unwrap(),
            scoped: vec![
                ("open".into(), put("open", &["a/**"], &[], &software).unwrap()),
                ("shut".into(), put("shut", &["a/b/*"], &["snp"], deny).unwrap()),
                ("plain".into(), put("plain", &["c/**"], &[], ALLOW).unwrap()),
            ],
        };
        let decide = |path, tee, plugin| {
            let asked = Asked { plugin, path, method: "GET", tee };
            policies.decide(&asked, "{}", &json!({"plugin": plugin, "resource-path": path})).unwrap()
        };
        assert!(decide("a/b/c", "tpm", "resource").of_software().is_allowed());
        assert!(!decide("a/b/c", "snp", "resource").is_allowed());
        assert!(decide("c/b/c", "tpm", "resource").is_allowed());
        assert!(!decide("c/b/c", "tpm", "resource").of_software().is_allowed());
        // Nobody names it: the default, which wants an affirmed guest.
        assert!(!decide("b/b/c", "tpm", "resource").is_allowed());
        // Paths are of resources; a plugin's are its own.
        assert!(!decide("a/b/c", "tpm", "other").is_allowed());
    }
}
