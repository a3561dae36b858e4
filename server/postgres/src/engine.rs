//! The engine: connections, tries, and what becomes of a commit whose answer was lost.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use coffer_server_store::{Change, Engine, StoreError, View};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::{Migrate, PostgresConfig, Target};
use crate::connect::{self, Link, NoConnection};
use crate::error::PostgresError;
use crate::failure::{Failure, of_connecting, reason};
use crate::pool::Pool;
use crate::retry::{Lane, Tries, jitter};
use crate::schema::{self, MigrateFailure, Migrated};
use crate::transaction::{NoCommit, Transaction};
use crate::wait;

/// What a step of the schema may take, beyond the waiting for another replica that makes it.
const MIGRATION: Duration = Duration::from_secs(120);
/// How long the answer to [`Engine::check`] may take.
const CHECK: Duration = Duration::from_secs(2);
/// How often marks that nobody can ask for any more are removed.
const CLEANING: Duration = Duration::from_secs(3_600);

/// Rows in PostgreSQL.
pub struct Postgres {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    target: Arc<Target>,
    pool: Pool,
    lane: Lane,
}

/// What became of a commit whose answer was lost.
enum Outcome {
    Made,
    /// Not, and it never will be.
    NotMade,
    Unknown,
}

impl Postgres {
    /// Connects, sees that server and schema are fit for use, and brings the schema up to date where the
    /// configuration says so.
    pub fn open(config: &PostgresConfig) -> Result<Self, PostgresError> {
        let target = Arc::new(Target::new(config)?);
        let runtime = start_runtime()?;
        let handle = runtime.handle().clone();
        let pool = Pool::new(handle.clone(), Arc::clone(&target));
        let opened = Self {
            shared: Arc::new(Shared { target: Arc::clone(&target), pool, lane: Lane::default() }),
            runtime: Some(runtime),
        };
        let link = first_link(&handle, &target)?;
        let found = look(&target, schema::version(&link.client, &target.schema))?;
        if found < schema::VERSION && config.migrate == Migrate::AtOpen {
            bring_up(&link, &target)?;
        } else {
            connect::check_schema(found, &target)?;
        }
        warn_of_risks(&link, &target);
        drop(link);
        opened
            .shared
            .pool
            .take(Instant::now() + target.timeouts.call)
            .map_err(|error| unreachable_by(error, &target))?
            .give_back();
        handle.spawn(clean_now_and_then(Arc::downgrade(&opened.shared)));
        Ok(opened)
    }

    /// Brings the schema up to date; for a role that may change it, where the broker's own may not.
    pub fn migrate(config: &PostgresConfig) -> Result<Migrated, PostgresError> {
        let target = Arc::new(Target::new(config)?);
        let runtime = start_runtime()?;
        let migrated = first_link(runtime.handle(), &target).and_then(|link| bring_up(&link, &target));
        runtime.shutdown_background();
        migrated
    }

    /// Removes what is kept about commits of long ago; says how many. Done once an hour without being asked.
    pub fn clean(&self) -> Result<u64, StoreError> {
        self.shared.clean()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Waiting for its end would panic on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine for Postgres {
    fn read(&self, work: &mut dyn FnMut(&dyn View) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut tries = Tries::new(&shared.target);
        loop {
            match shared.read_once(&tries, work) {
                Ok(done) => return done,
                Err(failure) => tries.again(failure)?,
            }
        }
    }

    fn write(
        &self,
        work: &mut dyn FnMut(&mut dyn Change) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut tries = Tries::new(&shared.target);
        loop {
            let turn = if tries.is_contended() { shared.lane.enter(tries.last_start()) } else { None };
            let tried = shared.write_once(&tries, work);
            match tried {
                Ok(done) => return done,
                Err(failure) => tries.again(failure)?,
            }
            drop(turn);
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        self.shared.target.place.clone()
    }

    fn check(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let end = Instant::now() + CHECK;
        let mut why = String::from("no answer in time");
        // A connection that died while it was idle says nothing about the server.
        for _ in 0..2 {
            let lease = match shared.pool.take(end) {
                Ok(lease) => lease,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Lost(reason) | Failure::Conflict(reason)) => {
                    why = reason;
                    continue;
                }
            };
            match wait::until(end, lease.session().link.client.batch_execute("SELECT 1")) {
                Some(Ok(())) => {
                    lease.give_back();
                    return Ok(());
                }
                Some(Err(error)) => {
                    why = reason(&error);
                    lease.lose();
                }
                None => lease.lose(),
            }
        }
        Err(StoreError::Unavailable { place: shared.target.place.clone(), why })
    }
}

impl Shared {
    /// One try. The inner result is the work's own.
    fn read_once(
        &self,
        tries: &Tries<'_>,
        work: &mut dyn FnMut(&dyn View) -> Result<(), StoreError>,
    ) -> Result<Result<(), StoreError>, Failure> {
        let lease = self.pool.take(tries.end)?;
        let transaction = Transaction::reading(lease.session(), &self.target, tries);
        let done = work(&transaction);
        match transaction.take_failure() {
            Some(Failure::Lost(why)) => {
                lease.lose();
                Err(Failure::Lost(why))
            }
            failure => {
                transaction.leave();
                lease.give_back();
                failure.map_or(Ok(done), Err)
            }
        }
    }

    fn write_once(
        &self,
        tries: &Tries<'_>,
        work: &mut dyn FnMut(&mut dyn Change) -> Result<(), StoreError>,
    ) -> Result<Result<(), StoreError>, Failure> {
        let lease = self.pool.take(tries.end)?;
        let mut transaction = Transaction::writing(lease.session(), &self.target, tries);
        let done = work(&mut transaction);
        match transaction.take_failure() {
            Some(Failure::Lost(why)) => {
                lease.lose();
                return Err(Failure::Lost(why));
            }
            Some(failure) => {
                transaction.leave();
                lease.give_back();
                return Err(failure);
            }
            None => {}
        }
        if done.is_err() {
            transaction.leave();
            lease.give_back();
            return Ok(done);
        }
        match transaction.commit() {
            Ok(()) => {
                lease.give_back();
                Ok(Ok(()))
            }
            Err(NoCommit::Failed(Failure::Lost(why))) => {
                lease.lose();
                Err(Failure::Lost(why))
            }
            Err(NoCommit::Failed(failure)) => {
                // A commit that failed has ended the transaction.
                lease.give_back();
                Err(failure)
            }
            Err(NoCommit::Unknown(why)) => {
                let (slot, number) = (lease.session().slot.clone(), lease.session().number.get());
                lease.lose();
                match self.resolve(&slot, number, tries.learn_by()) {
                    Outcome::Made => Ok(Ok(())),
                    Outcome::NotMade => Err(Failure::Lost(why)),
                    Outcome::Unknown => Ok(Err(tries.give_up(&format!(
                        "{why}; whether the change was made could not be learnt, it may have been"
                    )))),
                }
            }
        }
    }

    /// Learns on another connection whether a transaction was made, and where it was not, makes sure that it will not
    /// be: the server may still hold it, in a process that nobody talks to any more.
    fn resolve(&self, slot: &str, number: i64, end: Instant) -> Outcome {
        let pause = Duration::from_millis(50);
        while Instant::now() + pause < end {
            if let Ok(lease) = self.pool.take(end) {
                match wait::until(end, fence(&lease, slot, number)) {
                    Some(Ok(Some(is_made))) => {
                        lease.give_back();
                        // After the end, as after a long stop of this process, the mark may have been cleaned away.
                        let is_late = Instant::now() >= end && !is_made;
                        return match (is_made, is_late) {
                            (true, _) => Outcome::Made,
                            (false, false) => Outcome::NotMade,
                            (false, true) => Outcome::Unknown,
                        };
                    }
                    // It met the transaction's own end, or another answer that says nothing.
                    Some(Ok(None)) => lease.give_back(),
                    Some(Err(error)) if matches!(Failure::of(&error, &self.target), Failure::Conflict(_)) => {
                        lease.give_back();
                    }
                    Some(Err(_)) | None => lease.lose(),
                }
            }
            std::thread::sleep(jitter(pause));
        }
        Outcome::Unknown
    }

    fn clean(&self) -> Result<u64, StoreError> {
        let tries = Tries::new(&self.target);
        let give_up = |failure| match failure {
            Failure::Refused(error) => error,
            Failure::Lost(why) | Failure::Conflict(why) => tries.give_up(&why),
        };
        let lease = self.pool.take(tries.end).map_err(give_up)?;
        let session = lease.session();
        match wait::until(tries.answer_by(), session.link.client.execute(&session.statements.clean, &[])) {
            Some(Ok(removed)) => {
                lease.give_back();
                Ok(removed)
            }
            Some(Err(error)) => {
                let failure = Failure::of(&error, &self.target);
                if matches!(failure, Failure::Lost(_)) {
                    lease.lose()
                } else {
                    lease.give_back()
                }
                Err(give_up(failure))
            }
            None => {
                lease.lose();
                Err(give_up(Failure::silent()))
            }
        }
    }
}

/// Sets a mark that the transaction of that slot and number can no longer set, and reads which of the two is there.
/// Where the server still works on that transaction, this waits for its end at the mark's row.
async fn fence(
    lease: &crate::pool::Lease<'_>,
    slot: &str,
    number: i64,
) -> Result<Option<bool>, tokio_postgres::Error> {
    let session = lease.session();
    session.link.client.execute(&session.statements.fence, &[&slot, &number]).await?;
    let rows = session.link.client.query(&session.statements.outcome, &[&slot]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (found, is_made): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok((found == number).then_some(is_made))
}

async fn clean_now_and_then(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(jitter(CLEANING)).await;
        let Some(shared) = shared.upgrade() else { return };
        let cleaned = tokio::task::spawn_blocking(move || shared.clean()).await;
        if let Ok(Err(error)) = cleaned {
            tracing::warn!(%error, "old marks of commits were not removed; tried again within the hour");
        }
    }
}

fn start_runtime() -> Result<Runtime, PostgresError> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("postgres").enable_all().build().map_err(PostgresError::Thread)
}

/// A connection for looking at the schema; a server that is just starting is waited for.
fn first_link(runtime: &Handle, target: &Arc<Target>) -> Result<Link, PostgresError> {
    let mut tries = Tries::new(target);
    loop {
        match connect::link(runtime, target, tries.end) {
            Ok(link) => return Ok(link),
            Err(NoConnection::Lasting(error)) => return Err(error),
            Err(NoConnection::Passing(failure)) => {
                tries.again(failure).map_err(|error| unreachable_by(Failure::Refused(error), target))?;
            }
        }
    }
}

/// Waits for an answer about the schema.
fn look<T>(
    target: &Target,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, PostgresError> {
    match wait::until(Instant::now() + target.timeouts.statement, asked) {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(answer(&error, target)),
        None => Err(unreachable_by(Failure::silent(), target)),
    }
}

fn bring_up(link: &Link, target: &Target) -> Result<Migrated, PostgresError> {
    match wait::until(Instant::now() + MIGRATION, schema::migrate(&link.client, &target.schema)) {
        Some(Ok(migrated)) => {
            if migrated.from != migrated.to {
                tracing::info!(
                    from = migrated.from,
                    to = migrated.to,
                    place = target.place,
                    "tables were migrated"
                );
            }
            Ok(migrated)
        }
        Some(Err(MigrateFailure::Newer(found))) => {
            Err(PostgresError::Newer { place: target.place.clone(), found, expected: schema::VERSION })
        }
        Some(Err(MigrateFailure::Server(error))) => Err(answer(&error, target)),
        None => Err(unreachable_by(Failure::silent(), target)),
    }
}

/// A server that may lose what it acknowledged is used, and it is said.
fn warn_of_risks(link: &Link, target: &Target) {
    let asked =
        link.client.simple_query("SELECT current_setting('fsync'), current_setting('full_page_writes')");
    if let Some(Ok(rows)) = wait::until(Instant::now() + target.timeouts.statement, asked) {
        for (field, name) in ["fsync", "full_page_writes"].into_iter().enumerate() {
            if schema::first(&rows, field) == Some("off") {
                tracing::warn!(
                    place = target.place,
                    setting = name,
                    "is off: a power failure loses acknowledged writes"
                );
            }
        }
    }
}

fn answer(error: &tokio_postgres::Error, target: &Target) -> PostgresError {
    of_connecting(error, target).map_or_else(|error| error, |failure| unreachable_by(failure, target))
}

fn unreachable_by(failure: Failure, target: &Target) -> PostgresError {
    let place = target.place.clone();
    match failure {
        Failure::Lost(why)
        | Failure::Conflict(why)
        | Failure::Refused(StoreError::Unavailable { why, .. }) => PostgresError::Unreachable { place, why },
        Failure::Refused(error) => PostgresError::Answer { place, why: error.to_string() },
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
