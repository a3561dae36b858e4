//! A running sandbox: what it says, what it is told, and its end.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use coffer_core_channel::{Frame, Kind, Refusal, Winsize};
use coffer_host_vmm::on_lasting_thread;
use coffer_sys_transport::{GUEST_PORT, HostEnd, connect_host};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::blobs::Blobs;
use crate::config::{SandboxConfig, network};
use crate::error::SandboxError;
use crate::link::{Heard, Link};
use crate::parts::Parts;
use crate::record::Recorded;

/// How long a machine whose channel closed may take to end.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How often a machine is looked at where nothing announces its end.
const LOOK: Duration = Duration::from_millis(20);

/// A running sandbox. Dropped, everything of it is ended and removed.
pub struct Sandbox {
    link: Link,
    parts: Parts,
    began: Instant,
    start_timeout: Duration,
    pending: VecDeque<SandboxEvent>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The guest has not been heard of.
    Silent,
    /// The guest speaks.
    Speaking,
    /// The last event was given.
    Ended,
}

/// What a sandbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxEvent {
    /// A step of the start was done.
    Step(Step),
    /// The workload wrote to its standard output.
    Stdout(Vec<u8>),
    /// The workload wrote to its standard error.
    Stderr(Vec<u8>),
    /// The workload ended with this exit code. The last event.
    Exit(i32),
    /// The guest will not run the workload. The last event.
    Refused(Refusal),
}

/// A step of the start, for the timeline.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Who says so.
    pub side: Side,
    /// Its name. Of the host: `prepare`, `tpm`, `qemu`, `firmware`; the guest's are in `core/channel`.
    pub step: String,
    /// What was done, for a person.
    pub detail: String,
    /// When it was done, in microseconds since the sandbox was asked for, by the host's clock.
    pub at_us: u64,
    /// When it was done, in microseconds since the guest's kernel started, by the guest's clock.
    pub guest_us: Option<u64>,
}

/// Who says that a step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The host.
    Host,
    /// The guest.
    Guest,
}

/// What a sandbox is told; it can be cloned and used while events are awaited.
#[derive(Clone)]
pub struct SandboxInput {
    orders: mpsc::Sender<Frame>,
    input: mpsc::Sender<Frame>,
}

impl SandboxInput {
    /// Writes to the workload's standard input, if the run asks for input. Waits while the workload does not read.
    pub async fn stdin(&self, bytes: &[u8]) {
        for piece in bytes.chunks(64 << 10) {
            self.type_in(Frame::bytes(Kind::Stdin, piece)).await;
        }
    }

    /// Ends the workload's standard input.
    pub async fn close_stdin(&self) {
        self.type_in(Frame::bytes(Kind::Stdin, &[])).await;
    }

    /// Tells the workload's terminal its new size.
    pub async fn resize(&self, size: Winsize) {
        if let Ok(frame) = Frame::json(Kind::Resize, &size) {
            self.send(frame).await;
        }
    }

    /// Sends the workload a signal, by number.
    pub async fn signal(&self, signal: i32) {
        if let Ok(frame) = Frame::json(Kind::Signal, &signal) {
            self.send(frame).await;
        }
    }

    async fn type_in(&self, frame: Frame) {
        // As below.
        let _ = self.input.send(frame).await;
    }

    async fn send(&self, frame: Frame) {
        // A guest that is gone says so through the events.
        let _ = self.orders.send(frame).await;
    }
}

impl Sandbox {
    /// Starts the machine and asks the guest to run the workload.
    ///
    /// Returns when the machine runs; what the guest makes of it comes as events.
    pub async fn start(mut config: SandboxConfig) -> Result<Self, SandboxError> {
        let began = Instant::now();
        if config.network.is_some() && config.run.network.is_none() {
            config.run.network = Some(network());
        }
        let (sender, receiver) = oneshot::channel();
        let plan = config.clone();
        let runtime = Handle::current();
        on_lasting_thread(move || {
            // If the caller is gone, the parts are dropped here, and with them everything that was started.
            let _ = sender.send(Parts::start(&plan, &runtime));
        });
        let panicked =
            |_| SandboxError::Host { what: "start the sandbox", source: std::io::ErrorKind::Other.into() };
        let mut parts = receiver.await.map_err(panicked)??;
        let steps = std::mem::take(&mut parts.steps);
        let pending =
            steps.into_iter().map(|(step, detail, at)| host_step(step, detail, at, began)).collect();
        let start_timeout = config.start_timeout;
        let link = connect(&mut parts, config, began).await?;
        Ok(Self { link, parts, began, start_timeout, pending, state: State::Silent })
    }

    /// The end through which the sandbox is told things.
    pub fn input(&self) -> SandboxInput {
        SandboxInput { orders: self.link.orders.clone(), input: self.link.input.clone() }
    }

    /// The next event; `None` after the last one. An error ends the sandbox as well.
    pub async fn next(&mut self) -> Option<Result<SandboxEvent, SandboxError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            let heard = match self.state {
                State::Ended => return None,
                State::Speaking => self.link.heard.recv().await,
                State::Silent => {
                    let left = self.start_timeout.saturating_sub(self.began.elapsed());
                    match timeout(left, self.link.heard.recv()).await {
                        Ok(heard) => heard,
                        Err(_) => {
                            self.state = State::Ended;
                            let console = self.parts.console_tail();
                            return Some(Err(SandboxError::Silent { waited: self.start_timeout, console }));
                        }
                    }
                }
            };
            let arrived = Instant::now();
            match heard.unwrap_or(Heard::Lost("its task ended".into())) {
                Heard::Stdout(bytes) => self.pending.push_back(SandboxEvent::Stdout(bytes)),
                Heard::Stderr(bytes) => self.pending.push_back(SandboxEvent::Stderr(bytes)),
                Heard::Event(event) => self.guest_step(event, arrived),
                Heard::Exit(code) => return self.last(SandboxEvent::Exit(code)),
                Heard::Refusal(refusal) => return self.last(SandboxEvent::Refused(refusal)),
                Heard::Lost(reason) => {
                    self.state = State::Ended;
                    self.wait_for_end(END_PATIENCE).await;
                    return Some(Err(self.parts.diagnose(reason, Duration::ZERO)));
                }
            }
            self.state = State::Speaking;
        }
    }

    /// Ends the sandbox: asks a workload that still runs to stop, waits at most `grace` for the machine's end, then
    /// kills it. Processes, sockets and files are gone when this returns.
    pub async fn shutdown(mut self, grace: Duration) {
        let begun = Instant::now();
        if self.state == State::Speaking {
            const TERMINATE: i32 = 15;
            let stopped = async {
                self.input().signal(TERMINATE).await;
                while self.next().await.is_some() {}
            };
            let _ = timeout(grace, stopped).await;
        }
        if self.state == State::Ended {
            self.wait_for_end(grace.saturating_sub(begun.elapsed())).await;
        }
        // Dropping kills, waits and removes: not on a thread that other tasks need.
        let (sender, done) = oneshot::channel();
        let Self { link, parts, .. } = self;
        drop(link);
        on_lasting_thread(move || {
            drop(parts);
            let _ = sender.send(());
        });
        let _ = done.await;
    }

    /// The processes that the sandbox is made of.
    pub fn processes(&self) -> [u32; 2] {
        self.parts.processes()
    }

    /// Its run directory, which goes with it.
    pub fn run_dir(&self) -> &Path {
        self.parts.run_dir()
    }

    fn last(&mut self, event: SandboxEvent) -> Option<Result<SandboxEvent, SandboxError>> {
        self.state = State::Ended;
        Some(Ok(event))
    }

    /// The guest's first word tells when its kernel started, and so when the firmware was done.
    fn guest_step(&mut self, event: coffer_core_channel::Event, arrived: Instant) {
        let at_us = micros(arrived.saturating_duration_since(self.began));
        if self.state == State::Silent {
            self.pending.push_back(SandboxEvent::Step(Step {
                side: Side::Host,
                step: "firmware".into(),
                detail: "firmware done, kernel started".into(),
                at_us: at_us.saturating_sub(event.at_us),
                guest_us: None,
            }));
        }
        self.pending.push_back(SandboxEvent::Step(Step {
            side: Side::Guest,
            step: event.step,
            detail: event.detail,
            at_us,
            guest_us: Some(event.at_us),
        }));
    }

    async fn wait_for_end(&mut self, patience: Duration) {
        let begun = Instant::now();
        while matches!(self.parts.machine.try_wait(), Ok(None)) && begun.elapsed() < patience {
            sleep(LOOK).await;
        }
    }
}

fn host_step(step: &str, detail: String, at: Instant, began: Instant) -> SandboxEvent {
    let at_us = micros(at.saturating_duration_since(began));
    SandboxEvent::Step(Step { side: Side::Host, step: step.into(), detail, at_us, guest_us: None })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

async fn connect(parts: &mut Parts, config: SandboxConfig, began: Instant) -> Result<Link, SandboxError> {
    let blobs = Blobs::new(config.layout, config.documents);
    let record = parts.record.take();
    if let Some(channel) = parts.machine.take_channel() {
        let host = |source| SandboxError::Host { what: "use the channel's socket", source };
        channel.set_nonblocking(true).map_err(host)?;
        let stream = tokio::net::UnixStream::from_std(channel).map_err(host)?;
        return Ok(Link::open(Recorded::new(stream.compat(), record), config.run, blobs));
    }
    let end = HostEnd::Vsock { cid: parts.cid.unwrap_or_default(), port: GUEST_PORT };
    loop {
        match connect_host(&end).await {
            Ok(stream) => return Ok(Link::open(Recorded::new(stream.compat(), record), config.run, blobs)),
            Err(error) if !error.is_not_there_yet() => {
                return Err(parts.diagnose(error.to_string(), Duration::ZERO));
            }
            Err(_) => {}
        }
        if !matches!(parts.machine.try_wait(), Ok(None)) {
            return Err(parts.diagnose("the machine ended".into(), Duration::ZERO));
        }
        if began.elapsed() >= config.start_timeout {
            return Err(SandboxError::Silent { waited: config.start_timeout, console: parts.console_tail() });
        }
        sleep(LOOK).await;
    }
}
