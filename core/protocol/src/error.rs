//! What a refusal looks like on the wire: the body that KBS peers know, with our stable codes beside it.
//!
//! The set of codes is closed. Each has one HTTP status, one upstream variant, a title and a remedy, so that the
//! documentation is made from [`Code::all`]. 401 is for authentication only: a KBS client answers it by
//! attesting again, which helps neither a refused policy nor a missing resource.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What stands before the variant in `type`.
pub const TYPE_PREFIX: &str = "https://github.com/confidential-containers/kbs/errors/";

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $variant:literal, $title:literal, $remedy:literal;)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $code, "`: ", $title, ".")] $name,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const fn all() -> &'static [Self] {
                &[$(Self::$name),*]
            }

            /// The stable dotted name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// The upstream error's name in `type`.
            pub const fn variant(self) -> &'static str {
                match self { $(Self::$name => $variant),* }
            }

            /// What happened, for a person.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What to do, unless something better is known.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

codes! {
    Malformed = "request.malformed", 400, "SerdeError",
        "The request is not the JSON that this call asks for",
        "Compare the request with the KBS protocol 0.4; the detail names the member.";
    TooLarge = "request.too-large", 413, "SerdeError",
        "The request is longer than this call accepts",
        "Send less: drop event logs or device evidence that no policy asks for.";
    RateLimited = "request.rate-limited", 429, "HTTPFailed",
        "Too many requests",
        "Wait for the time in Retry-After, then try again.";
    RouteUnknown = "request.route", 404, "InvalidRequestPath",
        "There is no such call",
        "Calls begin with /kbs/v0/.";
    Version = "protocol.version", 400, "AttestationError",
        "The protocol version is outside the range that is spoken here",
        "Use a client that speaks KBS protocol 0.1 to 0.4.";
    TeeUnsupported = "protocol.tee", 400, "AttestationError",
        "No judge for this TEE is configured",
        "Configure a verifier for the TEE, or attest from another one.";
    HashUnsupported = "protocol.hash-algorithm", 400, "AttestationError",
        "No hash algorithm is known to both ends",
        "Offer sha256, sha384 or sha512.";
    KeyUnsupported = "protocol.tee-key", 400, "JweError",
        "The guest's public key is of no supported kind",
        "Use an EC key on P-256 or P-521 (ECDH-ES+A256KW), an RSA key of 2048 bits or more (RSA-OAEP-256), or an AKP key (ML-KEM-768+A192KW, ECDH-ES+ML-KEM-768+A256KW).";
    DeviceUnsupported = "protocol.device", 400, "AttestationError",
        "No judge for this kind of device is configured",
        "Send the evidence of devices that are judged here; the detail names them.";
    AdditionalEvidence = "protocol.additional-evidence", 400, "AttestationError",
        "The device evidence is not the JSON text of a map from kind to evidence",
        "Send {\"nvidia\":{\"device_evidence_list\":[…]}} as a string, or an empty string.";
    InitDataFormat = "protocol.init-data", 400, "AttestationError",
        "The init-data is not TOML in the form of the protocol",
        "Send {\"format\":\"toml\",\"body\":…} with the text that was measured.";
    ChallengeMissing = "challenge.missing", 401, "AttestationError",
        "The request has no challenge cookie",
        "Call auth first and send the cookie kbs-session-id back.";
    ChallengeMalformed = "challenge.malformed", 401, "AttestationError",
        "The challenge cookie is not one",
        "Call auth again and send the cookie back unchanged.";
    ChallengeForeign = "challenge.foreign", 401, "AttestationError",
        "The challenge was sealed by another cluster, or under a key that is out of use",
        "Call auth again, and attest to the same broker.";
    ChallengeTampered = "challenge.tampered", 401, "AttestationError",
        "The challenge cookie was changed",
        "Call auth again and send the cookie back unchanged.";
    ChallengeExpired = "challenge.expired", 401, "AttestationError",
        "The challenge is too old",
        "Call auth again and attest at once.";
    ChallengeFuture = "challenge.future", 401, "AttestationError",
        "The challenge was made in the future",
        "Set the clocks of the broker's replicas.";
    ChallengeTee = "challenge.tee", 401, "AttestationError",
        "The challenge was made for a TEE that is not judged here",
        "Call auth again and name the TEE of the evidence.";
    ChallengeNonce = "challenge.nonce", 401, "AttestationError",
        "The evidence answers another challenge",
        "Put the nonce of the latest auth reply into runtime-data.";
    AttestationRefused = "attestation.refused", 403, "AttestationError",
        "The evidence was judged and refused",
        "Read the causes; each has its own remedy.";
    AttestationUnavailable = "attestation.unavailable", 503, "AttestationError",
        "The evidence could not be judged now",
        "Make the named collateral available, then try again.";
    TokenMissing = "token.missing", 401, "TokenNotFound",
        "The request has no attestation token",
        "Attest first and send the token as a bearer.";
    TokenInvalid = "token.invalid", 401, "TokenVerifierError",
        "The attestation token is not one of this broker",
        "Attest again.";
    TokenExpired = "token.expired", 401, "TokenVerifierError",
        "The attestation token is too old",
        "Attest again.";
    TokenAttempt = "token.attempt", 401, "TokenVerifierError",
        "The attempt that the token comes from can have no further decisions written down",
        "Attest again.";
    PolicyDenied = "policy.denied", 403, "PolicyDeny",
        "The resource policy denies the request",
        "Read the causes, or change the resource policy.";
    ResourcePath = "resource.path", 404, "InvalidRequestPath",
        "The path names no resource",
        "Use /kbs/v0/resource/<repository>/<type>/<tag>.";
    ResourceMissing = "resource.missing", 404, "PluginInternalError",
        "There is no such resource",
        "Put it with `coffer secret put`, or correct the path.";
    PluginUnsupported = "resource.plugin", 404, "PluginNotFound",
        "There is no such plugin",
        "Resources are kbs:///repository/type/tag; plugins are configured by the operator.";
    ResourceRevoked = "resource.revoked", 403, "PolicyDeny",
        "The resource was revoked and is released to nobody",
        "Ask the owner; a new version is stored with `coffer secret put`.";
    ResourceExpired = "resource.expired", 403, "PolicyDeny",
        "The resource's time is over",
        "Ask the owner; a new version is stored with `coffer secret put --expires-at`.";
    ResourceSpent = "resource.spent", 403, "PolicyDeny",
        "The resource was released to as many guests as its owner allowed",
        "Ask the owner; a new version has a count of its own.";
    ResourceSource = "resource.source", 503, "PluginInternalError",
        "The vault that holds the resource does not answer",
        "Try again soon; the broker's log says which vault and why.";
    PluginFault = "plugin.fault", 502, "PluginInternalError",
        "The plugin failed or gave no usable answer",
        "Read the broker's log and the plugin's.";
    PluginUnavailable = "plugin.unavailable", 503, "PluginInternalError",
        "The plugin does not answer",
        "Try again soon; the broker's log says why.";
    TenantUnknown = "tenant.unknown", 404, "InvalidRequestPath",
        "There is no such tenant",
        "Correct the path /t/<tenant>/ or the host name, or ask the operator.";
    QuotaExceeded = "tenant.quota", 403, "PluginInternalError",
        "The tenant has as much of this as it may have",
        "Remove what is not needed, or ask the operator for a larger quota.";
    ChangedMeanwhile = "store.changed-meanwhile", 503, "StorageBackendInitialization",
        "What the decision rests on was changed again and again while it was made",
        "Try again.";
    Conflict = "resource.conflict", 409, "PluginInternalError",
        "The request contradicts what is stored",
        "Read the present state, then try again.";
    CounterConflict = "counter.conflict", 409, "PluginInternalError",
        "The counter is not where the request says that it is",
        "Read the counter again. If another guest has the volume open, end it first.";
    AdminUnauthenticated = "admin.unauthenticated", 401, "AdminAuthAccess",
        "The request carries no token of an admin of this tenant",
        "Use a key that is an admin's here, as the one that the broker made at its first start, or a token of a trusted issuer.";
    AdminForbidden = "admin.forbidden", 403, "AdminAuthAccess",
        "This admin may not do that",
        "Ask an admin who may.";
    PolicyInvalid = "policy.invalid", 400, "ParsePolicyError",
        "The policy does not compile",
        "Correct the policy; the detail names the line.";
    PolicyFault = "policy.fault", 500, "PolicyEngineError",
        "The policy could not be evaluated",
        "Correct the policy; the detail says what it did.";
    ReferenceInvalid = "reference.invalid", 400, "RvpsError",
        "The reference value is not in a known form",
        "Make it with `coffer measure`, or use the form of the protocol.";
    ReferenceIncomplete = "reference.incomplete", 400, "RvpsError",
        "The reference value leaves registers of the guest to its host",
        "Make it with `coffer measure`, which names all of them.";
    CollateralKey = "collateral.key", 400, "SerdeError",
        "A name is that of no collateral",
        "Write it as the list does, as in intel/tdx/tcb-info/b0c06f000000.";
    CollateralInvalid = "collateral.invalid", 400, "SerdeError",
        "The collateral is not in a known form",
        "Import a bundle that `coffer collateral export` made, or a vendor's document.";
    CollateralFull = "collateral.full", 503, "StorageBackendInitialization",
        "The cache of collateral did not take the document",
        "Make room: remove documents, or raise max_disk in the broker's configuration.";
    Seal = "resource.seal", 500, "JweError",
        "The resource could not be encrypted to the guest's key",
        "Attest again; if it happens twice, read the broker's log.";
    StoreUnavailable = "store.unavailable", 503, "StorageBackendInitialization",
        "The store does not answer",
        "Read the broker's log; nothing was released.";
    Internal = "internal", 500, "PluginInternalError",
        "The broker failed",
        "Read the broker's log at the attempt's name.";
}

impl Code {
    /// The value of `type` in the body.
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.variant())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is none of the codes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no error code")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let found = Self::all().iter().find(|code| code.as_str() == text).copied();
        found.ok_or_else(|| UnknownCode(text.chars().take(64).collect()))
    }
}

/// One reason of a refusal, as a verdict tree or a policy gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Stable and dotted, as in `measurement.command-line`.
    pub code: String,
    /// What happened, for a person.
    pub title: String,
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

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Upstream's name for the error, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, for a person.
    pub detail: String,
    /// Our stable code. Other brokers send none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The broker's name for the attempt, for `coffer explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

impl ErrorBody {
    /// A body with the code's own remedy.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: code.type_uri(),
            detail: detail.into(),
            code: Some(code.as_str().to_owned()),
            causes: Vec::new(),
            remedy: Some(code.remedy().to_owned()),
            attempt: None,
        }
    }

    /// Adds the reasons.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.causes = causes;
        self
    }

    /// Names the attempt.
    #[must_use]
    pub fn with_attempt(mut self, attempt: impl Into<String>) -> Self {
        self.attempt = Some(attempt.into());
        self
    }

    /// Our code, if this is a body of ours.
    pub fn known_code(&self) -> Option<Code> {
        self.code.as_deref().and_then(|code| code.parse().ok())
    }
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.code.as_deref().unwrap_or_else(|| self.kind.trim_start_matches(TYPE_PREFIX));
        write!(f, "{name}: {}", self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What Trustee 0.21 knows; a body with another variant would confuse its clients.
    const UPSTREAM: [&str; 19] = [
        "AdminAuthInitialization",
        "AdminAuthAccess",
        "AttestationError",
        "HTTPFailed",
        "HTTPSFailed",
        "InvalidRequestPath",
        "JweError",
        "PluginManagerInitialization",
        "PluginNotFound",
        "PluginInternalError",
        "PolicyDeny",
        "ParsePolicyError",
        "PolicyEngineError",
        "RvpsError",
        "SerdeError",
        "StorageBackendInitialization",
        "TokenNotFound",
        "TokenVerifierError",
        "PrometheusError",
    ];

    #[test]
    fn codes_are_distinct_dotted_kebab_and_of_upstream_s_variants() {
        let mut seen = BTreeSet::new();
        for code in Code::all() {
            let name = code.as_str();
            assert!(seen.insert(name), "{name} twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'-'), "{name}");
            assert_eq!(name.parse(), Ok(*code));
            assert!(UPSTREAM.contains(&code.variant()), "{name}");
            assert!((400..600).contains(&code.status()), "{name}");
            assert!(code.remedy().ends_with('.') && !code.title().ends_with('.'), "{name}");
        }
    }

    #[test]
    fn unauthenticated_is_said_only_where_authenticating_again_can_help() {
        for code in Code::all().iter().filter(|code| code.status() == 401) {
            let area = code.as_str().split('.').next().unwrap();
            assert!(["challenge", "token", "admin"].contains(&area), "{code}");
        }
    }

    #[test]
    fn an_upstream_body_is_read_and_ours_has_upstream_s_members() {
        let theirs =
            r#"{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"no"}"#;
        let body: ErrorBody = serde_json::from_str(theirs).unwrap();
        assert_eq!((body.known_code(), body.to_string().as_str()), (None, "PolicyDeny: no"));
        let ours = serde_json::to_value(ErrorBody::new(Code::PolicyDenied, "no").with_attempt("ab")).unwrap();
        assert_eq!(ours["type"], format!("{TYPE_PREFIX}PolicyDeny"));
        assert_eq!((ours["detail"].as_str(), ours["code"].as_str()), (Some("no"), Some("policy.denied")));
    }

    #[test]
    fn a_text_that_is_no_code_is_refused() {
        assert_eq!("policy.maybe".parse::<Code>(), Err(UnknownCode("policy.maybe".into())));
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = include_str!("../../../docs/codes.md");
        let row = |code: &Code| format!("| `{code}` | {} | {} |", code.status(), code.variant());
        let missing: Vec<String> = Code::all().iter().map(row).filter(|row| !page.contains(row)).collect();
        assert_eq!(missing, Vec::<String>::new(), "docs/codes.md");
    }
}
