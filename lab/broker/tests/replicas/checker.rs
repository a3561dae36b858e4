//! What must hold after failures, read from the store through the admin's calls and through guests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use coffer_lab_load::{Admin, Ended, Endpoint, Plan, Until, run};
use serde_json::Value;

use crate::writers::{Counter, latest};
use coffer_lab_broker::{Cluster, patience};

/// A resource without a limit.
pub(crate) const OPEN: &str = "chaos/key/open";
/// So many attempts of a round are looked up in the journal.
const LOOKED_UP: usize = 8;

/// A resource's value is its name, so that no value is another's.
pub(crate) fn value_of(path: &str) -> Vec<u8> {
    format!("the value of {path}").into_bytes()
}

/// A resource that may be released to so many attempts.
pub(crate) struct Limited {
    pub(crate) path: String,
    pub(crate) limit: u64,
}

/// What clients were given.
#[derive(Default)]
pub(crate) struct Seen {
    keys: BTreeMap<String, BTreeSet<String>>,
    /// Ends that are never good.
    pub(crate) faults: Vec<String>,
}

impl Seen {
    pub(crate) fn note(&mut self, path: &str, attempt: &str) {
        self.keys.entry(path.to_string()).or_default().insert(attempt.to_string());
    }

    pub(crate) fn attempts(&self, path: &str) -> BTreeSet<String> {
        self.keys.get(path).cloned().unwrap_or_default()
    }
}

fn attempts(seen: &Mutex<Seen>, path: &str) -> BTreeSet<String> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).attempts(path)
}

/// The store counts each attempt that has the key, and no more than the limit; and the limit was reached, so that it
/// is the limit that held and not a lack of guests.
pub(crate) async fn spent(admin: &Admin, limited: &Limited, seen: &Mutex<Seen>) -> Result<()> {
    let Limited { path, limit } = limited;
    let found = admin.get(&format!("/coffer/v1/resources/{path}")).await?;
    let versions = found["versions"].as_array().context("no versions")?;
    ensure!(versions.len() == 1, "{path} has {} versions", versions.len());
    let counted = versions.first().and_then(|one| one["released"].as_u64()).context("no count")?;
    let have = attempts(seen, path).len() as u64;
    ensure!(have <= *limit, "{path} was released to {have} attempts; its limit is {limit}");
    ensure!(have <= counted, "{path}: {have} attempts have the key, the store counts {counted}");
    ensure!(
        counted == *limit,
        "{path}: the store counts {counted} releases of {limit} after more were asked for"
    );
    Ok(())
}

/// I-1: who has a key is in the journal as one to whom it was released.
pub(crate) async fn journaled(admin: &Admin, path: &str, seen: &Mutex<Seen>) -> Result<()> {
    for attempt in attempts(seen, path).into_iter().take(LOOKED_UP) {
        let found = admin.get(&format!("/coffer/v1/attempts/{attempt}")).await?;
        let released = |decision: &Value| decision["outcome"] == "released" && decision["resource"] == path;
        let decisions = found["decisions"].as_array().cloned().unwrap_or_default();
        ensure!(
            decisions.iter().any(released),
            "attempt {attempt} has {path}, and its journal says {decisions:?}"
        );
    }
    Ok(())
}

/// Each counter is at its last acknowledged number or at the one that was sent after it, for admins and for guests.
pub(crate) async fn counted(
    admin: &Admin,
    counters: &[Counter],
    at: Endpoint,
    cluster: &Cluster,
) -> Result<()> {
    for counter in counters {
        let Counter { path, acknowledged, version, sent, put_off } = counter;
        println!("{path}: {acknowledged} writes acknowledged, {put_off} times put off");
        ensure!(*acknowledged > 0, "{path}: nothing was acknowledged");
        let found = latest(admin, path).await?.with_context(|| format!("{path} is gone"))?;
        ensure!(
            found == *version || (found == version + 1 && sent > acknowledged),
            "{path}: version {found}; {version} was acknowledged"
        );
        let plan = Plan {
            at_once: 1,
            until: Until::Count(1),
            resources: vec![path.clone()],
            patience: patience(),
            ..Plan::default()
        };
        let read = Arc::new(Mutex::new(None));
        let note = {
            let read = read.clone();
            move |finished: &coffer_lab_load::Finished<'_>| {
                if let Ended::Key { value, .. } = finished.ended {
                    let text = String::from_utf8_lossy(value.expose()).into_owned();
                    *read.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                }
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let report =
            run(plan, cluster.guests.clone(), std::slice::from_ref(&at), &cluster.tls, stop, note).await?;
        let text = read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let text = text.with_context(|| format!("{path}: no guest could read it: {report}"))?;
        let value: u64 = text.parse().with_context(|| format!("{path} is {text:?}"))?;
        ensure!(
            (*acknowledged..=*sent).contains(&value),
            "{path} is {value}; {acknowledged} was acknowledged and {sent} sent"
        );
    }
    Ok(())
}
