//! Claim I-10 on the program itself: what is hostile is bounded in memory and time, and others are unaffected.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coffer_lab_broker::{UNLIMITED, World, number, take_turn};
use coffer_lab_load::hostile::{
    Bodies, Flood, FrameBomb, HeaderBomb, Idle, Slow, big_bodies, flood_auth, frame_bomb, header_bomb,
    idle_connections, slow_senders,
};
use coffer_lab_load::{Patience, Plan, Until, raise_descriptors, run};
use hyper::Method;
use serde_json::json;

const MIB: u64 = 1024;
/// What a guest waits at most beside something hostile, in a debug build on a machine that others use too.
const SOON: Duration = Duration::from_secs(15);

/// One thread for the hostile part and one for the guests beside it: neither starves the other.
fn test(body: impl Future<Output = Result<()>>) {
    let _turn = take_turn().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(body).unwrap_or_else(|error| panic!("{error:#}"));
}

fn flood(calls: u64) -> Flood {
    Flood { calls, connections: 8, pipelined: 32, limit: Duration::from_secs(600), prefix: String::new() }
}

#[test]
fn a_flood_of_auth_leaves_memory_flat_and_nothing_in_the_store() {
    test(async {
        // Rates would refuse most of it before a challenge is made.
        let world = World::start(UNLIMITED).await?;
        let calls = number("COFFER_TEST_FLOOD", 200_000);
        let (target, tls) = (world.target()?, world.tls.clone());
        let cold = world.broker.memory()?.resident_kib;
        // Connections, threads and the allocator's arenas are made once.
        flood_auth(&target, &tls, &flood(calls / 10), Arc::default()).await?;
        let warm = world.broker.memory()?.resident_kib;
        let known = attempts(&world).await?;

        let progress = Arc::new(AtomicU64::new(0));
        let sampled = async {
            let mut most = 0;
            while progress.load(Ordering::Relaxed) < calls {
                most = most.max(world.broker.memory()?.resident_kib);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, anyhow::Error>(most)
        };
        // Alone, because guests that are served fill the store's cache.
        let plan = flood(calls);
        let (report, most) = tokio::try_join!(flood_auth(&target, &tls, &plan, progress.clone()), sampled)?;
        let after = world.broker.memory()?.resident_kib;
        println!(
            "{} calls of auth in {:.1} s: {cold} KiB at the start, {warm} warm, {most} at most, {after} after; {:?}",
            report.answered(),
            report.seconds,
            report.answers
        );
        ensure!(
            report.answers.get("200") == Some(&calls),
            "{calls} calls were answered {:?}",
            report.answers
        );
        let room = 8 * MIB;
        ensure!(after <= warm + room && most <= warm + 2 * room, "memory grew from {warm} to {after} KiB");
        ensure!(attempts(&world).await? == known, "attempts were written down");
        Ok(())
    });
}

#[test]
fn a_flood_of_auth_is_told_to_wait_and_guests_from_elsewhere_are_served() {
    test(async {
        let mut world = World::start("").await?;
        let (target, tls) = (world.target()?, world.tls.clone());
        let plan = flood(number("COFFER_TEST_FLOOD", 200_000) / 4);
        let flooded = flood_auth(&target, &tls, &plan, Arc::default());
        let report = world.beside_guests("a flood of auth", SOON, flooded).await?;
        println!("{:?}", report.answers);
        let waits = report.answers.get("429").copied().unwrap_or(0);
        ensure!(waits * 2 > plan.calls, "of {} calls {waits} were told to wait", plan.calls);
        ensure!(
            report.answers.keys().all(|status| ["200", "429", "no connection"].contains(&status.as_str())),
            "{:?}",
            report.answers
        );
        Ok(())
    });
}

async fn attempts(world: &World) -> Result<usize> {
    let list = world.admin.get("/coffer/v1/attempts").await?;
    Ok(list["attempts"].as_array().context("no list of attempts")?.len())
}

#[test]
fn slow_senders_are_ended_and_hold_nobody_up() {
    test(async {
        let mut world = World::start("").await?;
        let (target, tls) = (world.target()?, world.tls.clone());
        let limit = Duration::from_secs(50);
        let slow =
            async |slow| slow_senders(&target, &tls, slow, 100, Duration::from_millis(200), limit).await;
        let all = async { tokio::try_join!(slow(Slow::Handshake), slow(Slow::Head), slow(Slow::Body)) };
        let before = world.broker.memory()?.resident_kib;
        let (handshake, head, body) = world.beside_guests("slow senders", SOON, all).await?;
        for (report, kind) in [(handshake, "handshake"), (head, "head"), (body, "body")] {
            println!("slow {kind}: {:?}, the longest {:.1} s", report.ends, report.longest);
            ensure!(!report.ends.contains_key("still there"), "{kind}: {:?}", report.ends);
            ensure!(report.longest < 45.0, "{kind}: kept for {:.1} s", report.longest);
        }
        let after = world.broker.memory()?.resident_kib;
        ensure!(after < before + 64 * MIB, "memory grew from {before} to {after} KiB");
        Ok(())
    });
}

#[test]
fn ten_thousand_idle_connections_are_held_in_bounded_memory_or_ended() {
    const CONNECTIONS: usize = 10_000;
    test(async {
        let open = raise_descriptors()?;
        if open < CONNECTIONS as u64 + 1_000 {
            println!(
                "skipped: {open} open files are allowed here; {CONNECTIONS} connections need more (ulimit -n)"
            );
            return Ok(());
        }
        let mut world = World::start("max_connections = 12000").await?;
        let (target, tls) = (world.target()?, world.tls.clone());
        let before = world.broker.memory()?.resident_kib;
        for idle in [Idle::Tcp, Idle::Tls, Idle::Called] {
            let open = idle_connections(&target, &tls, idle, CONNECTIONS, Duration::from_secs(120));
            let mut held =
                world.beside_guests(&format!("opening idle connections ({idle:?})"), SOON, open).await?;
            let alive = held.alive().await;
            let after = world.broker.memory()?.resident_kib;
            println!(
                "{} connections ({idle:?}) were opened, {} were not, {alive} are held; {:.1} KiB for each",
                held.opened(),
                held.refused(),
                after.saturating_sub(before) as f64 / held.opened().max(1) as f64
            );
            ensure!(after < before + 64 * CONNECTIONS as u64, "memory grew from {before} to {after} KiB");
            world.beside_guests("idle connections that are held", SOON, async { Ok(()) }).await?;
        }
        Ok(())
    });
}

#[test]
fn idle_connections_beyond_the_brokers_places_do_not_keep_others_out() {
    test(async {
        raise_descriptors()?;
        let mut world = World::start("max_connections = 64").await?;
        let (target, tls) = (world.target()?, world.tls.clone());
        for idle in [Idle::Tls, Idle::Called] {
            let hold = async {
                let held = idle_connections(&target, &tls, idle, 200, Duration::from_secs(5)).await?;
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(held)
            };
            // A place is free again when an idle connection's time for its first call is over, 15 s.
            let limit = Duration::from_secs(30);
            world
                .beside_guests(&format!("more idle connections than places ({idle:?})"), limit, hold)
                .await?;
        }
        Ok(())
    });
}

#[test]
fn a_gigabyte_of_body_is_refused_by_its_head_or_after_little_of_it() {
    test(async {
        let mut world = World::start("").await?;
        let (target, tls) = (world.target()?, world.tls.clone());
        let before = world.broker.memory()?.resident_kib;
        for (path, headers) in [
            ("/kbs/v0/auth", ""),
            ("/kbs/v0/attest", ""),
            ("/kbs/v0/attest", "cookie: kbs-session-id=00\r\n"),
            ("/kbs/v0/resource/a/b/c", ""),
            ("/coffer/v1/reference-values", "authorization: Bearer a.b.c\r\n"),
            ("/nothing", ""),
        ] {
            for chunked in [false, true] {
                let (path, headers) = (path.to_string(), headers.to_string());
                let what =
                    format!("1 GiB to {path}, {}", if chunked { "chunked" } else { "with its length" });
                let limit = Duration::from_secs(60);
                let bodies = Bodies { path, headers, length: 1 << 30, chunked, connections: 4, limit };
                let ends = world.beside_guests(&what, SOON, big_bodies(&target, &tls, &bodies)).await?;
                for end in ends {
                    println!("  {:?} after {} KiB", end.status, end.sent >> 10);
                    // Where the connection was reset, the answer may be lost with it.
                    ensure!(end.status.is_none_or(|status| (400..500).contains(&status)), "{what}: {end:?}");
                    ensure!(end.sent < 64 << 20 && end.seconds < 45.0, "{what}: {end:?}");
                }
            }
        }
        let after = world.broker.memory()?.resident_kib;
        ensure!(after < before + 32 * MIB, "memory grew from {before} to {after} KiB");
        Ok(())
    });
}

#[test]
fn bombs_of_headers_and_frames_are_refused_or_end_the_connection() {
    test(async {
        let mut world = World::start("").await?;
        let (target, tls) = (world.target()?, world.tls.clone());
        let before = world.broker.memory()?.resident_kib;
        let limit = Duration::from_secs(30);
        for (bomb, size) in [
            (HeaderBomb::Many, 1_000),
            (HeaderBomb::Many, 500_000),
            (HeaderBomb::Long, 4 << 20),
            (HeaderBomb::Path, 4 << 20),
            (HeaderBomb::Cookie, 400 << 10),
            (HeaderBomb::Cookie, 4 << 20),
            (HeaderBomb::Token, 400 << 10),
            (HeaderBomb::Token, 4 << 20),
        ] {
            let what = format!("{bomb:?} of {size}");
            let status =
                world.beside_guests(&what, SOON, header_bomb(&target, &tls, bomb, size, limit)).await?;
            println!("  {status:?}");
            ensure!(status.is_none_or(|status| (400..500).contains(&status)), "{what}: {status:?}");
        }
        for (bomb, frames, must_end) in [
            (FrameBomb::Continuation, 20_000, true),
            (FrameBomb::Reset, 100_000, true),
            (FrameBomb::Table, 2_000, false),
            (FrameBomb::Ping, 100_000, false),
            (FrameBomb::Settings, 100_000, false),
        ] {
            let what = format!("{frames} frames of {bomb:?}");
            let ended =
                world.beside_guests(&what, SOON, frame_bomb(&target, &tls, bomb, frames, limit)).await?;
            println!("  ended by the broker: {ended}");
            ensure!(ended || !must_end, "{what} were taken to their end");
        }
        let after = world.broker.memory()?.resident_kib;
        ensure!(after < before + 48 * MIB, "memory grew from {before} to {after} KiB");
        Ok(())
    });
}

/// Rules that do not come to an end, or grow without one.
const ENDLESS: [(&str, &str); 4] = [
    (
        "three loops in each other",
        "allow if {\n real\n some a in numbers.range(1, 100000)\n some b in numbers.range(1, 100000)\n \
         some c in numbers.range(1, 100000)\n a * b * c < 0\n}",
    ),
    (
        "a set of all pairs",
        "pairs contains [a, b] if {\n some a in numbers.range(1, 20000)\n some b in numbers.range(1, 20000)\n}\n\
         allow if {\n real\n count(pairs) < 0\n}",
    ),
    ("a range of a thousand million", "allow if {\n real\n count(numbers.range(1, 1000000000)) < 0\n}"),
    (
        "a text of a million millions",
        "allow if {\n real\n a := concat(\"\", [\"x\" | some i in numbers.range(1, 1000000)])\n \
         b := replace(a, \"x\", a)\n contains(b, \"y\")\n}",
    ),
];
/// True of a guest and of nothing that a policy is tried on when it is put, so that it is in force when it runs.
const REAL: &str = "real if input.submods.cpu0[\"ear.veraison.annotated-evidence\"].tpm.reference.id";

#[test]
fn a_policy_without_end_fails_its_own_guests_and_nobody_elses() {
    test(async {
        let mut world = World::start("").await?;
        // The policy is one tenant's; those beside it are another's. A broker without tenants has one policy.
        let other = world.admin.make_tenant("endless").await?;
        other.welcome(&world.guests).await?;
        other.put_resource("load/key/1", &[9; 32], coffer_lab_load::Terms::default()).await?;
        let before = world.broker.memory()?.resident_kib;
        for (name, rego) in ENDLESS {
            let rego = format!("package policy\nimport rego.v1\n{REAL}\n{rego}");
            let body = json!({"rego": rego}).to_string().into_bytes();
            let put = other.send(Method::PUT, "/coffer/v1/policies/resource", body).await?;
            world.broker.must_live().with_context(|| name.to_string())?;
            let put = put?;
            println!(
                "{name}: put in force with {} {}",
                put.status,
                if put.is_good() { String::new() } else { put.code() }
            );
            ensure!(put.is_good() || put.status == 400, "{name}: {} {}", put.status, put.code());
            if !put.is_good() {
                continue;
            }
            let (guests, endpoint, tls) = (world.guests.clone(), world.broker.endpoint()?, world.tls.clone());
            let plan = Plan {
                at_once: 8,
                until: Until::Count(16),
                tenants: vec!["endless".to_string()],
                patience: Patience { per_call: Duration::from_secs(60), ..Patience::default() },
                ..Plan::default()
            };
            let stop = Arc::new(AtomicBool::new(false));
            let ask = async move { run(plan, guests, &[endpoint], &tls, stop, |_| ()).await };
            let report = world.beside_guests(&format!("guests under {name}"), SOON, ask).await?;
            ensure!(report.keys == 0, "{name}: {report}");
            let fault = |answer: &&String| answer.starts_with("resource 500 policy.fault");
            ensure!(report.answers.keys().any(|answer| fault(&answer)), "{name}: {report}");
            ensure!(report.seconds < 60.0, "{name}: 16 guests took {:.0} s", report.seconds);
        }
        let after = world.broker.memory()?.resident_kib;
        ensure!(after < before + 256 * MIB, "memory grew from {before} to {after} KiB");
        Ok(())
    });
}
