//! What can be wrong with a configuration, a database or its schema, told so that the operator knows the next step.

use std::io;
use std::path::PathBuf;

use coffer_server_store::StoreError;

/// The database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection string.
    #[error("the database's url is neither postgres://role@host:port/database nor host=… user=… dbname=…")]
    Url,
    /// A password where it would be logged.
    #[error("the database's url holds a password; put it into a file of mode 0600 and name that file")]
    PasswordInUrl,
    /// A setting that cannot be.
    #[error("the database's setting {name} is not valid; expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A secret that others may read.
    #[error("{path} has mode {mode:04o}, so others may read it; expected 0600: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file could not be read.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No line of a password file fits.
    #[error("{path} has no line for the {place}; expected host:port:database:role:password")]
    NoPassword {
        /// The file.
        path: PathBuf,
        /// Where the connection goes.
        place: String,
    },
    /// A certificate or key that cannot be used.
    #[error("{path} cannot be used for TLS: {why}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A connection that would go over a network unprotected.
    #[error(
        "{host} is not this machine, and TLS is disabled; require TLS with the CA of the server's certificate"
    )]
    PlainNetwork {
        /// The host.
        host: String,
    },
    /// No answer.
    #[error("the {place} cannot be reached: {why}; see that it runs and that its address is right")]
    Unreachable {
        /// Where.
        place: String,
        /// What happened.
        why: String,
    },
    /// Role or password refused.
    #[error("the {place} refuses the role {user} ({why}); check the password file and pg_hba.conf")]
    Login {
        /// Where.
        place: String,
        /// The role.
        user: String,
        /// The server's reason.
        why: String,
    },
    /// No such database.
    #[error("the {place} does not exist; make it with: createdb {database}")]
    NoDatabase {
        /// Where.
        place: String,
        /// Its name.
        database: String,
    },
    /// The server's certificate, or TLS as a whole.
    #[error("no TLS with the {place}: {why}; expected a certificate of the configured CA for that host name")]
    Tls {
        /// Where.
        place: String,
        /// What was found.
        why: String,
    },
    /// An old server.
    #[error("the {place} runs version {found}, expected 13 or newer")]
    Server {
        /// Where.
        place: String,
        /// Its version.
        found: String,
    },
    /// The schema is not there or older.
    #[error("the {place} has tables of version {found}, this program needs {expected}; migrate it first")]
    NotMigrated {
        /// Where.
        place: String,
        /// What was found, 0 for none.
        found: u32,
        /// What this program needs.
        expected: u32,
    },
    /// The schema was written by a newer program.
    #[error("the {place} has tables of version {found}, this program knows {expected}; run a newer program")]
    Newer {
        /// Where.
        place: String,
        /// What was found.
        found: u32,
        /// What this program knows.
        expected: u32,
    },
    /// The role lacks a right.
    #[error(
        "the {place} does not let the role {user} do this ({why}); grant it, or migrate as a role that may"
    )]
    NotAllowed {
        /// Where.
        place: String,
        /// The role.
        user: String,
        /// The server's reason.
        why: String,
    },
    /// Another answer of the server.
    #[error("the {place} answered with an error: {why}")]
    Answer {
        /// Where.
        place: String,
        /// The server's words.
        why: String,
    },
    /// No thread for the connections.
    #[error("cannot start the thread that serves the database's connections: {0}")]
    Thread(io::Error),
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Newer { found, expected, .. }
            | PostgresError::NotMigrated { found, expected, .. } => {
                Self::Version { expected: expected.into(), found: found.to_string() }
            }
            PostgresError::Unreachable { place, why } => Self::Unavailable { place, why },
            // What an operator can put right while the broker runs: a password, a certificate, a grant.
            PostgresError::Login { ref place, .. }
            | PostgresError::NoDatabase { ref place, .. }
            | PostgresError::Tls { ref place, .. }
            | PostgresError::NoPassword { ref place, .. }
            | PostgresError::NotAllowed { ref place, .. } => {
                Self::Unavailable { place: place.clone(), why: error.to_string() }
            }
            other => Self::Database(other.to_string()),
        }
    }
}
