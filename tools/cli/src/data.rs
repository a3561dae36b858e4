//! `coffer data`: objects of a store that sees only ciphertext.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_core_sealed_objects::ObjectKeys;
use coffer_core_sealed_stream::Key;
use coffer_guest_models::{Retry, S3Access, SourceError};
use coffer_guest_objects::{Clients, Gateway, serve};
use serde_json::json;

use crate::Context;
use crate::image::{read_key, read_text};
use crate::model::stream_key;

pub(crate) const HELP: &str = "\
Every program that speaks S3 can use the gateway: set AWS_ENDPOINT_URL to its address and keep the access key, as in
  coffer data proxy --key-file lake.key &
  AWS_ENDPOINT_URL=http://127.0.0.1:9900 aws s3 cp results.csv s3://lake/results.csv
In a guest the same is done by coffer-objects, which has the key from the broker. docs/objects.md tells the rest.";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run a gateway between programs that speak S3 and a store: what they write is sealed, names too, and what they
    /// read is opened. Runs until it is interrupted.
    ///
    /// The store is that of AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (without them, Amazon S3), with AWS_REGION,
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. Programs are served that sign with the same
    /// access key.
    #[command(after_help = HELP)]
    Proxy {
        /// The data key: 32 random bytes, the same that guests have from the broker.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        /// Where to listen, on loopback; port 0 takes any that is free.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
        listen: SocketAddr,
        /// A certificate authority (PEM) of the store, beside the public ones; can be repeated.
        #[arg(long, value_name = "FILE")]
        ca: Vec<PathBuf>,
        /// Serve programs that do not sign with the access key. Every user of this machine is one.
        #[arg(long)]
        insecure_any_client: bool,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let Command::Proxy { key_file, listen, ca, insecure_any_client } = command;
    let access = S3Access::from_variables(|name| std::env::var(name).ok());
    let clients = match (insecure_any_client, &access.credentials) {
        (true, _) => Clients::InsecureAnyone,
        (false, Some(own)) => Clients::SignedWith(own.clone()),
        (false, None) => bail!(
            "there is no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by which programs could be known; set them, or \
             say --insecure-any-client [objects.client]"
        ),
    };
    let keys = ObjectKeys::derive(&data_key(&key_file)?);
    let keys = keys.map_err(|error| anyhow!("{error} [{}]", error.code()))?;
    let authorities = ca.iter().map(|path| read_text(path)).collect::<Result<Vec<_>>>()?;
    let log = Arc::new(|line: &str| eprintln!("coffer: {line}"));
    let gateway = Gateway::new(keys, access, &authorities, Retry::default(), clients, log).map_err(coded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("{listen} cannot be listened at"))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let shown = format!("serving at {endpoint}; Ctrl-C ends");
        context.output.show(&json!({"endpoint": endpoint}), |_| shown)?;
        tokio::select! {
            served = serve(listener, Arc::new(gateway)) => Ok(served?),
            ended = tokio::signal::ctrl_c() => Ok(ended?),
        }
    })
}

fn data_key(path: &Path) -> Result<Key> {
    stream_key(&read_key(path)?).with_context(|| format!("{}", path.display()))
}

fn coded(error: SourceError) -> anyhow::Error {
    anyhow!("{error} [{}]", error.code())
}
