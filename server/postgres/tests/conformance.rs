//! What every engine must hold, held by this one.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use coffer_lab_postgres::Server;
use coffer_server_postgres::{Postgres, PostgresConfig};
use coffer_server_store::{Embedded, MasterKeyFile, conformance};
use tempfile::TempDir;

fn open(server: &Server, schema: &str) -> Arc<Postgres> {
    let mut config = PostgresConfig::new(server.url());
    config.schema = schema.into();
    Arc::new(Postgres::open(&config).unwrap())
}

#[test]
fn rows_are_kept() {
    let Some(server) = Server::shared() else { return };
    conformance::rows(&*open(&server, "rows_are_kept")).unwrap();
}

#[test]
fn replicas_exceed_no_count_and_release_nothing_stale() {
    let Some(server) = Server::shared() else { return };
    let folder = TempDir::new().unwrap();
    let master = MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    let (one, two) = (open(&server, "replicas"), open(&server, "replicas"));
    conformance::replicas(one, two, &master, 5).unwrap();
}

#[test]
fn a_store_moves_from_a_file_to_postgresql_and_back() {
    let Some(server) = Server::shared() else { return };
    let (folder, back) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let master = MasterKeyFile::create(&folder.path().join("master.key")).unwrap();
    let file = |folder: &TempDir| Arc::new(Embedded::open(folder.path()).unwrap());
    conformance::copies(file(&folder), open(&server, "moved"), &master).unwrap();
    conformance::copies(open(&server, "source"), file(&back), &master).unwrap();
}
