//! The engine on a real server: what a transaction sees, what it keeps, and what many at once do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use coffer_lab_postgres::Server;
use coffer_server_postgres::{Postgres, PostgresConfig};
use coffer_server_store::{Change, Engine, Order, StoreError, View};

fn config(server: &Server, schema: &str) -> PostgresConfig {
    let mut config = PostgresConfig::new(server.url());
    config.schema = schema.into();
    config
}

fn open(server: &Server, schema: &str) -> Postgres {
    Postgres::open(&config(server, schema)).unwrap()
}

fn read<T>(
    engine: &Postgres,
    mut work: impl FnMut(&dyn View) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut result = None;
    engine.read(&mut |view| {
        result = Some(work(view)?);
        Ok(())
    })?;
    Ok(result.unwrap())
}

fn write<T>(
    engine: &Postgres,
    mut work: impl FnMut(&mut dyn Change) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut result = None;
    engine.write(&mut |change| {
        result = Some(work(change)?);
        Ok(())
    })?;
    Ok(result.unwrap())
}

fn increment(engine: &Postgres, key: &str) -> Result<u64, StoreError> {
    write(engine, |change| {
        let value =
            change.get("counters", key)?.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
        change.put("counters", key, &(value + 1).to_be_bytes())?;
        Ok(value + 1)
    })
}

fn counter(engine: &Postgres, key: &str) -> u64 {
    let value = read(engine, |view| view.get("counters", key)).unwrap();
    value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

#[test]
fn what_was_written_is_read_back_in_the_order_of_bytes() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "order");
    let keys = ["", "a", "a/", "a/b", "a0", "b", "z", "é", "\u{10ffff}"];
    write(&engine, |change| keys.iter().rev().try_for_each(|key| change.put("t", key, key.as_bytes())))
        .unwrap();
    read(&engine, |view| {
        let all = view.range("t", "", "\u{10ffff}x", Order::Ascending, 100)?;
        let found: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(found, keys);
        let last = view.range("t", "a", "b", Order::Descending, 2)?;
        assert_eq!(last, [("a0".to_owned(), b"a0".to_vec()), ("a/b".to_owned(), b"a/b".to_vec())]);
        assert_eq!(view.count("t", "a", "b")?, 4);
        assert_eq!(view.count("u", "", "z")?, 0);
        assert_eq!(view.count("t", "b", "a")?, 0);
        assert_eq!(view.get("u", "a")?, None);
        let many = view.get_many("t", &["z", "none", "a", "z"])?;
        assert_eq!(many, [Some(b"z".to_vec()), None, Some(b"a".to_vec()), Some(b"z".to_vec())]);
        assert_eq!(view.get_many("t", &[])?, Vec::<Option<Vec<u8>>>::new());
        Ok(())
    })
    .unwrap();
}

/// A generator whose numbers are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn a_transaction_sees_its_own_changes_as_a_map_would() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "model");
    let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut dice = Dice(7);
    for round in 0..60_u64 {
        let is_dropped = dice.roll(4) == 0;
        let mut seed = dice.roll(u64::MAX >> 33);
        seed += round;
        let mut model = kept.clone();
        let done = write(&engine, |change| {
            model = kept.clone();
            let mut dice = Dice(seed);
            for _ in 0..dice.roll(12) {
                let key = format!("k{}", dice.roll(9));
                let (from, until) = (format!("k{}", dice.roll(9)), format!("k{}", dice.roll(9)));
                let within = |model: &BTreeMap<String, Vec<u8>>| -> Vec<(String, Vec<u8>)> {
                    let rows = model.iter().filter(|(key, _)| **key >= from && **key < until);
                    rows.map(|(key, value)| (key.clone(), value.clone())).collect()
                };
                match dice.roll(7) {
                    0 | 1 => {
                        let value = vec![u8::try_from(dice.roll(256)).unwrap(); 3];
                        change.put("t", &key, &value)?;
                        model.insert(key, value);
                    }
                    2 => assert_eq!(change.remove("t", &key)?, model.remove(&key).is_some()),
                    3 => assert_eq!(change.get("t", &key)?, model.get(&key).cloned()),
                    4 => assert_eq!(change.count("t", &from, &until)?, within(&model).len() as u64),
                    5 => {
                        let keys = ["k1", key.as_str(), "k3"];
                        let expected: Vec<_> = keys.iter().map(|key| model.get(*key).cloned()).collect();
                        assert_eq!(change.get_many("t", &keys)?, expected);
                    }
                    _ => {
                        let limit = usize::try_from(dice.roll(5)).unwrap();
                        let mut rows = within(&model);
                        rows.reverse();
                        rows.truncate(limit);
                        assert_eq!(change.range("t", &from, &until, Order::Descending, limit)?, rows);
                    }
                }
            }
            if is_dropped { Err(StoreError::NoRandomness) } else { Ok(()) }
        });
        if is_dropped {
            assert!(matches!(done, Err(StoreError::NoRandomness)), "the work's own error comes back");
        } else {
            done.unwrap();
            kept = model;
        }
        let rows = read(&engine, |view| view.range("t", "", "z", Order::Ascending, 100)).unwrap();
        assert_eq!(rows, kept.clone().into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn counters_that_many_replicas_raise_at_once_lose_nothing() {
    const REPLICAS: usize = 3;
    const THREADS: usize = 4;
    const EACH: usize = 20;
    let Some(server) = Server::shared() else { return };
    let engines: Vec<Postgres> = (0..REPLICAS).map(|_| open(&server, "counters")).collect();
    let acknowledged = AtomicU64::new(0);
    let slowest = AtomicU64::new(0);
    thread::scope(|scope| {
        for engine in &engines {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let began = std::time::Instant::now();
                        increment(engine, "one").unwrap();
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        slowest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
                    }
                });
            }
        }
    });
    println!("the slowest of {REPLICAS}x{THREADS} at one row: {} ms", slowest.load(Ordering::Relaxed));
    assert_eq!(acknowledged.into_inner(), (REPLICAS * THREADS * EACH) as u64);
    assert_eq!(counter(&engines[0], "one"), (REPLICAS * THREADS * EACH) as u64);
}

#[test]
fn two_that_each_read_what_the_other_writes_are_not_both_made() {
    // Write skew: under snapshot isolation both would see the other's row absent, and both would be kept.
    let Some(server) = Server::shared() else { return };
    let engines = [open(&server, "skew"), open(&server, "skew")];
    for round in 0..20 {
        let together = std::sync::Barrier::new(2);
        let kept: Vec<bool> = thread::scope(|scope| {
            let threads: Vec<_> = engines
                .iter()
                .enumerate()
                .map(|(me, engine)| {
                    let together = &together;
                    scope.spawn(move || {
                        let mut is_first = true;
                        write(engine, |change| {
                            let prefix = format!("{round}/");
                            let is_free = change.count("duty", &prefix, &format!("{prefix}z"))? == 0;
                            if std::mem::take(&mut is_first) {
                                together.wait();
                            }
                            if is_free {
                                change.put("duty", &format!("{prefix}{me}"), b"on")?;
                            }
                            Ok(is_free)
                        })
                        .unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(kept.iter().filter(|kept| **kept).count(), 1, "round {round}: {kept:?}");
    }
}

#[test]
fn a_reader_sees_one_state_while_others_write() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "snapshot");
    write(&engine, |change| change.put("t", "a", b"0").and_then(|()| change.put("t", "b", b"0"))).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..100_u8 {
                let both = |change: &mut dyn Change| {
                    change.put("t", "a", &[round])?;
                    change.put("t", "b", &[round])
                };
                write(&engine, both).unwrap();
            }
        });
        for _ in 0..100 {
            let (a, b) = read(&engine, |view| Ok((view.get("t", "a")?, view.get("t", "b")?))).unwrap();
            assert_eq!(a, b);
        }
    });
}

#[test]
fn a_replica_that_stops_within_its_work_holds_up_no_other() {
    let Some(server) = Server::shared() else { return };
    let engines = [open(&server, "frozen"), open(&server, "frozen")];
    let (began, go_on) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut is_first = true;
            write(&engines[0], |change| {
                let value = change.get("counters", "x")?.unwrap_or_default();
                change.put("counters", "x", &[value.as_slice(), b"s"].concat())?;
                if std::mem::take(&mut is_first) {
                    began.wait();
                    go_on.wait();
                }
                Ok(())
            })
            .unwrap();
        });
        began.wait();
        let start = std::time::Instant::now();
        write(&engines[1], |change| change.put("counters", "x", b"f")).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2));
        go_on.wait();
    });
    let value = read(&engines[0], |view| view.get("counters", "x")).unwrap();
    assert_eq!(value, Some(b"fs".to_vec()), "the one that stopped began again on what the other had made");
}

#[test]
fn calls_may_come_from_threads_of_an_async_runtime() {
    let Some(server) = Server::shared() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = open(&server, "within");
        assert_eq!(increment(&engine, "n").unwrap(), 1);
        engine.check().unwrap();
        drop(engine);
    });
}

#[test]
fn work_that_panics_keeps_nothing_and_leaves_a_whole_engine() {
    let Some(server) = Server::shared() else { return };
    let mut config = config(&server, "panics");
    config.connections = 1;
    let engine = Postgres::open(&config).unwrap();
    for _ in 0..3 {
        let work = || {
            write::<()>(&engine, |change| {
                change.get("counters", "n")?;
                change.put("counters", "n", &9_u64.to_be_bytes())?;
                panic!("on purpose");
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
    }
    assert_eq!(increment(&engine, "n").unwrap(), 1);
}

#[test]
fn who_gets_no_connection_in_time_is_told_to_come_again() {
    let Some(server) = Server::shared() else { return };
    let mut config = config(&server, "busy");
    config.connections = 1;
    config.timeouts.wait = Duration::from_millis(100);
    config.timeouts.retry = Duration::from_millis(100);
    let engine = Postgres::open(&config).unwrap();
    let outcome = write(&engine, |change| {
        change.get("t", "a")?;
        Ok(thread::scope(|scope| scope.spawn(|| read(&engine, |view| view.get("t", "a"))).join().unwrap()))
    });
    assert!(matches!(outcome.unwrap(), Err(StoreError::Unavailable { why, .. }) if why.contains("in use")));
}

#[test]
fn marks_of_commits_are_few_and_old_ones_are_removed() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "marks");
    for _ in 0..20 {
        increment(&engine, "n").unwrap();
    }
    assert_eq!(server.sql("SELECT count(*) FROM marks.outcomes").unwrap(), "1", "one for each connection");
    assert_eq!(engine.clean().unwrap(), 0);
    server.sql("UPDATE marks.outcomes SET at = now() - interval '2 days'").unwrap();
    assert_eq!(engine.clean().unwrap(), 1);
    assert_eq!(increment(&engine, "n").unwrap(), 21);
}

#[test]
fn large_values_and_many_rows_are_kept_whole() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "large");
    let large: Vec<u8> = (0..4_u32 << 20).map(|index| (index % 251) as u8).collect();
    write(&engine, |change| {
        change.put("t", "large", &large)?;
        (0..5_000).try_for_each(|row| change.put("rows", &format!("{row:06}"), b"x"))
    })
    .unwrap();
    assert_eq!(read(&engine, |view| view.get("t", "large")).unwrap(), Some(large));
    assert_eq!(read(&engine, |view| view.count("rows", "", "9")).unwrap(), 5_000);
}
