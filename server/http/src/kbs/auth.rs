//! `POST /kbs/v0/auth`: a challenge that the broker need not remember.

use axum::extract::Request;
use axum::http::header;
use axum::response::IntoResponse;
use coffer_core_protocol::wire::COOKIE;

use crate::call::{Answer, Call, body};

const MAX_BODY: usize = 64 << 10;

pub(crate) async fn auth(call: Call, request: Request) -> Answer {
    let body = body(request, MAX_BODY).await?;
    let inner = call.inner();
    let (in_force, now) = (call.in_force(), inner.now_s());
    let issued = match inner.insecure_nonce {
        None => in_force.challenger.issue(&body, now)?,
        Some(nonce) => in_force.challenger.insecure_issue_with_nonce(&body, nonce, now)?,
    };
    tracing::info!(
        tenant = %call.tenant.name,
        attempt = issued.attempt,
        tee = issued.tee.name(),
        "challenge issued"
    );
    // Path, because the cookie is for attest and resource too; the other attributes are for browsers' sake.
    let max_age = issued.expires_at.saturating_sub(now);
    let cookie =
        format!("{COOKIE}={}; Path=/; Max-Age={max_age}; Secure; HttpOnly; SameSite=Strict", issued.cookie);
    let headers = [(header::SET_COOKIE, cookie), (header::CONTENT_TYPE, "application/json".to_string())];
    Ok((headers, issued.body).into_response())
}
