//! KServe's storage initializer for sealed and encrypted models, inside a guest.
//!
//! SPEC: KServe 0.20, `ClusterStorageContainer`. TRUST: arguments and environment are the cluster's.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow, bail};
use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_core_secret::SecretBytes;
use coffer_guest_kserve::{Keys, initialize, pairs};
use coffer_guest_models::{Access, Job, LOCAL_API, LocalApi, S3Access};

const POLICY: &str = "kbs:///default/model-policy/models";

fn main() -> ExitCode {
    match run() {
        Ok(count) => {
            println!("ready: {count} models are in their places");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("coffer-storage-initializer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pairs = pairs(&arguments).map_err(|error| anyhow!("{error} [{}]", error.code()))?;
    let policy: ResourceUri = match variable("COFFER_MODEL_POLICY").unwrap_or_else(|| POLICY.into()).parse() {
        Ok(uri) => uri,
        Err(why) => bail!("COFFER_MODEL_POLICY names no resource: {why} [kserve.policy]"),
    };
    let api = variable("CDH_ADDR").unwrap_or_else(|| LOCAL_API.into());
    let hub = Hub(LocalApi::new(&api).map_err(|error| anyhow!("{error} [{}]", error.code()))?);
    let access = Access { s3: S3Access::from_variables(variable), ..Access::default() };
    let stop = AtomicBool::new(false);
    let job = Job { progress: &|_, _| {}, stop: &stop };
    let done = initialize(&pairs, &policy, &hub, &access, &job);
    done.map_err(|error| anyhow!("{error} [{}]", error.code()))?;
    Ok(pairs.len())
}

/// The guest's local API.
struct Hub(LocalApi);

impl Keys for Hub {
    fn resource(&self, path: &ResourcePath) -> Result<SecretBytes, String> {
        self.0.resource(path).map_err(|error| error.to_string())
    }
}
