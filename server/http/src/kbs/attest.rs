//! `POST /kbs/v0/attest`: evidence in, token and verdict out.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use coffer_core_digest::Digest;
use coffer_core_initdata::InitData;
use coffer_core_protocol::error::Code;
use coffer_core_protocol::handshake::relying_party::Submission;
use coffer_core_protocol::wire::AttestResponse;
use coffer_verify_api::{Check, Judgement, Question, Status, Timestamp, Verdict};

use super::cookie;
use crate::broker::{Broker, Inner};
use crate::record::Record;
use crate::reply::{Refused, json};
use crate::router::{Answer, body};
use crate::token;

const MAX_BODY: usize = 1 << 20;

pub(crate) async fn attest(State(broker): State<Broker>, request: Request) -> Answer {
    let inner = broker.inner();
    let cookie = cookie(request.headers()).ok_or(Code::ChallengeMissing)?.to_string();
    let body = body(request, MAX_BODY).await?;
    let now = inner.now();
    let submission = inner.challenger().accept(&cookie, &body, inner.now_s())?;
    let id = submission.id();
    // As upstream: the second evidence of an attested session changes nothing.
    if let Some(record) = known(inner, id)? {
        return Ok(accepted(&record));
    }
    let record = judge(inner, &submission, now).inspect_err(|refused| {
        tracing::warn!(
            attempt = id,
            tee = submission.tee.name(),
            code = refused.code(),
            "attestation not judged"
        );
    })?;
    let entry = record.entry().map_err(|_| Code::Internal)?;
    inner.journal.write(entry).await.map_err(|_| Code::StoreUnavailable)?;
    let summary = &record.summary;
    tracing::info!(
        attempt = id,
        tee = summary.tee,
        genuine = summary.genuine,
        hardware = summary.hardware,
        status = summary.status,
        code = summary.code.as_deref().unwrap_or_default(),
        "attestation"
    );
    match &record.token {
        Some(_) => Ok(accepted(&record)),
        None => Err(Refused::plain(Code::AttestationRefused).because(record.causes).attempt(id)),
    }
}

/// The attested attempt of that name, if there is one.
fn known(inner: &Inner, id: &str) -> Result<Option<Record>, Refused> {
    let body = inner.store.attempt(id)?;
    let record = body.and_then(|body| Record::read(body.expose()));
    Ok(record.filter(|record| record.token.is_some()))
}

fn accepted(record: &Record) -> Response {
    let answer = AttestResponse {
        token: record.token.clone().unwrap_or_default(),
        verdict: Some(record.verdict.clone()),
        attempt: Some(record.summary.id.clone()),
    };
    json(StatusCode::OK, &answer)
}

/// Judges, appraises, and makes the token if the evidence is genuine.
fn judge(inner: &Inner, submission: &Submission, at: Timestamp) -> Result<Record, Refused> {
    let init_data = submission.init_data.as_deref().map(|text| InitData::parse(text.as_bytes())).transpose();
    let init_data = init_data.map_err(|error| Refused::new(Code::InitDataFormat, format!("{error}.")))?;
    let digest: Option<Digest> = init_data.as_ref().map(InitData::digest);
    // Device evidence that nobody judges must not look judged.
    if !matches!(submission.additional.trim(), "" | "{}") {
        return Err(Refused::new(
            Code::TeeUnsupported,
            "Device evidence is not judged here; send the machine's alone.",
        ));
    }
    let judges = inner.judges();
    let judge = judges.iter().find(|judge| judge.tee() == submission.tee).ok_or(Code::TeeUnsupported)?;
    let question = Question {
        evidence: &submission.primary,
        report_data: &submission.report_data,
        init_data: digest.as_ref(),
        at,
    };
    match judge.verify(&question) {
        Err(fault) => Err(Refused::new(Code::AttestationUnavailable, format!("{fault}."))),
        Ok(Judgement::Rejected(checks)) => {
            Ok(Record::new(submission.id(), at, &rejected(submission, checks), None))
        }
        Ok(Judgement::Verified(verified)) => {
            let verdict =
                coffer_verify_appraisal::appraise(&verified, &inner.references(), init_data.as_ref(), at);
            let token =
                token::issue(submission, &verdict, init_data.as_ref(), &inner.token_key, inner.now_s());
            let token = token.map_err(|_| Code::Internal)?;
            Ok(Record::new(submission.id(), at, &verdict, Some(token)))
        }
    }
}

/// Of evidence that is not genuine nothing is believed: no claims, no hardware.
fn rejected(submission: &Submission, checks: Vec<Check>) -> Verdict {
    Verdict {
        tee: submission.tee,
        hardware: false,
        status: Status::Contraindicated,
        checks,
        claims: serde_json::Map::new(),
    }
}
