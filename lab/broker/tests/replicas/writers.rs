//! Admins who write all the time, and remember what was acknowledged.
//!
//! Each counts in a resource of its own, and each write names the version that it replaces. So what was sent to a
//! replica that froze cannot come late and undo what was acknowledged since.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coffer_lab_load::{Admin, Terms};
use serde_json::Value;

/// What one writer knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) path: String,
    /// The last number that was acknowledged, and its version.
    pub(crate) acknowledged: u64,
    pub(crate) version: u64,
    /// The last number that was sent.
    pub(crate) sent: u64,
    /// Answers that said to come again.
    pub(crate) put_off: u64,
}

impl Counter {
    pub(crate) fn new(number: usize) -> Self {
        Self { path: format!("chaos/counter/w{number}"), ..Self::default() }
    }

    /// Counts until told to stop.
    pub(crate) async fn count(mut self, admin: Admin, stop: Arc<AtomicBool>) -> Result<Self> {
        while !stop.load(Ordering::Relaxed) {
            self.step(&admin).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self)
    }

    async fn step(&mut self, admin: &Admin) -> Result<()> {
        // A number that may be there already is sent again, not left out.
        self.sent = self.acknowledged + 1;
        let terms = Terms { if_version: Some(self.version), ..Terms::default() };
        match admin.try_put_resource(&self.path, self.sent.to_string().as_bytes(), terms).await? {
            Ok(answer) if answer.is_good() => {
                let stored: Value = serde_json::from_slice(&answer.body)?;
                self.version = stored["version"].as_u64().context("no version in the answer")?;
                self.acknowledged = self.sent;
            }
            // The answer to an earlier try was lost. Nobody else writes here, so one version more is ours.
            Ok(answer) if answer.status == 409 => match latest(admin, &self.path).await? {
                Some(found) if found == self.version + 1 => {
                    self.version = found;
                    self.acknowledged = self.sent;
                }
                // A try that is still on its way may be written between the answer and the look.
                Some(found) if found == self.version => self.put_off += 1,
                found => bail!("{}: version {found:?} after {} of ours", self.path, self.version),
            },
            Ok(answer) if matches!(answer.status, 429 | 503 | 408 | 502 | 504) => self.put_off += 1,
            Ok(answer) => bail!("{}: {} {}", self.path, answer.status, answer.code()),
            Err(_) => self.put_off += 1,
        }
        Ok(())
    }
}

/// The present version of a resource, if there is any. Fails where the broker says something else than that.
pub(crate) async fn latest(admin: &Admin, path: &str) -> Result<Option<u64>> {
    let answer =
        admin.send(hyper::Method::GET, &format!("/coffer/v1/resources/{path}"), Vec::new()).await??;
    if answer.status == 404 {
        return Ok(None);
    }
    let found: Value = serde_json::from_slice(&answer.body)?;
    let last = found["versions"].as_array().and_then(|versions| versions.last()).cloned();
    let last = last.with_context(|| format!("{path}: {} {}", answer.status, answer.code()))?;
    Ok(last["version"].as_u64())
}
