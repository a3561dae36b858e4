//! The statements of the engine, prepared once per connection.

use futures::future::try_join_all;
use tokio_postgres::{Client, Error, Statement};

/// What a write transaction with reads begins with. One that only writes is a single statement and begins nothing.
pub(crate) const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE";
/// One state of all rows; readers need no more.
pub(crate) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Prepared statements.
pub(crate) struct Statements {
    /// table, key → value.
    pub(crate) get: Statement,
    /// table, keys → place from 1, value; absent ones are left out.
    pub(crate) get_many: Statement,
    /// table, from, until, limit → key, value.
    pub(crate) ascending: Statement,
    /// As `ascending`, from the other end.
    pub(crate) descending: Statement,
    /// table, from, until → number.
    pub(crate) count: Statement,
    /// table, keys → how many of them there are.
    pub(crate) existing: Statement,
    /// All changes of a transaction and the mark that it was made: tables, keys and values to store; tables and keys
    /// to remove; slot, number.
    pub(crate) apply: Statement,
    /// slot, number: makes sure that the transaction of that mark can no longer be made.
    pub(crate) fence: Statement,
    /// slot → number, whether it was made.
    pub(crate) outcome: Statement,
    /// Removes marks that no call can ask for any more.
    pub(crate) clean: Statement,
}

impl Statements {
    pub(crate) async fn prepare(client: &Client, schema: &str) -> Result<Self, Error> {
        let range = |order: &str| {
            format!(
                "SELECT key, value FROM {schema}.rows WHERE tbl = $1 AND key >= $2 AND key < $3 \
                 ORDER BY key {order} LIMIT $4"
            )
        };
        let texts = [
            format!("SELECT value FROM {schema}.rows WHERE tbl = $1 AND key = $2"),
            format!(
                "SELECT wanted.place, held.value FROM unnest($2::bytea[]) WITH ORDINALITY AS wanted(key, place) \
                 JOIN {schema}.rows AS held ON held.tbl = $1 AND held.key = wanted.key"
            ),
            range("ASC"),
            range("DESC"),
            format!("SELECT count(*) FROM {schema}.rows WHERE tbl = $1 AND key >= $2 AND key < $3"),
            format!(
                "SELECT count(*) FROM unnest($2::bytea[]) AS wanted(key) \
                 JOIN {schema}.rows AS held ON held.tbl = $1 AND held.key = wanted.key"
            ),
            // One statement, so that it is made as a whole even where nothing was begun. A mark that is there already
            // sets its number to NULL, which the column refuses, and with it the whole.
            format!(
                "WITH gone AS (DELETE FROM {schema}.rows AS held \
                 USING unnest($4::text[], $5::bytea[]) AS dead(tbl, key) \
                 WHERE held.tbl = dead.tbl AND held.key = dead.key), \
                 mark AS (INSERT INTO {schema}.outcomes AS held (slot, number, made) VALUES ($6, $7, true) \
                 ON CONFLICT (slot) DO UPDATE SET made = true, at = now(), \
                 number = CASE WHEN held.number < excluded.number THEN excluded.number END) \
                 INSERT INTO {schema}.rows (tbl, key, value) \
                 SELECT tbl, key, value FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS live(tbl, key, value) \
                 ON CONFLICT (tbl, key) DO UPDATE SET value = excluded.value"
            ),
            format!(
                "INSERT INTO {schema}.outcomes AS held (slot, number, made) VALUES ($1, $2, false) \
                 ON CONFLICT (slot) DO UPDATE SET made = false, at = now(), number = excluded.number \
                 WHERE held.number < excluded.number"
            ),
            format!("SELECT number, made FROM {schema}.outcomes WHERE slot = $1"),
            format!("DELETE FROM {schema}.outcomes WHERE at < now() - interval '1 day'"),
        ];
        // All are sent before the first answer is waited for.
        let prepared = try_join_all(texts.iter().map(|text| client.prepare(text))).await?;
        let Ok([get, get_many, ascending, descending, count, existing, apply, fence, outcome, clean]) =
            <[Statement; 10]>::try_from(prepared)
        else {
            unreachable!("as many statements come back as were sent")
        };
        Ok(Self { get, get_many, ascending, descending, count, existing, apply, fence, outcome, clean })
    }
}
