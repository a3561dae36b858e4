//! What a transaction costs: time on the clock, and computing time here and in the server. Run by name:
//! `cargo test -p coffer-server-postgres --release --test figures -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use coffer_lab_postgres::Server;
use coffer_server_postgres::{Postgres, PostgresConfig};
use coffer_server_store::Engine;

const ROWS: usize = 64;

/// The time that this process has spent computing (proc(5), a tick is a hundredth of a second on Linux).
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn measure(name: &str, server: &Server, rounds: u32, mut once: impl FnMut(u32)) {
    (0..20).for_each(&mut once);
    let (own, theirs, began) = (own_cpu(), server.cpu(), Instant::now());
    (20..20 + rounds).for_each(once);
    println!(
        "{name}: {:?} on the clock, {:?} here and {:?} in the server, each",
        began.elapsed() / rounds,
        (own_cpu() - own) / rounds,
        (server.cpu() - theirs) / rounds
    );
}

#[test]
#[ignore = "measures"]
fn what_transactions_cost() {
    let Some(server) = Server::start() else { return };
    let engine = Postgres::open(&PostgresConfig::new(server.url())).unwrap();
    let value = [7_u8; 300];
    let key = |round: u32, row: usize| format!("default/{:08x}/{row:04}", round.wrapping_mul(2_654_435_761));
    measure("a write of 64 new rows", &server, 300, |round| {
        engine
            .write(&mut |change| (0..ROWS).try_for_each(|row| change.put("t", &key(round, row), &value)))
            .unwrap();
    });
    measure("64 rows read, 64 rows replaced", &server, 300, |round| {
        engine
            .write(&mut |change| {
                let keys: Vec<String> = (0..ROWS).map(|row| key(round, row)).collect();
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                assert!(change.get_many("t", &keys)?.iter().all(Option::is_some));
                keys.iter().try_for_each(|key| change.put("t", key, &value))
            })
            .unwrap();
    });
    measure("a write of one row", &server, 500, |round| {
        engine.write(&mut |change| change.put("t", &key(round, 0), &value)).unwrap();
    });
    measure("a read of one row", &server, 2_000, |round| {
        engine.read(&mut |view| view.get("t", &key(round % 300, 1)).map(drop)).unwrap();
    });

    // Each reads what all read and what is not there yet, and writes its own, as releases of keys do.
    for (replicas, threads, batch) in [(1, 8, 1), (3, 8, 1), (1, 1, 32), (3, 1, 32)] {
        contend(&server, replicas, threads, batch);
    }
}

fn contend(server: &Server, replicas: u32, threads: u32, batch: u32) {
    const EACH: u32 = 40;
    let open = || Postgres::open(&PostgresConfig::new(server.url())).unwrap();
    let engines: Vec<Postgres> = (0..replicas).map(|_| open()).collect();
    let key = |worker: u32, row: u32| {
        format!("default/{:08x}", (worker * 100_000 + row).wrapping_mul(2_654_435_761))
    };
    let table = "contended";
    server.sql("DELETE FROM coffer.rows WHERE tbl = 'contended'").unwrap();
    engines[0].write(&mut |change| change.put(table, "revision", b"1")).unwrap();
    let rolled = || -> u64 {
        let sql = "SELECT pg_stat_force_next_flush(); SELECT sum(xact_rollback) FROM pg_stat_database";
        server.sql(sql).unwrap().trim().parse().unwrap()
    };
    let (before, own, theirs, began) = (rolled(), own_cpu(), server.cpu(), Instant::now());
    let slowest = std::sync::Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        for worker in 0..replicas * threads {
            let (engine, slowest, key) = (&engines[(worker % replicas) as usize], &slowest, &key);
            scope.spawn(move || {
                for round in 0..EACH {
                    let began = Instant::now();
                    let keys: Vec<String> = (0..batch).map(|row| key(worker, round * batch + row)).collect();
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    engine
                        .write(&mut |change| {
                            change.get(table, "revision")?;
                            change.get_many(table, &keys)?;
                            keys.iter().try_for_each(|key| change.put(table, key, &[7; 300]))
                        })
                        .unwrap();
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = slowest.max(began.elapsed());
                }
            });
        }
    });
    let count = replicas * threads * EACH;
    println!(
        "{replicas} replicas of {threads} threads, batches of {batch}: {:?} on the clock, {:?} here and {:?} in the \
         server, each; {} of {count} begun again; the slowest {:?}",
        began.elapsed() / count,
        (own_cpu() - own) / count,
        (server.cpu() - theirs) / count,
        rolled() - before,
        slowest.into_inner().unwrap()
    );
}
