//! One token: found by label or slot, logged in, with sessions that are used again.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_core_secret::SecretBytes;
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::is_lost;
use crate::{Pkcs11Error, module};

/// Sessions that wait for their next use. More may be open while many calls are made at once.
const POOLED: usize = 8;
/// No PIN is longer.
const MAX_PIN: u64 = 1024;

/// Which token, and how to log in to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The module, as `/usr/lib/softhsm/libsofthsm2.so`.
    pub module: PathBuf,
    /// The token's label.
    #[serde(default)]
    pub token: Option<String>,
    /// The token's slot, where labels are not unique.
    #[serde(default)]
    pub slot: Option<u64>,
    /// The file that holds the user's PIN.
    pub pin_file: PathBuf,
}

/// A token. Clones share its sessions.
#[derive(Clone)]
pub struct Token {
    inner: Arc<Inner>,
}

struct Inner {
    config: TokenConfig,
    name: String,
    module: Pkcs11,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    /// The PIN that the token refused.
    refused: Option<SecretBytes>,
}

/// A failure within a call: of the module, or in our own words.
pub(crate) enum Failure {
    Module(Error),
    Ours(Pkcs11Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

impl From<Pkcs11Error> for Failure {
    fn from(error: Pkcs11Error) -> Self {
        Self::Ours(error)
    }
}

impl Token {
    /// Loads the module, finds the token and logs in.
    pub fn open(config: &TokenConfig) -> Result<Self, Pkcs11Error> {
        let name = match (&config.token, config.slot) {
            (Some(label), None) => format!("{label:?}"),
            (None, Some(slot)) => format!("in slot {slot}"),
            (Some(_), Some(_)) => return Err(Pkcs11Error::Selection("both were given")),
            (None, None) => return Err(Pkcs11Error::Selection("none was given")),
        };
        let module = module::open(&config.module)?;
        let token =
            Self { inner: Arc::new(Inner { config: config.clone(), name, module, state: Mutex::default() }) };
        token.run(|_| Ok(()))?;
        Ok(token)
    }

    /// What it is called, for a person.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The serial number that its maker gave it.
    pub fn serial(&self) -> Result<String, Pkcs11Error> {
        let Inner { module, .. } = &*self.inner;
        self.run(|session| {
            let slot = session.get_session_info()?.slot_id();
            Ok(module.get_token_info(slot)?.serial_number().trim().to_owned())
        })
    }

    /// Runs a call in a session of its own; once more in a new one if sessions were lost.
    pub(crate) fn run<T>(&self, work: impl Fn(&Session) -> Result<T, Failure>) -> Result<T, Pkcs11Error> {
        let mut renewed = false;
        loop {
            let failure = match self.session().and_then(|session| {
                let done = work(&session)?;
                Ok((session, done))
            }) {
                Ok((session, done)) => {
                    self.give_back(session);
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Ours(error) => return Err(error),
                Failure::Module(error) if is_lost(&error) && !renewed => {
                    renewed = true;
                    self.forget_sessions();
                    // Another part of the process may have finalized the module.
                    if matches!(error, Error::Pkcs11(RvError::CryptokiNotInitialized, _)) {
                        module::initialize(&self.inner.module)
                            .map_err(|error| Pkcs11Error::of(self.name(), &error))?;
                    }
                }
                Failure::Module(error) => return Err(Pkcs11Error::of(self.name(), &error)),
            }
        }
    }

    pub(crate) fn module(&self) -> &Pkcs11 {
        &self.inner.module
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, session: Session) {
        let mut state = self.state();
        if state.idle.len() < POOLED {
            state.idle.push(session);
        }
    }

    fn forget_sessions(&self) {
        // Closing them tells the module again what it knows; each failure of that is expected.
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle);
    }

    fn session(&self) -> Result<Session, Failure> {
        if let Some(session) = self.state().idle.pop() {
            return Ok(session);
        }
        let slot = self.find()?;
        // Read-write, because making a key needs it; a token that cannot be written has its key already.
        let session = match self.inner.module.open_rw_session(slot) {
            Err(Error::Pkcs11(RvError::TokenWriteProtected, _)) => self.inner.module.open_ro_session(slot)?,
            other => other?,
        };
        self.log_in(&session)?;
        Ok(session)
    }

    /// The token's slot, which may change when it is plugged in again.
    fn find(&self) -> Result<Slot, Failure> {
        let Inner { config, module, .. } = &*self.inner;
        let slots = module.get_slots_with_initialized_token()?;
        let mut labels = Vec::new();
        let mut fitting = Vec::new();
        for slot in slots {
            let label = module.get_token_info(slot)?.label().trim_end().to_owned();
            let fits = match (&config.token, config.slot) {
                (Some(wanted), _) => *wanted == label,
                (None, wanted) => wanted == Some(slot.id()),
            };
            if fits {
                fitting.push(slot);
            }
            labels.push(format!("{label:?} in slot {}", slot.id()));
        }
        match fitting.as_slice() {
            [slot] => Ok(*slot),
            [] => {
                let found = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
                Err(Pkcs11Error::NoToken { wanted: self.name().to_owned(), found }.into())
            }
            _ => Err(Pkcs11Error::Ambiguous {
                token: self.name().to_owned(),
                key: "of this label; give its slot instead".to_owned(),
            }
            .into()),
        }
    }

    fn log_in(&self, session: &Session) -> Result<(), Failure> {
        let path = &self.inner.config.pin_file;
        let wrong = || Pkcs11Error::PinWrong { token: self.name().to_owned(), path: path.clone() };
        let pin = read_pin(path)?;
        // Held during the login, so that many calls at once do not try a wrong PIN many times.
        let mut state = self.state();
        if state.refused.as_ref().is_some_and(|refused| refused.equals(pin.as_bytes())) {
            return Err(wrong().into());
        }
        match session.login(UserType::User, Some(&AuthPin::new(pin.as_str().into()))) {
            // A login is the process's, not the session's.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                state.refused = None;
                Ok(())
            }
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                state.refused = Some(SecretBytes::copy_of(pin.as_bytes()));
                Err(wrong().into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn read_pin(path: &Path) -> Result<Zeroizing<String>, Pkcs11Error> {
    let unusable = |why: String| Pkcs11Error::PinFile { path: path.into(), why };
    let metadata = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(unusable("everybody may read it; chmod o= it".to_owned()));
    }
    if metadata.len() > MAX_PIN {
        return Err(unusable(format!("it has {} bytes, expected at most {MAX_PIN}", metadata.len())));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| unusable(error.to_string()))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not text".to_owned()))?;
    // The line's end is the editor's; spaces may be the PIN's.
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(unusable("it is empty".to_owned())),
        pin => Ok(Zeroizing::new(pin.to_owned())),
    }
}
