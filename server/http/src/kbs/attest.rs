//! `POST /kbs/v0/attest`: evidence in, token and verdict out.

use axum::body::HttpBody;
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
use crate::call::{Answer, blocking, body};
use crate::intake::in_time;
use crate::issued::Attested;
use crate::record::Record;
use crate::reply::{Refused, json};
use crate::token;

const MAX_BODY: usize = 1 << 20;

pub(crate) async fn attest(State(broker): State<Broker>, request: Request) -> Answer {
    let inner = broker.inner();
    let cookie = cookie(request.headers()).ok_or(Code::ChallengeMissing)?.to_string();
    // Before anything of the body is read: whoever has no challenge of ours costs no more than this.
    inner.challenger().check(&cookie, inner.now_s())?;
    let length = request.body().size_hint().upper();
    let place = inner.intake.admit(length, MAX_BODY).await?;
    let body = in_time(body(request, MAX_BODY)).await?;
    let (record, result) = {
        let broker = broker.clone();
        let work = move || {
            let done = answer(broker.inner(), &cookie, &body);
            // Not before: a call that was given up still holds its evidence.
            drop((body, place));
            done
        };
        match blocking(work).await?? {
            Judged::Before(record) => return Ok(accepted(&record)),
            Judged::Now(record, result) => (*record, result),
        }
    };
    let entry = record.entry().map_err(|_| Code::Internal)?;
    inner.journal.write(entry).await.map_err(Code::from)?;
    if let (Some(token), Some(result)) = (&record.token, result) {
        inner.issued.keep(token, result);
    }
    let summary = &record.summary;
    tracing::info!(
        attempt = summary.id,
        tee = summary.tee,
        genuine = summary.genuine,
        hardware = summary.hardware,
        status = summary.status,
        code = summary.code.as_deref().unwrap_or_default(),
        "attestation"
    );
    match &record.token {
        Some(_) => Ok(accepted(&record)),
        None => {
            Err(Refused::plain(Code::AttestationRefused).because(record.causes).attempt(&record.summary.id))
        }
    }
}

/// What there is to say of evidence.
enum Judged {
    /// It was said before.
    Before(Box<Record>),
    /// It is said now.
    Now(Box<Record>, Option<Attested>),
}

/// Reads and judges. It takes a while, so not on the threads that serve.
fn answer(inner: &Inner, cookie: &str, body: &[u8]) -> Result<Judged, Refused> {
    let now = inner.now();
    let submission = inner.challenger().accept(cookie, body, inner.now_s())?;
    let id = submission.id();
    // As upstream: the second evidence of an attested session changes nothing.
    if let Some(record) = known(inner, id)? {
        return Ok(Judged::Before(Box::new(record)));
    }
    let judged = judge(inner, &submission, now).inspect_err(|refused| {
        tracing::warn!(
            attempt = id,
            tee = submission.tee.name(),
            code = refused.code(),
            "attestation not judged"
        );
    })?;
    Ok(Judged::Now(Box::new(judged.0), judged.1))
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
        verdict: Some(&record.verdict),
        attempt: Some(record.summary.id.clone()),
    };
    json(StatusCode::OK, &answer)
}

/// Judges, appraises, and makes the token if the evidence is genuine.
fn judge(
    inner: &Inner,
    submission: &Submission,
    at: Timestamp,
) -> Result<(Record, Option<Attested>), Refused> {
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
        collateral: &coffer_verify_api::NoCollateral,
        at,
    };
    match judge.verify(&question) {
        Err(fault) => Err(Refused::new(Code::AttestationUnavailable, format!("{fault}."))),
        Ok(Judgement::Rejected(checks)) => {
            let record = Record::new(submission.id(), at, &rejected(submission, checks));
            Ok((record.map_err(|_| Code::Internal)?, None))
        }
        Ok(Judgement::Verified(verified)) => {
            let verdict =
                coffer_verify_appraisal::appraise(&verified, &inner.references(), init_data.as_ref(), at);
            let record = Record::new(submission.id(), at, &verdict).map_err(|_| Code::Internal)?;
            let result =
                token::result(submission, verdict, &record.causes, init_data.as_ref(), inner.now_s());
            let result = result.map_err(|_| Code::Internal)?;
            let token = result.sign(&inner.token_key).map_err(|_| Code::Internal)?;
            Ok((record.with_token(token), Some(result)))
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
