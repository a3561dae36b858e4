//! Who the broker talks to: vaults, tokens, plugins, the collector of spans.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use coffer_core_secret::SecretBytes;
use coffer_server_grpc::{PluginCall, PluginClient, PluginError};
use coffer_server_http::BrokerConfig;
use coffer_server_pkcs11::Token;
use coffer_server_vault::Vault;

use super::Finding;
use crate::SetupError;
use crate::sections::{PluginSection, SourceKind, SourceSection, TelemetrySection};

const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn look(config: &BrokerConfig) -> Vec<Finding> {
    let wrong = |what: &str, error: SetupError| {
        vec![Finding::problem(
            what,
            "a section with known members",
            error.to_string(),
            "see coffer-broker example",
        )]
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return wrong("threads", SetupError::Threads(error)),
    };
    let mut all = match SourceSection::read(&config.sources) {
        Ok(sources) => sources.iter().map(|section| runtime.block_on(source(section))).collect(),
        Err(error) => wrong("sources", error),
    };
    all.extend(match PluginSection::read(&config.plugins) {
        Ok(plugins) => plugins.iter().map(|section| runtime.block_on(plugin(section))).collect(),
        Err(error) => wrong("plugins", error),
    });
    all.extend(match TelemetrySection::read(&config.telemetry) {
        Ok(section) => section.iter().map(collector).collect(),
        Err(error) => wrong("telemetry", error),
    });
    all
}

async fn source(section: &SourceSection) -> Finding {
    let what = format!("source {}", section.name);
    let expected = "reached, and a login succeeds";
    let outcome = match &section.kind {
        SourceKind::Vault { server, .. } => {
            let logged_in = async { Vault::new(server)?.check().await };
            logged_in
                .await
                .map(|()| format!("{} for {} under {}", server.url, section.tenant, section.prefix))
                .map_err(|error| error.to_string())
        }
        SourceKind::Pkcs11 { token, .. } => Token::open(token)
            .map(|token| format!("the token {}", token.name()))
            .map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(found) => Finding::ok(&what, expected, found),
        Err(error) => Finding::problem(
            &what,
            expected,
            error,
            "see [[sources]]; other resources are released meanwhile",
        ),
    }
}

/// Asks a plugin something that changes nothing. A refusal is an answer too.
async fn plugin(section: &PluginSection) -> Finding {
    let what = format!("plugin {}", section.name);
    let expected = "answers";
    let client = section.config().and_then(|config| Ok(PluginClient::connect(&config)?));
    let client = match client {
        Ok(client) => client,
        Err(error) => return Finding::problem(&what, expected, error.to_string(), "see [[plugins]]"),
    };
    let call = PluginCall {
        method: "GET".to_owned(),
        path: Vec::new(),
        query: BTreeMap::new(),
        body: SecretBytes::new(Vec::new()),
    };
    match client.needs_encryption(&call, None).await {
        Err(error @ (PluginError::Unavailable { .. } | PluginError::Timeout { .. })) => {
            let found = format!("{error}: {}", error.detail());
            Finding::problem(&what, expected, found, "see that it runs, and [[plugins]] for where")
        }
        _ => Finding::ok(&what, expected, section.endpoint.clone()),
    }
}

/// Whether somebody takes connections there. Spans are sent by the broker alone.
fn collector(section: &TelemetrySection) -> Finding {
    const WHAT: &str = "collector of spans";
    let expected = "takes connections";
    let remedy = "start it, or correct [telemetry]; the broker works without it";
    match reached(&section.endpoint) {
        Ok(()) => Finding::ok(WHAT, expected, section.endpoint.clone()),
        Err(error) => Finding::warning(WHAT, expected, format!("{}: {error}", section.endpoint), remedy),
    }
}

fn reached(endpoint: &str) -> std::io::Result<()> {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:4317") };
    let mut last = std::io::Error::other("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
