//! Whether a reference value may affirm anybody, and when.

use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{Check, Timestamp};

/// A reference value's standing at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// It holds.
    Valid,
    /// It leaves these registers to the host, so it holds for nobody.
    Incomplete(Vec<String>),
    /// From this time on it does not.
    Expired(String),
    /// It does not before this time.
    NotYet(String),
    /// A time in it cannot be read, so it is not known when it holds.
    Unreadable(String),
}

impl Validity {
    pub(crate) fn of(reference: &ReferenceValues, at: Timestamp) -> Self {
        let missing = reference.missing_registers();
        if !missing.is_empty() {
            return Self::Incomplete(missing);
        }
        let read = |text: &String| text.parse::<Timestamp>().map_err(|_| Self::Unreadable(text.clone()));
        let judged = (|| {
            if let Some(text) = &reference.not_before
                && at < read(text)?
            {
                return Err(Self::NotYet(text.clone()));
            }
            if let Some(text) = &reference.expires
                && at >= read(text)?
            {
                return Err(Self::Expired(text.clone()));
            }
            Ok(Self::Valid)
        })();
        judged.unwrap_or_else(|invalid| invalid)
    }

    pub(crate) fn is_valid(&self) -> bool {
        *self == Self::Valid
    }

    /// The check that says so.
    pub(crate) fn check(&self, reference: &ReferenceValues, at: Timestamp) -> Check {
        let id = reference.id();
        let check = match self {
            Self::Valid => Check::passed("reference.valid", format!("The reference value {id} is valid")),
            Self::Incomplete(missing) => Check::failed(
                "reference.incomplete",
                format!("The reference value {id} leaves registers to the host"),
            )
            .expected(format!("values for {}, too", missing.join(", "))),
            Self::Expired(text) => {
                Check::failed("reference.expired", format!("The reference value {id} has expired"))
                    .expected(format!("a time before {text}"))
            }
            Self::NotYet(text) => {
                Check::failed("reference.not-yet-valid", format!("The reference value {id} is not valid yet"))
                    .expected(format!("{text} or later"))
            }
            Self::Unreadable(text) => Check::failed(
                "reference.unreadable-time",
                format!("A time in reference value {id} is unreadable"),
            )
            .expected(format!("a time as in RFC 3339 instead of {text:?}")),
        };
        let found = match self {
            Self::Incomplete(_) => {
                let named: Vec<&str> = reference.registers().keys().map(String::as_str).collect();
                named.join(", ")
            }
            _ => at.to_string(),
        };
        check
            .found(found)
            .source(crate::source(reference))
            .remedy("Predict it again with `coffer measure` and add it with `coffer ref add`.")
    }
}
