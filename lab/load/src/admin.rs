//! The admin calls that a load needs: who is trusted, what affirms, and what is released.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use coffer_core_protocol::jws::SigningKey;
use coffer_core_secret::SecretBytes;
use hyper::{Method, header};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use crate::endpoint::{Endpoint, Protocol, Tls};
use crate::guests::Guests;
use crate::link::{Answer, Call, CallError, Link};
use crate::route::{Patience, Route};

/// As long as a slow upload and two clocks that differ.
const TOKEN_SECONDS: i64 = 120;

/// Under what a resource is released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// To how many attempts at most.
    pub release_limit: Option<u64>,
    /// Only if this is the present version; 0 is none yet.
    pub if_version: Option<u64>,
}

/// An admin of a broker of one or several replicas.
#[derive(Clone)]
pub struct Admin {
    route: Arc<Route>,
    key: Arc<SigningKey>,
    prefix: String,
}

impl Admin {
    /// With the PKCS #8 key that the first start made, in PEM.
    pub fn new(endpoints: &[Endpoint], tls: &Tls, key_pem: &str, patience: Patience) -> Result<Self> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).context("the admin's key is no PEM")?;
        let key = Arc::new(SigningKey::from_pkcs8(&SecretBytes::copy_of(der.secret_pkcs8_der()))?);
        let links =
            endpoints.iter().map(|one| Link::new(one.clone(), tls.clone(), Protocol::Http1)).collect();
        Ok(Self { route: Arc::new(Route::new(links, 0, patience)), key, prefix: String::new() })
    }

    /// The same admin in a tenant.
    #[must_use]
    pub fn in_tenant(&self, tenant: &str) -> Self {
        Self { prefix: format!("/t/{tenant}"), ..self.clone() }
    }

    /// A bearer token for the calls of the next two minutes.
    pub fn token(&self) -> Result<String> {
        self.token_for(TOKEN_SECONDS)
    }

    /// A bearer token for the calls of so many seconds.
    pub fn token_for(&self, seconds: i64) -> Result<String> {
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({"iat": now, "nbf": now, "exp": now.saturating_add(seconds)});
        let mut header = Map::new();
        header.insert("typ".to_string(), "JWT".into());
        Ok(self.key.sign_compact(&header, claims.to_string().as_bytes())?)
    }

    /// Sends, to another replica when one fails; gives the answer whatever it is.
    pub async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Result<Answer, CallError>> {
        let call = Call::new(method, format!("{}{path}", self.prefix), body).json();
        let call = call.with(header::AUTHORIZATION, &format!("Bearer {}", self.token()?));
        Ok(self.route.call(&call, self.route.deadline()).await)
    }

    /// Sends, and takes no answer but a success.
    pub async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer> {
        let answer = self.send(method, path, body).await??;
        let text = || String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.is_good(), "{}{path}: {} {}", self.prefix, answer.status, text());
        Ok(answer)
    }

    /// Sends and reads JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, path, Vec::new()).await?.body)?)
    }

    /// Stores a resource: with upstream's call, or with ours where there are terms.
    pub async fn put_resource(&self, path: &str, value: &[u8], terms: Terms) -> Result<Answer> {
        let answer = self.try_put_resource(path, value, terms).await??;
        ensure!(answer.is_good(), "{path} was not stored: {} {}", answer.status, answer.code());
        Ok(answer)
    }

    /// As [`Admin::put_resource`]; gives the answer whatever it is.
    pub async fn try_put_resource(
        &self,
        path: &str,
        value: &[u8],
        terms: Terms,
    ) -> Result<Result<Answer, CallError>> {
        let named = [("release_limit", terms.release_limit), ("if_version", terms.if_version)];
        let query: Vec<String> =
            named.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={value}"))).collect();
        let (method, path) = match query.is_empty() {
            true => (Method::POST, format!("/kbs/v0/resource/{path}")),
            false => (Method::PUT, format!("/coffer/v1/resources/{path}?{}", query.join("&"))),
        };
        self.send(method, &path, value.to_vec()).await
    }

    /// Makes a tenant that this admin's key owns, and gives its admin.
    pub async fn make_tenant(&self, name: &str) -> Result<Self> {
        let public_key = serde_json::to_string(self.key.verifying_key())?;
        let body = json!({"owner": {"public_key": public_key, "roles": ["owner"]}});
        self.ask(Method::PUT, &format!("/coffer/v1/tenants/{name}"), body.to_string().into_bytes()).await?;
        Ok(self.in_tenant(name))
    }

    /// Trusts these guests, affirms what they measured, and takes software evidence.
    pub async fn welcome(&self, guests: &Guests) -> Result<()> {
        let anchor = json!({"certificate": guests.root_pem(), "hardware": false});
        self.ask(Method::PUT, "/coffer/v1/trust-anchors/load", anchor.to_string().into_bytes()).await?;
        let reference = guests.reference().to_string().into_bytes();
        self.ask(Method::POST, "/coffer/v1/reference-values", reference).await?;
        let policy = json!({"preset": "insecure-lab"}).to_string().into_bytes();
        self.ask(Method::PUT, "/coffer/v1/policies/resource", policy).await?;
        Ok(())
    }
}
