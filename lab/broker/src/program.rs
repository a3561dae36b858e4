//! One running broker.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coffer_lab_load::{Endpoint, Memory, memory};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A start that takes longer has failed: a debug build on a busy machine is slow, not that slow.
const START: Duration = Duration::from_secs(60);
/// As long as the broker gives open calls, and some more.
const STOP: Duration = Duration::from_secs(30);

/// What a broker may map; far more than it needs, and less than a test's machine has.
const ADDRESS_SPACE_KIB: u64 = 6 << 20;

/// A broker's process; killed when it is dropped.
pub struct Program {
    child: Child,
    folder: PathBuf,
    url: String,
}

impl Program {
    /// Starts on a folder with this configuration (TOML), on a free port or on the one that is given, and waits for
    /// its line. What it logs is appended to the file `log` there.
    pub fn start(folder: &Path, configuration: &str, port: u16) -> Result<Self> {
        let file = folder.join("broker.toml");
        std::fs::write(&file, configuration)?;
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        // What would take the machine's memory fails in the broker alone.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" \"$@\"")]);
        command.arg(crate::broker()?).arg("--config").arg(&file).arg("--data").arg(folder);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        // A line for each of a million refused calls would measure the disk.
        command.env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("the broker cannot be started")?;
        match listening(&mut child) {
            Ok(url) => Ok(Self { child, folder: folder.to_path_buf(), url }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{error:#}; its log ends with: {}", end_of(&folder.join("log")));
            }
        }
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Result<Endpoint> {
        Endpoint::parse(&self.url)
    }

    /// The port that it listens on.
    pub fn port(&self) -> Result<u16> {
        Ok(self.url.rsplit(':').next().context("no port")?.parse()?)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory> {
        memory(self.pid())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        end_of(&self.folder.join("log"))
    }

    /// Lets it run on the first so many cores, threads that it has and threads that it will have.
    pub fn keep_to(&self, cores: usize) -> Result<()> {
        let mut set = CpuSet::new();
        (0..cores).try_for_each(|core| set.set(core))?;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let id: i32 = task?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(id), &set)?;
        }
        Ok(())
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), and waits.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the broker did not end within {} s of SIGTERM", STOP.as_secs())
    }

    /// Stops it where it stands (SIGSTOP); its connections stay open and are not answered.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// An error if it has ended by itself.
    pub fn must_live(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the broker ended by itself ({ended:?}): {}", self.log());
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id beyond the system's")?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the program's first line.
fn listening(child: &mut Child) -> Result<String> {
    let output = child.stdout.take().context("the broker has no output")?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines();
        let _ = send.send(lines.next());
        // Read to its end, so that no later line blocks the program.
        lines.for_each(drop);
    });
    let line = receive.recv_timeout(START).context("the broker did not say where it listens")?;
    let line = line.context("the broker ended before it listened")??;
    let url =
        line.trim().strip_prefix("listening on ").with_context(|| format!("an unknown line: {line:?}"))?;
    Ok(url.to_string())
}

fn end_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(8)).copied().collect::<Vec<_>>().join("\n")
}
