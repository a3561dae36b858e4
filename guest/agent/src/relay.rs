//! The running workload and the host: input, output, signals, sizes, the end; and the watch over the image.

use std::time::Duration;

use coffer_core_channel::{Frame, Input, Kind};
use coffer_guest_containers::{Container, ContainerError, ContainerSpec, Controller, Output, signal_number};
use coffer_guest_images::{ImageError, Integrity, Progress};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use crate::channel::Link;
use crate::input::{self, Sink};
use crate::memory;
use crate::outbox::{Orders, Outbox};
use crate::stop::Stop;

/// What is read from the workload at once.
const PIECE: usize = 32 << 10;
/// How long output may still come after the workload's end.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the image's blocks are asked after.
const WATCH: Duration = Duration::from_millis(500);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// The signals that the host may send, by their numbers on x86-64: HUP, INT, QUIT, KILL, USR1, USR2, TERM, WINCH. Each
/// asks for an end, or for what programs make of it by their documentation; none stops or continues.
const PASSED: [i32; 8] = [1, 2, 3, SIGKILL, 10, 12, SIGTERM, 28];

/// Starts the workload and follows it to its end.
pub(crate) async fn run(
    spec: &ContainerSpec,
    admitted: Input,
    stop_signal: Option<&str>,
    integrity: Option<Integrity>,
    link: &Link,
    outbox: &Outbox,
    orders: &mut Orders,
) -> Result<i32, Stop> {
    let corrupt = || integrity.as_ref().and_then(Integrity::corruption);
    let before =
        memory::used_kib().map(|kib| format!("; the guest itself used {kib} KiB before")).unwrap_or_default();
    let started = Container::start(spec).await;
    let mut running = started.map_err(|why| corrupt().map_or_else(|| not_started(&why), Stop::from))?;
    outbox.step("workload", format!("started{before}"));
    let controller = running.controller();
    let sink = if spec.terminal.is_some() { Sink::Terminal } else { Sink::Pipe };
    let _feed = running.stdin.take().map(|stdin| input::feed(link, admitted, stdin, sink));
    let outputs = [
        running.stdout.take().map(|stream| forward(stream, Kind::Stdout, outbox.clone())),
        running.stderr.take().map(|stream| forward(stream, Kind::Stderr, outbox.clone())),
    ];
    let stop_signal = stop_signal.and_then(signal_number).unwrap_or(SIGTERM);
    let mut watch = tokio::time::interval(WATCH);
    let mut listening = true;
    let mut changed: Option<ImageError> = None;
    let exit = loop {
        tokio::select! {
            exit = running.wait() => break exit,
            order = orders.next(), if listening => match order? {
                Some(frame) => obey(&frame, &controller, stop_signal),
                // The host has no more to say; the workload goes on.
                None => listening = false,
            },
            () = link.ended() => return Err(Stop::HostGone),
            _ = watch.tick(), if changed.is_none() => {
                // The workload got an I/O error. Whether that is its end is its own to say.
                if let Some(why) = integrity.as_ref().and_then(Integrity::missing) {
                    outbox.step("image", format!("a part could not be read: {why}"));
                }
                changed = corrupt();
                if changed.is_some() {
                    // It may already have gone; its end comes through `wait` either way.
                    let _gone = controller.signal(SIGKILL);
                }
            }
        }
    };
    for output in outputs.into_iter().flatten() {
        let _cut_off = tokio::time::timeout(DRAIN, output).await;
    }
    if let Some(error) = changed.or_else(corrupt) {
        return Err(error.into());
    }
    let exit = exit.map_err(|why| not_started(&why))?;
    let killed = exit.signal.map(|signal| format!(" (signal {signal})")).unwrap_or_default();
    let memory = if exit.out_of_memory { ", out of memory" } else { "" };
    outbox.step("workload", format!("ended with code {}{killed}{memory}", exit.code));
    Ok(exit.code)
}

fn forward(mut stream: Output, kind: Kind, outbox: Outbox) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count) = stream.read(&mut piece).await {
            let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
            if !outbox.output(kind, bytes).await {
                return;
            }
        }
    })
}

/// Does what a frame says. A workload that ended meanwhile cannot be told anything; its end comes by itself.
fn obey(frame: &Frame, controller: &Controller, stop_signal: i32) {
    match frame.kind {
        Kind::Resize => {
            if let Ok(size) = frame.parse() {
                let _ended = controller.resize(size);
            }
        }
        Kind::Signal => {
            if let Some(number) = frame.parse().ok().and_then(|number| passed(number, stop_signal)) {
                let _ended = controller.signal(number);
            }
        }
        _ => {}
    }
}

/// The signal that the workload gets for one that the host sends; for `TERM` it is the image's own.
fn passed(number: i32, stop_signal: i32) -> Option<i32> {
    let number = PASSED.contains(&number).then_some(number)?;
    Some(if number == SIGTERM { stop_signal } else { number })
}

fn not_started(why: &ContainerError) -> Stop {
    let remedy = match why.code() {
        "workload.not-found" => "Correct the command, or the image's entry point.",
        "workload.not-executable" => "Give the program its mode, or build the image for this machine.",
        "workload.user-unknown" => "Correct the image's user, or add it to its /etc/passwd.",
        _ => "Read the guest's console; if it happens twice, build the guest again.",
    };
    crate::refusal(why.code(), why.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_signals_are_those_that_are_documented_and_no_others() {
        let own = 3;
        assert_eq!(passed(SIGTERM, own), Some(own));
        for number in [1, 2, 3, SIGKILL, 10, 12, 28] {
            assert_eq!(passed(number, own), Some(number));
        }
        // STOP, CONT, SEGV, ABRT, real-time ones, and what is no signal.
        for number in [19, 18, 11, 6, 34, 64, 0, -1, i32::MAX] {
            assert_eq!(passed(number, own), None, "{number}");
        }
    }
}
