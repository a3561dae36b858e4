//! The served OpenAPI document under schemathesis: no call that it describes is answered with a 5xx.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffer_lab_broker::{UNLIMITED, World, number, take_turn};

/// The version that this test was written with; its command line changes between major ones.
const VERSION: &str = "schemathesis>=4.32,<5";
/// Longer than the time it is given, so that it is ended only when it hangs.
const LONGEST: Duration = Duration::from_secs(300);

/// schemathesis in a Python environment of its own under the target folder; none where it cannot be had.
fn schemathesis() -> Result<Option<PathBuf>> {
    if let Some(path) = std::env::var_os("COFFER_TEST_SCHEMATHESIS") {
        return Ok(Some(PathBuf::from(path)));
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("the test is at no known place")?;
    let folder = target.join("schemathesis");
    let program = folder.join("bin/schemathesis");
    if program.is_file() {
        return Ok(Some(program));
    }
    let ran = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&folder).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !ran(Path::new("python3"), &["-m", "venv", "--clear"]) {
        println!("skipped: no environment of Python can be made (Debian packages python3 and python3-venv)");
        return Ok(None);
    }
    let pip = Command::new(folder.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--timeout",
            "20",
            "--retries",
            "1",
            VERSION,
        ])
        .output()?;
    if !pip.status.success() {
        println!("skipped: schemathesis cannot be installed from PyPI");
        return Ok(None);
    }
    Ok(Some(program))
}

#[test]
fn no_call_of_the_openapi_document_is_answered_with_a_fault() {
    let _turn = take_turn().unwrap();
    let Some(program) = schemathesis().unwrap() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(over(&program)).unwrap_or_else(|error| panic!("{error:#}"));
}

async fn over(program: &Path) -> Result<()> {
    let mut world = World::start(UNLIMITED).await?;
    let folder = tempfile::tempdir()?;
    // Admins' tokens last two hours at most, a run minutes.
    let token = world.admin.token_for(3_600)?;
    let ca = world.broker.folder().join("tls/ca.pem");
    let seconds = number("COFFER_TEST_OPENAPI_SECONDS", 60);
    let mut command = Command::new(program);
    command.arg("run").arg(format!("{}/openapi.json", world.broker.url())).current_dir(folder.path());
    command.arg("--tls-verify").arg(&ca);
    command.args(["--header", &format!("Authorization: Bearer {token}")]);
    command.args(["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-time", &seconds.to_string(), "--seed", "1", "--workers", "2", "--no-color"]);
    command.args(["--request-timeout", "40", "--continue-on-failure", "--no-shrink"]);
    command.args(["--suppress-health-check", "all", "--generation-database", "none", "--warnings", "off"]);
    let calls = folder.path().join("calls.ndjson");
    command.args(["--report", "ndjson", "--report-ndjson-path"]).arg(&calls);
    command.env_remove("HTTPS_PROXY").env_remove("https_proxy").env("NO_PROXY", "127.0.0.1");
    let output = folder.path().join("output");
    command
        .stdout(std::fs::File::create(&output)?)
        .stderr(std::fs::File::create(folder.path().join("errors"))?);
    let mut child = command.spawn()?;
    let until = tokio::time::Instant::now() + LONGEST.max(Duration::from_secs(seconds + 180));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if tokio::time::Instant::now() > until {
            child.kill()?;
            child.wait()?;
            break None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let text = std::fs::read_to_string(&output)?;
    let errors = std::fs::read_to_string(folder.path().join("errors"))?;
    let tail = |text: &str| {
        text.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    };
    println!("{}", tail(&text));
    let statuses = statuses(&std::fs::read_to_string(&calls)?);
    println!("answers by status: {statuses:?}");
    world.broker.must_live()?;
    ensure!(
        status.is_some_and(|status| status.success()),
        "schemathesis: {status:?}\n{}\n{}",
        tail(&text),
        tail(&errors)
    );
    // A run that was a stranger all the time would find nothing.
    let good: u64 =
        statuses.iter().filter(|(status, _)| status.starts_with('2')).map(|(_, count)| count).sum();
    ensure!(good > 100, "only {good} calls were a success: {statuses:?}");
    Ok(())
}

/// How many calls were answered with each status.
fn statuses(report: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for rest in report.split("\"status_code\":").skip(1) {
        let status: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        *found.entry(status).or_default() += 1;
    }
    found
}
