//! One try of one transaction on one connection.
//!
//! Reads are sent as they are asked for, the first together with what begins the transaction. Changes are kept here
//! and sent at the end in one statement, together with the commit, so that no lock of ours waits for this process.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;

use coffer_server_store::{Change, Order, StoreError, View};
use futures::future::join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use crate::config::Target;
use crate::connect::Session;
use crate::failure::{Failure, is_certain, reason};
use crate::overlay::Overlay;
use crate::retry::Tries;
use crate::statements::{BEGIN_READ, BEGIN_WRITE};
use crate::wait;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A transaction.
pub(crate) struct Transaction<'a> {
    session: &'a Session,
    target: &'a Target,
    tries: &'a Tries<'a>,
    begin: &'static str,
    has_begun: Cell<bool>,
    failure: RefCell<Option<Failure>>,
    overlay: Overlay,
    /// Of which keys it is known whether they are kept; one transaction sees one state.
    known: RefCell<HashMap<(&'static str, String), bool>>,
}

/// How a commit did not succeed.
pub(crate) enum NoCommit {
    /// Nothing was kept.
    Failed(Failure),
    /// It was sent and not answered.
    Unknown(String),
}

impl<'a> Transaction<'a> {
    pub(crate) fn reading(session: &'a Session, target: &'a Target, tries: &'a Tries<'a>) -> Self {
        Self::new(session, target, tries, BEGIN_READ)
    }

    pub(crate) fn writing(session: &'a Session, target: &'a Target, tries: &'a Tries<'a>) -> Self {
        Self::new(session, target, tries, BEGIN_WRITE)
    }

    fn new(session: &'a Session, target: &'a Target, tries: &'a Tries<'a>, begin: &'static str) -> Self {
        Self {
            session,
            target,
            tries,
            begin,
            has_begun: Cell::new(false),
            failure: RefCell::default(),
            overlay: Overlay::default(),
            known: RefCell::default(),
        }
    }

    /// What went wrong with a statement, whatever was made of its error since.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.borrow_mut().take()
    }

    /// Ends it without changes. The answer is not waited for: who uses the connection next comes after it.
    pub(crate) fn leave(self) {
        if self.has_begun.get() {
            // Operators watch the rate of rollbacks, and a reader that is done is none.
            let end = if self.begin == BEGIN_READ { "COMMIT" } else { "ROLLBACK" };
            wait::begin(self.session.link.client.batch_execute(end));
        }
    }

    /// Makes its changes.
    pub(crate) fn commit(self) -> Result<(), NoCommit> {
        let client = &self.session.link.client;
        if self.overlay.is_empty() {
            if !self.has_begun.get() {
                return Ok(());
            }
            // Also one that only read is told whether what it saw fits with what others did.
            let end = self.tries.answer_by();
            return match wait::until(end, client.batch_execute("COMMIT")) {
                Some(Ok(())) => Ok(()),
                Some(Err(error)) => Err(NoCommit::Failed(Failure::of(&error, self.target))),
                None => Err(NoCommit::Failed(Failure::silent())),
            };
        }
        let number = self.session.number.get().saturating_add(1);
        self.session.number.set(number);
        let (mut live, mut dead) = ((Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (table, key, value) in self.overlay.all() {
            match value {
                Some(value) => {
                    live.0.push(table);
                    live.1.push(key.as_bytes());
                    live.2.push(value);
                }
                None => {
                    dead.0.push(table);
                    dead.1.push(key.as_bytes());
                }
            }
        }
        let params: Params<'_> = &[&live.0, &live.1, &live.2, &dead.0, &dead.1, &self.session.slot, &number];
        let apply = client.execute(&self.session.statements.apply, params);
        let end = self.tries.answer_by();
        let answers = if self.has_begun.get() {
            // A commit that follows a statement that failed ends the transaction without it.
            wait::until(end, join(apply, client.batch_execute("COMMIT")))
        } else {
            wait::until(end, async { (apply.await, Ok(())) })
        };
        match answers {
            Some((Ok(_), Ok(()))) => Ok(()),
            Some((Err(error), _) | (Ok(_), Err(error))) if is_certain(&error) => {
                Err(NoCommit::Failed(Failure::of(&error, self.target)))
            }
            Some((Err(error), _) | (Ok(_), Err(error))) => Err(NoCommit::Unknown(reason(&error))),
            None => Err(NoCommit::Unknown("no answer in time".into())),
        }
    }

    fn ask(&self, statement: &Statement, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.run(self.session.link.client.query(statement, params))
    }

    /// Waits for answers; what is asked first is sent together with the transaction's beginning.
    fn run<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        if self.failure.borrow().is_some() {
            return Err(self.ended());
        }
        let end = self.tries.answer_by();
        let answer = if self.has_begun.replace(true) {
            wait::until(end, asked)
        } else {
            let begun = self.session.link.client.batch_execute(self.begin);
            wait::until(end, join(begun, asked)).map(|(begun, answer)| begun.and(answer))
        };
        let failure = match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => Failure::of(&error, self.target),
            None => Failure::silent(),
        };
        *self.failure.borrow_mut() = Some(failure);
        Err(self.ended())
    }

    /// What the transaction's work is told; the engine looks at the failure itself.
    fn ended(&self) -> StoreError {
        self.tries.give_up("the transaction ended early")
    }

    fn note(&self, table: &'static str, key: &str, is_kept: bool) {
        self.known.borrow_mut().insert((table, key.to_owned()), is_kept);
    }
}

impl View for Transaction<'_> {
    fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(changed) = self.overlay.get(table, key) {
            return Ok(changed.clone());
        }
        let rows = self.ask(&self.session.statements.get, &[&table, &key.as_bytes()])?;
        let value = rows.first().map(|row| field(row, 0)).transpose()?;
        self.note(table, key, value.is_some());
        Ok(value)
    }

    fn get_many(&self, table: &'static str, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut values: Vec<Option<Vec<u8>>> = Vec::with_capacity(keys.len());
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            match self.overlay.get(table, key) {
                Some(changed) => values.push(changed.clone()),
                None => {
                    values.push(None);
                    places.push(place);
                    asked.push(key.as_bytes());
                }
            }
        }
        if asked.is_empty() {
            return Ok(values);
        }
        for row in self.ask(&self.session.statements.get_many, &[&table, &asked])? {
            let place: i64 = field(&row, 0)?;
            let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
            let wanted = place.and_then(|place| places.get(place)).and_then(|place| values.get_mut(*place));
            if let Some(value) = wanted {
                *value = Some(field(&row, 1)?);
            }
        }
        for place in places {
            if let (Some(key), Some(value)) = (keys.get(place), values.get(place)) {
                self.note(table, key, value.is_some());
            }
        }
        Ok(values)
    }

    fn range(
        &self,
        table: &'static str,
        from: &str,
        until: &str,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        if limit == 0 || from >= until {
            return Ok(Vec::new());
        }
        let statement = match order {
            Order::Ascending => &self.session.statements.ascending,
            Order::Descending => &self.session.statements.descending,
        };
        let more = self.overlay.within(table, from, until).count();
        let asked = i64::try_from(limit.saturating_add(more)).unwrap_or(i64::MAX);
        let rows = self.ask(statement, &[&table, &from.as_bytes(), &until.as_bytes(), &asked])?;
        let rows: Result<Vec<_>, StoreError> =
            rows.iter().map(|row| Ok((key_of(row)?, field(row, 1)?))).collect();
        Ok(self.overlay.over(table, (from, until), order, limit, rows?))
    }

    fn count(&self, table: &'static str, from: &str, until: &str) -> Result<u64, StoreError> {
        if from >= until {
            return Ok(0);
        }
        let (mut changed, mut live) = (Vec::new(), 0_i64);
        for (key, value) in self.overlay.within(table, from, until) {
            changed.push(key.as_bytes());
            live = live.saturating_add(i64::from(value.is_some()));
        }
        let client = &self.session.link.client;
        let all: Params<'_> = &[&table, &from.as_bytes(), &until.as_bytes()];
        let counted = client.query(&self.session.statements.count, all);
        let mut kept: i64 = if changed.is_empty() {
            number(&self.run(counted)?)?
        } else {
            // Rows that this transaction has changed are counted here, not there.
            let which: Params<'_> = &[&table, &changed];
            let existing = client.query(&self.session.statements.existing, which);
            let both = async { futures::future::try_join(counted, existing).await };
            let (counted, existing) = self.run(both)?;
            number(&counted)?.saturating_sub(number(&existing)?)
        };
        kept = kept.saturating_add(live);
        Ok(u64::try_from(kept).unwrap_or(0))
    }
}

impl Change for Transaction<'_> {
    fn put(&mut self, table: &'static str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.overlay.set(table, key, Some(value.to_vec()));
        Ok(())
    }

    fn remove(&mut self, table: &'static str, key: &str) -> Result<bool, StoreError> {
        if let Some(changed) = self.overlay.get(table, key) {
            let was_there = changed.is_some();
            self.overlay.set(table, key, None);
            return Ok(was_there);
        }
        let known = self.known.borrow().get(&(table, key.to_owned())).copied();
        let is_kept = match known {
            Some(is_kept) => is_kept,
            None => {
                number(&self.ask(&self.session.statements.existing, &[&table, &vec![key.as_bytes()]])?)? > 0
            }
        };
        self.note(table, key, is_kept);
        if is_kept {
            self.overlay.set(table, key, None);
        }
        Ok(is_kept)
    }

    fn discard(&mut self, table: &'static str, key: &str) -> Result<(), StoreError> {
        self.overlay.set(table, key, None);
        Ok(())
    }
}

fn field<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| StoreError::Database(reason(&error)))
}

fn number(rows: &[Row]) -> Result<i64, StoreError> {
    rows.first().map_or(Ok(0), |row| field(row, 0))
}

fn key_of(row: &Row) -> Result<String, StoreError> {
    let bytes: Vec<u8> = field(row, 0)?;
    String::from_utf8(bytes)
        .map_err(|_| StoreError::Database("a row's key is not text; it was not written by a broker".into()))
}
