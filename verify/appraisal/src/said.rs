//! What an owner's appraisal policy said, as checks: `appraisal.executables` and so on.

use coffer_core_evidence::ar4si::{Appraiser, Status, TrustVector};
use coffer_verify_api::Check;
use serde_json::Value;

use crate::trust::of_software;

/// The policy's answer.
pub(crate) struct Said {
    pub(crate) trust: TrustVector,
    pub(crate) identifiers: Option<Value>,
    /// The group `appraisal`.
    pub(crate) check: Check,
}

/// Asks the policy about evidence of hardware, or else of software. One that gives no answer affirms nothing.
pub(crate) fn by_policy(policy: &dyn Appraiser, evidence: &Value, hardware: bool) -> Said {
    let group = |children| Check::group("appraisal", "The owner's appraisal policy", children);
    match policy.appraise(evidence) {
        Ok(appraised) => {
            let (trust, unearned) = match hardware {
                true => (appraised.trust, Vec::new()),
                false => of_software(appraised.trust),
            };
            let claims = trust.claims().into_iter().filter(|(_, value)| *value != 0);
            let mut children: Vec<Check> = claims.map(|(name, value)| claim(name, value)).collect();
            let nothing = children.is_empty();
            children.extend(unearned.into_iter().map(no_hardware));
            if nothing {
                let nothing =
                    Check::unavailable("appraisal.nothing", "The policy claims nothing of this evidence");
                children.push(nothing.expected("a claim such as `executables`").remedy(
                    "Add rules for this kind of evidence to the appraisal policy; see `coffer policy check`.",
                ));
            }
            Said { trust, identifiers: appraised.identifiers, check: group(children) }
        }
        Err(error) => {
            let failed =
                Check::failed("appraisal.no-answer", "The policy gave no answer, so nothing is affirmed")
                    .found(error.to_string())
                    .remedy("Mend the appraisal policy; see `coffer policy check`.");
            Said { trust: TrustVector::default(), identifiers: None, check: group(vec![failed]) }
        }
    }
}

fn no_hardware(name: &str) -> Check {
    let noun = name.replace('-', " ");
    let title =
        format!("The policy affirms the {noun}, which counts for nothing: the evidence is from software");
    Check::informational(format!("appraisal.{name}"), title).expected("evidence of hardware").found("0")
}

fn claim(name: &str, value: i16) -> Check {
    let code = format!("appraisal.{name}");
    let noun = name.replace('-', " ");
    let check = match Status::of_claim(value) {
        Status::Affirming => Check::passed(code, format!("The policy affirms the {noun}")),
        Status::Warning => Check::warning(code, format!("The policy warns of the {noun}")),
        Status::Contraindicated => Check::failed(code, format!("The policy refuses the {noun}")),
        Status::None => Check::informational(code, format!("The policy says nothing of the {noun}")),
    };
    check
        .expected("2 to 31")
        .found(meaning(name, value))
        .source("draft-ietf-rats-ar4si, section 2.3.4")
        .remedy(
            "Look at the policy's rules for this claim, and at the values that it asks for with \
             `query_reference_value`.",
        )
}

/// The value in words, as far as the draft has words for it.
fn meaning(name: &str, value: i16) -> String {
    let words = match (name, value) {
        ("executables", 33) => "code that is not recognized",
        ("executables", 96) => "code that is known to be bad",
        ("hardware", 32) => "known vulnerabilities in genuine hardware or firmware",
        ("hardware", 96) => "hardware that is not to be trusted",
        ("hardware", 97) => "hardware or firmware that is not recognized",
        ("configuration", 32) => "known vulnerabilities in the configuration",
        ("configuration", 36) => "configuration that cannot be seen",
        ("configuration", 96) => "configuration that is not to be trusted",
        ("file-system", 35 | 96) => "a file system that is not recognized or not to be trusted",
        ("instance-identity", 96) => "an instance that is known to be compromised",
        ("instance-identity", 97) => "an instance that is not recognized",
        _ => return value.to_string(),
    };
    format!("{value}: {words}")
}
