//! One token for all calls: got once, renewed in time, replaced when it is dead.

use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use crate::http::Wire;
use crate::login::{self, Grant, Stamp};
use crate::{Auth, VaultError};

/// After a token was refused and replaced, the next replacement waits. Else each refused call would be a login.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(10);
/// After a renewal failed while the token still lives.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The longest that [`Sessions::due_in`] waits: a token file may be replaced at any time.
const LONGEST: Duration = Duration::from_secs(3600);

/// The token that calls are made with.
pub(crate) struct Sessions {
    auth: Auth,
    /// Held during a login, so that there is one, however many calls wait for it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    replaced: Option<Instant>,
    /// The last login that failed: when, why, and whether it may pass.
    failed: Option<(Instant, String, bool)>,
}

/// What to do before a token is used.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Use,
    Renew,
    Login,
}

struct Session {
    token: HeaderValue,
    begun: Instant,
    lease: Option<Duration>,
    renewable: bool,
    /// The lease that a login gave. One that renewal cannot reach any more nears its greatest age.
    full: Option<Duration>,
    not_before: Option<Instant>,
    stamp: Option<Stamp>,
}

impl Session {
    fn new(grant: Grant, now: Instant, stamp: Option<Stamp>) -> Self {
        let Grant { token, lease, renewable } = grant;
        Self { token, begun: now, lease, renewable, full: lease, not_before: None, stamp }
    }

    fn renewed(&mut self, grant: Grant, now: Instant) {
        let shrunk = match (grant.lease, self.full) {
            (Some(lease), Some(full)) => lease < full.checked_div(2).unwrap_or_default(),
            _ => false,
        };
        self.token = grant.token;
        self.begun = now;
        self.lease = grant.lease;
        self.renewable = grant.renewable && !shrunk;
    }

    fn step(&self, now: Instant) -> Step {
        let age = now.saturating_duration_since(self.begun);
        match self.lease {
            None => Step::Use,
            Some(lease) if age >= lease => Step::Login,
            Some(lease) if age < two_thirds(lease) => Step::Use,
            Some(_) if self.not_before.is_some_and(|time| now < time) => Step::Use,
            Some(_) if self.renewable => Step::Renew,
            Some(_) => Step::Login,
        }
    }

    fn is_alive(&self, now: Instant) -> bool {
        self.lease.is_none_or(|lease| now.saturating_duration_since(self.begun) < lease)
    }
}

impl Sessions {
    pub(crate) fn new(auth: Auth) -> Self {
        Self { auth, state: Mutex::default() }
    }

    /// A token that is believed to be good.
    pub(crate) async fn token(&self, wire: &Wire) -> Result<HeaderValue, VaultError> {
        let arrived = Instant::now();
        let mut state = self.state.lock().await;
        // Who waited for a login shares its failure. Else a server that is down would be asked by each in turn, and the
        // last one would wait for as long as all of them.
        if let Some((failed, why, temporary)) = &state.failed
            && *failed > arrived
        {
            return Err(VaultError::Waited { why: why.clone(), temporary: *temporary });
        }
        let stamp = self.stamp().await;
        let now = Instant::now();
        let step = match &state.session {
            // A file that vanished for a moment is being replaced; the old token is as good as it was.
            Some(session) if stamp.is_some() && session.stamp != stamp => Step::Login,
            Some(session) => session.step(now),
            None => Step::Login,
        };
        let outcome = match (&step, &mut state.session) {
            (Step::Renew, Some(session)) => {
                login::renew(wire, &session.token).await.map(|grant| session.renewed(grant, Instant::now()))
            }
            _ => Ok(()),
        };
        let outcome = match (step, outcome) {
            (Step::Use, _) | (Step::Renew, Ok(())) => Ok(()),
            // Renewal was refused: the token may have reached its greatest age, which a login mends.
            (Step::Renew, Err(error)) if error.is_temporary() => Err(error),
            (Step::Login | Step::Renew, _) => self.log_in(wire, &mut state, stamp).await,
        };
        match (outcome, &mut state.session) {
            (Ok(()), Some(session)) => Ok(session.token.clone()),
            (Err(error), Some(session)) if session.is_alive(now) => {
                tracing::warn!(target: "vault", %error, "the token could not be renewed; the old one is used on");
                session.not_before = Some(Instant::now().checked_add(AFTER_FAILURE).unwrap_or(now));
                session.stamp = stamp.or(session.stamp);
                Ok(session.token.clone())
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(VaultError::Config("there is no token".to_owned())),
        }
    }

    /// After a 403: another token if `refused` is dead, `None` if it lives and only may not do this.
    pub(crate) async fn replace(
        &self,
        wire: &Wire,
        refused: &HeaderValue,
    ) -> Result<Option<HeaderValue>, VaultError> {
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session
            && session.token != refused
        {
            return Ok(Some(session.token.clone()));
        }
        let now = Instant::now();
        if state.replaced.is_some_and(|time| now.saturating_duration_since(time) < BETWEEN_REPLACEMENTS) {
            return Ok(None);
        }
        if login::look_up(wire, refused).await?.is_some() {
            return Ok(None);
        }
        state.session = None;
        state.replaced = Some(now);
        let stamp = self.stamp().await;
        self.log_in(wire, &mut state, stamp).await?;
        Ok(state.session.as_ref().map(|session| session.token.clone()))
    }

    /// When the token wants care next.
    pub(crate) async fn due_in(&self) -> Duration {
        let state = self.state.lock().await;
        let Some(session) = &state.session else { return AFTER_FAILURE };
        let Some(lease) = session.lease else { return LONGEST };
        let now = Instant::now();
        let age = now.saturating_duration_since(session.begun);
        let due = two_thirds(lease).saturating_sub(age);
        let held = session.not_before.map_or(Duration::ZERO, |time| time.saturating_duration_since(now));
        due.max(held).clamp(Duration::from_secs(1), LONGEST)
    }

    async fn log_in(&self, wire: &Wire, state: &mut State, stamp: Option<Stamp>) -> Result<(), VaultError> {
        match login::login(wire, &self.auth).await {
            Ok(grant) => {
                state.session = Some(Session::new(grant, Instant::now(), stamp));
                Ok(())
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.to_string(), error.is_temporary()));
                Err(error)
            }
        }
    }

    async fn stamp(&self) -> Option<Stamp> {
        match &self.auth {
            Auth::TokenFile(path) => login::stamp(path).await,
            _ => None,
        }
    }
}

fn two_thirds(lease: Duration) -> Duration {
    lease.saturating_mul(2).checked_div(3).unwrap_or(lease)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(seconds: u64, renewable: bool) -> Grant {
        let lease = (seconds > 0).then(|| Duration::from_secs(seconds));
        Grant { token: HeaderValue::from_static("t"), lease, renewable }
    }

    #[test]
    fn a_token_is_renewed_at_two_thirds_of_its_life_and_replaced_at_its_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut session = Session::new(grant(90, true), start, None);
        assert_eq!(session.step(at(59)), Step::Use);
        assert_eq!(session.step(at(60)), Step::Renew);
        assert_eq!(session.step(at(90)), Step::Login);
        session.renewed(grant(90, true), at(60));
        assert_eq!(session.step(at(119)), Step::Use);
        assert_eq!(session.step(at(120)), Step::Renew);
        session.not_before = Some(at(125));
        assert_eq!(session.step(at(124)), Step::Use);
        assert_eq!(session.step(at(125)), Step::Renew);
        assert_eq!(session.step(at(150)), Step::Login);
    }

    #[test]
    fn a_token_that_nears_its_greatest_age_is_replaced_not_renewed() {
        let start = Instant::now();
        let mut session = Session::new(grant(90, true), start, None);
        session.renewed(grant(40, true), start);
        assert_eq!(session.step(start + Duration::from_secs(27)), Step::Login);
        let session = Session::new(grant(90, false), start, None);
        assert_eq!(session.step(start + Duration::from_secs(60)), Step::Login);
    }

    #[test]
    fn a_token_without_an_end_is_used_for_ever() {
        let start = Instant::now();
        let session = Session::new(grant(0, false), start, None);
        assert_eq!(session.step(start + Duration::from_secs(1 << 30)), Step::Use);
        assert!(session.is_alive(start + Duration::from_secs(1 << 30)));
    }

    /// Makes the token older for us than it is for the server.
    async fn age(sessions: &Sessions, seconds: u64) {
        let mut state = sessions.state.lock().await;
        let session = state.session.as_mut().unwrap();
        session.begun = session.begun.checked_sub(Duration::from_secs(seconds)).unwrap();
    }

    #[tokio::test]
    async fn a_token_is_renewed_while_the_server_allows_it_and_replaced_after() {
        use coffer_lab_vault_peer::{Fault, Peer};

        let (peer, folder) = (Peer::start().await, tempfile::tempdir().unwrap());
        let (lease, max) = (Duration::from_secs(90), Duration::from_secs(300));
        let (role_id, secret_id) = peer.approle(&[], lease, max, 9);
        let secret_id_file = folder.path().join("secret-id");
        std::fs::write(&secret_id_file, secret_id).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret_id_file, mode).unwrap();
        let auth = Auth::Approle { mount: "approle".into(), role_id, secret_id_file };
        let config = crate::VaultConfig {
            url: peer.url().to_owned(),
            namespace: None,
            auth: auth.clone(),
            ca: None,
            client_certificate: None,
            client_key: None,
            timeout: 5,
            attempts: 1,
        };
        let (wire, sessions) = (Wire::new(&config).unwrap(), Sessions::new(auth));
        let asked = || (peer.requests("auth/approle/login"), peer.requests("auth/token/renew-self"));
        let first = sessions.token(&wire).await.unwrap();
        age(&sessions, 59).await;
        assert_eq!(sessions.token(&wire).await.unwrap(), first);
        assert_eq!(asked(), (1, 0));
        age(&sessions, 2).await;
        assert_eq!(sessions.token(&wire).await.unwrap(), first);
        assert_eq!(asked(), (1, 1));
        assert!(sessions.due_in().await > Duration::from_secs(50));

        // A server that does not work now: the token lives on, and is not renewed again at once.
        age(&sessions, 61).await;
        peer.fail_next(1, Fault::Status(500));
        for _ in 0..3 {
            assert_eq!(sessions.token(&wire).await.unwrap(), first);
        }
        assert_eq!(asked(), (1, 2));

        // The server says that the token is gone: a login mends it.
        sessions.state.lock().await.session.as_mut().unwrap().not_before = None;
        peer.advance(Duration::from_secs(91));
        let second = sessions.token(&wire).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(asked(), (2, 3));

        // Past its end nobody tries to renew it.
        age(&sessions, 91).await;
        assert_ne!(sessions.token(&wire).await.unwrap(), second);
        assert_eq!(asked(), (3, 3));
    }
}
