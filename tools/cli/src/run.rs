//! `coffer run`: an image in a sandbox, as if it ran here: its output, its input, its exit code.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use coffer_core_channel::{Input, Refusal, RunRequest};
use coffer_core_initdata::InitData;
use coffer_host_sandbox::{
    ChannelKind, ConsoleLog, Sandbox, SandboxConfig, SandboxEvent, SandboxInput, ScratchDisk, Side, Step,
    VolumeDisk, base_command_line,
};
use coffer_host_vmm::{Forward, UserNetwork};
use indicatif::ProgressBar;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::guest::Guest;
use crate::init_data::{Found, Place, Wanted};
use crate::output::progress;
use crate::terminal::{self, Raw};
use crate::{Context, block_on, cache, explain, measure, volume};

/// What `coffer run` ends with when guest or broker refused.
const REFUSED: u8 = 120;
/// What it ends with when the sandbox failed.
const FAILED: u8 = 125;
/// How long a guest may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(10);

/// What is run, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    wanted: Wanted,
    /// Let the guest pull the image into its own memory, instead of serving it from this host's cache.
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    cache: cache::Place,
    /// The init-data that `coffer init-data` wrote. Without it, it is made from the other options.
    #[arg(long, value_name = "FILE")]
    init_data: Option<PathBuf>,
    /// Forward a port of this machine to the guest, as in 8080:80 or 127.0.0.1:8080:80. Repeatable.
    #[arg(short = 'p', long = "publish", value_name = "[ADDRESS:]HOST:GUEST", value_parser = forward)]
    publish: Vec<Forward>,
    /// First predict this guest's measurement and add it to the broker's reference values.
    ///
    /// For the developer who is owner and operator at once. Where they are two, the owner predicts.
    #[arg(long)]
    enroll: bool,
    /// Attach a volume's file, as in data=FILE, for what --mount names. Repeatable.
    ///
    /// The guest may write it, unless init-data says that it is only read.
    #[arg(long, value_name = "NAME=FILE", value_parser = volume::attached)]
    volume: Vec<VolumeDisk>,
    /// Give the guest an empty disk of this size for its writable layer, or as in tmp=5G for an ephemeral volume. Repeatable.
    ///
    /// It is a sparse file without a name in TMPDIR, or /var/tmp, and is gone when the machine ends. What is on it is
    /// encrypted with a key that the guest draws.
    #[arg(long, value_name = "[NAME=]SIZE", value_parser = volume::scratch)]
    scratch: Vec<ScratchDisk>,
    /// Show every step of the start with its time.
    #[arg(long)]
    timeline: bool,
    /// Words added to the guest's kernel command line. They are measured, so a broker that does not expect them refuses.
    #[arg(long, value_name = "WORDS")]
    append: Option<String>,
    #[command(flatten)]
    machine: measure::Machine,
    /// Keep the guest's serial console in this file.
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// Record every byte between host and guest in this file, to see that there is no plaintext in it.
    #[arg(long, value_name = "FILE")]
    record_channel: Option<PathBuf>,
    /// How long the guest may take to start, in seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    start_timeout: u64,
}

pub(crate) fn run(context: &Context, mut options: Options) -> Result<ExitCode> {
    if options.wanted.overlay.is_none() && options.scratch.iter().any(|disk| disk.volume.is_none()) {
        options.wanted.overlay = Some(Place::Disk);
    }
    let guest = Guest::built(&context.home)?;
    // No `block_on` here: a blocked read of standard input must not hold the process back at its end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cached = match options.no_cache {
        true => None,
        false => runtime.block_on(options.wanted.find_cached(|| options.cache.open(context)))?,
    };
    let found = match cached {
        Some(found) => found,
        None => options.wanted.find(context)?,
    };
    let init_data = match &options.init_data {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            InitData::parse(&text).with_context(|| format!("{} is no init-data", file.display()))?
        }
        None => options.wanted.init_data(context, &found)?,
    };
    if options.enroll {
        let expected = measure::predict(
            &guest,
            &options.machine,
            Some(&init_data),
            options.append.as_deref(),
            "coffer run --enroll",
        )?;
        let admin = context.home.broker_access(&context.broker)?.admin()?;
        let values = serde_json::to_value(&expected)?;
        block_on(async { Ok(admin.add_reference(&values).await?) })?;
    }
    let timeline = options.timeline;
    let config = config(context, &options, &guest, &found, &init_data)?;
    let lends_terminal = options.wanted.terminal;
    let input = sends_input(&options);
    let ended = runtime.block_on(drive(config, input, lends_terminal, timeline));
    runtime.shutdown_background();
    match ended {
        Ok(End::Code(code)) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(FAILED))),
        Ok(End::Refused(refusal)) => {
            tell(context, &refusal);
            Ok(ExitCode::from(REFUSED))
        }
        Err(error) => {
            eprintln!("coffer: {error:#}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn config(
    context: &Context,
    options: &Options,
    guest: &Guest,
    found: &Found,
    init_data: &InitData,
) -> Result<SandboxConfig> {
    let channel = ChannelKind::detect();
    let mut command_line = base_command_line(channel);
    if let Some(words) = &options.append {
        command_line = format!("{command_line} {words}");
    }
    let console = match &options.console {
        Some(file) => ConsoleLog::Keep(std::path::absolute(file)?),
        None => ConsoleLog::Temporary,
    };
    Ok(SandboxConfig {
        guest: guest.files(),
        accelerator: guest.accelerator(&context.home),
        memory_mib: options.machine.memory,
        cpus: options.machine.cpus,
        command_line,
        channel,
        init_data_disk: init_data.to_disk()?,
        disks: found.disks.clone(),
        layout: found.layout.clone(),
        documents: found.documents.clone(),
        volumes: attached(&options.volume, init_data)?,
        scratch: options.scratch.clone(),
        network: Some(UserNetwork { forwards: options.publish.clone() }),
        console,
        run_dir_root: None,
        vtpm_ca: context.home.vtpm_ca(),
        record_channel: options.record_channel.clone(),
        start_timeout: Duration::from_secs(options.start_timeout),
        run: RunRequest {
            image: found.name.clone(),
            source: found.source.clone(),
            args: options.wanted.args.clone(),
            env: options.wanted.env.clone(),
            input: if sends_input(options) { Input::Sent } else { Input::Empty },
            terminal: options.wanted.terminal.then(terminal::size),
            network: None,
        },
    })
}

/// The volumes' files; what init-data says is only read, the guest cannot write.
fn attached(volumes: &[VolumeDisk], init_data: &InitData) -> Result<Vec<VolumeDisk>> {
    let config = init_data.guest_config()?;
    let named = config.map(|config| config.volumes).unwrap_or_default();
    let read_only = |name: &str| named.iter().any(|volume| volume.name == name && !volume.is_written());
    let disk = |disk: &VolumeDisk| VolumeDisk { read_only: read_only(&disk.name), ..disk.clone() };
    Ok(volumes.iter().map(disk).collect())
}

/// Whether there is input to pass on: it was asked for, or somebody types into the terminal.
fn sends_input(options: &Options) -> bool {
    options.wanted.interactive || (options.wanted.terminal && std::io::stdin().is_terminal())
}

enum End {
    Code(i32),
    Refused(Refusal),
}

async fn drive(config: SandboxConfig, input: bool, lends_terminal: bool, timeline: bool) -> Result<End> {
    let mut stops = stops()?;
    let mut resized = signal(SignalKind::window_change())?;
    let bar = progress("starting the guest", None);
    let mut sandbox = tokio::select! {
        started = Sandbox::start(config) => started?,
        stop = stops.recv() => return Ok(End::Code(killed_by(stop))),
    };
    let _raw = if lends_terminal { Some(Raw::enter()?) } else { None };
    let speaker = sandbox.input();
    if input {
        tokio::spawn(pass_input(sandbox.input()));
    }
    let mut shown = Shown { bar, timeline, last_step: 0, runs: false };
    let mut stopping: Option<(i32, Instant)> = None;
    let end = loop {
        let patience = async {
            match stopping {
                Some((_, until)) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = sandbox.next() => match event {
                None => bail!("the sandbox ended without a result"),
                Some(Err(error)) => { shown.bar.finish_and_clear(); return Err(error.into()); }
                Some(Ok(SandboxEvent::Exit(code))) => break End::Code(code),
                Some(Ok(SandboxEvent::Refused(refusal))) => break End::Refused(refusal),
                Some(Ok(event)) => shown.take(event)?,
            },
            _ = resized.recv() => speaker.resize(terminal::size()).await,
            stop = stops.recv() => match (stop, stopping) {
                // The workload is asked first, and what it still says is passed on.
                (Some(number), None) if shown.runs => {
                    speaker.signal(number).await;
                    stopping = Some((number, Instant::now() + GRACE));
                }
                (stop, _) => break End::Code(killed_by(stop)),
            },
            () = patience => break End::Code(killed_by(stopping.map(|(number, _)| number))),
        }
    };
    shown.bar.finish_and_clear();
    sandbox.shutdown(Duration::ZERO).await;
    Ok(end)
}

/// The signals that end a run, one after the other.
fn stops() -> Result<mpsc::Receiver<i32>> {
    let (sender, receiver) = mpsc::channel(4);
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && sender.send(kind.as_raw_value()).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// The exit code of a run that a signal ended.
fn killed_by(signal: Option<i32>) -> i32 {
    128 + signal.unwrap_or_default()
}

/// What is shown while the sandbox runs.
struct Shown {
    bar: ProgressBar,
    timeline: bool,
    last_step: u64,
    runs: bool,
}

impl Shown {
    fn take(&mut self, event: SandboxEvent) -> Result<()> {
        match event {
            SandboxEvent::Step(step) => {
                self.bar.set_message(format!("{}: {}", step.step, step.detail));
                if self.timeline {
                    let line = step_line(&step, &mut self.last_step);
                    self.bar.suspend(|| eprintln!("{line}"));
                }
                if step.step == "workload" {
                    self.runs = true;
                    self.bar.finish_and_clear();
                }
                Ok(())
            }
            SandboxEvent::Stdout(bytes) => write(&mut std::io::stdout().lock(), &bytes),
            SandboxEvent::Stderr(bytes) => write(&mut std::io::stderr().lock(), &bytes),
            SandboxEvent::Exit(_) | SandboxEvent::Refused(_) => Ok(()),
        }
    }
}

async fn pass_input(input: SandboxInput) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 << 10];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => return input.close_stdin().await,
            Ok(length) => input.stdin(buffer.get(..length).unwrap_or_default()).await,
        }
    }
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).and_then(|()| out.flush()).context("output cannot be written")
}

fn step_line(step: &Step, last: &mut u64) -> String {
    let took = step.at_us.saturating_sub(*last);
    *last = step.at_us;
    let side = match step.side {
        Side::Host => "host ",
        Side::Guest => "guest",
    };
    let ms = |us: u64| us / 1000;
    format!("{:>7} ms  (+{:>5} ms)  {side}  {:<11}  {}", ms(step.at_us), ms(took), step.step, step.detail)
}

fn tell(context: &Context, refusal: &Refusal) {
    eprintln!("refused  {}  [{}]", refusal.message, refusal.code);
    // Without it the refusal stands all the same: a guest's owner may be elsewhere, with the admin's key.
    let known =
        |attempt: &String| explain::failures_of(context, attempt).ok().filter(|tree| !tree.is_empty());
    match refusal.attempt.as_ref().and_then(known) {
        Some(tree) => eprint!("{tree}"),
        None => {
            let lines =
                [("expected", &refusal.expected), ("found", &refusal.found), ("remedy", &refusal.remedy)];
            for (name, value) in lines {
                if let Some(value) = value {
                    eprintln!("  {name:<9}{value}");
                }
            }
        }
    }
    if let Some(attempt) = &refusal.attempt {
        eprintln!("  The whole verdict: coffer explain {attempt}");
    }
}

/// `[ADDRESS:]HOST:GUEST`; the address is 127.0.0.1 unless named.
fn forward(text: &str) -> Result<Forward, String> {
    let form =
        || format!("{text:?} is no port forward; expected HOST:GUEST or ADDRESS:HOST:GUEST, as in 8080:80");
    let (host, guest) = text.rsplit_once(':').ok_or_else(form)?;
    let host = if host.contains(':') { host.to_string() } else { format!("127.0.0.1:{host}") };
    let host: SocketAddr = host.parse().map_err(|_| form())?;
    let guest_port = guest.parse().map_err(|_| form())?;
    Ok(Forward { host, guest_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_to_loopback_unless_an_address_is_named() {
        assert_eq!(
            forward("8080:80").map(|f| (f.host.to_string(), f.guest_port)),
            Ok(("127.0.0.1:8080".into(), 80))
        );
        assert_eq!(forward("0.0.0.0:8080:80").map(|f| f.host.to_string()), Ok("0.0.0.0:8080".into()));
        assert_eq!(forward("[::1]:8080:80").map(|f| f.host.to_string()), Ok("[::1]:8080".into()));
        for wrong in ["80", "a:80", "8080:99999", "", ":"] {
            assert!(forward(wrong).is_err(), "{wrong}");
        }
    }
}
