//! The client of one broker: attests when it must, holds the session, fetches resources.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use coffer_core_digest::Digest;
use coffer_core_evidence::eventlog::RuntimeEvent;
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_protocol::Algorithm;
use coffer_core_protocol::counter::{Counter, MoveCounter};
use coffer_core_protocol::ear::Status;
use coffer_core_protocol::error::ErrorBody;
use coffer_core_protocol::handshake::attester::{Attester, AttesterError, Challenged, Session};
use coffer_core_protocol::jws::Compact;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;
use tokio::sync::Mutex;

use crate::http::{Broker, Reply};
use crate::{AttestError, Attested, Binding, EvidenceSource, Keys, Pending, Recorded, pair, refused};

/// How often a request is answered with a new attestation (KBS protocol, client rule).
const RENEWALS: u32 = 3;
/// The longest runtime data that evidence carries.
const MAX_RUNTIME_DATA: usize = 64;
/// What separates a workload's evidence from the guest's own.
const WORKLOAD: &[u8] = b"coffer workload evidence v1\0";

/// How much of a token's life must be left for a workload to be given it.
const REMAINING_S: u64 = 30;

/// A client of the owner's broker.
///
/// The session that resources are fetched in has a hybrid key where the broker takes one. The workload's token belongs
/// to a session of its own on P-256, because a key pair on P-256 is what the attestation agent's form has room for.
pub struct KeyClient {
    broker: Broker,
    source: Arc<dyn EvidenceSource>,
    init_data: String,
    held: Mutex<Option<Arc<Session>>>,
    lent: Mutex<Option<Lent>>,
}

/// A session whose token and key pair a workload gets.
struct Lent {
    session: Session,
    pair: SecretBytes,
    /// When the token ends, in seconds since 1970; nothing if it does not say so.
    end: Option<u64>,
}

impl KeyClient {
    /// A client that has not attested yet. `init_data` is the text whose digest is bound.
    #[must_use]
    pub fn new(broker: Broker, source: Arc<dyn EvidenceSource>, init_data: String) -> Self {
        Self { broker, source, init_data, held: Mutex::new(None), lent: Mutex::new(None) }
    }

    /// Attests now and holds the session, whatever the appraisal says.
    ///
    /// # Errors
    /// When there is no evidence, no broker, or the broker refuses the evidence.
    pub async fn attest(&self) -> Result<Attested, AttestError> {
        let mut held = self.held.lock().await;
        let new = Arc::new(self.shake_hands().await?);
        let status = status(&new)?;
        let attempt = new.attempt().to_owned();
        *held = Some(new);
        Ok(Attested { status, attempt })
    }

    /// Attests, and refuses a machine that was judged other than expected.
    ///
    /// # Errors
    /// As [`Self::attest`]; and when the appraisal's result is neither `affirming` nor `warning`.
    pub async fn attest_as_expected(&self) -> Result<Attested, AttestError> {
        let attested = self.attest().await?;
        // A result that says nothing (`none`) is no acceptance.
        if matches!(attested.status, Status::Affirming | Status::Warning) {
            return Ok(attested);
        }
        let held = self.held.lock().await;
        let verdict = held.as_ref().and_then(|session| session.verdict());
        let causes = verdict.map(refused::failed_checks).unwrap_or_default();
        Err(AttestError::Contraindicated { causes, attempt: attested.attempt })
    }

    /// Attests with the best key that the broker takes.
    async fn shake_hands(&self) -> Result<Session, AttestError> {
        let (negotiating, body) = Attester::negotiate(self.source.tee()).map_err(|e| own("auth", e, None))?;
        let (body, cookie) = self.challenge(body).await?;
        let wanted = negotiating.on_challenge(&body).map_err(|e| own("auth", e, None))?;
        let key = wanted.kind().generate().map_err(|e| AttestError::Provider { why: e.to_string() })?;
        let (challenged, _) = wanted.with_key(key).map_err(|e| own("auth", e, None))?;
        self.answer(challenged, cookie).await
    }

    /// Attests with a key that the workload will be given.
    async fn lend(&self) -> Result<Lent, AttestError> {
        let (key, pair) = pair::generate()?;
        let (attester, body) = Attester::begin(self.source.tee(), key).map_err(|e| own("auth", e, None))?;
        let (body, cookie) = self.challenge(body).await?;
        let (challenged, _) = attester.on_challenge(&body).map_err(|e| own("auth", e, None))?;
        let session = self.answer(challenged, cookie).await?;
        let end = claims(&session)?.get("exp").and_then(serde_json::Value::as_u64);
        Ok(Lent { session, pair, end })
    }

    /// The reply to an offer, and its cookie.
    async fn challenge(&self, offer: Vec<u8>) -> Result<(Vec<u8>, Option<String>), AttestError> {
        let reply = self.broker.post("auth", "/auth", None, offer).await?;
        let cookie = reply.cookie.clone();
        Ok((accepted("auth", reply, None)?, cookie))
    }

    /// Collects evidence and sends it.
    async fn answer(&self, challenged: Challenged, cookie: Option<String>) -> Result<Session, AttestError> {
        let attempt = challenged.attempt();
        // The devices first: the machine's evidence binds theirs.
        let of_devices = challenged.device_report_data().map_err(|e| own("attest", e, Some(&attempt)))?;
        let devices = self.source.devices(of_devices).await?;
        let report_data =
            challenged.report_data_with(&devices).map_err(|e| own("attest", e, Some(&attempt)))?;
        let evidence = self.source.evidence(report_data).await?;
        let (attesting, body) = challenged
            .evidence(evidence, &devices, Some(&self.init_data))
            .map_err(|e| own("attest", e, Some(&attempt)))?;
        let reply = self.broker.post("attest", "/attest", cookie.as_deref(), body).await?;
        let body = accepted("attest", reply, Some(&attempt))?;
        attesting.on_response(&body).map_err(|e| own("attest", e, Some(&attempt)))
    }

    /// The session, attesting if there is none.
    async fn session(&self) -> Result<Arc<Session>, AttestError> {
        let mut held = self.held.lock().await;
        if let Some(present) = held.as_ref() {
            return Ok(Arc::clone(present));
        }
        let new = Arc::new(self.shake_hands().await?);
        *held = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Forgets a session that the broker no longer accepts, unless another task has renewed it already.
    async fn forget(&self, old: &Arc<Session>) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|present| Arc::ptr_eq(present, old)) {
            *held = None;
        }
    }

    async fn fetch(&self, session: &Session, path: &ResourcePath) -> Result<SecretBytes, AttestError> {
        const STEP: &str = "a resource";
        let reply = self.broker.get(STEP, &format!("/resource/{path}"), session.token()).await?;
        let body = accepted(STEP, reply, Some(session.attempt()))?;
        session.open(&body).map_err(|why| AttestError::Protocol { step: STEP, why: why.to_string() })
    }

    /// Reads a volume's counter, or moves it.
    async fn count(
        &self,
        session: &Session,
        path: &ResourcePath,
        asked: Option<&MoveCounter>,
    ) -> Result<Counter, AttestError> {
        const STEP: &str = "a volume's counter";
        let wrong = |why: serde_json::Error| AttestError::Protocol { step: STEP, why: why.to_string() };
        let body = asked.map(serde_json::to_vec).transpose().map_err(wrong)?;
        let reply = self.broker.counter(STEP, &path.to_string(), session.token(), body).await?;
        serde_json::from_slice(&accepted(STEP, reply, Some(session.attempt()))?).map_err(wrong)
    }

    /// As [`Self::resource_of`].
    async fn counter_of(
        &self,
        path: &ResourcePath,
        asked: Option<&MoveCounter>,
    ) -> Result<Counter, AttestError> {
        let mut renewals = 0;
        loop {
            let session = self.session().await?;
            match self.count(&session, path, asked).await {
                Err(error) if error.asks_to_attest_again() && renewals < RENEWALS => {
                    renewals += 1;
                    self.forget(&session).await;
                }
                other => return other,
            }
        }
    }

    /// A resource, attesting again where the token is no longer accepted.
    async fn resource_of(&self, path: &ResourcePath) -> Result<SecretBytes, AttestError> {
        let mut renewals = 0;
        loop {
            let session = self.session().await?;
            match self.fetch(&session, path).await {
                Err(error) if error.asks_to_attest_again() && renewals < RENEWALS => {
                    renewals += 1;
                    self.forget(&session).await;
                }
                other => return other,
            }
        }
    }
}

impl Lent {
    /// Whether the token is of use for a while. The host sets the clock, and can only make a workload's token too old.
    fn lasts(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |age| age.as_secs());
        self.end.is_some_and(|end| now.saturating_add(REMAINING_S) < end)
    }
}

impl Keys for KeyClient {
    fn resource<'a>(&'a self, path: &'a ResourcePath) -> Pending<'a, SecretBytes> {
        Box::pin(self.resource_of(path))
    }

    fn counter<'a>(&'a self, path: &'a ResourcePath) -> Pending<'a, Counter> {
        Box::pin(self.counter_of(path, None))
    }

    fn move_counter<'a>(&'a self, path: &'a ResourcePath, asked: &'a MoveCounter) -> Pending<'a, Counter> {
        Box::pin(self.counter_of(path, Some(asked)))
    }

    fn token(&self) -> Pending<'_, SecretBytes> {
        Box::pin(async move {
            let mut kept = self.lent.lock().await;
            let lent = match kept.take().filter(Lent::lasts) {
                Some(lent) => lent,
                None => self.lend().await?,
            };
            let lent = kept.insert(lent);
            let token = serde_json::json!(lent.session.token()).to_string();
            // By hand, so that the secret is written once: PEM has nothing that JSON escapes but line feeds.
            let mut json = Vec::with_capacity(token.len().saturating_add(512));
            json.extend_from_slice(b"{\"token\":");
            json.extend_from_slice(token.as_bytes());
            json.extend_from_slice(b",\"tee_keypair\":\"");
            for &byte in lent.pair.expose() {
                match byte {
                    b'\n' => json.extend_from_slice(b"\\n"),
                    other => json.push(other),
                }
            }
            json.extend_from_slice(b"\"}");
            Ok(SecretBytes::new(json))
        })
    }

    fn evidence<'a>(&'a self, runtime_data: &'a [u8], binding: Binding) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let evidence = self.source.evidence(of_workload(runtime_data, binding)?).await?;
            serde_json::to_vec(&evidence)
                .map_err(|why| AttestError::Evidence { what: "its form", why: why.to_string() })
        })
    }

    fn additional_evidence<'a>(&'a self, runtime_data: &'a [u8], binding: Binding) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            let evidence = self.source.devices(of_workload(runtime_data, binding)?).await?;
            Ok(if evidence.is_empty() { b"{}".to_vec() } else { evidence.into_bytes() })
        })
    }

    fn record(&self, event: RuntimeEvent) -> Recorded<'_> {
        self.source.record(event)
    }

    fn tee(&self) -> Tee {
        self.source.tee()
    }
}

/// What evidence over data of the workload's is bound to.
fn of_workload(runtime_data: &[u8], binding: Binding) -> Result<ReportData, AttestError> {
    let found = runtime_data.len();
    let too_long = AttestError::RuntimeData { limit: MAX_RUNTIME_DATA, found };
    if found > MAX_RUNTIME_DATA {
        return Err(too_long);
    }
    let field = match binding {
        Binding::Workload => Digest::of(Algorithm::Sha512, &[WORKLOAD, runtime_data].concat()),
        Binding::Raw => {
            let mut field = runtime_data.to_vec();
            field.resize(MAX_RUNTIME_DATA, 0);
            Digest::from_bytes(Algorithm::Sha512, &field).map_err(|_| too_long)?
        }
    };
    Ok(ReportData::from_runtime_hash(field))
}

/// The body of a reply that is no refusal.
fn accepted(step: &'static str, reply: Reply, attempt: Option<&str>) -> Result<Vec<u8>, AttestError> {
    if (200..300).contains(&reply.status) {
        return Ok(reply.body);
    }
    let body = serde_json::from_slice(&reply.body).unwrap_or_else(|_| ErrorBody {
        kind: String::new(),
        detail: format!("HTTP {} without a reason", reply.status),
        code: None,
        causes: Vec::new(),
        remedy: None,
        attempt: None,
    });
    let attempt = attempt.map(str::to_owned);
    Err(AttestError::Refused { step, status: reply.status, body: Box::new(body), attempt })
}

fn own(step: &'static str, error: AttesterError, attempt: Option<&str>) -> AttestError {
    match error {
        AttesterError::Refused(body) => {
            AttestError::Refused { step, status: 200, body, attempt: attempt.map(str::to_owned) }
        }
        other => AttestError::Protocol { step, why: other.to_string() },
    }
}

/// What the token says of the machine.
fn status(session: &Session) -> Result<Status, AttestError> {
    let status = claims(session)?.pointer("/submods/cpu0/ear.status").cloned();
    let status = status.ok_or_else(|| not_a_token("the token has no ear.status"))?;
    serde_json::from_value(status).map_err(not_a_token)
}

/// The token's claims. TRUST: TLS to the pinned broker is what makes the token its word; the key in the header only
/// shows that the token is whole.
fn claims(session: &Session) -> Result<serde_json::Value, AttestError> {
    let compact = Compact::parse(session.token()).map_err(not_a_token)?;
    let key = compact.insecure_header_key().map_err(not_a_token)?;
    serde_json::from_slice(compact.verify(&key).map_err(not_a_token)?).map_err(not_a_token)
}

fn not_a_token(why: impl ToString) -> AttestError {
    AttestError::Protocol { step: "attest", why: why.to_string() }
}
