//! The schema, made by numbered steps; each is made once, whole, under a lock that all replicas wait at.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// What was done to the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Its version before, 0 for none.
    pub from: u32,
    /// Its version now.
    pub to: u32,
}

/// The steps; a step that was released is never changed, the next one is added.
const STEPS: [(&str, &str); 1] = [(
    "rows and outcomes",
    // Values are ciphertext, so the server need not try to compress them. Room is left in each page so that a row
    // that is replaced stays in it, and no index changes.
    r#"
    CREATE TABLE {schema}.rows (
        tbl text COLLATE "C" NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (tbl, key)
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
    ALTER TABLE {schema}.rows ALTER COLUMN value SET STORAGE EXTERNAL;
    CREATE TABLE {schema}.outcomes (
        slot text COLLATE "C" PRIMARY KEY,
        number bigint NOT NULL,
        made boolean NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 50);
    "#,
)];

/// The version that this program reads and writes.
pub(crate) const VERSION: u32 = STEPS.len() as u32;

/// Why a schema was not brought up to date.
pub(crate) enum MigrateFailure {
    /// It is newer than this program.
    Newer(u32),
    /// The server's answer.
    Server(Error),
}

impl From<Error> for MigrateFailure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// The version of the schema, 0 where it is not there.
pub(crate) async fn version(client: &Client, schema: &str) -> Result<u32, Error> {
    if !is_there(client, &format!("to_regclass('{schema}.migrations')")).await? {
        return Ok(0);
    }
    let rows =
        client.simple_query(&format!("SELECT coalesce(max(number), 0) FROM {schema}.migrations")).await?;
    Ok(first(&rows, 0).and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Brings the schema up to date, in one transaction.
pub(crate) async fn migrate(client: &Client, schema: &str) -> Result<Migrated, MigrateFailure> {
    // What is read after the lock must be what is there then, so not the session's serializable snapshot.
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    client
        .batch_execute(&format!("SELECT pg_advisory_xact_lock(hashtextextended('coffer {schema}', 0))"))
        .await?;
    if !is_there(client, &format!("to_regnamespace('{schema}')")).await? {
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    if !is_there(client, &format!("to_regclass('{schema}.migrations')")).await? {
        let table = "number integer PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now()";
        client.batch_execute(&format!("CREATE TABLE {schema}.migrations ({table})")).await?;
    }
    let from = version(client, schema).await?;
    if from > VERSION {
        client.batch_execute("ROLLBACK").await?;
        return Err(MigrateFailure::Newer(from));
    }
    for (number, (name, sql)) in (1_u32..).zip(STEPS).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        client.batch_execute(&sql.replace("{schema}", schema)).await?;
        let entry = format!("INSERT INTO {schema}.migrations (number, name) VALUES ({number}, '{name}')");
        client.batch_execute(&entry).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(Migrated { from, to: VERSION })
}

/// A field of the first row of a simple query's answer.
pub(crate) fn first(rows: &[SimpleQueryMessage], field: usize) -> Option<&str> {
    rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) if field < row.len() => row.get(field),
        _ => None,
    })
}

async fn is_there(client: &Client, name: &str) -> Result<bool, Error> {
    let rows = client.simple_query(&format!("SELECT {name} IS NOT NULL")).await?;
    Ok(first(&rows, 0) == Some("t"))
}
