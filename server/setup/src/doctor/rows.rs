//! The store: its engine, its master key, and each record.

use std::time::{Duration, Instant};

use coffer_server_http::BrokerConfig;
use coffer_server_masterkey::MasterKeySource;
use coffer_server_postgres::{Migrate, Postgres};
use coffer_server_store::{Engine, Store, StoreError, Table};

use super::Finding;
use crate::SetupError;
use crate::assemble::{Absent, has_embedded, is_empty, open_engine, open_store};
use crate::sections::{self, StoreSection};

/// A database that is further away makes each call slow.
const FAR: Duration = Duration::from_millis(50);

pub(super) fn look(config: &BrokerConfig) -> Vec<Finding> {
    let section = StoreSection::read(&config.store);
    let key = sections::master_key(&config.master_key);
    let (mut section, key) = match (section, key) {
        (Ok(section), Ok(key)) => (section, key),
        (section, key) => {
            let errors = [section.err(), key.err()].into_iter().flatten();
            return errors.map(|error| section_of("store", &error)).collect();
        }
    };
    if let StoreSection::Postgres(postgres) = &mut section {
        // Looking changes no schema.
        postgres.migrate = Migrate::Apart;
        return database(config, &section, &key);
    }
    embedded(config, &section, &key)
}

fn section_of(what: &str, error: &SetupError) -> Finding {
    Finding::problem(what, "a section with known members", error.to_string(), "see coffer-broker example")
}

fn embedded(config: &BrokerConfig, section: &StoreSection, key: &MasterKeySource) -> Vec<Finding> {
    const WHAT: &str = "store";
    let expected = "a store that this broker can open";
    if !has_embedded(&config.data_dir) {
        let found = format!("none in {}", config.data_dir.display());
        return vec![Finding::warning(
            WHAT,
            expected,
            found,
            "coffer-broker init makes one, coffer-broker restore puts a copy there",
        )];
    }
    match open_engine(section, &config.data_dir) {
        Err(SetupError::Store(StoreError::InUse(_))) => {
            let found = "a broker serves it now, so its records were not looked at";
            let looked = Finding::ok(WHAT, expected, found);
            return vec![master(config, key), looked];
        }
        Err(error) => {
            return vec![
                master(config, key),
                Finding::problem(
                    WHAT,
                    expected,
                    error.to_string(),
                    "restore it from a copy if the disk is well",
                ),
            ];
        }
        Ok(engine) => drop(engine),
    }
    let mut all = vec![master(config, key)];
    all.extend(records(config));
    all
}

fn database(config: &BrokerConfig, section: &StoreSection, key: &MasterKeySource) -> Vec<Finding> {
    const WHAT: &str = "database";
    let expected = "reached, with the schema of this program";
    let StoreSection::Postgres(postgres) = section else { return Vec::new() };
    let begun = Instant::now();
    let engine = match Postgres::open(postgres) {
        Ok(engine) => engine,
        Err(error) => {
            let remedy = "see the message; coffer-broker migrate brings the schema up to date";
            return vec![Finding::problem(WHAT, expected, error.to_string(), remedy), master(config, key)];
        }
    };
    let mut all = vec![Finding::ok(
        WHAT,
        expected,
        format!("{}, opened in {} ms", engine.place(), begun.elapsed().as_millis()),
    )];
    // The second call finds a connection.
    let _ = engine.check();
    let begun = Instant::now();
    all.push(match engine.check() {
        Err(error) => Finding::problem(
            "latency of the database",
            "an answer",
            error.to_string(),
            "see the database's log",
        ),
        Ok(()) => {
            let (took, expected) = (begun.elapsed(), format!("below {} ms", FAR.as_millis()));
            let found = format!("{:.1} ms", took.as_secs_f64() * 1000.0);
            match took < FAR {
                true => Finding::ok("latency of the database", expected, found),
                false => Finding::warning(
                    "latency of the database",
                    &expected,
                    found,
                    "run broker and database near each other",
                ),
            }
        }
    });
    all.push(master(config, key));
    match is_empty(&engine) {
        Ok(false) => {
            drop(engine);
            all.extend(records(config));
        }
        Ok(true) => all.push(Finding::warning(
            "store",
            "rows",
            "none in the database yet",
            "coffer-broker init makes a store there",
        )),
        Err(error) => {
            all.push(Finding::problem("store", "rows", error.to_string(), "see the database's log"))
        }
    }
    all
}

fn master(config: &BrokerConfig, key: &MasterKeySource) -> Finding {
    const WHAT: &str = "master key";
    let expected = "the key that the store is closed with, in reach";
    match coffer_server_masterkey::open(key, &config.data_dir) {
        Ok(Some(master)) => Finding::ok(WHAT, expected, format!("{} in {}", master.id(), master.place())),
        Ok(None) if has_embedded(&config.data_dir) => Finding::problem(
            WHAT,
            expected,
            "it is not there, and the store is",
            "put the key back from its copy",
        ),
        Ok(None) => Finding::warning(
            WHAT,
            expected,
            "not made yet",
            "coffer-broker init makes it, or copy it from another replica",
        ),
        Err(error) => {
            Finding::problem(WHAT, expected, error.to_string(), "see [master_key]; no key was changed")
        }
    }
}

/// Opens each record.
fn records(config: &BrokerConfig) -> Vec<Finding> {
    const WHAT: &str = "records";
    let expected = "each one opens";
    let store = match open_store(config, Absent::Refuse) {
        Ok(opened) => opened.store,
        Err(error) => {
            return vec![Finding::problem(
                "store",
                "opens with its master key",
                error.to_string(),
                "see the message; nothing was changed",
            )];
        }
    };
    let mut all = vec![match store.verify() {
        Err(error) => Finding::problem(
            WHAT,
            expected,
            error.to_string(),
            "see the disk and the database, then look again",
        ),
        Ok(report) if report.is_whole() => {
            Finding::ok(WHAT, expected, format!("{} of {} tenants opened", report.records, report.tenants))
        }
        Ok(report) => {
            let named: Vec<String> =
                report.named.iter().take(5).map(|(table, key)| format!("{table} {key:?}")).collect();
            let found = format!(
                "{} of {} do not: {}",
                report.damaged,
                report.records.saturating_add(report.damaged),
                named.join(", ")
            );
            Finding::problem(
                WHAT,
                expected,
                found,
                "restore the store from a copy; the other records are whole",
            )
        }
    }];
    all.push(admins(&store));
    all
}

fn admins(store: &Store) -> Finding {
    let expected = "an operator's key, or an issuer of the configuration";
    match store.cluster().list(Table::Admins) {
        Ok(list) if list.is_empty() => Finding::warning(
            "operators",
            expected,
            "no key is known",
            "start the broker once, which makes the first admin's key",
        ),
        Ok(list) => Finding::ok("operators", expected, format!("{} keys", list.len())),
        Err(error) => Finding::problem("operators", expected, error.to_string(), "see the records above"),
    }
}
