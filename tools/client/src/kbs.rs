//! The KBS handshake over HTTP, as an attester makes it. The steps are `core/protocol`'s; this only carries them.

use coffer_core_protocol::handshake::attester::{Attester, AttesterError, Challenged, Session};
use coffer_core_protocol::tee_key::TeeKey;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_protocol::wire::COOKIE;
use coffer_core_protocol::{ReportData, Tee};
use coffer_core_secret::SecretBytes;
use reqwest::Method;
use serde_json::Value;

use crate::error::{ClientError, Refusal};
use crate::http::Server;

/// Evidence, as the closure of [`KbsClient::attest`] gives it.
pub struct Evidence {
    /// The TEE's evidence in its own form, bound to the report data.
    pub primary: Value,
    /// The text of the init-data, if the guest has any.
    pub init_data: Option<String>,
}

/// A broker, seen by an attester.
pub struct KbsClient {
    server: Server,
}

/// Attested: resources can be asked for.
pub struct KbsSession {
    server: Server,
    session: Session,
}

impl KbsClient {
    /// `url` is `https://host:port`; `ca_pem` is the broker's own authority.
    pub fn new(url: &str, ca_pem: &str) -> Result<Self, ClientError> {
        Ok(Self { server: Server::pinned(url, ca_pem)? })
    }

    #[cfg(test)]
    fn loopback(url: &str) -> Result<Self, ClientError> {
        Ok(Self { server: Server::loopback(url)? })
    }

    /// Attests with a key: auth, then the evidence that `evidence` gives for the report data.
    pub async fn attest(
        &self,
        tee: Tee,
        key: TeeKey,
        evidence: impl FnOnce(&ReportData) -> Result<Evidence, String>,
    ) -> Result<KbsSession, ClientError> {
        let (attester, body) = Attester::begin(tee, key).map_err(failed)?;
        let auth = self.post("/kbs/v0/auth", body, None).await?;
        let challenged = attester.on_challenge(&auth.body).map_err(failed)?;
        self.answer(challenged, auth.cookie, evidence).await
    }

    /// Attests with a new key of the best kind that the broker takes: hybrid where it says so, P-256 otherwise.
    pub async fn attest_with_new_key(
        &self,
        tee: Tee,
        evidence: impl FnOnce(&ReportData) -> Result<Evidence, String>,
    ) -> Result<KbsSession, ClientError> {
        let (negotiating, body) = Attester::negotiate(tee).map_err(failed)?;
        let auth = self.post("/kbs/v0/auth", body, None).await?;
        let wanted = negotiating.on_challenge(&auth.body).map_err(failed)?;
        let key = wanted.kind().generate().map_err(|why| ClientError::Handshake(why.to_string()))?;
        let challenged = wanted.with_key(key).map_err(failed)?;
        self.answer(challenged, auth.cookie, evidence).await
    }

    async fn answer(
        &self,
        (challenged, report_data): (Challenged, ReportData),
        cookie: Option<String>,
        evidence: impl FnOnce(&ReportData) -> Result<Evidence, String>,
    ) -> Result<KbsSession, ClientError> {
        let evidence = evidence(&report_data).map_err(ClientError::Handshake)?;
        let (attesting, body) =
            challenged.evidence(evidence.primary, "", evidence.init_data.as_deref()).map_err(failed)?;
        let answer = self.post("/kbs/v0/attest", body, cookie).await?;
        let session = attesting.on_response(&answer.body).map_err(failed)?;
        Ok(KbsSession { server: self.server.clone(), session })
    }

    async fn post(
        &self,
        path: &str,
        body: Vec<u8>,
        cookie: Option<String>,
    ) -> Result<crate::http::Answer, ClientError> {
        let mut request =
            self.server.request(Method::POST, path).header("content-type", "application/json").body(body);
        if let Some(cookie) = cookie {
            request = request.header("cookie", format!("{COOKIE}={cookie}"));
        }
        self.server.send(request).await
    }
}

impl KbsSession {
    /// The token, the verdict, and the key's public half.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Asks for a resource and decrypts it.
    pub async fn resource(&self, path: &ResourcePath) -> Result<SecretBytes, ClientError> {
        let path = format!("/kbs/v0/resource/{path}");
        let request = self.server.request(Method::GET, &path).bearer_auth(self.session.token());
        let answer = self.server.send(request).await?;
        let why = |error: coffer_core_protocol::jwe::JweError| ClientError::Answer {
            what: path.clone(),
            why: error.to_string(),
        };
        self.session.open(&answer.body).map_err(why)
    }
}

fn failed(error: AttesterError) -> ClientError {
    match error {
        AttesterError::Refused(body) => Box::new(Refusal::from_body(200, *body)).into(),
        other => ClientError::Handshake(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
