//! The server killed, restarted and frozen while replicas write: what was acknowledged is there, nothing is made
//! twice, and every call ends within its bound.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use coffer_lab_postgres::Server;
use coffer_server_postgres::{Postgres, PostgresConfig, Timeouts};
use coffer_server_store::{Engine, Order as RowOrder, StoreError};

const WRITERS: usize = 6;

/// Bounds short enough for a test that breaks things.
fn config(server: &Server) -> PostgresConfig {
    let mut config = PostgresConfig::new(server.url());
    config.timeouts = Timeouts {
        connect: Duration::from_millis(700),
        statement: Duration::from_millis(700),
        wait: Duration::from_millis(700),
        retry: Duration::from_secs(2),
        call: Duration::from_secs(3),
    };
    config
}

/// What the writers were told.
#[derive(Default)]
struct Told {
    /// Marks whose writing was acknowledged.
    made: BTreeSet<String>,
    /// Marks of which an error said that they may be there.
    unknown: BTreeSet<String>,
    /// Marks of which an error said that they are not there.
    not_made: BTreeSet<String>,
    longest: Duration,
}

/// Raises the writer's counter and leaves a mark with the counter's new value, as one transaction.
fn write(engine: &Postgres, writer: usize, mark: &str) -> Result<(), StoreError> {
    engine.write(&mut |change| {
        let key = format!("counter/{writer}");
        let count = change.get("t", &key)?.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
        change.put("t", &key, &(count + 1).to_be_bytes())?;
        change.put("marks", mark, &(count + 1).to_be_bytes())
    })
}

/// Writes from all sides while `trouble` is made, then holds what is kept against what was said.
fn check(server: &Server, trouble: impl FnOnce(&Server)) {
    let engines = [Postgres::open(&config(server)).unwrap(), Postgres::open(&config(server)).unwrap()];
    let (told, is_over) = (Mutex::new(Told::default()), AtomicBool::new(false));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (engines, told, is_over) = (&engines, &told, &is_over);
            scope.spawn(move || {
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let mark = format!("{writer}/{round:06}");
                    let began = Instant::now();
                    let outcome = write(&engines[writer % 2], writer, &mark);
                    let mut told = told.lock().unwrap();
                    told.longest = told.longest.max(began.elapsed());
                    match outcome {
                        Ok(()) => told.made.insert(mark),
                        Err(StoreError::Unavailable { why, .. }) if why.contains("may have been") => {
                            told.unknown.insert(mark)
                        }
                        Err(StoreError::Unavailable { .. }) => told.not_made.insert(mark),
                        Err(error) => panic!("neither made nor to be tried again: {error}"),
                    };
                }
            });
        }
        trouble(server);
        is_over.store(true, Ordering::Relaxed);
    });
    let told = told.into_inner().unwrap();
    println!(
        "{} made, {} refused, {} unknown, the longest call {:?}",
        told.made.len(),
        told.not_made.len(),
        told.unknown.len(),
        told.longest
    );
    assert!(told.made.len() > WRITERS, "the writers wrote");
    assert!(told.longest < config(server).timeouts.call + Duration::from_secs(2), "{:?}", told.longest);

    engines[0]
        .read(&mut |view| {
            let marks = view.range("marks", "", "z", RowOrder::Ascending, usize::MAX)?;
            for mark in &told.made {
                assert!(marks.iter().any(|(key, _)| key == mark), "{mark} was acknowledged and is lost");
            }
            for (mark, _) in &marks {
                assert!(!told.not_made.contains(mark), "{mark} was said not to be made and is there");
            }
            for writer in 0..WRITERS {
                // Each mark holds its own count, so a transaction made twice would leave a gap.
                let prefix = format!("{writer}/");
                let mine: Vec<u64> = marks
                    .iter()
                    .filter(|(key, _)| key.starts_with(&prefix))
                    .map(|(_, value)| u64::from_be_bytes(value.clone().try_into().unwrap()))
                    .collect();
                let count = view.get("t", &format!("counter/{writer}"))?.unwrap();
                assert_eq!(u64::from_be_bytes(count.try_into().unwrap()), mine.len() as u64);
                assert_eq!(mine, (1..=mine.len() as u64).collect::<Vec<_>>());
            }
            Ok(())
        })
        .unwrap();
}

/// Long enough for some hundred writes.
fn a_while() {
    thread::sleep(Duration::from_millis(150));
}

#[test]
fn a_server_killed_or_restarted_loses_nothing_and_doubles_nothing() {
    let Some(server) = Server::start() else { return };
    check(&server, |server| {
        for round in 0..4 {
            a_while();
            if round % 3 == 2 {
                server.restart().unwrap();
            } else {
                server.kill().unwrap();
                server.start_again().unwrap();
            }
        }
        a_while();
    });
}

#[test]
fn a_server_that_is_frozen_leaves_each_call_an_answer_and_no_doubt_after() {
    let Some(server) = Server::start() else { return };
    check(&server, |server| {
        // Shorter than a statement's bound, longer than it, and longer than a whole call.
        for frozen in [300, 1_500, 3_500].map(Duration::from_millis) {
            a_while();
            server.freeze();
            thread::sleep(frozen);
            server.thaw();
        }
        a_while();
    });
}

#[test]
fn connections_cut_under_writers_lose_nothing_and_double_nothing() {
    let Some(server) = Server::shared() else { return };
    check(&server, |server| {
        for _ in 0..12 {
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE application_name = 'coffer-broker'";
            server.sql(cut).unwrap();
            thread::sleep(Duration::from_millis(40));
        }
    });
}

#[test]
fn a_server_that_is_down_is_said_to_be_within_the_bound() {
    let Some(server) = Server::start() else { return };
    let mut config = config(&server);
    config.timeouts.retry = Duration::from_millis(500);
    let engine = Postgres::open(&config).unwrap();
    engine.check().unwrap();
    server.kill().unwrap();
    let began = Instant::now();
    assert!(matches!(engine.check(), Err(StoreError::Unavailable { .. })));
    let outcome = engine.read(&mut |view| view.get("t", "a").map(drop));
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })));
    assert!(matches!(write(&engine, 0, "m"), Err(StoreError::Unavailable { .. })));
    assert!(began.elapsed() < Duration::from_secs(4));
    server.start_again().unwrap();
    engine.check().unwrap();
    write(&engine, 0, "m").unwrap();

    server.freeze();
    let began = Instant::now();
    let outcome = engine.check();
    let waited = began.elapsed();
    server.thaw();
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })));
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    engine.check().unwrap();
}

#[test]
fn what_the_server_cannot_keep_is_said_and_not_kept() {
    let Some(server) = Server::shared() else { return };
    let engine = Postgres::open(&PostgresConfig {
        schema: "small".into(),
        application_name: "small".into(),
        ..config(&server)
    })
    .unwrap();
    server.sql("ALTER TABLE small.rows ADD CONSTRAINT small CHECK (length(value) < 10)").unwrap();
    let outcome = engine.write(&mut |change| {
        change.put("t", "a", b"small")?;
        change.put("t", "b", b"larger than it may be")
    });
    let Err(StoreError::Database(why)) = outcome else { panic!("{outcome:?}") };
    assert!(!why.contains("larger"), "no row is shown: {why}");
    engine.read(&mut |view| view.get("t", "a").map(|value| assert_eq!(value, None))).unwrap();
}
