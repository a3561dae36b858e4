//! Prints the attestation evidence of the guest's NVIDIA GPUs and switches.
//!
//! Wiring only. The libraries' names can be given by `--nvml` and `--nscq`, as the tests do. What is printed is public:
//! evidence goes to whoever asks for it.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_sys_nvml::{DeviceEvidence, Gpus, NONCE, NSCQ, NVML, NvidiaError, Switches};
use serde_json::{Value, json};

const USAGE: &str =
    "usage: coffer-gpu-evidence [--nvml LIBRARY] [--nscq LIBRARY] NONCE (64 hexadecimal digits)";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(evidence) => {
            println!("{evidence}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("coffer-gpu-evidence: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<Value, String> {
    let (mut nvml, mut nscq, mut nonce) = (NVML.to_owned(), NSCQ.to_owned(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--nvml" => nvml = arguments.next().ok_or(USAGE)?,
            "--nscq" => nscq = arguments.next().ok_or(USAGE)?,
            _ if nonce.is_none() => nonce = Some(argument),
            _ => return Err(USAGE.into()),
        }
    }
    let nonce = hex::decode(nonce.ok_or(USAGE)?).map_err(|_| USAGE)?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| USAGE)?;
    let mut devices = or_none(Gpus::open(&nvml).and_then(|gpus| gpus.evidence(&nonce)))?;
    devices.extend(or_none(Switches::open(&nscq).and_then(|switches| switches.evidence(&nonce)))?);
    let list: Vec<Value> = devices.iter().map(device).collect();
    Ok(json!({ "device_evidence_list": list }))
}

/// A machine without the library has no devices of its kind.
fn or_none(found: Result<Vec<DeviceEvidence>, NvidiaError>) -> Result<Vec<DeviceEvidence>, String> {
    match found {
        Err(NvidiaError::Absent { .. }) => Ok(Vec::new()),
        other => other.map_err(|why| why.to_string()),
    }
}

fn device(device: &DeviceEvidence) -> Value {
    json!({
        "arch": device.architecture,
        "uuid": device.uuid,
        "evidence": STANDARD.encode(&device.report),
        "certificate": STANDARD.encode(&device.certificates),
    })
}
