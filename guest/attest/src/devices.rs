//! Evidence of devices: a program of the guest's image collects it, because it loads their makers' libraries.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coffer_core_evidence::ReportData;
use serde_json::Value;

use crate::AttestError;

/// The program for NVIDIA's devices (`guest/gpu-evidence`), part of the measured image.
pub const GPU_EVIDENCE: &str = "/usr/lib/coffer/coffer-gpu-evidence";

/// Sixteen GPUs with their certificates have half of it.
const MAX_OUTPUT: u64 = 4 << 20;
/// What is kept of its complaint.
const MAX_COMPLAINT: u64 = 4 << 10;
/// A GPU answers within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// The programs that collect evidence.
#[derive(Clone, Debug)]
pub struct Devices {
    nvidia: PathBuf,
    patience: Duration,
}

impl Default for Devices {
    fn default() -> Self {
        Self::with_program(GPU_EVIDENCE)
    }
}

impl Devices {
    /// With another program for NVIDIA's devices.
    #[must_use]
    pub fn with_program(nvidia: impl Into<PathBuf>) -> Self {
        Self { nvidia: nvidia.into(), patience: PATIENCE }
    }

    /// With another bound on a program's time.
    #[must_use]
    pub const fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The devices' evidence as the protocol's `additional_evidence`: the text of a map from kind to evidence. Empty
    /// where the image has no such program, or the machine no such devices.
    pub(crate) async fn evidence(&self, report_data: ReportData) -> Result<String, AttestError> {
        if !self.nvidia.exists() {
            return Ok(String::new());
        }
        let Self { nvidia, patience } = self.clone();
        let nonce = report_data.field::<32>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let wrong = |why: String| AttestError::Evidence { what: "the GPUs' evidence", why };
        let ran = tokio::task::spawn_blocking(move || run(&nvidia, &nonce, patience));
        let output = ran.await.map_err(|why| wrong(why.to_string()))?.map_err(wrong)?;
        let evidence: Value =
            serde_json::from_slice(&output).map_err(|why| wrong(format!("it is no JSON: {why}")))?;
        match evidence.get("device_evidence_list").and_then(Value::as_array) {
            Some(devices) if devices.is_empty() => Ok(String::new()),
            Some(_) => Ok(serde_json::json!({ "nvidia": evidence }).to_string()),
            None => Err(wrong("it has no device_evidence_list".into())),
        }
    }
}

/// Runs a program and takes what it prints, within bounds.
fn run(program: &Path, nonce: &str, patience: Duration) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.arg(nonce).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|why| format!("{} cannot be started: {why}", program.display()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = std::thread::spawn(move || read(out, MAX_OUTPUT));
    let err = std::thread::spawn(move || read(err, MAX_COMPLAINT));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status.success()),
            Ok(None) if begun.elapsed() < patience => std::thread::sleep(PAUSE),
            Ok(None) => {
                let _gone_meanwhile = child.kill();
                let _reaped = child.wait();
                break Err(format!("{} did not end within {} s", program.display(), patience.as_secs()));
            }
            // Whoever reaps for the machine was faster. Then what it printed must speak for it.
            Err(_) => break Ok(true),
        }
    };
    let succeeded = status?;
    let output = out.join().map_err(|_| "its output cannot be read".to_owned())??;
    if succeeded {
        return Ok(output);
    }
    let complaint = err.join().ok().and_then(Result::ok).unwrap_or_default();
    let complaint = String::from_utf8_lossy(&complaint);
    // It reaches the host as part of a refusal.
    let line: String = complaint.trim().chars().filter(|c| !c.is_control()).take(400).collect();
    Err(format!("{} failed: {line}", program.display()))
}

fn read(stream: Option<impl std::io::Read>, limit: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let stream = stream.ok_or("it has no output")?;
    stream.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(|why| why.to_string())?;
    match u64::try_from(content.len()).is_ok_and(|length| length <= limit) {
        true => Ok(content),
        false => Err(format!("it prints more than {limit} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use coffer_core_digest::Digest;

    use super::*;

    /// A shell script in the program's place.
    async fn with_script(script: &str) -> Result<String, AttestError> {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("gpu-evidence");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
        let devices = Devices::with_program(program).within(Duration::from_secs(2));
        devices.evidence(ReportData::from_runtime_hash(Digest::sha256(b"nonce"))).await
    }

    #[tokio::test]
    async fn what_the_program_prints_becomes_a_map_from_kind_to_evidence() {
        let script = r#"echo "{\"device_evidence_list\":[{\"uuid\":\"$1\"}]}""#;
        let text = with_script(script).await.expect("evidence");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let uuid = value["nvidia"]["device_evidence_list"][0]["uuid"].as_str().expect("text").to_owned();
        assert_eq!(uuid, Digest::sha256(b"nonce").hex());
    }

    #[tokio::test]
    async fn no_program_and_no_devices_are_no_evidence() {
        let devices = Devices::with_program("/nowhere/gpu-evidence");
        let data = ReportData::from_runtime_hash(Digest::sha256(b"nonce"));
        assert_eq!(devices.evidence(data).await.expect("none"), "");
        assert_eq!(with_script(r#"echo '{"device_evidence_list":[]}'"#).await.expect("none"), "");
    }

    #[tokio::test]
    async fn a_program_that_fails_hangs_or_talks_nonsense_is_an_error() {
        for (script, reason) in [
            ("echo the driver is asleep >&2; exit 1", "the driver is asleep"),
            ("exec sleep 60", "did not end"),
            ("echo no JSON", "no JSON"),
            ("echo '{}'", "no device_evidence_list"),
            ("head -c 5000000 /dev/zero", "more than"),
        ] {
            let error = with_script(script).await.expect_err(script);
            assert_eq!(error.code(), "attestation.evidence");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
