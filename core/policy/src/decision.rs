//! What a policy answered: its denials, each with a code and words for a person.

use regorus::Value as Rego;
use serde::{Deserialize, Serialize};

use crate::PolicyError;

const CODE_LIMIT: usize = 128;

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Why not, in the order of their text. Empty means allowed.
    pub denials: Vec<Denial>,
    /// Whether the policy names software evidence: its rule `insecure_software_evidence` is true.
    #[serde(default)]
    pub names_software: bool,
}

impl Decision {
    /// Whether nothing denies.
    pub fn is_allowed(&self) -> bool {
        self.denials.is_empty()
    }

    /// The decision of evidence from software.
    ///
    /// INVARIANT I-6: denied unless the policy names such evidence, whatever its other rules say.
    #[must_use]
    pub fn of_software(mut self) -> Self {
        let denial = Denial::software();
        if !self.names_software && self.denials.iter().all(|own| own.code != denial.code) {
            self.denials.push(denial);
            self.denials.sort();
        }
        self
    }
}

/// One reason why not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Denial {
    /// Stable and dotted, as in `policy.software-evidence`.
    #[serde(default = "unnamed")]
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

fn unnamed() -> String {
    "policy.denied".to_string()
}

impl Denial {
    fn with_message(code: &str, message: &str) -> Self {
        let (code, message) = (code.to_string(), message.to_string());
        Self { code, message, expected: None, found: None, remedy: None }
    }

    /// In the words of the broker's policy `default`.
    fn software() -> Self {
        let message = "The evidence is from software, which protects nothing from its host; the policy asks for hardware.";
        Self {
            expected: Some("evidence rooted in TEE hardware".to_string()),
            found: Some("evidence of a software TPM".to_string()),
            remedy: Some(
                "Run on TEE hardware. In a lab: `coffer policy set --preset insecure-lab`, or \
                 `insecure_software_evidence := true` in a policy of your own."
                    .to_string(),
            ),
            ..Self::with_message("policy.software-evidence", message)
        }
    }

    pub(crate) fn not_allowed() -> Self {
        Self::with_message("policy.not-allowed", "No rule of the policy allows this.")
    }

    fn from_rego(value: &Rego) -> Result<Self, PolicyError> {
        let wrong = PolicyError::Type {
            rule: "deny",
            expected: "a set of strings or of objects {code, message, expected, found, remedy}",
            found: kind(value),
        };
        match value {
            Rego::String(message) => Ok(Self::with_message(&unnamed(), message)),
            Rego::Object(_) => {
                let json = value.to_json_str().map_err(|_| wrong)?;
                let mut denial: Self = serde_json::from_str(&json).map_err(|error| {
                    PolicyError::Evaluation(format!("a denial is not as expected: {error}"))
                })?;
                let well_formed =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
                if denial.code.is_empty()
                    || denial.code.len() > CODE_LIMIT
                    || !denial.code.chars().all(well_formed)
                {
                    denial.code = unnamed();
                }
                Ok(denial)
            }
            _ => Err(wrong),
        }
    }
}

/// Reads the value of `deny`.
pub(crate) fn denials(value: &Rego) -> Result<Vec<Denial>, PolicyError> {
    let mut denials: Vec<Denial> = match value {
        Rego::Undefined | Rego::Bool(false) => Vec::new(),
        Rego::Bool(true) => vec![Denial::with_message(&unnamed(), "The policy denies this.")],
        Rego::Set(items) => items.iter().map(Denial::from_rego).collect::<Result<_, _>>()?,
        Rego::Array(items) => items.iter().map(Denial::from_rego).collect::<Result<_, _>>()?,
        other => vec![Denial::from_rego(other)?],
    };
    denials.sort();
    Ok(denials)
}

/// Reads the value of `allow`. Where denials decide, an undefined `allow` says nothing; alone it does not allow.
pub(crate) fn allows(value: &Rego, denials_decide: bool) -> Result<bool, PolicyError> {
    match value {
        Rego::Bool(allowed) => Ok(*allowed),
        Rego::Undefined => Ok(denials_decide),
        other => Err(PolicyError::Type { rule: "allow", expected: "true or false", found: kind(other) }),
    }
}

/// Reads the value of `insecure_software_evidence`.
pub(crate) fn names_software(value: &Rego) -> bool {
    matches!(value, Rego::Bool(true))
}

pub(crate) fn kind(value: &Rego) -> &'static str {
    match value {
        Rego::Null => "null",
        Rego::Bool(_) => "a truth value",
        Rego::Number(_) => "a number",
        Rego::String(_) => "a string",
        Rego::Array(_) => "an array",
        Rego::Set(_) => "a set",
        Rego::Object(_) => "an object",
        Rego::Undefined => "nothing",
        // Which kinds there are depends on the engine's features, which other crates may turn on.
        #[allow(unreachable_patterns)]
        _ => "another type",
    }
}
