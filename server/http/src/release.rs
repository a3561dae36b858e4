//! From a token to a release: who asks, whether the policies allow it, and the line of the journal without which
//! nothing leaves.
//!
//! INVARIANT I-1: a value leaves only after [`Asker::write`] said that the decision is durable, and only as a JWE to the
//! key inside the token, but where an owner made a wrapping key that says otherwise by name.

use std::sync::Arc;

use axum::http::HeaderMap;
use coffer_core_admin::Decision;
use coffer_core_protocol::ear::{Ear, EarError, Submodule};
use coffer_core_protocol::error::{Cause, Code};
use coffer_core_protocol::jwe::Sealer;
use coffer_core_protocol::jwk::PublicKey;
use coffer_server_identity::Scope as Owner;
use coffer_server_store::{AttemptEntry, JournalEntry};
use serde_json::{Value, json};

use crate::call::{Call, bearer, blocking, cookie};
use crate::issued::Attested;
use crate::journal::NotWritten;
use crate::policies::Asked;
use crate::record::{self, Record};
use crate::reply::Refused;
use crate::tenancy::InForce;
use crate::token;

/// What encrypts to guests' keys of every form, upstream's ML-KEM included.
const SEALER: Sealer = Sealer::new().with_kmac256(kmac256);

/// NIST SP 800-185, section 4, with an empty customization.
fn kmac256(key: &[u8], input: &[u8], output: &mut [u8]) {
    use tiny_keccak::{Hasher, Kmac};
    let mut kmac = Kmac::v256(key, b"");
    kmac.update(input);
    kmac.finalize(output);
}

/// How often a decision is made again when what it rests on was changed meanwhile.
pub(crate) const ROUNDS: usize = 5;

/// An attested guest that asks for something.
pub(crate) struct Asker {
    pub(crate) attempt: String,
    result: Arc<Attested>,
    key: PublicKey,
}

impl Asker {
    /// Who asks: by the token that is sent, or by that of the session which the cookie names.
    pub(crate) async fn of(call: &Call, headers: &HeaderMap) -> Result<Self, Refused> {
        match bearer(headers) {
            Some(token) => Self::by_token(call, token).await,
            None => {
                let cookie = cookie(headers).ok_or(Code::TokenMissing)?;
                let attempt = call.in_force().challenger.session(cookie)?;
                let body = call.stored(move |rows| rows.attempt(&attempt)).await?;
                let record = body.and_then(|body| Record::read(body.expose()));
                let token = record.and_then(|record| record.token).ok_or(Code::TokenMissing)?;
                Self::by_token(call, &token).await
            }
        }
    }

    /// Who holds this token.
    pub(crate) async fn by_token(call: &Call, token: &str) -> Result<Self, Refused> {
        let (in_force, now) = (call.in_force(), call.inner().now_s());
        match call.tenant.issued.verify(token, &in_force.tokens, now) {
            // A result that a relying party asked for: nobody here made its nonce.
            Ok(result) if result.ear.iss != token::ISSUER => Err(Code::TokenInvalid.into()),
            Ok(result) => {
                let attempt = result.ear.attempt().ok_or(Code::TokenInvalid)?;
                let key = result.ear.tee_pubkey().map_err(refused)?;
                Ok(Self { attempt, result, key })
            }
            // Ours that ended is ours; what others signed is looked at only where somebody accepts it.
            Err(error) if matches!(error, EarError::Expired { .. }) || in_force.passports.is_empty() => {
                Err(refused(error))
            }
            Err(_) => Self::by_passport(call, &in_force, token).await,
        }
    }

    /// A result that another authority signed: it is an attempt of its own.
    async fn by_passport(call: &Call, in_force: &InForce, token: &str) -> Result<Self, Refused> {
        let inner = call.inner();
        let owner = Owner::Tenant(call.tenant.name.clone());
        let cache = inner.admission.keys();
        let passport = in_force.passports.verify(cache, &owner, token, inner.now_s()).await?;
        // By what was signed: a signature can be written in two ways, and must not count as two guests.
        let attempt = passport.attempt().to_owned();
        let mut ear = passport.to_ear();
        let origin = json!({
            "authority": passport.origin().authority,
            "issuer": passport.origin().issuer,
            "key": passport.origin().key,
            "trust": passport.origin().trust.name(),
        });
        // Nobody here has seen the evidence: the owner says whether this authority's is of hardware, and upstream's
        // `sample` never is.
        let vouched = in_force.passports.vouches_for_hardware(&passport.origin().authority);
        // Whatever the other side calls its claims: what is under this name is what we say.
        for part in ear.submods.values_mut() {
            let hardware = vouched && !part.evidence.contains_key("sample");
            let about = json!({"attempt": attempt, "origin": origin, "hardware": hardware});
            part.evidence.insert("coffer".to_owned(), about);
        }
        let result = Attested::new(ear).map_err(|_| Code::Internal)?;
        let known = attempt.clone();
        if call.stored(move |rows| rows.attempt(&known)).await?.is_none() {
            let record = Record::of_passport(&attempt, inner.now(), &result.ear, &origin);
            let body = serde_json::to_vec(&record).map_err(|_| Code::Internal)?;
            let at_ms = inner.now().as_millisecond();
            let entry = AttemptEntry { id: attempt.clone(), refused: false, at_ms, body };
            inner.journal.write(&call.tenant.name, JournalEntry::Attempt(entry)).await.map_err(Code::from)?;
        }
        Ok(Self { attempt, result: Arc::new(result), key: passport.tee_pubkey().clone() })
    }

    pub(crate) fn ear(&self) -> &Ear {
        &self.result.ear
    }

    /// The TEE's name, as far as the token says it.
    pub(crate) fn tee(&self) -> &str {
        self.ear().cpu().ok().and_then(tee).unwrap_or_default()
    }

    /// As [`Asker::decide`], off the threads that serve, and not more at once than a tenant's share: a policy that
    /// takes long is its own tenant's affair.
    ///
    /// Nothing is refused on what another replica has replaced meanwhile: before a denial is told, the rows are asked.
    pub(crate) async fn decided(
        self: &Arc<Self>,
        call: &Call,
        plugin: &str,
        path: &str,
        method: &str,
    ) -> Result<(Arc<InForce>, Result<Vec<Cause>, Refused>), Refused> {
        for _ in 0..ROUNDS {
            let in_force = call.in_force();
            let place = call.inner().deciding.enter(&call.tenant.name, &in_force.quotas).await?;
            let (own, at) = (self.clone(), in_force.clone());
            let (plugin, path, method) = (plugin.to_owned(), path.to_owned(), method.to_owned());
            let work = move || {
                let asked = Asked { plugin: &plugin, path: &path, method: &method, tee: own.tee() };
                let decided = own.decide(&at, &asked, &Self::data(&asked));
                drop(place);
                decided
            };
            let decided = blocking(work).await?;
            let allowed = matches!(&decided, Ok(causes) if causes.is_empty());
            if allowed || call.is_current(&in_force).await? {
                return Ok((in_force, decided));
            }
            call.reload().await?;
        }
        Err(Code::ChangedMeanwhile.into())
    }

    /// Asks the policies that decide about this; gives the causes of their denial, those of the verdict first.
    ///
    /// INVARIANT I-6: evidence of which the token does not say that hardware protects it opens nothing under a policy that
    /// does not name software evidence.
    pub(crate) fn decide(
        &self,
        in_force: &InForce,
        asked: &Asked<'_>,
        data: &Value,
    ) -> Result<Vec<Cause>, Refused> {
        let fault = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "the resource policy could not be evaluated");
            Refused::plain(Code::PolicyFault)
        };
        let revoked = in_force.revocations.causes(self.ear());
        if !revoked.is_empty() {
            return Ok(revoked);
        }
        let decision = in_force.policies.decide(asked, &self.result.claims, data);
        let decision = decision.map_err(|error| fault(&error))?;
        let about = self.ear().cpu().ok().and_then(|cpu| cpu.evidence.get("coffer"));
        let hardware = about.and_then(|about| about.get("hardware"));
        let decision = match hardware == Some(&Value::Bool(true)) {
            true => decision,
            false => decision.of_software(),
        };
        if decision.is_allowed() {
            return Ok(Vec::new());
        }
        let verdict = about.and_then(|about| about.get("causes")).cloned();
        let mut causes: Vec<Cause> =
            verdict.and_then(|causes| serde_json::from_value(causes).ok()).unwrap_or_default();
        for denial in decision.denials {
            if !causes.iter().any(|cause| cause.code == denial.code) {
                let (code, title) = (denial.code, denial.message);
                causes.push(Cause {
                    code,
                    title,
                    expected: denial.expected,
                    found: denial.found,
                    remedy: denial.remedy,
                });
            }
        }
        Ok(causes)
    }

    /// What is asked for, as policies have it in `data`.
    pub(crate) fn data(asked: &Asked<'_>) -> Value {
        json!({"plugin": asked.plugin, "resource-path": asked.path, "method": asked.method})
    }

    /// A value as a JWE to the guest's key.
    pub(crate) fn seal(&self, value: &[u8]) -> Result<Vec<u8>, Refused> {
        let sealed = SEALER.seal(&self.key, value).and_then(|jwe| jwe.to_json());
        sealed.map_err(|error| Refused::new(Code::Seal, format!("{error}.")))
    }

    /// Writes down what was decided; nothing may leave before this returned.
    pub(crate) async fn write(
        &self,
        call: &Call,
        what: &str,
        outcome: Outcome<'_>,
    ) -> Result<(), NotWritten> {
        let inner = call.inner();
        let (name, causes) = match &outcome {
            Outcome::Released { .. } => ("released", [].as_slice()),
            Outcome::Absent => ("absent", [].as_slice()),
            Outcome::Counted => ("counted", [].as_slice()),
            Outcome::Refused(causes) => ("refused", *causes),
        };
        let decision = Decision {
            at: record::seconds(inner.now()),
            resource: what.to_string(),
            outcome: name.to_string(),
            causes: causes.to_vec(),
        };
        let body = serde_json::to_vec(&decision).map_err(|_| NotWritten::Fault)?;
        let attempt = self.attempt.clone();
        let entry = match outcome {
            Outcome::Released { revision, version } => JournalEntry::Release {
                attempt,
                path: what.to_string(),
                version,
                revision,
                at: inner.now().as_second(),
                body,
            },
            _ => JournalEntry::Decision { attempt, body },
        };
        let written = inner.journal.write(&call.tenant.name, entry).await;
        let code = match (&written, causes.first()) {
            (Err(not), _) => Code::from(*not).as_str(),
            (Ok(()), Some(cause)) => cause.code.as_str(),
            (Ok(()), None) => "",
        };
        inner.metrics.decided(name, written.is_ok());
        tracing::info!(
            tenant = %call.tenant.name,
            attempt = self.attempt,
            resource = what,
            tee = self.tee(),
            status = ?self.ear().cpu().map(|cpu| cpu.status).ok(),
            decision = if written.is_ok() { name } else { "not-written" },
            code,
            "resource"
        );
        written
    }
}

/// What was decided.
pub(crate) enum Outcome<'a> {
    /// It leaves, as it was when this was in force.
    Released {
        revision: u64,
        /// None if the value is not of the store.
        version: Option<u64>,
    },
    /// There is no such thing.
    Absent,
    /// A volume's counter may be seen and moved.
    Counted,
    /// It does not leave, for these reasons.
    Refused(&'a [Cause]),
}

pub(crate) fn refused(error: EarError) -> Refused {
    Refused::new(error.code(), format!("{error}."))
}

fn tee(cpu: &Submodule) -> Option<&str> {
    let known = ["report_data", "init_data", "runtime_data_claims", "init_data_claims", "coffer"];
    cpu.evidence.keys().map(String::as_str).find(|name| !known.contains(name))
}
