//! Claim I-9: a broker killed at any instant loses no acknowledged write.
//!
//! A child process writes and says so on its standard output, line by line; it is killed after a number of
//! lines, which is in the middle of a later write.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use coffer_core_secret::SecretBytes;
use coffer_server_store::{AttemptEntry, JournalEntry, Store, Table, Written};

const FOLDER: &str = "COFFER_TEST_STORE_FOLDER";
const ROUNDS: usize = 20;

fn value(round: &str, number: usize) -> Vec<u8> {
    format!("{round}-{number}").repeat(1 + number % 40).into_bytes()
}

/// The child. As a test of its own it does nothing.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let round = std::env::var("COFFER_TEST_ROUND").unwrap();
    let store = Store::open(Path::new(&folder)).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "open").unwrap();
    for number in 0.. {
        let body = value(&round, number);
        let name = format!("{round}/key/{number}");
        match number % 3 {
            0 => drop(store.put_resource(&name, &SecretBytes::copy_of(&body), 0).unwrap()),
            1 => store.put(Table::ReferenceValues, &name, &body).unwrap(),
            _ => {
                let entry = AttemptEntry { id: name, refused: false, body };
                assert_eq!(store.journal(&[JournalEntry::Attempt(entry)]).unwrap(), [Written::Kept]);
            }
        }
        writeln!(out, "ack {number}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(String, usize)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env("COFFER_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first rounds kill during the making of the store and its first writes.
        let wanted = round * round / 4;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while round > 0 && seen <= wanted {
            let line = lines.next().unwrap().unwrap();
            if let Some(number) = line.strip_prefix("ack ") {
                acknowledged.push((round.to_string(), number.parse().unwrap()));
                seen += 1;
            }
        }
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("ack ") {
                acknowledged.push((round.to_string(), number.parse().unwrap()));
            }
        }
        child.wait().unwrap();

        let store = Store::open(folder.path()).unwrap();
        for (round, number) in &acknowledged {
            let name = format!("{round}/key/{number}");
            let found = match number % 3 {
                0 => store.resource(&name).unwrap().map(|resource| resource.value),
                1 => store.get(Table::ReferenceValues, &name).unwrap(),
                _ => store.attempt(&name).unwrap(),
            };
            assert!(found.is_some_and(|found| found.equals(&value(round, *number))), "{name} was lost");
        }
    }
    assert!(acknowledged.len() > ROUNDS);
}
