//! The attestation result that resource policies get as their input.
//!
//! SPEC: kbs-protocol, "EAR token claims". Only what policies look at: no times and no issuer, which replay has not.

use coffer_verify_api::Verdict;
use serde_json::{Value, json};

/// The result of an appraisal, as in a token.
pub fn result(attempt: &str, verdict: &Verdict, mut evidence: Value) -> Value {
    let cause = |check: &coffer_verify_api::Check| {
        let mut cause = json!({ "code": check.code, "title": check.title });
        for (name, text) in
            [("expected", &check.expected), ("found", &check.found), ("remedy", &check.remedy)]
        {
            if let (Some(text), Some(cause)) = (text, cause.as_object_mut()) {
                cause.insert(name.to_owned(), text.clone().into());
            }
        }
        cause
    };
    let causes: Vec<Value> = verdict.causes().into_iter().map(cause).collect();
    if let Some(evidence) = evidence.as_object_mut() {
        let about = json!({ "attempt": attempt, "hardware": verdict.hardware, "causes": causes });
        evidence.insert("coffer".to_owned(), about);
        // The verdict's claims have what the appraisal added: the reference value that affirmed.
        if let Some(claims) = evidence.get_mut(verdict.tee.name()).and_then(Value::as_object_mut)
            && let Some(reference) = verdict.claims.get("reference")
        {
            claims.insert("reference".to_owned(), reference.clone());
        }
    }
    let mut cpu = json!({
        "ear.status": verdict.status,
        "ear.trustworthiness-vector": verdict.trust,
        "ear.veraison.annotated-evidence": evidence,
    });
    if let (Some(identifiers), Some(cpu)) = (&verdict.identifiers, cpu.as_object_mut()) {
        cpu.insert("ear.trustee.identifiers".to_owned(), identifiers.clone());
    }
    json!({ "submods": { "cpu0": cpu } })
}
