//! What becomes of a commit whose answer was lost, with the server's part played step by step.

use coffer_lab_postgres::Server;
use tokio_postgres::types::ToSql;

use super::*;

fn open(server: &Server, schema: &str) -> Postgres {
    let mut config = PostgresConfig::new(server.url());
    config.schema = schema.into();
    Postgres::open(&config).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn value(engine: &Postgres, key: &str) -> Option<Vec<u8>> {
    let mut value = None;
    engine
        .read(&mut |view| {
            value = view.get("t", key)?;
            Ok(())
        })
        .unwrap();
    value
}

#[test]
fn a_commit_that_was_made_is_found_made() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "found");
    let shared = &*engine.shared;
    let lease = shared.pool.take(soon()).ok().unwrap();
    let tries = Tries::new(&shared.target);
    let mut transaction = Transaction::writing(lease.session(), &shared.target, &tries);
    transaction.put("t", "a", b"b").unwrap();
    assert!(transaction.commit().is_ok());
    let (slot, number) = (lease.session().slot.clone(), lease.session().number.get());
    assert!(matches!(shared.resolve(&slot, number, soon()), Outcome::Made));
    assert!(matches!(shared.resolve(&slot, number, soon()), Outcome::Made), "asking changes nothing");
    assert_eq!(value(&engine, "a"), Some(b"b".to_vec()));
}

#[test]
fn a_commit_that_is_found_not_made_can_no_longer_be_made() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "fenced");
    let shared = &*engine.shared;
    for reads_first in [false, true] {
        let lease = shared.pool.take(soon()).ok().unwrap();
        let tries = Tries::new(&shared.target);
        let mut transaction = Transaction::writing(lease.session(), &shared.target, &tries);
        if reads_first {
            assert_eq!(transaction.get("t", "a").unwrap(), None);
        }
        transaction.put("t", "a", b"late").unwrap();
        // The server works on it only after it was asked what became of it.
        let slot = lease.session().slot.clone();
        assert!(matches!(shared.resolve(&slot, 1, soon()), Outcome::NotMade));
        assert!(matches!(shared.resolve(&slot, 1, soon()), Outcome::NotMade), "asking again finds the fence");
        assert!(matches!(transaction.commit(), Err(NoCommit::Failed(_))));
        assert_eq!(value(&engine, "a"), None);
        drop(lease);
    }
}

#[test]
fn a_commit_that_the_server_still_works_on_is_waited_for() {
    let Some(server) = Server::shared() else { return };
    let engine = open(&server, "waited");
    let shared = &*engine.shared;
    for is_made in [true, false] {
        let lease = shared.pool.take(soon()).ok().unwrap();
        let session = lease.session();
        let client = &session.link.client;
        wait::until(soon(), client.batch_execute("BEGIN")).unwrap().unwrap();
        let (tables, keys, values) = (vec!["t"], vec![b"a".as_slice()], vec![b"b".as_slice()]);
        let (no_tables, no_keys): (Vec<&str>, Vec<&[u8]>) = Default::default();
        let params: [&(dyn ToSql + Sync); 7] =
            [&tables, &keys, &values, &no_tables, &no_keys, &session.slot, &1_i64];
        let applied = client.execute(&session.statements.apply, &params);
        wait::until(soon(), applied).unwrap().unwrap();
        std::thread::scope(|scope| {
            let slot = session.slot.clone();
            let asked = scope.spawn(move || shared.resolve(&slot, 1, soon()));
            // The one that asks waits for this transaction's row; only then does this one end.
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                           AND query LIKE '%\"waited\".outcomes%'";
            let end = soon();
            while server.sql(waiting).unwrap() != "1" {
                assert!(Instant::now() < end, "it does not wait");
                std::thread::sleep(Duration::from_millis(10));
            }
            let last = if is_made { "COMMIT" } else { "ROLLBACK" };
            wait::until(soon(), client.batch_execute(last)).unwrap().unwrap();
            let outcome = asked.join().unwrap();
            assert_eq!(matches!(outcome, Outcome::Made), is_made);
            assert_eq!(matches!(outcome, Outcome::NotMade), !is_made);
        });
        drop(lease);
    }
}
