//! What one guest does: auth, attest, resource. The steps are `core/protocol`'s; this only carries them.

use std::fmt;
use std::time::Instant;

use coffer_core_evidence::Tee;
use coffer_core_protocol::handshake::attester::{Attester, Session};
use coffer_core_protocol::tee_key::TeeKey;
use coffer_lab_testpki::TpmFixture;
use hyper::{Method, header};

use crate::ending::{Ended, Step};
use crate::guests::Guests;
use crate::link::{Answer, Call};
use crate::route::{Route, comes_again};
use crate::tally::Tally;

/// A KBS client answers a 401 by attesting again, so many times.
const ATTEMPTS: usize = 3;

/// What a guest shows with its resource call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Carry {
    /// The token.
    Bearer,
    /// The session's cookie.
    Cookie,
}

/// What a guest comes for.
pub struct Visit<'a> {
    /// What it measured.
    pub guests: &'a Guests,
    /// Its TPM.
    pub tpm: &'a TpmFixture,
    /// Its tenant; none is the plain path.
    pub tenant: Option<&'a str>,
    /// `repository/type/tag`.
    pub resource: &'a str,
    /// Token or cookie.
    pub carry: Carry,
}

/// A guest that attested, and what it shows.
pub(crate) struct Attested {
    session: Session,
    cookie: String,
}

/// The whole flow. A 401 after the challenge begins it anew, as the protocol's clients do.
pub async fn visit(route: &Route, visit: &Visit<'_>, tally: &mut Tally) -> Ended {
    let until = route.deadline();
    let mut ended = None;
    for _ in 0..ATTEMPTS {
        let result = match attest(route, visit, tally, until).await {
            Ok(attested) => fetch(route, visit, &attested, tally, until).await,
            Err(ended) => ended,
        };
        let again = matches!(&result, Ended::Refused { status: 401, .. }) && Instant::now() < until;
        ended = Some(result);
        if !again {
            break;
        }
    }
    ended.unwrap_or(Ended::Wrong { step: Step::Auth, why: "no attempt was made".to_string() })
}

/// Auth and attest.
pub(crate) async fn attest(
    route: &Route,
    visit: &Visit<'_>,
    tally: &mut Tally,
    until: Instant,
) -> Result<Attested, Ended> {
    let (attester, body) = begin()?;
    let call = Call::new(Method::POST, path(visit.tenant, "auth"), body).json();
    let answer = good(Step::Auth, route, &call, tally, until).await?;
    let wrong = |step: Step| move |error: &dyn fmt::Display| Ended::Wrong { step, why: error.to_string() };
    let auth = wrong(Step::Auth);
    let (challenged, report_data) = attester.on_challenge(&answer.body).map_err(|error| auth(&error))?;
    let cookie = answer.cookie.ok_or_else(|| auth(&"no cookie came"))?;
    let evidence = visit.guests.evidence(visit.tpm, &report_data);
    let (attesting, body) = challenged.evidence(evidence, "", None).map_err(|error| auth(&error))?;
    let call = Call::new(Method::POST, path(visit.tenant, "attest"), body).json();
    let call = call.with(header::COOKIE, &cookie);
    let answer = good(Step::Attest, route, &call, tally, until).await?;
    let session = attesting.on_response(&answer.body).map_err(|error| wrong(Step::Attest)(&error))?;
    Ok(Attested { session, cookie })
}

/// The resource, opened.
pub(crate) async fn fetch(
    route: &Route,
    visit: &Visit<'_>,
    attested: &Attested,
    tally: &mut Tally,
    until: Instant,
) -> Ended {
    let resource = format!("resource/{}", visit.resource);
    let call = Call::new(Method::GET, path(visit.tenant, &resource), Vec::new());
    let call = match visit.carry {
        Carry::Bearer => call.with(header::AUTHORIZATION, &format!("Bearer {}", attested.session.token())),
        Carry::Cookie => call.with(header::COOKIE, &attested.cookie),
    };
    match good(Step::Resource, route, &call, tally, until).await {
        Ok(answer) => match attested.session.open(&answer.body) {
            Ok(value) => Ended::Key { attempt: attested.session.attempt().to_string(), value },
            Err(error) => Ended::Wrong { step: Step::Resource, why: error.to_string() },
        },
        Err(ended) => ended,
    }
}

fn begin() -> Result<(Attester, Vec<u8>), Ended> {
    let wrong = |why: String| Ended::Wrong { step: Step::Auth, why };
    let key = TeeKey::generate().map_err(|error| wrong(error.to_string()))?;
    Attester::begin(Tee::Tpm, key).map_err(|error| wrong(error.to_string()))
}

/// The tenant's path to a call.
fn path(tenant: Option<&str>, call: &str) -> String {
    match tenant {
        None => format!("/kbs/v0/{call}"),
        Some(tenant) => format!("/t/{tenant}/kbs/v0/{call}"),
    }
}

/// Sends; gives an answer that is a success, and else how the guest ends.
async fn good(
    step: Step,
    route: &Route,
    call: &Call,
    tally: &mut Tally,
    until: Instant,
) -> Result<Answer, Ended> {
    let begun = Instant::now();
    let answer = match route.call(call, until).await {
        Ok(answer) => answer,
        Err(error) => return Err(Ended::Unreachable { step, why: error.to_string() }),
    };
    let (status, code) = (answer.status, if answer.is_good() { String::new() } else { answer.code() });
    tally.answer(step, status, &code, begun.elapsed());
    match status {
        200..300 => Ok(answer),
        status if comes_again(status) => Err(Ended::Retryable { step, status, code }),
        // A fault is never good, whatever it says of itself.
        500.. => Err(Ended::Wrong { step, why: format!("{status} {code}") }),
        status => Err(Ended::Refused { step, status, code }),
    }
}
