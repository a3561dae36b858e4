//! The owner's folder, with a broker, a guest and sealed images; made once for all cases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coffer_host_vmm::lasting;
use coffer_sys_process::spawn_guarded;

use crate::image::busybox_layout;
use crate::processes::{Ends, output_within, wait_for};

/// No command of a test takes longer, even on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(300);

static WORLD: OnceLock<Option<Mutex<World>>> = OnceLock::new();

/// One owner on one machine.
pub struct World {
    coffer: PathBuf,
    folder: PathBuf,
    broker: Option<Ends>,
}

/// How a `coffer` command ended, and what it said.
pub struct Outcome {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl World {
    /// Enters the world, alone. None where `cargo xtask test` did not build what it needs; that is printed.
    pub fn enter() -> Option<MutexGuard<'static, World>> {
        let world = WORLD.get_or_init(|| match Self::make() {
            Ok(Some(world)) => Some(Mutex::new(world)),
            Ok(None) => None,
            Err(error) => panic!("the end-to-end world cannot be made: {error:#}"),
        });
        if world.is_none() {
            println!("skipped: no guest was built; run `cargo xtask test`");
        }
        // A case that failed says so itself; the others still can use the world.
        world.as_ref().map(|world| world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn make() -> Result<Option<Self>> {
        let (Some(coffer), Some(guest)) =
            (std::env::var_os("COFFER_E2E_COFFER"), std::env::var_os("COFFER_E2E_GUEST"))
        else {
            return Ok(None);
        };
        let guest = PathBuf::from(guest);
        // One place for every run, emptied at the start: what is in it afterwards can be looked at.
        let folder = guest.parent().context("the guest has no folder")?.join("e2e");
        let _ = fs::remove_dir_all(&folder);
        let mut world = Self { coffer: coffer.into(), folder, broker: None };
        for made in [world.home(), world.path("tmp"), world.runtime_folder()] {
            fs::create_dir_all(made)?;
        }
        let copied = Command::new("cp").arg("-a").arg(guest.join("guest")).arg(world.home()).status()?;
        if !copied.success() {
            bail!("the built guest cannot be copied");
        }
        world.start_broker()?;
        world.prepare()?;
        Ok(Some(world))
    }

    /// Keys, a sealed and signed image, its init-data and its predicted measurement.
    fn prepare(&mut self) -> Result<()> {
        busybox_layout(&self.path("plain/web"))?;
        fs::write(self.path("secret.txt"), "the workload's own secret\n")?;
        for words in [
            "image keygen --private image.key --public image.pub",
            "image keygen --private other.key --public other.pub",
            "secret put kbs:///lab/config/greeting --file secret.txt",
            "image seal oci:plain/web:latest --to oci:sealed/web:latest --key kbs:///lab/image-key/web",
            "image sign oci:sealed/web:latest --key image.key",
            "policy set --preset insecure-lab",
            "init-data oci:sealed/web:latest --signer image.pub --out init-data.toml",
            "measure --init-data init-data.toml --out expected.json",
            "ref add expected.json",
        ] {
            self.done(words)?;
        }
        Ok(())
    }

    /// Starts the broker, or starts it again.
    pub fn start_broker(&mut self) -> Result<()> {
        self.broker = None;
        let url = self.home().join("broker/url");
        let _ = fs::remove_file(&url);
        let port =
            if self.path("port").exists() { fs::read_to_string(self.path("port"))? } else { "0".into() };
        let log = fs::File::options().append(true).create(true).open(self.path("broker.log"))?;
        let mut command = self.command(&format!("broker --listen 127.0.0.1:{}", port.trim()));
        command.stdout(Stdio::null()).stderr(log);
        // Nobody drops the world at the end of the tests; the kernel ends the broker with this process.
        let child = lasting(move || spawn_guarded(&mut command)).context("the starting thread failed")??;
        self.broker = Some(Ends(child));
        wait_for("the broker", Duration::from_secs(30), || url.exists())?;
        let url = fs::read_to_string(url)?;
        let port = url.trim().rsplit(':').next().context("the broker's address has no port")?;
        fs::write(self.path("port"), port).context("the port cannot be noted")
    }

    /// Kills the broker without warning.
    pub fn kill_broker(&mut self) -> Result<()> {
        if let Some(mut broker) = self.broker.take() {
            broker.0.kill()?;
            broker.0.wait()?;
        }
        Ok(())
    }

    /// A path in the owner's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `COFFER_HOME`.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Where sandboxes have their sockets. Not under the build folder: a socket's path may have 107 bytes.
    pub fn runtime_folder(&self) -> PathBuf {
        std::env::temp_dir().join(format!("coffer-e2e-{}", nix::unistd::getuid()))
    }

    /// `coffer` with these words, in the owner's folder.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.coffer);
        command.args(words.split_whitespace());
        command.current_dir(&self.folder).stdin(Stdio::null()).env("TMPDIR", self.path("tmp"));
        command.env("COFFER_HOME", self.home()).env("XDG_RUNTIME_DIR", self.runtime_folder());
        command
    }

    /// Runs `coffer` to its end.
    pub fn run(&self, words: &str) -> Result<Outcome> {
        Self::ended(&mut self.command(words))
    }

    /// Runs a prepared command to its end. One that does not come to it is ended, and is an error with what it said.
    pub fn ended(command: &mut Command) -> Result<Outcome> {
        let out = output_within(command, LIMIT).context("coffer cannot be run to its end")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Outcome { code: out.status.code(), out: text(&out.stdout), err: text(&out.stderr) })
    }

    /// Runs `coffer`; anything but success is an error that shows what it said.
    pub fn done(&self, words: &str) -> Result<String> {
        let outcome = self.run(words)?;
        if outcome.code != Some(0) {
            bail!("coffer {words} ended with {:?}:\n{}{}", outcome.code, outcome.out, outcome.err);
        }
        Ok(outcome.out)
    }

    /// Every file under the owner's folder and the sandboxes' that holds `needle`, the named ones excepted.
    pub fn files_holding(&self, needle: &str, except: &[&Path]) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut open = vec![self.folder.clone(), self.runtime_folder()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if except.iter().any(|excepted| path.starts_with(excepted)) || path.is_symlink() {
                    continue;
                }
                if path.is_dir() {
                    open.push(path);
                } else if path.is_file() && holds(&fs::read(&path)?, needle.as_bytes()) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
