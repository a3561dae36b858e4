//! Why somebody is not known, may not, or cannot be told; and why a setting is refused.

use std::time::Duration;

use coffer_core_admin::Role;

use crate::algorithm::Algorithm;
use crate::permission::Permission;
use crate::roles::RoleSet;
use crate::scope::Scope;

/// The token or certificate shows nobody that is known here. For logs; a caller is told [`Unauthenticated::code`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// There is neither.
    #[error("no bearer token and no client certificate; send one")]
    Nothing,
    /// It is longer than any token.
    #[error("the token has {found} bytes; at most {limit} are read")]
    TooLong {
        /// The bound.
        limit: usize,
        /// Its length.
        found: usize,
    },
    /// It is not a signed JWT in compact form.
    #[error("not a signed JWT: {0}")]
    Form(&'static str),
    /// Header or claims are not JSON objects, or have a member twice.
    #[error("the token's {part} are not an object that can be read in one way: {why}")]
    Json {
        /// Header or claims.
        part: &'static str,
        /// Why not.
        why: String,
    },
    /// An extension must be understood (RFC 7515, section 4.1.11).
    #[error("the token has critical extensions (crit); none is known")]
    Critical,
    /// It is a token for another use (RFC 8725, section 3.11).
    #[error("the token's type is {0:?}; expected JWT or at+jwt")]
    Type(String),
    /// The header names an algorithm that is not allowed or not the key's.
    #[error("signature algorithm {found:?} is not accepted; expected {expected}")]
    Algorithm {
        /// What is accepted.
        expected: String,
        /// What the header says.
        found: String,
    },
    /// No key and no issuer that is known here made it.
    #[error("no key and no issuer of {0} made the token; sign with a key that it knows, or add the issuer")]
    UnknownSigner(Scope),
    /// The issuer has no such key.
    #[error(
        "issuer {issuer} has no key {key:?} that fits; the token may be signed with a key that was withdrawn"
    )]
    UnknownKey {
        /// The issuer's name.
        issuer: String,
        /// The header's `kid`.
        key: String,
    },
    /// It names no key, and there are too many to try.
    #[error(
        "the token names no key (kid), and there are more than {0} that it could be; add kid to its header"
    )]
    KeyNotNamed(usize),
    /// The signature does not fit.
    #[error("the signature does not fit: another key signed, or the token was changed")]
    Signature,
    /// A claim is missing.
    #[error("the token has no claim {0:?}")]
    Missing(String),
    /// A claim has another type.
    #[error("the token's claim {claim:?} is not {expected}")]
    ClaimType {
        /// The claim.
        claim: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A claim that must have one value has another.
    #[error("the token's claim {0:?} does not have the value that is required of it")]
    Required(String),
    /// It is for somebody else.
    #[error("the token is for another audience; expected {0}")]
    Audience(String),
    /// It is for another tenant.
    #[error("the token does not speak for {0}")]
    OtherTenant(Scope),
    /// It has ended.
    #[error("the token ended at {ended}; now it is {now}; get a new one")]
    Expired {
        /// Its end.
        ended: u64,
        /// The time.
        now: u64,
    },
    /// It has not begun.
    #[error("the token begins at {begins}; now it is {now}; compare the clocks")]
    NotYet {
        /// Its beginning.
        begins: u64,
        /// The time.
        now: u64,
    },
    /// It is good for too long.
    #[error("the token is good for {found} s; at most {limit} s are accepted")]
    Lifetime {
        /// The bound.
        limit: u64,
        /// Its length.
        found: u64,
    },
    /// The local key is of no more use.
    #[error("the key {name:?} ended at {ended}; add a new one")]
    KeyExpired {
        /// Its name.
        name: String,
        /// Its end.
        ended: u64,
    },
    /// The token is bound to a certificate or key that did not come with it (RFC 8705, RFC 9449).
    #[error("the token is bound to a key (cnf) that this connection does not show")]
    Bound,
    /// The certificate is not one that a rule names.
    #[error("no rule of {0} names the client certificate")]
    UnknownCertificate(Scope),
    /// The certificate cannot be read.
    #[error("the client certificate cannot be read: {0}")]
    Certificate(String),
    /// The issuer's keys cannot be had now. Not the caller's fault.
    #[error("the keys of issuer {issuer} cannot be had: {why}")]
    Unavailable {
        /// The issuer's name.
        issuer: String,
        /// Why.
        why: FetchError,
    },
}

impl Unauthenticated {
    /// A stable code for callers, logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nothing => "admin.no-token",
            Self::TooLong { .. } | Self::Form(_) | Self::Json { .. } | Self::Critical | Self::Type(_) => {
                "admin.malformed-token"
            }
            Self::Algorithm { .. } => "admin.algorithm",
            Self::UnknownSigner(_) | Self::UnknownKey { .. } | Self::KeyNotNamed(_) => "admin.unknown-key",
            Self::Signature => "admin.signature",
            Self::Missing(_) | Self::ClaimType { .. } | Self::Required(_) => "admin.claims",
            Self::Audience(_) | Self::OtherTenant(_) => "admin.audience",
            Self::Expired { .. } | Self::KeyExpired { .. } => "admin.expired",
            Self::NotYet { .. } => "admin.not-yet",
            Self::Lifetime { .. } => "admin.lifetime",
            Self::Bound => "admin.bound-token",
            Self::UnknownCertificate(_) | Self::Certificate(_) => "admin.certificate",
            Self::Unavailable { .. } => "admin.issuer-unavailable",
        }
    }

    /// The HTTP status: 503 where the issuer cannot be reached, else 401.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unavailable { .. } => 503,
            _ => 401,
        }
    }
}

/// The identity is known and may not. The HTTP status is 403.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The identity belongs elsewhere.
    #[error("the admin is one of {found}, and has no role in {expected}")]
    Scope {
        /// What was asked for.
        expected: Scope,
        /// Where the roles count.
        found: Scope,
    },
    /// No role allows it.
    #[error("to {permission} one of the roles {} is needed; the admin has {found}", list(.needed))]
    Role {
        /// What was asked for.
        permission: Permission,
        /// The roles that would do.
        needed: &'static [Role],
        /// The roles that there are.
        found: RoleSet,
    },
    /// The permission does not exist there.
    #[error("to {permission} has no meaning in {target}")]
    Level {
        /// What was asked for.
        permission: Permission,
        /// Where.
        target: Scope,
    },
    /// Only an owner makes owners.
    #[error("only an owner appoints, changes or removes an owner; the admin has {found}")]
    Appointment {
        /// The roles that there are.
        found: RoleSet,
    },
    /// The role does not exist in this scope.
    #[error("{scope} has no role {role}")]
    Elsewhere {
        /// The role.
        role: Role,
        /// Where.
        scope: Scope,
    },
}

impl Forbidden {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Scope { .. } | Self::Level { .. } => "admin.other-tenant",
            Self::Role { .. } => "admin.role",
            Self::Appointment { .. } | Self::Elsewhere { .. } => "admin.appointment",
        }
    }
}

fn list(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

/// Why a text is not a public key that verifies tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither a JWK nor PEM.
    #[error("not a public key: {0}; expected a JWK, or PEM with a PUBLIC KEY block")]
    Form(&'static str),
    /// A member is missing or is no base64url text.
    #[error("the key's member {0:?} is missing, or is not base64url without padding")]
    Member(&'static str),
    /// The kind or curve is not supported.
    #[error("keys of kind {0:?} do not verify tokens here; expected EC on P-256 or P-384, RSA, or Ed25519")]
    Kind(String),
    /// The point or modulus is not one.
    #[error("the key is not usable: {0}")]
    Material(&'static str),
    /// The key's `alg` is not one of its kind's.
    #[error("the key is for algorithm {0:?}, which is not one of its kind")]
    Algorithm(String),
    /// The key is for another use.
    #[error("the key is not for signatures (use, key_ops)")]
    Use,
    /// The private part came too.
    #[error("the key holds its private part; it is no longer secret, make a new one")]
    Private,
    /// A local key must be of these kinds.
    #[error("a local key is Ed25519 or EC on P-256; this one is for {0}")]
    Local(Algorithm),
}

/// Why keys could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody fetched them.
    #[error("they were not fetched")]
    NotFetched,
    /// The client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
    /// The source does not answer as it should.
    #[error("{source_url}: {why}")]
    Failed {
        /// The address or file.
        source_url: String,
        /// Why.
        why: String,
    },
    /// It takes too long.
    #[error("{source_url}: no answer within {limit:?}")]
    TimedOut {
        /// The address or file.
        source_url: String,
        /// The bound.
        limit: Duration,
    },
    /// It is too long.
    #[error("{source_url}: longer than {limit} bytes")]
    TooLong {
        /// The address or file.
        source_url: String,
        /// The bound.
        limit: usize,
    },
    /// The address may not be asked.
    #[error(
        "{0}: not a public address, or neither https nor loopback; the operator can set it for the cluster"
    )]
    Unreachable(String),
    /// The document is not a set of keys.
    #[error("{source_url}: {why}")]
    Keys {
        /// The address or file.
        source_url: String,
        /// Why.
        why: KeyError,
    },
    /// The keys that were fetched are too old, and their source fails.
    #[error("the last keys are {age_s} s old; since then: {why}")]
    Stale {
        /// How old.
        age_s: u64,
        /// The source's last failure.
        why: String,
    },
}

/// Why keys, issuers or rules are refused when they are set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A field has a value that it cannot have.
    #[error("{place}: {field} is {found}; expected {expected}")]
    Field {
        /// The issuer, key or rule.
        place: String,
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A role does not exist in the scope.
    #[error("{place}: the role {role} does not exist in {scope}")]
    Role {
        /// The issuer, key or rule.
        place: String,
        /// The role.
        role: Role,
        /// The scope.
        scope: Scope,
    },
    /// Two have the same name or key.
    #[error("{0:?} is there twice; names and keys are unique in a scope")]
    Twice(String),
    /// There are too many.
    #[error("{found} {what}; a scope has at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// How many.
        found: usize,
    },
    /// A key is not one.
    #[error("{place}: {why}")]
    Key {
        /// Whose.
        place: String,
        /// Why.
        why: KeyError,
    },
}
