//! A server that answers Vault's calls as Vault's API documentation says, for tests of those who call.
//!
//! It is ours and not Vault: what passes here was not shown to pass there. It keeps everything in memory, over plain
//! HTTP on a loopback address. Left out: what Coffer does not call, storage, policies beyond paths and capabilities.

mod answer;
mod fault;
mod kv;
mod random;
mod route;
mod state;
mod token;
mod transit;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use fault::Fault;
pub use state::Rule;

use state::State;

/// A running server. It ends when this is dropped.
pub struct Peer {
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// Starts on a free port of the loopback address, with a KV engine at `secret/` and a transit engine at `transit/`.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on the loopback address");
        Self::serve(listener)
    }

    /// Serves on a socket that is bound already, so that a test can have the same address again.
    pub fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let app = route::router(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serving on the loopback address");
        });
        Self { url: format!("http://{address}"), shared, server }
    }

    /// As `http://127.0.0.1:40000`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a token: its policies, its life, and the age that renewal cannot pass. A life of zero has no end.
    pub fn token(&self, policies: &[&str], ttl: Duration, max: Duration) -> String {
        self.shared.state().issue(policies, ttl, max)
    }

    /// A token that may do everything and has no end.
    pub fn root_token(&self) -> String {
        self.token(&["root"], Duration::ZERO, Duration::ZERO)
    }

    /// Ends a token.
    pub fn revoke(&self, token: &str) {
        self.shared.state().tokens.remove(token);
    }

    /// Ends all tokens.
    pub fn revoke_all(&self) {
        self.shared.state().tokens.clear();
    }

    /// Writes a policy: rules as (path, capabilities), where a path may end in `*`.
    pub fn policy(&self, name: &str, rules: &[(&str, &[&str])]) {
        let rules = rules.iter().map(|(path, capabilities)| Rule::new(path, capabilities)).collect();
        self.shared.state().policies.insert(name.to_owned(), rules);
    }

    /// Makes an AppRole role at `auth/approle/`; gives its role id and a secret id that is good for `uses` logins.
    pub fn approle(&self, policies: &[&str], ttl: Duration, max: Duration, uses: u32) -> (String, String) {
        self.shared.state().add_approle(policies, ttl, max, uses)
    }

    /// Makes a Kubernetes role at `auth/kubernetes/` that believes exactly this service account token.
    pub fn kubernetes(&self, role: &str, jwt: &str, policies: &[&str], ttl: Duration) {
        self.shared.state().add_kubernetes(role, jwt, policies, ttl);
    }

    /// Writes a new version of a secret in the KV engine `secret/` of a namespace (empty for the root one).
    pub fn put(&self, namespace: &str, path: &str, data: serde_json::Value) -> u64 {
        self.shared.state().space(namespace).kv("secret").put(path, data)
    }

    /// Makes a transit key in the engine `transit/`.
    pub fn create_key(&self, name: &str) {
        self.shared.state().space("").transit("transit").create(name);
    }

    /// Adds a version to a transit key.
    pub fn rotate_key(&self, name: &str) {
        self.shared.state().space("").transit("transit").rotate(name);
    }

    /// Refuses ciphertexts of versions below this one.
    pub fn min_decryption_version(&self, name: &str, version: u64) {
        self.shared.state().space("").transit("transit").minimum(name, version);
    }

    /// Removes a transit key.
    pub fn delete_key(&self, name: &str) {
        self.shared.state().space("").transit("transit").delete(name);
    }

    /// Seals or unseals.
    pub fn seal(&self, sealed: bool) {
        self.shared.state().sealed = sealed;
    }

    /// Moves the clock forward.
    pub fn advance(&self, time: Duration) {
        self.shared.state().now += time;
    }

    /// Answers the next `count` requests with a fault.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        self.shared.state().faults.extend(std::iter::repeat_n(fault, count));
    }

    /// How many requests came for paths with this beginning, as `auth/approle/`.
    pub fn requests(&self, prefix: &str) -> usize {
        self.shared.state().requests.iter().filter(|path| path.starts_with(prefix)).count()
    }

    /// Forgets the requests that were counted.
    pub fn forget_requests(&self) {
        self.shared.state().requests.clear();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}
