//! The server on loopback.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use coffer_guest_models::sigv4::Signed;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::body::Reply;
use crate::read::insert;
use crate::write::xml;
use crate::xml::Writer;
use crate::{Call, Gateway, Refusal};

/// Connections served at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;
/// The pause after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How long a connection may be silent between requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);

/// Serves until it is dropped.
///
/// # Errors
/// When the listener is not on loopback: what is said here is plaintext.
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>) -> std::io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        let why = "the gateway listens on loopback only: it speaks plaintext";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
    }
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let gateway = Arc::clone(&gateway);
                async move { Ok::<_, Infallible>(answer(&gateway, request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            // A client that went away, or an answer that could not be finished: both ends know.
            drop((served, place));
        });
    }
}

async fn answer(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<Reply> {
    let method = request.method().clone();
    match called(gateway, request).await {
        Ok(reply) => reply,
        Err(refusal) => {
            // What an ordinary client asks to learn whether something is there is no news.
            if refusal.code != "objects.missing" {
                (gateway.log)(&format!("{method} was refused: {refusal}"));
            }
            refused(&method, &refusal)
        }
    }
}

async fn called(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Result<Response<Reply>, Refusal> {
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    let signed = Signed { method: head.method.as_str(), path, query };
    gateway.clients.admit(signed, &head.headers)?;
    let headers = &head.headers;
    match Call::parse(&head.method, path, query, headers)? {
        Call::HeadBucket(bucket) => gateway.head_bucket(&bucket).await,
        Call::Location(bucket) => {
            gateway.head_bucket(&bucket).await?;
            Ok(xml(Writer::new("LocationConstraint")))
        }
        Call::List(listing) => gateway.list(&listing).await,
        Call::DeleteMany(bucket) => gateway.delete_many(&bucket, headers, body).await,
        Call::Head(name) => gateway.head(&name, headers).await,
        Call::Get(name, range) => gateway.get(&name, range, headers).await,
        Call::Put(name) => gateway.put(&name, headers, body).await,
        Call::Copy(from, to) => gateway.copy(&from, &to, headers).await,
        Call::Delete(name) => gateway.delete(&name).await,
        Call::Begin(name) => gateway.begin(&name, headers).await,
        Call::Part(name, of) => gateway.part(&name, &of, headers, body).await,
        Call::PartCopy(name, of, from, range) => gateway.part_copy(&name, &of, &from, range).await,
        Call::Complete(name, upload) => gateway.complete(&name, &upload, headers, body).await,
        Call::Abort(name, upload) => gateway.abort(&name, &upload).await,
    }
}

fn refused(method: &Method, refusal: &Refusal) -> Response<Reply> {
    let mut text = Writer::new("Error");
    text.put("Code", &refusal.s3).put("Message", &refusal.to_string());
    let mut reply = if *method == Method::HEAD { Response::new(Reply::of("")) } else { xml(text) };
    *reply.status_mut() = refusal.status;
    // An answer without a body says why, too.
    insert(reply.headers_mut(), "x-coffer-code", refusal.code);
    reply
}
