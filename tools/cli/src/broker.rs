//! `coffer broker`: a broker on this machine, for one owner.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use coffer_host_vtpm::VtpmCa;
use coffer_server_http::{Broker, BrokerConfig, DEFAULT_PORT, EXAMPLE, TrustAnchorFile, shutdown_signal};
use tracing_subscriber::EnvFilter;

use crate::Context;

/// The name of this machine's root among the trust anchors.
const SOFTWARE_TPM: &str = "software-tpm-of-this-machine";

/// How the broker is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))]
    listen: SocketAddr,
    /// The broker's folder [default: broker in COFFER_HOME].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Names and addresses of the certificate, beside those of this machine. Repeatable.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Write a commented configuration file for `coffer-broker`, and end.
    #[arg(long)]
    example_config: bool,
}

pub(crate) fn run(context: &Context, options: &Options) -> Result<()> {
    if options.example_config {
        print!("{EXAMPLE}");
        return Ok(());
    }
    let filter = EnvFilter::try_from_env("COFFER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let ca = VtpmCa::load_or_create(context.home.vtpm_ca())?;
    let mut config = BrokerConfig::new(options.data.as_deref().unwrap_or(&context.home.broker()));
    config.listen = options.listen;
    config.extra_names.clone_from(&options.names);
    // Believed as software only: the default policy refuses what it certifies.
    config.trust_anchors = vec![TrustAnchorFile {
        name: SOFTWARE_TPM.into(),
        certificate: ca.root_path().to_path_buf(),
        hardware: false,
    }];
    let broker = Broker::open(config)?;
    if let Some(first) = broker.first_start() {
        eprintln!("First start. Made, and to be kept:");
        eprintln!("  the admin's key         {}", first.admin_key.display());
        eprintln!("  the master key          {} (without it the store is lost)", first.master_key.display());
        eprintln!("  the broker's authority  {} (clients pin it)", first.ca_certificate.display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = broker.listen().await?;
        println!("listening on {}", broker.url(&listener));
        broker.serve(listener, shutdown_signal()).await.context("the broker ended")
    })
}
