//! What can go wrong between an owner and a broker, in words that name the next step.

use std::path::PathBuf;

use coffer_core_admin::Cause;
use coffer_core_protocol::error::ErrorBody;

/// A call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The broker's address is not `https://host[:port]`.
    #[error("the broker's address {found:?} is not of the form https://host:port")]
    Address {
        /// What was given.
        found: String,
    },
    /// The pinned certificate authority cannot be used.
    #[error("the broker's certificate authority cannot be used: {0}; expected one certificate in PEM")]
    Authority(String),
    /// The admin's key cannot be used.
    #[error("the admin's key cannot be used: {0}; expected an Ed25519 private key in PKCS#8 PEM")]
    AdminKey(String),
    /// The file with the admin's token cannot be used.
    #[error("the token file {path} cannot be used: {why}; expected one JWT, as an OpenID issuer gives it", path = .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What the broker sent could not be written here.
    #[error("what the broker sent cannot be written: {0}; make room, or name another file")]
    Write(#[source] std::io::Error),
    /// A resource's path is not of the form that the protocol has.
    #[error("{found:?} is not a resource path; expected repository/type/tag, as in default/key/1: {why}")]
    Path {
        /// What was given.
        found: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection, or it broke.
    #[error("the broker at {url} was not reached: {why}")]
    Unreachable {
        /// The broker's address.
        url: String,
        /// The cause.
        why: String,
    },
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The broker's answer is not what the protocol says.
    #[error("the broker's answer to {what} is not as the protocol says: {why}")]
    Answer {
        /// Which call.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The handshake failed on this side.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

impl ClientError {
    /// The broker's refusal, if this is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// The broker's refusal, as it said it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the broker refused ({status}, {code}): {}{}", sentence(.detail), next_step(.causes, .remedy))]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Stable and dotted; `http.<status>` if the server gave none, as upstream servers do.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
    /// The failed checks, first cause first.
    pub causes: Vec<Cause>,
    /// What to do, unless a cause says it better.
    pub remedy: Option<String>,
    /// The attempt that `coffer explain` can show.
    pub attempt: Option<String>,
}

/// With its full stop; titles of checks have none.
fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_string() } else { format!("{text}.") }
}

fn next_step(causes: &[Cause], remedy: &Option<String>) -> String {
    let first = causes.iter().find_map(|cause| cause.remedy.as_deref()).or(remedy.as_deref());
    first.map(|remedy| format!(" {remedy}")).unwrap_or_default()
}

impl Refusal {
    /// Reads an error body; a body that is not one gives a refusal without detail.
    pub(crate) fn from_answer(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(body) => Self::from_body(status, body),
            Err(_) => Self {
                status,
                code: format!("http.{status}"),
                detail: "The server gave no reason.".to_string(),
                causes: Vec::new(),
                remedy: None,
                attempt: None,
            },
        }
    }

    pub(crate) fn from_body(status: u16, body: ErrorBody) -> Self {
        Self {
            status,
            code: body.code.unwrap_or_else(|| format!("http.{status}")),
            detail: body.detail,
            causes: body.causes,
            remedy: body.remedy,
            attempt: body.attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_error_body_without_code_is_understood() {
        let body =
            br#"{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"no"}"#;
        let refusal = Refusal::from_answer(401, body);
        assert_eq!((refusal.code.as_str(), refusal.detail.as_str()), ("http.401", "no"));
    }

    #[test]
    fn a_body_that_is_not_json_still_gives_a_refusal() {
        assert_eq!(Refusal::from_answer(502, b"<html>").code, "http.502");
    }

    #[test]
    fn a_refusal_is_told_with_its_remedy() {
        let body = br#"{"type":"t","detail":"It differs.","code":"a.b","causes":[{"code":"a.b","title":"t","remedy":"Measure again."}]}"#;
        let text = Refusal::from_answer(403, body).to_string();
        assert!(text.contains("It differs. Measure again."), "{text}");
    }
}
