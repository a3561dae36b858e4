//! A master key in the transit engine of a Vault or OpenBao.
//!
//! The store calls synchronously, from threads that may belong to a runtime, in which waiting for another future is
//! forbidden. So the client lives on a thread with a runtime of its own, and calls wait for it on a channel.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc as waiting;
use std::time::Duration;

use coffer_core_secret::SecretBytes;
use coffer_server_store::{MasterKey, MasterKeyError};
use coffer_server_vault::{Transit, Vault, VaultError};
use tokio::sync::mpsc;

use crate::{PURPOSE, TransitSource};

type Job = Box<dyn FnOnce(Transit) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A key in a transit engine.
pub struct TransitKey {
    jobs: mpsc::UnboundedSender<Job>,
    key: String,
    id: String,
    place: String,
    patience: Duration,
}

impl TransitKey {
    /// Logs in and finds the key, if it is there.
    pub fn open(source: &TransitSource) -> Result<Option<Self>, MasterKeyError> {
        let TransitSource { url, mount, key, .. } = source;
        let space = source.namespace.as_deref().unwrap_or_default().trim_matches('/');
        let place = format!("the transit key {key:?} at {} in {mount:?}", url.trim_end_matches('/'));
        let failed = |error| failure(&place, error);
        let vault = Vault::new(&source.vault()).map_err(failed)?;
        let transit = vault.transit(mount).map_err(failed)?;
        // All attempts of a call and of the logins before it end before this.
        let patience = Duration::from_secs(source.timeout.clamp(1, 300).saturating_mul(12));
        let jobs = start(vault, transit).map_err(|error| MasterKeyError::Refused {
            place: place.clone(),
            why: format!("its thread cannot be started: {error}"),
            remedy: "free memory or raise the limit of threads".to_owned(),
        })?;
        // The address may change, as behind another balancer; the key is the same.
        let id = format!("vault-transit:{space}/{mount}/{key}");
        let opened = Self { jobs, key: key.clone(), id, place, patience };
        let name = opened.key.clone();
        let Some(info) = opened.ask(move |transit| async move { transit.key(&name).await })? else {
            return Ok(None);
        };
        if !info.supports_encryption {
            return Err(MasterKeyError::Refused {
                place: opened.place,
                why: format!("its type {:?} does not encrypt", info.kind),
                remedy: "name a key of the type aes256-gcm96".to_owned(),
            });
        }
        if info.exportable || info.deletion_allowed {
            tracing::warn!(
                target: "masterkey",
                key = %opened.place,
                exportable = info.exportable,
                deletion_allowed = info.deletion_allowed,
                "the master key can leave its service or be deleted there"
            );
        }
        Ok(Some(opened))
    }

    fn ask<T, F>(&self, work: impl FnOnce(Transit) -> F + Send + 'static) -> Result<T, MasterKeyError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VaultError>> + Send + 'static,
    {
        let gone = |why: &str| MasterKeyError::Unavailable { place: self.place.clone(), why: why.to_owned() };
        let (answer, answered) = waiting::sync_channel(1);
        let job: Job = Box::new(move |transit| {
            Box::pin(async move {
                // Who asked may have stopped waiting.
                let _ = answer.send(work(transit).await);
            })
        });
        self.jobs.send(job).map_err(|_| gone("its thread ended"))?;
        let outcome = answered.recv_timeout(self.patience).map_err(|_| gone("no answer came in time"))?;
        outcome.map_err(|error| match error {
            VaultError::Ciphertext { .. } => {
                MasterKeyError::Wrong { place: self.place.clone(), id: self.id.clone() }
            }
            error => failure(&self.place, error),
        })
    }
}

impl MasterKey for TransitKey {
    fn wrap(&self, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let (name, plain) = (self.key.clone(), SecretBytes::copy_of(key));
        let wrapped = self.ask(move |transit| async move {
            // Encrypting under a name that nobody has makes a key of it, where the policy allows that.
            match transit.key(&name).await? {
                Some(_) => transit.encrypt(&name, plain.expose(), PURPOSE).await.map(Some),
                None => Ok(None),
            }
        })?;
        wrapped.map(String::into_bytes).ok_or_else(|| MasterKeyError::Refused {
            place: self.place.clone(),
            why: "the key is gone".to_owned(),
            remedy: "restore it from the service's backup; nothing was wrapped".to_owned(),
        })
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<SecretBytes, MasterKeyError> {
        let wrong = |_| MasterKeyError::Wrong { place: self.place.clone(), id: self.id.clone() };
        let (name, text) = (self.key.clone(), String::from_utf8(wrapped.to_vec()).map_err(wrong)?);
        self.ask(move |transit| async move { transit.decrypt(&name, &text, PURPOSE).await })
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// The thread ends when the last sender is gone.
fn start(vault: Vault, transit: Transit) -> std::io::Result<mpsc::UnboundedSender<Job>> {
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = async move {
        tokio::spawn(async move { vault.keep_alive().await });
        while let Some(job) = jobs.recv().await {
            tokio::spawn(job(transit.clone()));
        }
    };
    std::thread::Builder::new().name("masterkey-transit".to_owned()).spawn(move || runtime.block_on(work))?;
    Ok(sender)
}

fn failure(place: &str, error: VaultError) -> MasterKeyError {
    let (place, why) = (place.to_owned(), error.to_string());
    match error.is_temporary() {
        true => MasterKeyError::Unavailable { place, why },
        // Each of these says its remedy itself.
        false => MasterKeyError::Refused { place, why, remedy: "no key was changed".to_owned() },
    }
}
