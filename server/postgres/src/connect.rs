//! One connection: made, checked, set up and with its statements prepared, all in a bounded time.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::tls::NoTls;
use tokio_postgres::{Client, Connection, Error};

use crate::config::Target;
use crate::error::PostgresError;
use crate::failure::{Failure, of_connecting};
use crate::schema::{self, VERSION};
use crate::statements::Statements;
use crate::wait;

/// The oldest server that has what is used here.
const OLDEST_SERVER: u32 = 13;
/// What the answer of a bounded task may take to arrive beyond its bound.
const SLACK: Duration = Duration::from_millis(500);

/// How long a transaction may do nothing, at least.
const MIN_IDLE: Duration = Duration::from_secs(60);

/// Why there is no connection.
pub(crate) enum NoConnection {
    /// Another try may succeed.
    Passing(Failure),
    /// An operator is needed.
    Lasting(PostgresError),
}

impl From<PostgresError> for NoConnection {
    fn from(error: PostgresError) -> Self {
        Self::Lasting(error)
    }
}

impl From<NoConnection> for Failure {
    fn from(error: NoConnection) -> Self {
        match error {
            NoConnection::Passing(failure) => failure,
            NoConnection::Lasting(error) => Self::Refused(error.into()),
        }
    }
}

/// A client and the task that moves its bytes.
pub(crate) struct Link {
    pub(crate) client: Client,
    task: AbortHandle,
}

impl Link {
    /// Ends it at once; one that is only dropped takes leave of the server, which a server that is silent never lets
    /// it finish.
    pub(crate) fn cut(self) {
        self.task.abort();
    }
}

/// A connection that is ready for transactions.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) statements: Statements,
    /// Under which its transactions are marked as made; no two connections ever share one.
    pub(crate) slot: String,
    /// The number of the last transaction that was marked.
    pub(crate) number: Cell<i64>,
    /// Connections made before trouble are not trusted after it.
    pub(crate) generation: u64,
}

/// Makes a connection without anything prepared, for looking at the schema.
pub(crate) fn link(runtime: &Handle, target: &Arc<Target>, end: Instant) -> Result<Link, NoConnection> {
    let left = target.timeouts.connect.min(end.saturating_duration_since(Instant::now()));
    let owned = Arc::clone(target);
    let task = runtime.spawn(async move { timeout(left, connect(&owned)).await });
    let abort = task.abort_handle();
    match wait::until(Instant::now() + left + SLACK, task) {
        Some(Ok(Ok(link))) => link,
        _ => {
            abort.abort();
            let why = format!("no connection within {} ms", left.as_millis());
            Err(NoConnection::Passing(Failure::Lost(why)))
        }
    }
}

/// Makes a connection that is ready for transactions.
pub(crate) fn session(
    runtime: &Handle,
    target: &Arc<Target>,
    generation: u64,
    end: Instant,
) -> Result<Session, NoConnection> {
    let end = end.min(Instant::now() + target.timeouts.connect);
    let link = link(runtime, target, end)?;
    match wait::until(end, set_up(&link.client, target)) {
        Some(Ok((statements, slot))) => {
            Ok(Session { link, statements, slot, number: Cell::new(0), generation })
        }
        Some(Err(error)) => {
            link.cut();
            Err(error)
        }
        None => {
            link.cut();
            Err(NoConnection::Passing(Failure::silent()))
        }
    }
}

async fn connect(target: &Target) -> Result<Link, NoConnection> {
    let config = target.config()?;
    let failed = |error: Error| match of_connecting(&error, target) {
        Ok(failure) => NoConnection::Passing(failure),
        Err(error) => NoConnection::Lasting(error),
    };
    match &target.tls {
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            Ok(accept(client, connection, target)?)
        }
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await.map_err(failed)?;
            Ok(accept(client, connection, target)?)
        }
    }
}

/// Sees whether the server is one that can be used, and lets the runtime move the connection's bytes until it ends;
/// how it ended is seen by who waits for an answer.
fn accept<S, T>(client: Client, connection: Connection<S, T>, target: &Target) -> Result<Link, PostgresError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let found = connection.parameter("server_version").unwrap_or_default();
    let digits: String = found.chars().take_while(char::is_ascii_digit).collect();
    if !digits.parse::<u32>().is_ok_and(|major| major >= OLDEST_SERVER) {
        return Err(PostgresError::Server { place: target.place.clone(), found: found.to_owned() });
    }
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(why = crate::failure::reason(&error), "a connection to PostgreSQL ended");
        }
    });
    Ok(Link { client, task: task.abort_handle() })
}

async fn set_up(client: &Client, target: &Target) -> Result<(Statements, String), NoConnection> {
    let failed = |error: Error| match error.as_db_error().map(|answer| answer.code().code()) {
        Some("42P01" | "3F000") => NoConnection::Lasting(PostgresError::NotMigrated {
            place: target.place.clone(),
            found: 0,
            expected: VERSION,
        }),
        _ => match of_connecting(&error, target) {
            Ok(failure) => NoConnection::Passing(failure),
            Err(error) => NoConnection::Lasting(error),
        },
    };
    let rows = client.simple_query(&settings(target)).await.map_err(failed)?;
    let slot = schema::first(&rows, 0).unwrap_or_default().to_owned();
    let found = schema::first(&rows, 1).and_then(|text| text.parse().ok()).unwrap_or(0);
    check_schema(found, target)?;
    let statements = Statements::prepare(client, &target.schema).await.map_err(failed)?;
    Ok((statements, slot))
}

/// Whether this program can work with a schema of that version.
pub(crate) fn check_schema(found: u32, target: &Target) -> Result<(), PostgresError> {
    let (place, expected) = (target.place.clone(), VERSION);
    match found {
        VERSION => Ok(()),
        0..VERSION => Err(PostgresError::NotMigrated { place, found, expected }),
        _ => Err(PostgresError::Newer { place, found, expected }),
    }
}

/// What a session is set to, whatever the server, the database or the role have by default; and what it is told.
fn settings(target: &Target) -> String {
    let statement = target.timeouts.statement.as_millis();
    // A transaction holds no lock while it is idle, so this only ends those whose process is gone or stopped.
    let idle = statement.max(MIN_IDLE.as_millis());
    format!(
        // Isolation, also of a statement that is alone.
        "SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = off; \
         SET statement_timeout = {statement}; SET lock_timeout = {statement}; \
         SET idle_in_transaction_session_timeout = {idle}; SET client_min_messages = warning; \
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
         SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0; SET jit = off; \
         SET plan_cache_mode = force_generic_plan; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local'); \
         SELECT gen_random_uuid()::text, (SELECT coalesce(max(number), 0) FROM {schema}.migrations)",
        schema = target.schema,
    )
}
