//! `POST /kbs/v0/auth`: a challenge that the broker need not remember.

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use coffer_core_protocol::wire::COOKIE;

use crate::broker::Broker;
use crate::call::{Answer, body};

const MAX_BODY: usize = 64 << 10;

pub(crate) async fn auth(State(broker): State<Broker>, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let inner = broker.inner();
    let (challenger, now) = (inner.challenger(), inner.now_s());
    let issued = match inner.insecure_nonce {
        None => challenger.issue(&body, now)?,
        Some(nonce) => challenger.insecure_issue_with_nonce(&body, nonce, now)?,
    };
    tracing::info!(attempt = issued.attempt, tee = issued.tee.name(), "challenge issued");
    // Path, because the cookie is for attest and resource too; the other attributes are for browsers' sake.
    let max_age = issued.expires_at.saturating_sub(now);
    let cookie =
        format!("{COOKIE}={}; Path=/; Max-Age={max_age}; Secure; HttpOnly; SameSite=Strict", issued.cookie);
    let headers = [(header::SET_COOKIE, cookie), (header::CONTENT_TYPE, "application/json".to_string())];
    Ok((headers, issued.body).into_response())
}
