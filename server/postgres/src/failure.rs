//! What went wrong with a statement, and whether it is worth another try.
//!
//! SPEC: PostgreSQL, appendix "PostgreSQL Error Codes".

use std::error::Error as _;
use std::io;

use coffer_server_store::StoreError;
use tokio_postgres::error::Severity;
use tokio_postgres::{Error, error::DbError};

use crate::config::Target;
use crate::error::PostgresError;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It met another one; the server kept nothing of it.
    Conflict(String),
    /// The connection, or the server behind it, is gone or silent.
    Lost(String),
    /// Another try now gives the same.
    Refused(StoreError),
}

impl Failure {
    pub(crate) fn of(error: &Error, target: &Target) -> Self {
        let Some(answer) = error.as_db_error() else {
            return if is_connection(error) {
                Self::Lost(reason(error))
            } else {
                Self::Refused(StoreError::Database(reason(error)))
            };
        };
        let why = words(answer);
        match answer.code().code() {
            // Serialization failure, deadlock, a lock that was not free in time.
            "40001" | "40P01" | "55P03" => Self::Conflict(why),
            // The statement's time is over, or it was cancelled; or disk, memory and other means are used up.
            "57014" | "53000" | "53100" | "53200" | "53400" => {
                Self::Refused(StoreError::Unavailable { place: target.place.clone(), why })
            }
            // Too many connections, shutdown, start, idle for too long, a server that lost its right to write.
            "53300" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25006" => Self::Lost(why),
            code if code.starts_with("08") => Self::Lost(why),
            _ if is_fatal(answer) => Self::Lost(why),
            _ => Self::Refused(StoreError::Database(why)),
        }
    }

    /// Nothing came in time.
    pub(crate) fn silent() -> Self {
        Self::Lost("no answer in time".into())
    }
}

/// What an error that a commit was answered with says of it.
pub(crate) fn is_certain(error: &Error) -> bool {
    // An ERROR ends the transaction without it; after anything graver the connection is gone, and a commit may have
    // been made before.
    error.as_db_error().is_some_and(|answer| !is_fatal(answer))
}

/// Why a connection was not made.
pub(crate) fn of_connecting(error: &Error, target: &Target) -> Result<Failure, PostgresError> {
    let (place, user) = (target.place.clone(), target.user.clone());
    if let Some(answer) = error.as_db_error() {
        let why = words(answer);
        return match answer.code().code() {
            "28000" | "28P01" => Err(PostgresError::Login { place, user, why }),
            "3D000" => Err(PostgresError::NoDatabase { place, database: target.database.clone() }),
            "42501" => Err(PostgresError::NotAllowed { place, user, why }),
            _ => match Failure::of(error, target) {
                Failure::Refused(_) => Err(PostgresError::Answer { place, why }),
                passing => Ok(passing),
            },
        };
    }
    let why = reason(error);
    // The driver has no other way to tell which step it was at than its words.
    if why.starts_with("authentication error") || why.starts_with("invalid configuration") {
        return Err(PostgresError::Login { place, user, why });
    }
    let mut cause = error.source();
    while let Some(found) = cause {
        let inner = found.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if found.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return Err(PostgresError::Tls { place, why });
        }
        cause = found.source();
    }
    if why.contains("does not support TLS") {
        return Err(PostgresError::Tls { place, why });
    }
    Ok(Failure::Lost(why))
}

/// An error and what caused it, in one line.
pub(crate) fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let more = found.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = found.source();
    }
    text
}

/// The server's words without its detail, which may show a row.
pub(crate) fn words(answer: &DbError) -> String {
    format!("{} (SQLSTATE {})", answer.message(), answer.code().code())
}

fn is_fatal(answer: &DbError) -> bool {
    !matches!(answer.parsed_severity(), Some(Severity::Error))
}

fn is_connection(error: &Error) -> bool {
    let system = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    error.is_closed() || system.is_some_and(|cause| cause.kind() != io::ErrorKind::InvalidInput)
}
