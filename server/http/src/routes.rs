//! Every call of the broker in one table: where it is, who may make it, and what it is for.
//!
//! The router, the gate, the OpenAPI document and the tests that try each call as a stranger and as another tenant's
//! admin are all made of this table, so that a call cannot be in one of them and not in the others.

use axum::routing::{MethodRouter, delete, get, post, put};
use coffer_server_identity::Permission;
use coffer_server_limits::Class;

use crate::admin::{
    admins, api, appraisal, cluster, collateral, compat, data_keys, references, resources, revocations,
    tenants,
};
use crate::broker::Broker;
use crate::gate::Needs;
use crate::kbs::{attest, auth, counter, plugin, resource};
use crate::operation;

/// What a call's body or answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Empty,
    /// Bytes as they are.
    Bytes,
    /// Text.
    Text,
    /// JSON of a form of the document, by its name there.
    Json(&'static str),
    /// JSON that is described elsewhere.
    Free,
}

/// One call.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// None is not counted: it costs next to nothing, and a load balancer asks often.
    pub(crate) class: Option<Class>,
    pub(crate) handler: fn() -> MethodRouter<Broker>,
    pub(crate) summary: &'static str,
    pub(crate) body: Form,
    pub(crate) answer: Form,
    /// Names of what may stand in the query.
    pub(crate) query: &'static [&'static str],
}

macro_rules! routes {
    ($($method:literal $path:literal $needs:tt $class:ident $handler:expr, $body:expr => $answer:expr, [$($query:literal)*], $summary:literal;)*) => {
        /// The table.
        pub(crate) const ROUTES: &[Route] = &[$(
            Route {
                method: $method, path: $path, needs: routes!(@needs $needs), class: routes!(@class $class),
                handler: || $handler, summary: $summary, body: $body, answer: $answer, query: &[$($query),*],
            },
        )*];
    };
    (@class Public) => { None };
    (@class $class:ident) => { Some(Class::$class) };
    (@needs -) => { Needs::Nothing };
    (@needs $permission:ident) => { Needs::Permission(Permission::$permission) };
}

use Form::{Bytes, Empty, Free, Json, Text};

routes! {
    // Guests: the KBS protocol.
    "POST" "/kbs/v0/auth" - Challenge post(auth::auth), Json("AuthRequest") => Json("Challenge"), [], "Begins an attestation: a challenge, sealed into the cookie.";
    "POST" "/kbs/v0/attest" - Attest post(attest::attest), Json("AttestRequest") => Json("AttestResponse"), [], "Answers the challenge with evidence; gives a token and the verdict.";
    "GET" "/kbs/v0/resource/{repository}/{kind}/{tag}" - Release get(resource::get), Empty => Json("Jwe"), ["version"], "A resource, encrypted to the key inside the attestation token.";
    "GET" "/kbs/v0/{plugin}/{*path}" - Release get(plugin::call), Empty => Free, [], "A plugin's answer to an attested guest.";
    "POST" "/kbs/v0/{plugin}/{*path}" - Release post(plugin::call), Bytes => Free, [], "A plugin's answer to an attested guest, or to an admin.";

    "GET" "/coffer/v1/counter/{repository}/{kind}/{tag}" - Release get(counter::get), Empty => Json("Counter"), [], "How often the volume of a key was opened, for a guest that may have the key.";
    "POST" "/coffer/v1/counter/{repository}/{kind}/{tag}" - Release post(counter::advance), Json("MoveCounter") => Json("Counter"), [], "Moves the counter of a volume by one, for a guest that may have its key.";

    // Upstream's admin calls.
    "POST" "/kbs/v0/resource/{repository}/{kind}/{tag}" PutResources Admin post(resources::put_plain), Bytes => Empty, [], "Stores a resource.";
    "DELETE" "/kbs/v0/resource/{repository}/{kind}/{tag}" PutResources Admin delete(resources::remove), Empty => Empty, [], "Removes a resource.";
    "POST" "/kbs/v0/resource-policy" ManagePolicies Admin post(compat::put_policy), Free => Empty, [], "Puts the resource policy in force (base64 of Rego).";
    "GET" "/kbs/v0/resource-policy" ReadPolicies Admin get(compat::policies), Empty => Free, [], "The names of the resource policies.";
    "POST" "/kbs/v0/attestation-policy" ManagePolicies Admin post(compat::put_attestation_policy), Free => Empty, [], "Puts an appraisal policy in force (base64 of Rego).";
    "GET" "/kbs/v0/attestation-policy" ReadPolicies Admin get(compat::attestation_policies), Empty => Free, [], "The names of the appraisal policies.";
    "POST" "/kbs/v0/reference-value" ManageReferences Admin post(compat::add_reference), Free => Empty, [], "Adds reference values in a message of the RVPS.";
    "GET" "/kbs/v0/reference-value" ReadReferences Admin get(compat::references), Empty => Free, [], "The names of the reference values.";
    "GET" "/kbs/v0/reference-value/{id}" ReadReferences Admin get(compat::reference), Empty => Free, [], "One reference value.";
    "DELETE" "/kbs/v0/reference-value/{id}" ManageReferences Admin delete(compat::remove_reference), Empty => Empty, [], "Removes a reference value.";

    // The attestation service alone.
    "POST" "/attestation" - Attest post(crate::service::attestation), Free => Text, [], "Judges evidence for a relying party and gives a token.";
    "GET" "/policy" ReadPolicies Admin get(crate::service::policies), Empty => Free, [], "The appraisal policies with their digests.";
    "GET" "/policy/{id}" ReadPolicies Admin get(crate::service::policy), Empty => Text, [], "The text of an appraisal policy (base64 of Rego).";
    "POST" "/policy" ManagePolicies Admin post(crate::service::put_policy), Free => Empty, [], "Puts an appraisal policy in force.";
    "POST" "/challenge" - Challenge post(crate::service::challenge), Free => Text, [], "A nonce for evidence.";
    "GET" "/.well-known/jwks.json" - Public get(operation::jwks), Empty => Json("JwkSet"), [], "The public keys of this tenant's attestation tokens.";
    "GET" "/.well-known/openid-configuration" - Public get(operation::discovery), Empty => Free, [], "Where those keys are, as OpenID discovery has it.";

    // Owners.
    "GET" "/coffer/v1/whoami" - Admin get(admins::whoami), Empty => Json("WhoAmI"), [], "Who the token's admin is, and what they may do here.";
    "GET" "/coffer/v1/info" ReadConfig Admin get(api::info), Empty => Json("Info"), [], "What the broker is, and how much it holds for this tenant.";
    "GET" "/coffer/v1/resources" ReadNames Admin get(resources::list), Empty => Json("ResourceList"), ["after" "limit"], "The resources' names and terms; never their values.";
    "GET" "/coffer/v1/resources/{repository}/{kind}/{tag}" ReadNames Admin get(resources::versions), Empty => Json("ResourceVersions"), [], "The versions of a resource; never their values.";
    "PUT" "/coffer/v1/resources/{repository}/{kind}/{tag}" PutResources Admin put(resources::put), Bytes => Json("ResourceStored"), ["expires_at" "release_limit" "if_version"], "Stores a resource on terms.";
    "DELETE" "/coffer/v1/resources/{repository}/{kind}/{tag}" PutResources Admin delete(resources::remove), Empty => Empty, [], "Removes a resource and its versions.";
    "POST" "/coffer/v1/resources/{repository}/{kind}/{tag}/generate" ManageKeys Admin post(resources::generate), Json("GenerateResource") => Json("ResourceStored"), [], "Makes a key that no admin ever sees.";
    "PUT" "/coffer/v1/resources/{repository}/{kind}/{tag}/state" Revoke Admin put(resources::set_state), Json("SetResourceState") => Empty, [], "Releases a resource to nobody, or again as policy says.";
    "PUT" "/coffer/v1/counters/{repository}/{kind}/{tag}" PutResources Admin put(counter::set), Json("Counter") => Empty, [], "Sets the counter of a volume, also back: after a restore.";
    "GET" "/coffer/v1/revocations" ReadPolicies Admin get(revocations::list), Empty => Json("RevocationList"), [], "What nothing is released to any more.";
    "POST" "/coffer/v1/revocations" Revoke Admin post(revocations::add), Json("NewRevocation") => Json("Revocation"), [], "Releases nothing to a chip, measurement, init-data or attempt any more.";
    "DELETE" "/coffer/v1/revocations/{id}" Revoke Admin delete(revocations::remove), Empty => Empty, [], "Takes a revocation back.";
    "GET" "/coffer/v1/attempts" ReadAttempts Admin get(api::attempts), Empty => Json("AttemptList"), [], "The last attestations, newest first.";
    "GET" "/coffer/v1/attempts/{id}" ReadAttempts Admin get(api::attempt), Empty => Json("Attempt"), [], "One attestation: every check, and what was decided on its requests.";
    "GET" "/coffer/v1/attempts/{id}/evidence" ReadEvidence Admin get(api::evidence), Empty => Json("KeptEvidence"), [], "What an attestation was made with, where that is kept.";
    "GET" "/coffer/v1/policies" ReadPolicies Admin get(api::policies), Empty => Json("PolicyList"), [], "The resource policies in force, and the built-in ones.";
    "GET" "/coffer/v1/policies/{name}" ReadPolicies Admin get(api::policy), Empty => Json("PolicyBody"), [], "A resource policy.";
    "PUT" "/coffer/v1/policies/{name}" ManagePolicies Admin put(api::put_policy), Json("PolicyBody") => Empty, [], "Puts a resource policy in force.";
    "DELETE" "/coffer/v1/policies/{name}" ManagePolicies Admin delete(api::remove_policy), Empty => Empty, [], "Takes a resource policy out of force; `resource` becomes the built-in default.";
    "GET" "/coffer/v1/attestation-policies" ReadPolicies Admin get(appraisal::policies), Empty => Json("AttestationPolicyList"), [], "The appraisal policies and their versions.";
    "GET" "/coffer/v1/attestation-policies/{name}" ReadPolicies Admin get(appraisal::policy), Empty => Json("AttestationPolicy"), ["version"], "One version of an appraisal policy.";
    "PUT" "/coffer/v1/attestation-policies/{name}" ManagePolicies Admin put(appraisal::put_policy), Json("PolicyBody") => Empty, [], "Puts an appraisal policy in force as its next version.";
    "DELETE" "/coffer/v1/attestation-policies/{name}" ManagePolicies Admin delete(appraisal::remove_policy), Empty => Empty, [], "Takes an appraisal policy out of force; its versions stay.";
    "GET" "/coffer/v1/platform-policy" ReadPolicies Admin get(appraisal::platform), Empty => Free, [], "Which platforms are acceptable.";
    "PUT" "/coffer/v1/platform-policy" ManagePolicies Admin put(appraisal::put_platform), Free => Empty, [], "Says which platforms are acceptable (JSON or TOML).";
    "DELETE" "/coffer/v1/platform-policy" ManagePolicies Admin delete(appraisal::reset_platform), Empty => Empty, [], "The built-in platform policy again.";
    "GET" "/coffer/v1/reference-values" ReadReferences Admin get(references::list), Empty => Json("ReferenceList"), [], "The reference values, with where each came from.";
    "POST" "/coffer/v1/reference-values" ManageReferences Admin post(references::add), Free => Empty, [], "Adds reference values: JSON, a JWS over it, or CoRIM, signed or not.";
    "DELETE" "/coffer/v1/reference-values/{id}" ManageReferences Admin delete(references::remove), Empty => Empty, [], "Removes a reference value.";
    "PUT" "/coffer/v1/reference-values/{id}/state" ManageReferences Admin put(references::set_state), Json("SetReferenceState") => Empty, [], "Revokes a reference value, or says when it ends.";
    "GET" "/coffer/v1/named-values" ReadReferences Admin get(references::named), Empty => Json("NamedValueList"), [], "The reference values that appraisal policies ask for by name.";
    "PUT" "/coffer/v1/named-values/{name}" ManageReferences Admin put(references::put_named), Free => Empty, [], "Puts a named reference value.";
    "DELETE" "/coffer/v1/named-values/{name}" ManageReferences Admin delete(references::remove_named), Empty => Empty, [], "Removes a named reference value.";
    "PUT" "/coffer/v1/named-values/{name}/state" ManageReferences Admin put(references::set_named_state), Json("SetReferenceState") => Empty, [], "Revokes a named reference value, or says when it ends.";
    "GET" "/coffer/v1/reference-signers" ReadReferences Admin get(references::signers), Empty => Json("ReferenceSigners"), [], "Who may sign reference values.";
    "PUT" "/coffer/v1/reference-signers" ManageTrust Admin put(references::put_signers), Json("ReferenceSigners") => Empty, [], "Says who may sign reference values, and whether they must be signed.";
    "GET" "/coffer/v1/endorsements/cca" ReadPolicies Admin get(appraisal::endorsements), Empty => Free, [], "The keys of Arm platforms.";
    "PUT" "/coffer/v1/endorsements/cca" ManageTrust Admin put(appraisal::put_endorsements), Free => Empty, [], "Puts the keys of Arm platforms.";
    "DELETE" "/coffer/v1/endorsements/cca" ManageTrust Admin delete(appraisal::remove_endorsements), Empty => Empty, [], "Removes the keys of Arm platforms.";
    "GET" "/coffer/v1/trust-anchors" ReadPolicies Admin get(api::anchors), Empty => Json("TrustAnchorList"), [], "The roots that certify attestation keys.";
    "PUT" "/coffer/v1/trust-anchors/{name}" ManageTrust Admin put(api::put_anchor), Json("TrustAnchor") => Empty, [], "Trusts a root.";
    "DELETE" "/coffer/v1/trust-anchors/{name}" ManageTrust Admin delete(api::remove_anchor), Empty => Empty, [], "Distrusts a root.";
    "GET" "/coffer/v1/token-issuers" ReadPolicies Admin get(admins::token_issuers), Empty => Free, [], "Whose attestation tokens are accepted beside our own.";
    "PUT" "/coffer/v1/token-issuers" ManageTrust Admin put(admins::put_token_issuers), Free => Empty, [], "Says whose attestation tokens are accepted beside our own.";
    "POST" "/coffer/v1/token-keys" ManageTrust Admin post(admins::rotate_token_key), Empty => Empty, [], "Makes the next key that signs this tenant's tokens.";
    "POST" "/coffer/v1/data-keys" ManageConfig Admin post(admins::rotate_data_key), Empty => Free, [], "Makes the next key that this tenant's rows are sealed with, and seals them anew.";
    "GET" "/coffer/v1/data-keys" ReadConfig Admin get(data_keys::own), Empty => Free, [], "How many of this tenant's rows older data keys seal yet.";
    "GET" "/coffer/v1/admins" ReadAdmins Admin get(admins::list), Empty => Json("AdminList"), [], "The admins with keys or certificates of their own.";
    "PUT" "/coffer/v1/admins/{name}" ManageAdmins Admin put(admins::put), Json("NewAdmin") => Empty, [], "Adds an admin with a key or a certificate, or replaces the one of that name.";
    "DELETE" "/coffer/v1/admins/{name}" ManageAdmins Admin delete(admins::remove), Empty => Empty, [], "Removes an admin.";
    "GET" "/coffer/v1/admin-issuers" ReadAdmins Admin get(admins::issuers), Empty => Free, [], "The OpenID issuers whose tokens admins may use.";
    "PUT" "/coffer/v1/admin-issuers" ManageAdmins Admin put(admins::put_issuers), Free => Empty, [], "Says which OpenID issuers' tokens admins may use, and which roles they carry.";

    // Operators.
    "GET" "/coffer/v1/tenants" ManageTenants Admin get(tenants::list), Empty => Json("TenantList"), [], "The tenants.";
    "GET" "/coffer/v1/tenants/{tenant}" ManageTenants Admin get(tenants::one), Empty => Json("TenantInfo"), [], "A tenant.";
    "PUT" "/coffer/v1/tenants/{tenant}" ManageTenants Admin put(tenants::make), Json("NewTenant") => Json("TenantInfo"), [], "Makes a tenant with its first owner.";
    "DELETE" "/coffer/v1/tenants/{tenant}" ManageTenants Admin delete(tenants::remove), Empty => Empty, [], "Removes a tenant and all it has; its data key goes first.";
    "PUT" "/coffer/v1/tenants/{tenant}/settings" ManageQuotas Admin put(tenants::set), Json("TenantSettings") => Empty, [], "Changes a tenant's hosts and quotas.";
    "GET" "/coffer/v1/operators" ReadCluster Admin get(cluster::operators), Empty => Json("AdminList"), [], "The cluster's operators with keys or certificates of their own.";
    "PUT" "/coffer/v1/operators/{name}" ManageOperators Admin put(cluster::put_operator), Json("NewAdmin") => Empty, [], "Adds an operator with a key or a certificate, or replaces the one of that name.";
    "DELETE" "/coffer/v1/operators/{name}" ManageOperators Admin delete(cluster::remove_operator), Empty => Empty, [], "Removes an operator.";
    "GET" "/coffer/v1/cluster" ReadCluster Admin get(cluster::status), Empty => Free, [], "Where the store is, under which master key, and what this replica is doing.";
    "GET" "/coffer/v1/cluster/data-keys" ReadCluster Admin get(data_keys::all), Empty => Free, [], "How many rows older data keys seal yet: all, and of each tenant that has some.";
    "GET" "/coffer/v1/backup" Backup Admin get(cluster::backup), Empty => Bytes, [], "All rows as they are sealed, in one file. Of use only with the master key.";
    "GET" "/coffer/v1/collateral" ReadCollateral Admin get(collateral::list), Empty => Json("CollateralList"), [], "The cache of collateral.";
    "POST" "/coffer/v1/collateral" ManageCollateral Admin post(collateral::import), Bytes => Json("CollateralList"), [], "Imports collateral.";
    "POST" "/coffer/v1/collateral/fetch" ManageCollateral Admin post(collateral::fetch), Json("CollateralFetch") => Json("CollateralFetched"), [], "Fetches collateral anew.";
    "GET" "/coffer/v1/collateral/bundle" ReadCollateral Admin get(collateral::export), Empty => Bytes, [], "The whole cache as a bundle in a tar.";
    "DELETE" "/coffer/v1/collateral/documents/{*key}" ManageCollateral Admin delete(collateral::remove), Empty => Empty, [], "Removes a document from the cache.";

    // Operation.
    "GET" "/healthz" - Public get(operation::healthz), Empty => Text, [], "Whether the process answers.";
    "GET" "/readyz" - Public get(operation::readyz), Empty => Text, [], "Whether it should be sent calls: the store answers, and it is not draining.";
    "GET" "/metrics" ReadCluster Admin get(operation::metrics), Empty => Text, [], "Counters and times, for Prometheus.";
    "GET" "/openapi.json" - Public get(operation::openapi), Empty => Free, [], "This API, as OpenAPI 3.1.";
}
