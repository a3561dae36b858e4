//! Processes that end with their test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A child that is ended, and waited for, when the test is done with it.
pub struct Ends(pub Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// Waits for something that another process does.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > limit {
            bail!("{what} did not come within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Runs a command to its end, or ends it when it takes too long; then the error has what it said so far.
pub(crate) fn output_within(command: &mut Command, limit: Duration) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let read = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was said before the pipe broke is what there is.
            let _ = from.map(|mut from| from.read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if begun.elapsed() > limit => {
                // Asked to end, so that it takes its machines along.
                let _ = Command::new("kill").arg(child.id().to_string()).status();
                let asked = Instant::now();
                while child.try_wait()?.is_none() && asked.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                let _ = child.kill();
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match status {
        Some(status) => Ok(Output { status, stdout, stderr }),
        None => bail!(
            "it did not end within {} s:\n{}{}",
            limit.as_secs(),
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        ),
    }
}

/// The processes that `parent` started, by id.
pub fn children_of(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        // A process that ended meanwhile has no status any more.
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let started_by = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
        if started_by == Some(parent.to_string().as_str()) {
            children.push(id);
        }
    }
    Ok(children)
}

/// Whether a process is there and not only waiting to be buried.
pub fn lives(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim_start);
    state.is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// What a process is called.
pub fn name_of(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim().to_string()
}

/// A way to a loopback port that counts what comes back on it.
pub struct Counted {
    /// The port that leads there.
    pub port: u16,
    bytes: Arc<AtomicU64>,
}

impl Counted {
    /// Leads to `port` for as long as this process lives.
    pub fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = listener.local_addr()?.port();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (Ok(back), Ok(ahead)) = (client.try_clone(), server.try_clone()) else { continue };
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || pass(client, server, |_| {}));
                std::thread::spawn(move || {
                    pass(ahead, back, |count| {
                        counter.fetch_add(count, Ordering::SeqCst);
                    });
                });
            }
        });
        Ok(Self { port: own, bytes })
    }

    /// How many bytes came back so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

/// Passes bytes on until either end is gone.
fn pass(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(u64)) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        count(read as u64);
        if to.write_all(piece.get(..read).unwrap_or_default()).is_err() {
            break;
        }
    }
    let _gone = to.shutdown(Shutdown::Both);
}

/// Debian's registry on a loopback port.
pub struct Registry {
    /// Its port on 127.0.0.1.
    pub port: u16,
    _process: Ends,
}

impl Registry {
    /// Starts one that keeps its data in `folder`; none where docker-registry is not installed.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        if Command::new("docker-registry").arg("--version").output().is_err() {
            println!("skipped: docker-registry is not installed");
            return Ok(None);
        }
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            folder.join("data").display()
        );
        let file = folder.join("config.yml");
        fs::write(&file, config)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(log.try_clone()?).stderr(log);
        let process = Ends(command.spawn().context("docker-registry cannot be started")?);
        wait_for("the registry", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(Some(Self { port, _process: process }))
    }
}
