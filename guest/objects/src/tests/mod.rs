//! The gateway between a client and a store, over sockets of loopback.

mod clients;
mod objects;
mod store;
mod uploads;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_core_sealed_objects::ObjectKeys;
use coffer_core_sealed_stream::Key;
use coffer_core_secret::SecretBytes;
use coffer_guest_models::sigv4::{Credentials, NO_BODY, Signed, Signer, UNSIGNED};
use coffer_guest_models::{Retry, S3Access, client_builder};
use reqwest::{Method, Response};

use self::store::{Manner, Store};
use crate::{Clients, Gateway, serve};

pub(super) fn credentials() -> Credentials {
    Credentials { id: "user".into(), secret: SecretBytes::copy_of(b"sesame"), token: None }
}

fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at * at + at / 4096) % 251) as u8).collect()
}

/// A gateway before a store, and what it logs.
struct Peer {
    store: Store,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
}

impl Peer {
    async fn new(choose: impl Fn(usize, &str, &str) -> Manner + Send + Sync + 'static) -> Self {
        Self::with(choose, Clients::SignedWith(credentials())).await
    }

    async fn with(
        choose: impl Fn(usize, &str, &str) -> Manner + Send + Sync + 'static,
        clients: Clients,
    ) -> Self {
        let store = Store::start(choose).await;
        let access = S3Access {
            endpoint: Some(format!("http://{}", store.address)),
            credentials: Some(credentials()),
            ..S3Access::default()
        };
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        let retry = Retry { attempts: 4, pause: Duration::from_millis(1), ..Retry::default() };
        let keys = ObjectKeys::derive(&Key::new([7; 32])).unwrap();
        let gateway = Gateway::new(
            keys,
            access,
            &[],
            retry,
            clients,
            Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned())),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(serve(listener, Arc::new(gateway.unwrap())));
        let client = client_builder("tests", &[], Retry::default()).unwrap().no_proxy();
        let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { store, address, log, client }
    }

    async fn good() -> Self {
        Self::new(|_, _, _| Manner::Good).await
    }

    /// A signed request.
    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let signer = Signer::new(credentials(), "here".into());
        let digest = if body.is_empty() { NO_BODY } else { UNSIGNED };
        let signed = signer.headers(Signed { method, path, query }, &self.address, headers, digest).unwrap();
        let url = format!("http://{}{target}", self.address);
        let mut request =
            self.client.request(method.parse::<Method>().unwrap(), url).headers(signed).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, target: &str) -> Response {
        self.send("GET", target, &[], Vec::new()).await
    }

    async fn put(&self, target: &str, body: Vec<u8>) -> String {
        let reply = self.send("PUT", target, &[], body).await;
        assert_eq!(reply.status(), 200);
        tag(&reply)
    }

    /// The one object of a length in the store.
    fn stored(&self, length: usize) -> String {
        let paths = self.store.paths();
        let found: Vec<_> = paths.iter().filter(|(_, own)| *own == length).collect();
        assert_eq!(found.len(), 1, "{paths:?}");
        found[0].0.clone()
    }
}

fn tag(reply: &Response) -> String {
    reply.headers()["etag"].to_str().unwrap().to_owned()
}

fn code(reply: &Response) -> (u16, String) {
    let code = reply.headers().get("x-coffer-code").map(|code| code.to_str().unwrap().to_owned());
    (reply.status().as_u16(), code.unwrap_or_default())
}

/// What the text of an answer has between two words.
fn all_between(text: &str, begin: &str, end: &str) -> Vec<String> {
    text.split(begin).skip(1).map(|rest| rest.split(end).next().unwrap().to_owned()).collect()
}
