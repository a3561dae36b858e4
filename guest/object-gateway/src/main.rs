//! A gateway inside a guest, through which programs read and write sealed objects of an S3-compatible store.
//!
//! TRUST: arguments and environment are what init-data allows, because the guest's gate compares them; the store is
//! hostile.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_core_protocol::uri::ResourceUri;
use coffer_core_sealed_objects::ObjectKeys;
use coffer_core_sealed_stream::Key;
use coffer_guest_models::{LOCAL_API, LocalApi, Retry, S3Access, SourceError};
use coffer_guest_objects::{Clients, Gateway, serve};
use zeroize::Zeroizing;

const LISTEN: &str = "127.0.0.1:9900";
const HELP: &str = "\
coffer-objects --key kbs:///REPOSITORY/TYPE/TAG [OPTIONS]

A gateway on loopback between programs that speak S3 and a store that sees only ciphertext. Start your program with
AWS_ENDPOINT_URL=http://127.0.0.1:9900 and the same access key that this gateway has.

  --key URI              the data key (32 bytes), as the guest's local API gives it
  --listen ADDRESS       where to listen, on loopback [default: 127.0.0.1:9900; port 0 takes any]
  --ca FILE              a certificate authority of the store (PEM), beside the public ones; can be repeated
  --insecure-any-client  serve programs that do not sign with the gateway's access key

The store is that of AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (without them, Amazon S3) with AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. CDH_ADDR is the local API [default:
http://127.0.0.1:8006].";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|own| own == "--help" || own == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Options::read(&arguments).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coffer-objects: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    key: ResourceUri,
    listen: SocketAddr,
    authorities: Vec<String>,
    any_client: AnyClient,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AnyClient {
    Refused,
    InsecureServed,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self> {
        let (mut key, mut listen, mut authorities) = (None, LISTEN.to_owned(), Vec::new());
        let mut any_client = AnyClient::Refused;
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{name} wants a value; see --help"));
            match name.as_str() {
                "--key" => key = Some(value()?),
                "--listen" => listen = value()?.clone(),
                "--ca" => {
                    let path = value()?;
                    authorities.push(std::fs::read_to_string(path).with_context(|| path.clone())?);
                }
                "--insecure-any-client" => any_client = AnyClient::InsecureServed,
                other => bail!("{other} is no option; see --help"),
            }
        }
        let key = key.context("name the data key with --key kbs:///REPOSITORY/TYPE/TAG")?;
        let key = key.parse().map_err(|why| anyhow!("--key {key} names no resource: {why}"))?;
        let listen = listen.parse().with_context(|| format!("--listen {listen} is no address and port"))?;
        Ok(Self { key, listen, authorities, any_client })
    }
}

fn run(options: Options) -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let api = LocalApi::new(&variable("CDH_ADDR").unwrap_or_else(|| LOCAL_API.into())).map_err(coded)?;
    let secret = api.resource(options.key.path()).map_err(coded)?;
    let bytes: [u8; 32] = secret.expose().as_slice().try_into().map_err(|_| {
        anyhow!("{} has {} bytes; a data key has 32 [objects.key]", options.key, secret.expose().len())
    })?;
    let bytes = Zeroizing::new(bytes);
    let keys =
        ObjectKeys::derive(&Key::new(*bytes)).map_err(|error| anyhow!("{error} [{}]", error.code()))?;
    let access = S3Access::from_variables(variable);
    let clients = match (options.any_client, &access.credentials) {
        (AnyClient::InsecureServed, _) => Clients::InsecureAnyone,
        (AnyClient::Refused, Some(own)) => Clients::SignedWith(own.clone()),
        (AnyClient::Refused, None) => bail!(
            "there is no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by which clients could be known; set them, or \
             say --insecure-any-client [objects.client]"
        ),
    };
    let log = Arc::new(|line: &str| eprintln!("coffer-objects: {line}"));
    let retry = Retry::default();
    let gateway = Gateway::new(keys, access, &options.authorities, retry, clients, log).map_err(coded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.listen).await;
        let listener = listener.with_context(|| format!("{} cannot be listened at", options.listen))?;
        println!("ready: http://{}", listener.local_addr()?);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            served = serve(listener, Arc::new(gateway)) => Ok(served?),
            _ = terminate.recv() => Ok(()),
            ended = tokio::signal::ctrl_c() => Ok(ended?),
        }
    })
}

fn coded(error: SourceError) -> anyhow::Error {
    anyhow!("{error} [{}]", error.code())
}
