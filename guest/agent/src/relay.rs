//! The running workload and the host: input, output, signals, sizes, the end; and the watch over the image.

use std::time::Duration;

use coffer_core_channel::{Frame, Kind};
use coffer_guest_containers::{
    Container, ContainerError, ContainerSpec, Controller, Input, Output, signal_number,
};
use coffer_guest_images::{ImageError, Integrity, Progress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::channel::Link;
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
/// What a terminal's line discipline takes for the end of the input.
const END_OF_INPUT: u8 = 4;

/// Starts the workload and follows it to its end.
pub(crate) async fn run(
    spec: &ContainerSpec,
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
    let mut input = Feed { stdin: running.stdin.take(), terminal: spec.terminal.is_some() };
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
                Some(frame) => obey(frame, &controller, &mut input, stop_signal).await,
                // The host has no more to say; the workload goes on.
                None => { listening = false; input.end().await; }
            },
            () = link.ended() => return Err(Stop::HostGone),
            _ = watch.tick(), if changed.is_none() => {
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

/// The workload's standard input.
struct Feed {
    stdin: Option<Input>,
    terminal: bool,
}

impl Feed {
    async fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin
            && stdin.write_all(bytes).await.is_err()
        {
            // It does not read any more.
            self.stdin = None;
        }
    }

    /// A pipe is closed; a terminal is told.
    async fn end(&mut self) {
        if self.terminal {
            self.write(&[END_OF_INPUT]).await;
        } else {
            self.stdin = None;
        }
    }
}

/// Does what a frame says. A workload that ended meanwhile cannot be told anything; its end comes by itself.
async fn obey(frame: Frame, controller: &Controller, input: &mut Feed, stop_signal: i32) {
    match frame.kind {
        Kind::Stdin if frame.payload.is_empty() => input.end().await,
        Kind::Stdin => input.write(&frame.payload).await,
        Kind::Resize => {
            if let Ok(size) = frame.parse() {
                let _ended = controller.resize(size);
            }
        }
        Kind::Signal => {
            if let Ok(number) = frame.parse::<i32>() {
                let number = if number == SIGTERM { stop_signal } else { number };
                let _ended = controller.signal(number);
            }
        }
        _ => {}
    }
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
