//! A client of HashiCorp Vault and OpenBao: KV version 2, transit, and the logins that lead to a token.
//!
//! Holds true: each call is bounded in time and length; no part of a path reaches a URL but as one encoded segment;
//! no secret is in an error. Left out: writing secrets, dynamic secrets, and every other engine.
//! SPEC: the HTTP API of Vault 1.x, which OpenBao 2.x keeps: `auth/token`, `auth/approle`, `auth/kubernetes`,
//! `secret/kv/kv-v2`, `secret/transit`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod config;
mod error;
mod http;
mod kv;
mod login;
mod session;
mod source;
mod transit;

use std::sync::Arc;

use reqwest::StatusCode;

pub use config::{Auth, KvConfig, VaultConfig};
pub use error::VaultError;
pub use kv::{Kv, Metadata, Version, read_field};
pub use source::VaultSource;
pub use transit::{DataKey, KeyInfo, Transit};

use http::{Ask, Reply, Wire};
use session::Sessions;

/// A server and our standing with it. Clones share the token.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

struct Inner {
    wire: Wire,
    sessions: Sessions,
}

impl Vault {
    /// Prepares a client. Nothing is sent before the first call.
    pub fn new(config: &VaultConfig) -> Result<Self, VaultError> {
        let wire = Wire::new(config)?;
        let sessions = Sessions::new(config.auth.clone());
        Ok(Self { inner: Arc::new(Inner { wire, sessions }) })
    }

    /// The server's address, without credentials.
    pub fn url(&self) -> &str {
        self.inner.wire.url()
    }

    /// The KV version 2 engine at a mount, as `secret` or `team/kv`.
    pub fn kv(&self, mount: &str) -> Result<Kv, VaultError> {
        Kv::new(self.clone(), mount)
    }

    /// The transit engine at a mount.
    pub fn transit(&self, mount: &str) -> Result<Transit, VaultError> {
        Transit::new(self.clone(), mount)
    }

    /// Logs in if needed, so that a start with wrong settings is told at once.
    pub async fn check(&self) -> Result<(), VaultError> {
        self.inner.sessions.token(&self.inner.wire).await.map(drop)
    }

    /// Keeps the token alive while nobody calls. Ends only by being dropped; the program spawns it.
    pub async fn keep_alive(&self) {
        loop {
            tokio::time::sleep(self.inner.sessions.due_in().await).await;
            if let Err(error) = self.check().await {
                tracing::warn!(target: "vault", %error, "the token was not renewed");
            }
        }
    }

    /// One call with a token; with another one if the first turns out to be dead.
    async fn call(&self, ask: &Ask<'_>) -> Result<Reply, VaultError> {
        let Inner { wire, sessions } = &*self.inner;
        let token = sessions.token(wire).await?;
        let reply = wire.ask(ask, Some(&token)).await?;
        if reply.status != StatusCode::FORBIDDEN {
            return Ok(reply);
        }
        match sessions.replace(wire, &token).await? {
            Some(token) => wire.ask(ask, Some(&token)).await,
            None => Ok(reply),
        }
    }
}
