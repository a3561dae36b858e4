//! Claim I-9: a broker killed at any instant loses no acknowledged write and releases nothing beyond its count.
//!
//! A child process writes and says so on its standard output, line by line; it is killed after a number of
//! lines, which is in the middle of a later write.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;
use coffer_server_store::{AttemptEntry, JournalEntry, NewResource, Store, Table, Written};

const FOLDER: &str = "COFFER_TEST_STORE_FOLDER";
const ROUNDS: usize = 20;
/// To how many attempts the counted resource may be released.
const LIMIT: u64 = 40;
const COUNTED: &str = "default/counted/1";

fn value(round: &str, number: usize) -> Vec<u8> {
    format!("{round}-{number}").repeat(1 + number % 40).into_bytes()
}

fn tenant() -> TenantName {
    TenantName::default()
}

/// The child. As a test of its own it does nothing.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let round = std::env::var("COFFER_TEST_ROUND").unwrap();
    let store = Store::open(Path::new(&folder)).unwrap();
    let scope = store.tenant(&tenant());
    let mut out = std::io::stdout().lock();
    let secret = SecretBytes::copy_of(b"counted");
    let counted = NewResource { release_limit: Some(LIMIT), ..NewResource::stored(&secret, 0) };
    // Made by the first round that lives long enough.
    let _ = scope.put_resource(COUNTED, NewResource { if_version: Some(0), ..counted });
    writeln!(out, "\nopen").unwrap();
    for number in 0.. {
        let body = value(&round, number);
        let name = format!("{round}/key/{number}");
        let mut said = "ack";
        match number % 4 {
            0 => {
                scope.put_resource(&name, NewResource::stored(&SecretBytes::copy_of(&body), 0)).unwrap();
            }
            1 => scope.put(Table::ReferenceValues, &name, &body).unwrap(),
            2 => {
                let entry = AttemptEntry { id: name, refused: false, at_ms: 0, body };
                let entries = [(tenant(), JournalEntry::Attempt(entry))];
                assert_eq!(store.journal(&entries).unwrap(), [Written::Kept]);
            }
            _ => {
                // To the attempt of the step before.
                let release = JournalEntry::Release {
                    attempt: format!("{round}/key/{}", number - 1),
                    path: COUNTED.to_owned(),
                    version: Some(1),
                    revision: scope.revision().unwrap(),
                    at: 0,
                    body,
                };
                match store.journal(&[(tenant(), release)]).unwrap().as_slice() {
                    [Written::Kept] => said = "released",
                    [Written::Spent] => said = "spent",
                    other => panic!("{other:?}"),
                }
            }
        }
        writeln!(out, "{said} {number}").unwrap();
        out.flush().unwrap();
    }
}

/// What a child said of one of its writes.
struct Said {
    round: usize,
    number: usize,
    released: bool,
}

fn said(round: usize, line: &str) -> Option<Said> {
    let (word, number) = line.split_once(' ')?;
    let released = word == "released";
    let known = released || word == "ack" || word == "spent";
    known.then(|| Said { round, number: number.parse().unwrap(), released })
}

fn check(store: &Store, acknowledged: &[Said]) -> u64 {
    let scope = store.tenant(&tenant());
    for said in acknowledged {
        let (round, number) = (said.round.to_string(), said.number);
        let name = format!("{round}/key/{number}");
        let found = match number % 4 {
            0 => scope.resource(&name).unwrap().map(|resource| resource.value),
            1 => scope.get(Table::ReferenceValues, &name).unwrap(),
            2 => scope.attempt(&name).unwrap(),
            _ if said.released => scope.decisions(&format!("{round}/key/{}", number - 1)).unwrap().pop(),
            _ => continue,
        };
        assert!(found.is_some_and(|found| found.equals(&value(&round, number))), "{name} was lost");
    }
    let Some(info) = scope.resource_info(COUNTED).unwrap() else { return 0 };
    let counted = info.versions[0].released;
    // Every release has its decision, whether its child lived to say so or not.
    let attempts = scope.attempts(usize::MAX).unwrap();
    let decided: usize = attempts.iter().map(|(id, _)| scope.decisions(id).unwrap().len()).sum();
    assert_eq!(decided as u64, counted, "releases and their decisions");
    assert!(counted <= LIMIT, "{counted} releases, {LIMIT} were allowed");
    let told = acknowledged.iter().filter(|said| said.released).count();
    assert!(told as u64 <= counted, "{told} were told of, {counted} are counted");
    assert!(store.verify().unwrap().is_whole());
    counted
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged_and_exceeds_no_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<Said> = Vec::new();
    let mut counted = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env("COFFER_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first rounds kill during the making of the store and its first writes.
        let wanted = round * round / 3;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while round > 0 && seen <= wanted {
            let line = lines.next().unwrap().unwrap();
            if let Some(said) = said(round, &line) {
                acknowledged.push(said);
                seen += 1;
            }
        }
        child.kill().unwrap();
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| said(round, &line)));
        child.wait().unwrap();
        counted = check(&Store::open(folder.path()).unwrap(), &acknowledged);
    }
    assert!(acknowledged.len() > ROUNDS);
    assert_eq!(counted, LIMIT, "the count was never reached, so nothing was tested of it");
}
