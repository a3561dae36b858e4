//! `/kbs/v0/{plugin}/…`: a plugin's answer, for an attested guest or for an admin as the plugin says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use coffer_core_protocol::error::{Cause, Code};
use coffer_core_secret::SecretBytes;
use coffer_server_grpc::{PluginCall, PluginError, PluginReply};
use coffer_server_identity::Permission;

use crate::call::{Answer, Call, body};
use crate::gate;
use crate::release::{Asker, Outcome, ROUNDS};
use crate::reply::Refused;

const MAX_BODY: usize = 1 << 20;
/// How long a plugin is waited for in all.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn call(
    call: Call,
    Path((name, path)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Answer {
    let inner = call.inner();
    // Upstream has its own plugins beside external ones, which are under a name of their own.
    let (name, path) = match (name.as_str(), path.split_once('/')) {
        ("external", Some((name, path))) => (name.to_owned(), path.to_owned()),
        _ => (name, path),
    };
    let found = inner.plugins.iter().find(|plugin| plugin.is_for(&name, &call.tenant.name));
    let plugin = &found.ok_or(Code::PluginUnsupported)?.client;
    let (method, headers) = (request.method().to_string(), request.headers().clone());
    // Somebody known asks, or nothing is sent to the plugin: an admin, or a guest with a token.
    let asker = Asker::of(&call, &headers).await;
    if let Err(refused) = &asker
        && gate::authorize(&call, Permission::ManageKeys, &headers).await.is_err()
    {
        return Err(Refused::new(
            refused.parts().1.known_code().unwrap_or(Code::TokenMissing),
            refused.parts().1.detail.clone(),
        ));
    }
    let body = SecretBytes::copy_of(&body(request, MAX_BODY).await?);
    let segments = path.split('/').map(str::to_owned).collect();
    let asked = PluginCall { method: method.clone(), path: segments, query, body };
    let deadline = Instant::now().checked_add(PATIENCE);
    if plugin.requires_admin(&asked, deadline).await.map_err(failed)? {
        let who = gate::authorize(&call, Permission::ManageKeys, &headers).await?;
        tracing::info!(tenant = %call.tenant.name, by = who.who().subject(), plugin = name, path, method, "plugin");
        return answered(plugin.handle(&asked, deadline).await.map_err(failed)?, None);
    }
    let asker = Arc::new(asker?);
    let what = format!("{name}/{path}");
    for _ in 0..ROUNDS {
        let (in_force, decided) = asker.decided(&call, &name, &path, &method).await?;
        let causes: Vec<Cause> = decided?;
        if !causes.is_empty() {
            asker.write(&call, &what, Outcome::Refused(&causes)).await.map_err(Code::from)?;
            return Err(Refused::plain(Code::PolicyDenied).because(causes).attempt(&asker.attempt));
        }
        // Before the plugin is asked: it may do what cannot be undone.
        let outcome = Outcome::Released { revision: in_force.revision, version: None };
        match asker.write(&call, &what, outcome).await {
            Ok(()) => {
                let encrypted = plugin.needs_encryption(&asked, deadline).await.map_err(failed)?;
                let reply = plugin.handle(&asked, deadline).await.map_err(failed)?;
                return answered(reply, encrypted.then_some(&asker));
            }
            Err(crate::journal::NotWritten::Stale) => call.reload().await?,
            Err(not) => return Err(Refused::plain(not.into()).attempt(&asker.attempt)),
        }
    }
    Err(Refused::plain(Code::ChangedMeanwhile).attempt(&asker.attempt))
}

fn answered(reply: PluginReply, encrypted_to: Option<&Asker>) -> Answer {
    let status = StatusCode::from_u16(reply.status).map_err(|_| Code::PluginFault)?;
    let (kind, body): (String, Vec<u8>) = match encrypted_to {
        Some(asker) => ("application/json".to_owned(), asker.seal(reply.body.expose())?),
        None => {
            let kind = reply.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            (kind, reply.body.expose().clone())
        }
    };
    let response: Response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
    Ok(response)
}

fn failed(error: PluginError) -> Refused {
    tracing::error!(%error, "a plugin failed");
    match error.http_status() {
        503 | 504 => Refused::plain(Code::PluginUnavailable),
        400 => Refused::new(Code::Malformed, error.detail().to_owned()),
        403 => Refused::new(Code::PolicyDenied, error.detail().to_owned()),
        404 => Refused::plain(Code::ResourceMissing),
        _ => Refused::plain(Code::PluginFault),
    }
}
