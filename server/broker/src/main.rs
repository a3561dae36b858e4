//! The broker's program: configuration in, a served broker out. All it does is in `server/http`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use coffer_server_http::{Broker, BrokerConfig, EXAMPLE, shutdown_signal};
use tracing_subscriber::EnvFilter;

/// Verifies guests and releases secrets to those that policy allows.
#[derive(Parser)]
#[command(name = "coffer-broker", version)]
struct Arguments {
    /// The configuration (TOML); see `coffer-broker example`.
    #[arg(long, env = "COFFER_BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the store, the keys and the certificates; goes before the configuration's.
    #[arg(long, env = "COFFER_BROKER_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Where to listen; goes before the configuration's. Port 0 takes a free one.
    #[arg(long, env = "COFFER_BROKER_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT. The default.
    Serve,
    /// Print a commented configuration.
    Example,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Example => Ok(std::io::stdout().write_all(EXAMPLE.as_bytes())?),
        Command::Serve => serve(configuration(arguments)?),
    }
}

fn configuration(arguments: Arguments) -> Result<BrokerConfig> {
    let mut config = match &arguments.config {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            BrokerConfig::from_toml(&text).with_context(|| path.display().to_string())?
        }
        None => BrokerConfig::default(),
    };
    config.data_dir = arguments.data.unwrap_or(config.data_dir);
    config.listen = arguments.listen.unwrap_or(config.listen);
    Ok(config)
}

fn serve(config: BrokerConfig) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let broker = Broker::open(config)?;
    if let Some(made) = broker.first_start() {
        tracing::info!(
            admin_key = %made.admin_key.display(),
            ca_certificate = %made.ca_certificate.display(),
            master_key = %made.master_key.display(),
            "first start: keep the admin key with the admin and a copy of the master key apart from the store"
        );
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // Before the line below, so that whoever reads it may stop the broker at once.
        let shutdown = shutdown_signal();
        let listener = broker.listen().await?;
        writeln!(std::io::stdout(), "listening on {}", broker.url(&listener))?;
        broker.serve(listener, shutdown).await?;
        tracing::info!("stopped");
        Ok(())
    })
}
