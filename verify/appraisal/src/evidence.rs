//! Annotated evidence: what appraisal policies get as their input, and what tokens carry.
//!
//! SPEC: kbs-protocol, "EAR token claims": the claims of the TEE under its name; beside them what the verifier
//! proved to be bound, with the text that it was proved of.

use coffer_core_initdata::InitData;
use coffer_verify_api::Claims;
use serde_json::{Map, Value};

use crate::Sent;

/// The entry in which the container policy travels, and the name of its data.
const AGENT_POLICY: &str = "policy.rego";
const POLICY_DATA: &str = "policy_data";

/// The claims, arranged as policies and tokens have them.
pub fn annotated_evidence(claims: &Claims, sent: &Sent<'_>) -> Map<String, Value> {
    let mut own = claims.json.clone();
    let mut all = Map::new();
    if let Some(init_data) = own.remove("init_data") {
        all.insert("init_data".to_owned(), init_data);
        if let Some(sent) = sent.init_data {
            all.insert("init_data_claims".to_owned(), init_data_claims(sent));
        }
    }
    if let Some(report_data) = own.remove("report_data") {
        all.insert("report_data".to_owned(), report_data);
        if !sent.runtime_claims.is_null() {
            all.insert("runtime_data_claims".to_owned(), sent.runtime_claims.clone());
        }
    }
    all.insert(claims.tee.name().to_owned(), Value::Object(own));
    all
}

/// The entries that are TOML, as JSON, and the data of the container policy under `agent_policy_claims`.
pub fn init_data_claims(init_data: &InitData) -> Value {
    let mut claims = Map::new();
    for (name, text) in init_data.data() {
        if name.ends_with(".toml")
            && let Ok(value) = toml::from_str::<Value>(text)
        {
            claims.insert(name.clone(), value);
        }
    }
    if let Some(data) = init_data.entry(AGENT_POLICY).and_then(policy_data) {
        claims.insert("agent_policy_claims".to_owned(), data);
    }
    Value::Object(claims)
}

/// The object that a container policy assigns to `policy_data`. It is written as JSON, so it is read as JSON; a
/// policy that computes it has none that can be told here.
fn policy_data(policy: &str) -> Option<Value> {
    let mut rest = policy;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if let Some(assigned) = line.trim_start().strip_prefix(POLICY_DATA)
            && assigned.trim_start().starts_with(":=")
        {
            let text = rest.split_once(":=")?.1;
            return serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok();
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_policys_data_is_read_where_it_is_json() {
        let policy = "package agent_policy\n\ndefault A := false\n  policy_data := {\n \"containers\": [{\"OCI\": {}}]\n}\nx := 1\n";
        assert_eq!(policy_data(policy).unwrap()["containers"][0], serde_json::json!({ "OCI": {} }));
        assert_eq!(policy_data("policy_data := concat(1)"), None);
        assert_eq!(policy_data("package a\nallow := policy_data.x"), None);
        assert_eq!(policy_data(""), None);
    }

    #[test]
    fn init_data_claims_are_the_entries_that_are_toml() {
        let text = "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"aa.toml\" = '''\n[a]\nb = 1\n'''\n\
            \"broken.toml\" = \"=\"\n\"policy.rego\" = '''\npackage agent_policy\npolicy_data := {\"containers\": []}\n'''\n";
        let claims = init_data_claims(&InitData::parse(text.as_bytes()).unwrap());
        assert_eq!(
            claims,
            serde_json::json!({ "aa.toml": {"a": {"b": 1}}, "agent_policy_claims": {"containers": []} })
        );
    }
}
