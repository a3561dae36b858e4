//! What belongs to no tenant: operators, the store, its backup.

use std::io::Write;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use coffer_server_identity as identity;
use futures::StreamExt;
use serde_json::json as value;
use tokio::sync::mpsc;

use super::{MAX_BODY, admins};
use crate::call::{Admin, Answer, blocking, body, failed, parse};
use crate::known::{self, Known};
use crate::reply::{Refused, json};

pub(crate) async fn operators(admin: Admin) -> Answer {
    let cluster = admin.inner().store().cluster();
    let all = blocking(move || known::read(&cluster)).await?.map_err(failed)?;
    Ok(json(StatusCode::OK, &known::shown(&all)))
}

pub(crate) async fn put_operator(admin: Admin, Path(name): Path<String>, request: Request) -> Answer {
    let next = Known::of(&name, parse(&body(request, MAX_BODY).await?)?)?;
    change(&admin, name, Some(next)).await
}

pub(crate) async fn remove_operator(admin: Admin, Path(name): Path<String>) -> Answer {
    change(&admin, name, None).await
}

async fn change(admin: &Admin, name: String, next: Option<Known>) -> Answer {
    let _changing = admin.inner().changing.lock().await;
    let (own, named) = (admin.clone(), name.clone());
    let put = move || {
        let cluster = own.inner().store().cluster();
        let found = admins::put_known(&cluster, &identity::Scope::Cluster, &own.who, &named, next.as_ref())?;
        own.inner().reload_operators().map_err(failed)?;
        Ok::<_, Refused>(found)
    };
    match blocking(put).await?? {
        true => {
            admin.told("operator", &name);
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::missing("There is no operator of that name.")),
    }
}

pub(crate) async fn status(admin: Admin) -> Answer {
    let own = admin.clone();
    let (reached, master) = blocking(move || {
        let store = own.inner().store();
        (store.check().map_err(|error| error.to_string()), store.master_key_id())
    })
    .await?;
    let inner = admin.inner();
    let store = value!({
        "place": inner.store().place(),
        "shared": inner.store().is_shared(),
        "reached": reached.is_ok(),
        "fault": reached.err(),
        "master_key": master?,
    });
    let status = value!({
        "version": env!("CARGO_PKG_VERSION"),
        "store": store,
        "draining": inner.is_draining(),
        "sources": inner.sources.names(),
        "plugins": inner.plugins.iter().map(|plugin| plugin.client.name()).collect::<Vec<_>>(),
    });
    Ok(json(StatusCode::OK, &status))
}

/// How many parts of a backup wait for a slow client.
const PARTS: usize = 4;
const PART: usize = 256 << 10;

/// Sends what is written in parts.
struct Parts {
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    part: Vec<u8>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(part.into())).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

pub(crate) async fn backup(admin: Admin) -> Answer {
    let (sender, receiver) = mpsc::channel(PARTS);
    admin.told("backup", "begun");
    let store = admin.inner().store().clone();
    tokio::task::spawn_blocking(move || {
        let mut parts = Parts { sender: sender.clone(), part: Vec::new() };
        let done = store.backup(&mut parts).map_err(|error| error.to_string());
        let done = done.and_then(|_| parts.flush().map_err(|error| error.to_string()));
        if let Err(error) = done {
            tracing::error!(error, "a backup failed");
            // The file has a checksum at its end, so one that is cut is seen to be.
            let _ = sender.blocking_send(Err(std::io::Error::other(error)));
        }
    });
    let parts = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part| (part, receiver))
    });
    let body = Body::from_stream(parts.boxed());
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
