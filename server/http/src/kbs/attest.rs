//! `POST /kbs/v0/attest`: evidence in, token and verdict out.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use coffer_core_protocol::ear::CPU;
use coffer_core_protocol::error::{Cause, Code};
use coffer_core_protocol::wire::AttestResponse;
use coffer_server_collateral::Missing;
use coffer_server_store::{JournalEntry, MAX_EVIDENCE};
use coffer_verify_api::{Check, CollateralKey, Status, Verdict};
use coffer_verify_appraisal::Sent;

use crate::call::{Answer, Call, blocking, body, cookie};
use crate::case::{Case, Found, Genuine, device_group};
use crate::intake::in_time;
use crate::issued::Attested;
use crate::record::Record;
use crate::reply::{self, Refused, json};
use crate::tenancy::InForce;
use crate::token::{self, Part};

/// Evidence, event log, init-data and the evidence of eight GPUs.
pub(crate) const MAX_BODY: usize = 4 << 20;
/// How often judges are asked again with what they missed. Chains name revocation lists, manifests name certificates.
const ROUNDS: usize = 4;
/// How long collateral is waited for in all. What comes later is there for the guest's next attempt.
const GATHERING: Duration = Duration::from_secs(15);

pub(crate) async fn attest(call: Call, request: Request) -> Answer {
    let inner = call.inner();
    let mut in_force = call.in_force();
    let cookie = cookie(request.headers()).ok_or(Code::ChallengeMissing)?.to_string();
    // Before anything of the body is read: whoever has no challenge of ours costs no more than this.
    in_force.challenger.check(&cookie, inner.now_s())?;
    let length = request.body().size_hint().upper();
    let place = inner.intake.admit(&call.tenant.name, &in_force.quotas, length, MAX_BODY).await?;
    let body = in_time(body(request, MAX_BODY)).await?;
    let keep = inner.config.keep_evidence;
    let kept = (keep > 0 && body.len() <= MAX_EVIDENCE).then(|| body.clone());
    let mut step = {
        let (call, in_force, cookie, body) = (call.clone(), in_force.clone(), cookie.clone(), body.clone());
        let work = move || (begin(&call, &in_force, &cookie, &body), place);
        let (step, place) = blocking(work).await?;
        (step?, place)
    };
    let mut again = true;
    let deadline = Instant::now() + GATHERING;
    let mut round = 1;
    let (record, result) = loop {
        let (asked, place) = step;
        let (mut case, keys) = match asked {
            Step::Before(record) => return Ok(accepted(&record)),
            // No replica says no on what another has replaced meanwhile.
            Step::Judged(record, _)
                if again && !record.is_affirmed() && !call.is_current(&in_force).await? =>
            {
                again = false;
                call.reload().await?;
                in_force = call.in_force();
                let (call, in_force, cookie, body) =
                    (call.clone(), in_force.clone(), cookie.clone(), body.clone());
                let work = move || (begin(&call, &in_force, &cookie, &body), place);
                let (asked, place) = blocking(work).await?;
                step = (asked?, place);
                continue;
            }
            Step::Judged(record, result) => break (*record, result.map(|result| *result)),
            Step::Missing(case, keys) => (case, keys),
        };
        let wait = deadline.saturating_duration_since(Instant::now());
        let gathered = match round < ROUNDS {
            true => inner.collateral.gather(&keys, &case.hints, wait).await,
            false => coffer_server_collateral::Gathered::default(),
        };
        if round >= ROUNDS || !gathered.missing.is_empty() {
            let missing = match gathered.missing.is_empty() {
                true => keys.into_iter().map(|key| (key, None)).collect(),
                false => gathered.missing.into_iter().map(|(key, why)| (key, Some(why))).collect(),
            };
            return Err(unavailable(&call, &case, missing).await);
        }
        round += 1;
        case.add(&gathered.shelf);
        let (call, in_force) = (call.clone(), in_force.clone());
        // Not given back before: a call that was given up still holds its evidence.
        let work = move || (ask(&call, &in_force, case), place);
        let (asked, place) = blocking(work).await?;
        step = (asked?, place);
    };
    let entry = record.entry(inner.now()).map_err(|_| Code::Internal)?;
    let evidence = kept.map(|body| {
        let attempt = record.summary.id.clone();
        JournalEntry::Evidence { attempt, at_ms: inner.now().as_millisecond(), body: body.to_vec(), keep }
    });
    // Together, so that they share one transaction.
    let (written, ()) = tokio::join!(inner.journal.write(&call.tenant.name, entry), async {
        if let Some(entry) = evidence
            && inner.journal.write(&call.tenant.name, entry).await.is_err()
        {
            tracing::warn!(attempt = record.summary.id, "the evidence was not kept");
        }
    });
    written.map_err(Code::from)?;
    if let (Some(token), Some(result)) = (&record.token, result) {
        call.tenant.issued.keep(token, result);
    }
    told(&call, &record);
    match &record.token {
        Some(_) => Ok(accepted(&record)),
        None => {
            Err(Refused::plain(Code::AttestationRefused).because(record.causes).attempt(&record.summary.id))
        }
    }
}

fn told(call: &Call, record: &Record) {
    let summary = &record.summary;
    call.inner().metrics.attested(&summary.tee, &summary.status, summary.code.as_deref());
    tracing::info!(
        tenant = %call.tenant.name,
        attempt = summary.id,
        tee = summary.tee,
        genuine = summary.genuine,
        hardware = summary.hardware,
        status = summary.status,
        devices = record.devices.len(),
        code = summary.code.as_deref().unwrap_or_default(),
        "attestation"
    );
}

/// How far it came.
enum Step {
    /// It was said before.
    Before(Box<Record>),
    /// It is said now.
    Judged(Box<Record>, Option<Box<Attested>>),
    /// The judges miss documents.
    Missing(Box<Case>, Vec<CollateralKey>),
}

/// Reads and judges. It takes a while, so not on the threads that serve.
fn begin(call: &Call, in_force: &InForce, cookie: &str, body: &[u8]) -> Result<Step, Refused> {
    let now = call.inner().now();
    let submission = in_force.challenger.accept(cookie, body, call.inner().now_s())?;
    // As upstream: the second evidence of an attested session changes nothing.
    if let Some(record) = known(call, submission.id())? {
        return Ok(Step::Before(Box::new(record)));
    }
    let case = Case::open(submission, &in_force.judges, now).inspect_err(|refused| {
        tracing::warn!(code = refused.code(), "attestation not judged");
    })?;
    ask(call, in_force, Box::new(case))
}

/// Asks the judges once, and appraises if they have what they need.
fn ask(call: &Call, in_force: &InForce, case: Box<Case>) -> Result<Step, Refused> {
    let found = case.judge(&in_force.judges, &call.inner().collateral.at_hand()).inspect_err(|refused| {
        let (attempt, tee) = (case.submission.id(), case.submission.tee.name());
        tracing::warn!(attempt, tee, code = refused.code(), "attestation not judged");
    })?;
    match found {
        Found::Missing(keys) => Ok(Step::Missing(case, keys)),
        Found::Rejected(checks) => {
            let verdict = coffer_verify_appraisal::rejected(case.submission.tee, checks);
            let record = Record::new(case.submission.id(), case.at, &verdict);
            Ok(Step::Judged(Box::new(record.map_err(|_| Code::Internal)?), None))
        }
        Found::Genuine(genuine) => {
            let (record, result) = appraise(call, in_force, &case, genuine)?;
            Ok(Step::Judged(Box::new(record), Some(Box::new(result))))
        }
    }
}

/// The attested attempt of that name, if there is one.
fn known(call: &Call, id: &str) -> Result<Option<Record>, Refused> {
    let body = call.rows().attempt(id)?;
    let record = body.and_then(|body| Record::read(body.expose()));
    Ok(record.filter(|record| record.token.is_some()))
}

fn accepted(record: &Record) -> Response {
    let answer = AttestResponse {
        token: record.token.clone().unwrap_or_default(),
        verdict: Some(&record.verdict),
        attempt: Some(record.summary.id.clone()),
    };
    json(StatusCode::OK, &answer)
}

/// Appraises genuine evidence, part by part, and makes the token.
fn appraise(
    call: &Call,
    in_force: &InForce,
    case: &Case,
    genuine: Genuine,
) -> Result<(Record, Attested), Refused> {
    let (submission, at) = (&case.submission, case.at);
    let (inner, standards) = (call.inner(), &in_force.standards);
    let verified = genuine.machine.ok_or(Code::Internal)?;
    let chip = verified.get().posture.chip.clone();
    let sent = Sent { init_data: case.init_data.as_ref(), runtime_claims: &submission.runtime_claims };
    let part = |name: String, (verdict, policy): (Verdict, Option<&'static str>)| {
        let causes = reply::causes(&verdict);
        Part { name, verdict, causes, policy }
    };
    let machine = part(CPU.to_owned(), standards.appraise(CPU, &verified, &sent, at));
    let devices: Vec<Part> = genuine
        .devices
        .into_iter()
        .map(|(name, verified)| {
            let appraised = standards.appraise(&name, &verified, &Sent::NOTHING, at);
            part(name, appraised)
        })
        .collect();
    let verdict = together(&machine.verdict, &devices);
    let record = Record::new(submission.id(), at, &verdict)
        .and_then(|record| {
            record.with_devices(devices.iter().map(|part| (part.name.as_str(), &part.verdict)))
        })
        .map_err(|_| Code::Internal)?;
    let verbose = inner.config.verbose_token;
    let result =
        token::result(submission, machine, devices, case.init_data.as_ref(), chip, verbose, inner.now_s());
    let result = result.map_err(|_| Code::Internal)?;
    let token = result.sign(in_force.tokens.current()).map_err(|_| Code::Internal)?;
    Ok((record.with_token(token), result))
}

/// What a person sees: the machine's verdict with a group for each device, and no better than the worst of them.
fn together<'a>(machine: &'a Verdict, devices: &[Part]) -> Cow<'a, Verdict> {
    if devices.is_empty() {
        return Cow::Borrowed(machine);
    }
    let mut verdict = machine.clone();
    for Part { name, verdict: device, .. } in devices {
        verdict.checks.push(device_group(name, device.checks.clone()));
        verdict.status = worse(verdict.status, device.status);
    }
    Cow::Owned(verdict)
}

/// That nothing was appraised is worse than a warning, where something else was.
fn worse(one: Status, other: Status) -> Status {
    let rank = |status| match status {
        Status::Affirming => 0,
        Status::Warning => 1,
        Status::None => 2,
        Status::Contraindicated => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// 503 with each document that is missing, and why. Written down as an attempt that was not judged.
async fn unavailable(call: &Call, case: &Case, missing: Vec<(CollateralKey, Option<Missing>)>) -> Refused {
    let remedy = "Try again soon: what can be fetched is still being fetched. If it stays so, look at `coffer collateral \
                  list`, and fetch or import what is missing with `coffer collateral fetch` or `import`.";
    let cause = |(key, why): &(CollateralKey, Option<Missing>)| {
        let why = why.as_ref().map_or("the judge asked for it too late".to_owned(), |why| why.to_string());
        Check::unavailable("collateral.unavailable", format!("The document {key} is not there"))
            .expected(key.to_string())
            .found(why)
            .remedy(format!("Get it with `coffer collateral fetch {key}`, or from elsewhere with `coffer collateral import`."))
    };
    let checks: Vec<Check> = missing.iter().map(cause).collect();
    let causes: Vec<Cause> = checks.iter().take(reply::MAX_CAUSES).map(reply::cause).collect();
    let keys: Vec<CollateralKey> = missing.into_iter().map(|(key, _)| key).collect();
    let mut verdict = coffer_verify_appraisal::unavailable(case.submission.tee, &keys);
    if let Some(group) = verdict.checks.first_mut() {
        group.children = checks;
    }
    let id = case.submission.id();
    if let Ok(mut record) = Record::new(id, case.at, &verdict) {
        record.causes.clone_from(&causes);
        record.summary.code = Some(Code::AttestationUnavailable.as_str().to_owned());
        told(call, &record);
        // An attempt that could not be judged is worth a line, and not a failure of its own.
        if let Ok(entry) = record.entry(case.at) {
            let _ = call.inner().journal.write(&call.tenant.name, entry).await;
        }
    }
    let detail = format!(
        "The evidence could not be judged: {} of its documents are missing, the first is {}.",
        keys.len(),
        keys.first().map(ToString::to_string).unwrap_or_default()
    );
    Refused::new(Code::AttestationUnavailable, detail).listing(causes).remedy(remedy).attempt(id)
}
