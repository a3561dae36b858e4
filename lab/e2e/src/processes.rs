//! Processes that end with their test.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
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

/// The command lines of running processes that hold `word`, this one excepted.
pub fn processes_naming(word: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
        let mut bytes = Vec::new();
        let read = fs::File::open(path.join("cmdline")).and_then(|mut file| file.read_to_end(&mut bytes));
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if read.is_ok() && id != std::process::id() && line.contains(word) {
            found.push(format!("{id} {line}"));
        }
    }
    Ok(found)
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
