//! The program as it is run: its one line, its end by a signal, and its starts after being killed.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running broker; killed when it is dropped.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-broker"));
    command.arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(data: &Path) -> Running {
    let mut child = command(data).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on https://").unwrap_or_else(|| panic!("{line:?}"));
    Running { address: url.to_string(), child }
}

fn terminate(running: &mut Running) -> (Option<i32>, String) {
    let pid = running.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut log = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (running.child.wait().unwrap().code(), log)
}

#[test]
fn it_says_where_it_listens_and_ends_in_order_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path());
    TcpStream::connect(&running.address).unwrap();
    let (code, log) = terminate(&mut running);
    assert_eq!(code, Some(0));
    assert!(!folder.path().join("url").exists());
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0]["fields"];
    assert!(first["message"].as_str().unwrap().starts_with("first start"), "{first}");
    assert!(Path::new(first["admin_key"].as_str().unwrap()).exists());
    assert!(!log.contains("PRIVATE"));
}

#[test]
fn a_killed_broker_leaves_no_lock_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    // Killed at once, in the middle of its first start; then again and again after it listens.
    for _ in 0..3 {
        let mut child = command(folder.path()).spawn().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let authority = |folder: &Path| std::fs::read(folder.join("tls/ca.pem")).unwrap();
    let first = {
        let _killed = start(folder.path());
        authority(folder.path())
    };
    for _ in 0..2 {
        let running = start(folder.path());
        TcpStream::connect(&running.address).unwrap();
        assert_eq!(authority(folder.path()), first);
    }
}

#[test]
fn a_second_broker_on_the_same_folder_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let _first = start(folder.path());
    let output = command(folder.path()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("in use by another broker") && said.contains("coffer cluster backup"), "{said}");
}

#[test]
fn the_example_configuration_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let example = Command::new(env!("CARGO_BIN_EXE_coffer-broker")).arg("example").output().unwrap();
    let path = folder.path().join("broker.toml");
    std::fs::write(&path, &example.stdout).unwrap();
    let mut child = command(folder.path()).arg("--config").arg(&path).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("listening on https://127.0.0.1:"), "{line}");
}
