//! The attestation service alone: evidence in, a signed result out, for relying parties that release keys themselves.
//!
//! Over REST here and over gRPC by `server/grpc`. The relying party made the nonce, so it knows whether the evidence is
//! fresh; that is why a result of this service opens nothing here: its issuer is another one, and no attempt is
//! written down for it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coffer_core_admin::TenantName;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_protocol::error::Code;
use coffer_core_protocol::handshake::relying_party::Submission;
use coffer_core_protocol::jcs;
use coffer_core_secret::Secret;
use coffer_server_grpc::{
    AttestationBackend, AuthContext, BackendError, BoxFuture, ChallengeParameters, EvaluateRequest,
    IndividualRequest, InitData, Kind, PolicyInfo, ReferenceBackend, Registration, RuntimeData, SetPolicy,
    rest,
};
use coffer_server_identity::{Permission, Scope as Owner};
use coffer_verify_appraisal::Sent;
use serde_json::{Map, Value};

use crate::admin::{appraisal, compat, references};
use crate::broker::Broker;
use crate::call::{Admin, Answer, Call, bearer, blocking, body};
use crate::case::{Case, Found};
use crate::config::ServiceAccess;
use crate::gate;
use crate::reply::{self, Refused};
use crate::standards::{self, History};
use crate::token::{self, Part};

/// Who signs results that a relying party asked for.
pub(crate) const ISSUER: &str = "coffer-attestation-service";
const MAX_BODY: usize = 4 << 20;
const ROUNDS: usize = 4;
const GATHERING: Duration = Duration::from_secs(15);
/// The machine among the parts.
const CPU: &str = "cpu0";

/// `POST /attestation`.
pub(crate) async fn attestation(call: Call, request: Request) -> Answer {
    let token = bearer(request.headers()).map(str::to_owned);
    allowed(&call, token.as_deref()).await?;
    let length = axum::body::HttpBody::size_hint(request.body()).upper();
    let in_force = call.in_force();
    let _place = call.inner().intake.admit(&call.tenant.name, &in_force.quotas, length, MAX_BODY).await?;
    let body = body(request, MAX_BODY).await?;
    let asked = rest::attestation(&body).map_err(refused)?;
    let token = evaluate(&call, asked).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain")], token).into_response())
}

/// `POST /policy`.
pub(crate) async fn put_policy(admin: Admin, request: Request) -> Answer {
    let body = body(request, crate::admin::MAX_BODY).await?;
    let SetPolicy { id, rego } = rest::policy(&body).map_err(refused)?;
    appraisal::store_policy(&admin, &id, rego).await
}

/// `GET /policy`.
pub(crate) async fn policies(admin: Admin) -> Answer {
    Ok(reply::json(StatusCode::OK, &rest::policy_list(&stored(&admin).await?)))
}

/// The appraisal policies that have a current version.
async fn stored(admin: &Admin) -> Result<Vec<PolicyInfo>, Refused> {
    let rows = admin.rows().clone();
    let found = blocking(move || standards::histories(&rows)).await?.map_err(crate::call::failed)?;
    let info = |(name, history): &(String, History)| {
        let info = history.info(name);
        let version = info.versions.iter().find(|version| Some(version.version) == info.current)?;
        Some(PolicyInfo { id: name.clone(), digest: version.digest.clone() })
    };
    Ok(found.iter().filter_map(info).collect())
}

/// `GET /policy/{id}`: the text of what is in force under that name, in base64url as it is put.
pub(crate) async fn policy(admin: Admin, Path(id): Path<String>) -> Answer {
    let name = standards::policy_name(&id);
    let (rows, own) = (admin.rows().clone(), name.clone());
    let history = blocking(move || History::read(&rows, &own)).await?.map_err(crate::call::failed)?;
    let shown = history.and_then(|history| history.shown(&name, None));
    let shown = shown.ok_or_else(|| Refused::missing("There is no appraisal policy of that name."))?;
    Ok(([(header::CONTENT_TYPE, "text/plain")], URL_SAFE_NO_PAD.encode(shown.rego)).into_response())
}

/// `POST /challenge`: a nonce. It is not kept: who asked for it knows it.
pub(crate) async fn challenge(_: Call, request: Request) -> Answer {
    let body = body(request, 64 << 10).await?;
    if !body.is_empty() {
        rest::challenge(&body).map_err(refused)?;
    }
    Ok(([(header::CONTENT_TYPE, "text/plain")], nonce()?).into_response())
}

fn nonce() -> Result<String, Refused> {
    let nonce = Secret::<[u8; 32]>::random().map_err(|_| Code::Internal)?;
    Ok(STANDARD.encode(nonce.expose()))
}

/// Whether whoever holds this token may ask for results.
async fn allowed(call: &Call, token: Option<&str>) -> Result<(), Refused> {
    if call.inner().config.attestation_service == ServiceAccess::Public {
        return Ok(());
    }
    let owner = Owner::Tenant(call.tenant.name.clone());
    gate::identify(call, &owner, token).await.map(drop)
}

fn refused(error: BackendError) -> Refused {
    let code = error.code.parse().unwrap_or(Code::Malformed);
    Refused::new(code, error.message)
}

fn unusable(why: impl Into<String>) -> Refused {
    Refused::new(Code::Malformed, why)
}

/// Judges what a relying party sent, and signs the result.
async fn evaluate(call: &Call, asked: EvaluateRequest) -> Result<String, Refused> {
    let inner = call.inner();
    let in_force = call.in_force();
    if let Some(other) =
        asked.policy_ids.iter().find(|id| !matches!(id.as_str(), "default" | "default_cpu" | ""))
    {
        let other: String = other.chars().take(64).collect();
        return Err(unusable(format!(
            "The policy {other:?} is none that appraises here; name \"default\", which is what the tenant put in force."
        )));
    }
    let mut cases = Vec::new();
    for one in asked.requests {
        cases.push(submission(&in_force, one)?);
    }
    let at = inner.now();
    let machines = cases.iter().filter(|(_, device)| !device).count();
    if machines != 1 {
        return Err(unusable(format!(
            "A request is about one machine and its devices; this one is about {machines} machines."
        )));
    }
    let mut parts = Vec::new();
    let mut machine = None;
    for (submission, device) in cases {
        let own = in_force.clone();
        let mut case = Box::new(match device {
            false => Case::open(submission, &own.judges, at)?,
            true => Case::of_device(submission, &own.judges, at)?,
        });
        let mut round = 1;
        let (case, genuine) = loop {
            let (own, service) = (call.clone(), in_force.clone());
            let work = move || {
                let found = case.judge(&service.judges, &own.inner().collateral.at_hand());
                (case, found)
            };
            let (asked, found) = blocking(work).await?;
            case = asked;
            match found? {
                Found::Genuine(genuine) => break (case, genuine),
                Found::Rejected(checks) => {
                    let verdict = coffer_verify_appraisal::rejected(case.submission.tee, checks);
                    let causes = reply::causes(&verdict);
                    return Err(Refused::plain(Code::AttestationRefused).because(causes));
                }
                Found::Missing(keys) if round < ROUNDS => {
                    round += 1;
                    let gathered = inner.collateral.gather(&keys, &case.hints, GATHERING).await;
                    if !gathered.missing.is_empty() {
                        let names = gathered.missing.iter().map(|(key, why)| format!("{key}: {why}"));
                        let detail = names.take(8).collect::<Vec<_>>().join("; ");
                        return Err(Refused::new(
                            Code::AttestationUnavailable,
                            format!("Documents are missing: {detail}."),
                        ));
                    }
                    case.add(&gathered.shelf);
                }
                Found::Missing(_) => return Err(Refused::plain(Code::AttestationUnavailable)),
            }
        };
        for (name, verified) in genuine.all() {
            let sent =
                Sent { init_data: case.init_data.as_ref(), runtime_claims: &case.submission.runtime_claims };
            let chip = verified.get().posture.chip.clone();
            let (verdict, policy) = in_force.standards.appraise(&name, &verified, &sent, at);
            let causes = reply::causes(&verdict);
            let part = Part { name: name.clone(), verdict, causes, policy };
            match name == CPU {
                true => machine = Some((part, chip, case.submission.clone(), case.init_data.clone())),
                false => parts.push(part),
            }
        }
    }
    let (machine, chip, submission, init_data) = machine.ok_or(Code::Internal)?;
    inner.metrics.attested(
        submission.tee.name(),
        machine.verdict.status.name(),
        machine.causes.first().map(|cause| cause.code.as_str()),
    );
    let mut result =
        token::result(&submission, machine, parts, init_data.as_ref(), chip, false, inner.now_s())
            .map_err(|_| Code::Internal)?;
    result.ear.iss = ISSUER.to_owned();
    let result = crate::issued::Attested::new(result.ear).map_err(|_| Code::Internal)?;
    Ok(result.sign(in_force.tokens.current()).map_err(|_| Code::Internal)?)
}

/// One piece of evidence as the judges take it, and whether it is a device's.
fn submission(
    in_force: &crate::tenancy::InForce,
    one: IndividualRequest,
) -> Result<(Submission, bool), Refused> {
    let tee: Tee = serde_json::from_value(one.tee.clone().into()).map_err(|_| {
        let name: String = one.tee.chars().take(32).collect();
        Refused::new(Code::TeeUnsupported, format!("Evidence of TEE {name:?} is not judged here."))
    })?;
    let device = in_force.judges.devices.iter().any(|judge| judge.tee() == tee);
    let (report_data, claims) = match one.runtime_data {
        RuntimeData::Structured(claims) => {
            let claims = Value::Object(claims);
            let digest = jcs::digest(one.hash, &claims).map_err(|error| unusable(format!("{error}.")))?;
            (digest, claims)
        }
        RuntimeData::Raw(bytes) => (as_digest(&bytes)?, Value::Null),
        RuntimeData::None => {
            return Err(unusable(
                "Without runtime_data nothing says that the evidence is fresh; send what it is bound to.",
            ));
        }
    };
    let report_data = ReportData::from_runtime_hash(report_data);
    let mut submission = Submission::of_relying_party(tee, report_data, one.hash, one.evidence);
    submission.runtime_claims = if claims.is_null() { Value::Object(Map::new()) } else { claims };
    submission.init_data = match one.init_data {
        InitData::None => None,
        InitData::Toml(text) => Some(text),
        InitData::Digest(_) => {
            return Err(Refused::new(
                Code::InitDataFormat,
                "Init-data is judged by its text, so that its digest is computed here; send init_data_toml.",
            ));
        }
    };
    Ok((submission, device))
}

/// Raw runtime data is the report data itself, as evidence carries it.
fn as_digest(bytes: &[u8]) -> Result<Digest, Refused> {
    let algorithm = match bytes.len() {
        32 => Algorithm::Sha256,
        48 => Algorithm::Sha384,
        64 => Algorithm::Sha512,
        other => {
            return Err(unusable(format!(
                "Raw runtime data is 32, 48 or 64 bytes of report data, not {other}."
            )));
        }
    };
    Digest::from_bytes(algorithm, bytes).map_err(|error| unusable(format!("{error}.")))
}

/// The broker behind gRPC.
pub(crate) struct Service(pub(crate) Broker);

impl Service {
    async fn call(&self, auth: &AuthContext) -> Result<Call, Refused> {
        let inner = self.0.inner();
        let by_host = || auth.host.as_deref().and_then(|host| inner.tenants.of_host(host));
        let name: TenantName = auth.tenant.clone().or_else(by_host).unwrap_or_default();
        let own = self.0.clone();
        let found = blocking(move || own.inner().tenant(&name)).await?.map_err(crate::call::failed)?;
        // gRPC is served without client certificates.
        Ok(Call { broker: self.0.clone(), tenant: found.ok_or(Code::TenantUnknown)?, certificate: None })
    }

    async fn admin(&self, auth: &AuthContext, permission: Permission) -> Result<Admin, Refused> {
        let call = self.call(auth).await?;
        let token = auth.bearer.as_ref().map(|token| token.expose().as_str());
        let who = gate::authorize_token(&call, permission, token).await?;
        Ok(Admin { call, who: Arc::new(who) })
    }
}

/// A refusal in the words of gRPC.
fn told(refused: Refused) -> BackendError {
    let (status, body) = refused.parts();
    let code = body.known_code().map_or("internal", Code::as_str);
    let kind = match (status, code) {
        (400 | 413, _) => Kind::Invalid,
        (401, _) => Kind::Unauthenticated,
        (403, "attestation.refused") => Kind::Refused,
        (403, _) => Kind::Denied,
        (404, _) => Kind::Missing,
        (409, _) => Kind::Conflict,
        (429, _) => Kind::Exhausted,
        (502..=504, _) => Kind::Unavailable,
        _ => Kind::Internal,
    };
    let causes: Vec<String> =
        body.causes.iter().map(|cause| format!("{}: {}", cause.code, cause.title)).collect();
    let message = match causes.is_empty() {
        true => body.detail.clone(),
        false => format!("{} ({})", body.detail, causes.join("; ")),
    };
    BackendError::new(kind, code, message)
}

impl AttestationBackend for Service {
    fn evaluate<'a>(
        &'a self,
        auth: &'a AuthContext,
        request: EvaluateRequest,
    ) -> BoxFuture<'a, Result<String, BackendError>> {
        Box::pin(async move {
            let call = self.call(auth).await.map_err(told)?;
            allowed(&call, auth.bearer.as_ref().map(|token| token.expose().as_str())).await.map_err(told)?;
            let in_force = call.in_force();
            let place = call.inner().intake.admit(&call.tenant.name, &in_force.quotas, None, MAX_BODY);
            let _place = place.await.map_err(told)?;
            evaluate(&call, request).await.map_err(told)
        })
    }

    fn set_policy<'a>(
        &'a self,
        auth: &'a AuthContext,
        policy: SetPolicy,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let admin = self.admin(auth, Permission::ManagePolicies).await.map_err(told)?;
            appraisal::store_policy(&admin, &policy.id, policy.rego).await.map_err(told).map(drop)
        })
    }

    fn policies<'a>(&'a self, auth: &'a AuthContext) -> BoxFuture<'a, Result<Vec<PolicyInfo>, BackendError>> {
        Box::pin(async move {
            let admin = self.admin(auth, Permission::ReadPolicies).await.map_err(told)?;
            stored(&admin).await.map_err(told)
        })
    }

    fn challenge<'a>(
        &'a self,
        _: &'a AuthContext,
        _: ChallengeParameters,
    ) -> BoxFuture<'a, Result<String, BackendError>> {
        Box::pin(async move { nonce().map_err(told) })
    }
}

impl ReferenceBackend for Service {
    fn query<'a>(
        &'a self,
        auth: &'a AuthContext,
        id: String,
    ) -> BoxFuture<'a, Result<Option<Value>, BackendError>> {
        Box::pin(async move {
            let admin = self.admin(auth, Permission::ReadReferences).await.map_err(told)?;
            let in_force = admin.in_force();
            let now = admin.inner().now();
            let standards = &in_force.standards;
            let found = standards.kept_values.get(&id).or_else(|| standards.kept.get(&id));
            Ok(found.filter(|kept| kept.counts(now)).map(|kept| kept.value.clone()))
        })
    }

    fn register<'a>(
        &'a self,
        auth: &'a AuthContext,
        registration: Registration,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let admin = self.admin(auth, Permission::ManageReferences).await.map_err(told)?;
            let done = match registration {
                Registration::Message { kind, payload } => {
                    let message = compat::Message { kind, payload: STANDARD.encode(payload) };
                    compat::message_taken(&admin, message).await
                }
                Registration::Own(value) => {
                    let bytes = serde_json::to_vec(&value).unwrap_or_default();
                    let sent = admin.in_force().standards.signers.take(&bytes, admin.inner().now());
                    match sent {
                        Ok(sent) => references::take(&admin, sent).await,
                        Err(error) => Err(references::not_taken(error)),
                    }
                }
            };
            done.map_err(told).map(drop)
        })
    }
}
