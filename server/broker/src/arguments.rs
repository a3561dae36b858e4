//! What the program is told on its command line. No argument holds a secret.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use coffer_core_admin::TenantName;
use coffer_server_setup::LogFormat;

const AFTER: &str = "\
Exit codes:
  0  done
  1  it could not be done; standard error says why and what to do
  2  the command line is not one
  3  doctor found a problem
  4  another broker has the store; use its admin API (coffer cluster backup)

Environment:
  COFFER_BROKER__SECTION__MEMBER=VALUE sets a member of the configuration and goes before the file, as in
  COFFER_BROKER__STORE__POSTGRES__URL=postgres://coffer@db.example/coffer. A value that reads as TOML is taken as such.
  COFFER_LOG or RUST_LOG says what is logged [default: info].";

/// Verifies guests and releases secrets to those that policy allows.
#[derive(Parser)]
#[command(name = "coffer-broker", version, after_help = AFTER)]
pub(crate) struct Arguments {
    /// The configuration (TOML); see `coffer-broker example`.
    #[arg(long, global = true, env = "COFFER_BROKER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the store, the keys and the certificates; goes before the configuration's.
    #[arg(long, global = true, env = "COFFER_BROKER_DATA", value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen; goes before the configuration's. Port 0 takes a free one.
    #[arg(long, global = true, env = "COFFER_BROKER_LISTEN", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// How the log on standard error looks: json or text.
    #[arg(
        long,
        global = true,
        env = "COFFER_BROKER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "json"
    )]
    pub(crate) log_format: LogFormat,
    /// How results on standard output look.
    #[arg(long, global = true, value_name = "FORM", default_value = "text")]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// How results look.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a person.
    Text,
    /// One JSON document.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the folder, the store, the admin's key and, where --config names no file yet, a commented configuration.
    Init,
    /// Serve until SIGTERM or SIGINT. The default.
    Serve,
    /// Copy the store into a new file. The broker must not be running: while it is, use `coffer cluster backup`.
    Backup {
        /// The file; must not be there.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put a copy into the empty place that the configuration names. The copy's master key must be there already.
    Restore {
        /// The copy.
        file: PathBuf,
    },
    /// Bring the database's schema up to date (PostgreSQL).
    Migrate {
        /// Then move the rows of the data folder's embedded store into the database, which must be empty.
        #[arg(long)]
        from_embedded: bool,
    },
    /// Close the store with another master key.
    RotateMasterKey {
        /// A file with the new [master_key] section. Without it master.key in the data folder is replaced.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Seal all rows anew under new data keys.
    Reseal {
        /// Only this tenant's.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantName>,
    },
    /// Look at everything that the configuration names, and say what is wrong and what to do. Changes nothing.
    Doctor,
    /// Ask the broker that serves this folder whether it takes calls: for a container's health check.
    Healthcheck,
    /// Print a commented configuration.
    Example,
}
