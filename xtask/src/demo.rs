//! `cargo xtask demo`: the main job as a user would do it, then five ways to do it wrong.
//!
//! Every step is a `coffer` command, shown before it runs. What is expected of each refusal is checked: a demo that
//! goes wrong ends with an error.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::setup::{self, step};
use crate::{nginx, run};

/// What `coffer run` ends with when the guest or the broker refused.
const REFUSED: i32 = 120;
const KEY: &str = "kbs:///demo/image-key/nginx";
const PAGE: &str = "<h1>This page exists only inside the sealed layer.</h1>\n";

/// How the demo is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Answer yes to the question before packages are installed.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Leave the demo's folder in place, with its images, keys and logs.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    setup::packages(false, options.yes)?;
    let built = setup::build(false)?;
    let folder = run::target_dir().join("demo");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let demo = Demo { coffer: built.coffer, home: folder.join("home"), folder };
    fs::create_dir_all(&demo.home)?;
    copy_tree(&built.guest.join("guest"), &demo.home.join("guest"))?;

    step("an image of Debian's nginx, with a page in a layer of its own");
    let contents = nginx::Contents { page: PAGE, canary: "demo" };
    nginx::image(&demo.folder.join("plain/nginx"), &contents)?;
    let _broker = demo.broker()?;
    demo.prepare()?;
    demo.accepted()?;
    demo.refusals()?;

    println!("\nThe page was served only to the guest that was predicted; five changed ones were refused.");
    println!("Everything ran on this machine in {} s.", begun.elapsed().as_secs());
    if !options.keep {
        fs::remove_dir_all(&demo.folder).context("the demo's folder cannot be removed")?;
    }
    Ok(())
}

struct Demo {
    coffer: PathBuf,
    home: PathBuf,
    folder: PathBuf,
}

/// A process that ends with the demo.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Demo {
    fn command(&self, words: &[&str]) -> Command {
        println!("\n$ coffer {}", words.join(" "));
        let mut command = Command::new(&self.coffer);
        command.args(words).env("COFFER_HOME", &self.home).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn coffer(&self, words: &[&str]) -> Result<()> {
        run::checked(&mut self.command(words))
    }

    fn broker(&self) -> Result<Ends> {
        step("a broker of the owner's, with keys made at its first start");
        let log = fs::File::create(self.folder.join("broker.log"))?;
        let child = self.command(&["broker", "--listen", "127.0.0.1:0"]).stderr(log).spawn()?;
        let ends = Ends(child);
        let url = self.home.join("broker/url");
        wait_for("the broker", Duration::from_secs(30), || url.exists())?;
        Ok(ends)
    }

    fn prepare(&self) -> Result<()> {
        step("the owner seals and signs it, and says who may have the key");
        self.coffer(&["image", "keygen", "--private", "image.key", "--public", "image.pub"])?;
        self.coffer(&[
            "image",
            "seal",
            "oci:plain/nginx:latest",
            "--to",
            "oci:sealed/nginx:latest",
            "--key",
            KEY,
        ])?;
        self.coffer(&["image", "sign", "oci:sealed/nginx:latest", "--key", "image.key"])?;
        self.coffer(&["image", "inspect", "oci:sealed/nginx:latest"])?;
        self.coffer(&["policy", "set", "--preset", "insecure-lab"])?;
        step("the measurement is predicted before anything has booted");
        self.coffer(&[
            "init-data",
            "oci:sealed/nginx:latest",
            "--signer",
            "image.pub",
            "--out",
            "init-data.toml",
        ])?;
        self.coffer(&["measure", "--init-data", "init-data.toml", "--out", "expected.json"])?;
        self.coffer(&["ref", "add", "expected.json"])
    }

    fn accepted(&self) -> Result<()> {
        step("the predicted guest gets the key and serves the page");
        let port = free_port()?;
        let forward = format!("127.0.0.1:{port}:80");
        let words =
            ["run", "oci:sealed/nginx:latest", "--init-data", "init-data.toml", "-p", &forward, "--timeline"];
        let guest = Ends(self.command(&words).spawn()?);
        let mut page = String::new();
        wait_for("the page", Duration::from_secs(600), || {
            page = fetch(port).unwrap_or_default();
            page.contains(PAGE)
        })?;
        println!("\n$ curl http://127.0.0.1:{port}/\n{}", page.split("\r\n\r\n").nth(1).unwrap_or_default());
        drop(guest);
        self.coffer(&["explain"])
    }

    fn refusals(&self) -> Result<()> {
        let usual = ["run", "oci:sealed/nginx:latest", "--init-data", "init-data.toml"];

        step("refusal 1: the host changes the guest's command line");
        self.refused(&[&usual[..], &["--append", "init=/bin/sh"]].concat(), "measurement.command-line")?;

        step("refusal 2: the host changes one byte of the sealed image");
        copy_tree(&self.folder.join("sealed"), &self.folder.join("changed"))?;
        change_one_byte(&self.folder.join("changed/nginx"))?;
        let words = ["run", "oci:changed/nginx:latest", "--init-data", "init-data.toml"];
        self.refused(&words, "image.corrupt")?;

        step("refusal 3: another image, with a valid signature of another key");
        self.coffer(&["image", "keygen", "--private", "other.key", "--public", "other.pub"])?;
        let other = ["image", "seal", "oci:plain/nginx:latest", "--to", "oci:other/nginx:latest", "--key"];
        self.coffer(&[&other[..], &["kbs:///demo/image-key/other"]].concat())?;
        self.coffer(&["image", "sign", "oci:other/nginx:latest", "--key", "other.key"])?;
        let words = ["run", "oci:other/nginx:latest", "--init-data", "init-data.toml"];
        self.refused(&words, "image.signature.untrusted-key")?;

        step("refusal 4: init-data is changed after it was measured");
        let init_data = fs::read_to_string(self.folder.join("init-data.toml"))?;
        let changed = init_data.replacen("attestation = ", "# The host was here.\nattestation = ", 1);
        fs::write(self.folder.join("changed.toml"), changed)?;
        let words = ["run", "oci:sealed/nginx:latest", "--init-data", "changed.toml"];
        self.refused(&words, "measurement.init-data")?;

        step("refusal 5: software evidence, and a policy that asks for hardware");
        self.coffer(&["policy", "set", "--preset", "default"])?;
        self.refused(&usual, "policy.software-evidence")
    }

    /// Runs, and holds the refusal to its code.
    fn refused(&self, words: &[&str], code: &str) -> Result<()> {
        let out = self.command(words).stdout(Stdio::inherit()).output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        print!("{said}");
        std::io::stdout().flush()?;
        if out.status.code() != Some(REFUSED) || !said.contains(code) {
            bail!("expected exit code {REFUSED} and {code}, got {}", out.status);
        }
        Ok(())
    }
}

fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > limit {
            bail!("{what} did not come within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn fetch(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    run::checked(Command::new("cp").args(["-a", "--reflink=auto", "--"]).arg(from.join(".")).arg(to))
}

/// Changes a byte in the first block of the largest blob, which is the sealed one.
fn change_one_byte(layout: &Path) -> Result<()> {
    let blobs = fs::read_dir(layout.join("blobs/sha256"))?.collect::<Result<Vec<_>, _>>()?;
    let largest = blobs.iter().max_by_key(|blob| blob.metadata().map(|m| m.len()).unwrap_or(0));
    let path = largest.context("the layout has no blobs")?.path();
    let mut bytes = fs::read(&path)?;
    let byte = bytes.get_mut(1024).context("the blob is too short")?;
    *byte ^= 1;
    fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}
