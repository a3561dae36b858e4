//! `coffer data proxy`: who is served, where it listens, and what it wants to begin with.
#![allow(clippy::unwrap_used)]

mod cli;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cli::Case;

const VARIABLES: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
];

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The command with these arguments and an access key.
fn proxy(case: &Case, key: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env("COFFER_HOME", case.path("home"));
    command.env("AWS_ACCESS_KEY_ID", "user").env("AWS_SECRET_ACCESS_KEY", "sesame");
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    command.args(["--output", "json", "data", "proxy", "--key-file", key]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_gateway_serves_on_loopback_those_who_sign() {
    let case = Case::new();
    let key = case.write("key", &[7; 32]);
    let mut child = Ends(proxy(&case, &key, &["--listen", "127.0.0.1:0"]).spawn().unwrap());
    let told = serde_json::Deserializer::from_reader(child.0.stdout.take().unwrap());
    let told = told.into_iter::<serde_json::Value>().next().unwrap().unwrap();
    let address = told["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /lake/a HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
    assert!(reply.contains("x-coffer-code: objects.client"), "{reply}");
}

#[test]
fn what_it_cannot_begin_with_is_refused() {
    let case = Case::new();
    let (key, short) = (case.write("key", &[7; 32]), case.write("short", &[7; 31]));
    for (key, arguments, without, word) in [
        (&key, &["--listen", "0.0.0.0:0"][..], "", "loopback only"),
        (&short, &[], "", "32 bytes"),
        (&key, &[], "AWS_SECRET_ACCESS_KEY", "[objects.client]"),
        (&key, &["--ca", &key], "", "PEM"),
    ] {
        let mut command = proxy(&case, key, arguments);
        if !without.is_empty() {
            command.env_remove(without);
        }
        let mut child = Ends(command.spawn().unwrap());
        // What begins although it should not would never end.
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it serves: {word}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut told = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(status.code(), Some(1), "{told}");
        assert!(told.contains(word), "{told}");
    }
}
