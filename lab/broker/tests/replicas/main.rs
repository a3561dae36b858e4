//! Three replicas on one PostgreSQL under constant load, broken at random moments.
//!
//! Each client ends with its key or with an error that says to come again; no acknowledged write is lost; no key is
//! released to more attempts than its limit. The first round is written down, the others come from a seed.
#![allow(clippy::unwrap_used)]

mod checker;
mod rounds;
mod writers;

use anyhow::{Result, bail, ensure};
use coffer_lab_broker::{Cluster, number, take_turn};
use coffer_lab_load::{Dice, Terms};
use coffer_lab_postgres::Server;

use checker::{OPEN, value_of};
use rounds::{Event, Rounds};

#[test]
fn replicas_that_are_killed_and_frozen_lose_no_write_and_release_no_key_beyond_its_count() {
    let _turn = take_turn().unwrap();
    let Some(database) = Server::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(all(database)).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn what_one_replica_acknowledged_counts_at_once_at_another_that_knew_it_otherwise() {
    let _turn = take_turn().unwrap();
    let Some(database) = Server::start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(at_once(database)).unwrap_or_else(|error| panic!("{error:#}"));
}

async fn at_once(database: Server) -> Result<()> {
    let cluster = Cluster::start(database, 2).await?;
    let endpoints = cluster.endpoints()?;
    let [first, second] = endpoints.as_slice() else { bail!("not two replicas") };
    // The other replica has read that it takes nobody.
    let stranger = cluster.guest_at(second, OPEN).await?;
    ensure!(stranger.keys == 0, "{stranger}");
    let admin = cluster.admin_at(std::slice::from_ref(first))?;
    admin.welcome(&cluster.guests).await?;
    admin.put_resource(OPEN, &value_of(OPEN), Terms::default()).await?;
    let guest = cluster.guest_at(second, OPEN).await?;
    ensure!(guest.keys == 1, "a guest was refused by what an acknowledged write had replaced: {guest}");
    Ok(())
}

async fn all(database: Server) -> Result<()> {
    let (count, seed) = (number("COFFER_TEST_ROUNDS", 20), number("COFFER_TEST_SEED", 4));
    println!("{count} rounds from seed {seed}");
    let mut dice = Dice::new(seed);
    let cluster = Cluster::start(database, 3).await?;
    let mut rounds = Rounds::begin(cluster).await?;
    rounds
        .round(0, &[Event::KillReplica(0), Event::FreezeReplica(1, 8_000), Event::RestartDatabase], &mut dice)
        .await?;
    for number in 1..=count {
        let events = Event::random(&mut dice);
        rounds.round(number, &events, &mut dice).await?;
    }
    rounds.end().await
}
