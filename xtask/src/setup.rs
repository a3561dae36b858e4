//! Setting a fresh Debian or Ubuntu machine up: packages from apt, the programs, the guest.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

/// What running guests takes.
const TO_RUN: [&str; 3] = ["qemu-system-x86", "ovmf", "swtpm"];

/// What the tests use besides: other programs' formats to compare with, and images that we did not make.
const TO_TEST: [&str; 14] = [
    "busybox-static",
    "cryptsetup-bin",
    "docker-registry",
    "e2fsprogs",
    "erofs-utils",
    "kmod",
    "make",
    "openssl",
    "postgresql",
    "python3-venv",
    "skopeo",
    "softhsm2",
    "swtpm-tools",
    "umoci",
];

/// What a machine is set up for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also install what only the tests need.
    #[arg(long)]
    pub(crate) tests: bool,
    /// Answer yes to the question before packages are installed.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// The programs and the guest, built.
pub(crate) struct Built {
    /// The `coffer` command.
    pub(crate) coffer: PathBuf,
    /// The broker's program.
    pub(crate) broker: PathBuf,
    /// The guest's agent.
    pub(crate) agent: PathBuf,
    /// A `COFFER_HOME` that holds the built guest, and the kernel package that it was built from.
    pub(crate) guest: PathBuf,
}

impl Built {
    /// The unpacked kernel package.
    pub(crate) fn kernel(&self) -> Option<PathBuf> {
        let cache = std::fs::read_dir(self.guest.join("cache")).ok()?;
        cache.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.join("boot").is_dir())
    }
}

/// `cargo xtask setup`.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages(options.tests, options.yes)?;
    let built = build(false)?;
    println!("\nReady: {}\n       {}", built.coffer.display(), built.guest.display());
    Ok(())
}

/// Installs what is missing: directly as root, else after asking, with sudo.
pub(crate) fn packages(tests: bool, yes: bool) -> Result<()> {
    let wanted = TO_RUN.iter().chain(if tests { TO_TEST.as_slice() } else { &[] });
    let missing: Vec<&str> = wanted.copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !run::exists("apt-get") {
        bail!("this machine has no apt-get; install the equivalents of: {}", missing.join(" "));
    }
    let root = run::output(Command::new("id").arg("-u"))?.trim() == "0";
    println!("setup: Debian packages to install: {}", missing.join(" "));
    if !root && !yes {
        ask(&missing)?;
    }
    let apt = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        command.args(["-o", "DPkg::Lock::Timeout=300", "-qq"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        run::checked(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat())
}

fn ask(missing: &[&str]) -> Result<()> {
    let by_hand = format!("sudo apt-get install --no-install-recommends {}", missing.join(" "));
    if !std::io::stdin().is_terminal() {
        bail!("these packages are missing and there is no terminal to ask at; run\n  {by_hand}");
    }
    print!("Install them with sudo apt-get? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was installed; when you are ready run\n  {by_hand}");
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    let out = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    out.is_ok_and(|out| out.stdout == b"installed")
}

/// Builds the `coffer` command, the static agent, and the guest from them.
pub(crate) fn build(release: bool) -> Result<Built> {
    guest_of(&programs(&["coffer", "coffer-broker"], release)?)
}

/// Builds the static agent, and the guest from it by the `coffer` in a folder of built programs.
pub(crate) fn guest_of(programs: &Path) -> Result<Built> {
    let (coffer, broker) = (programs.join("coffer"), programs.join("coffer-broker"));
    let agent = guest_program("coffer-agent")?;
    let guest = run::target_dir().join("guest-home");
    step("building the guest");
    run::checked(
        Command::new(&coffer).env("COFFER_HOME", &guest).args(["guest", "build", "--agent"]).arg(&agent),
    )?;
    Ok(Built { coffer, broker, agent, guest })
}

/// Builds the broker's program.
pub(crate) fn build_broker(release: bool) -> Result<PathBuf> {
    Ok(programs(&["coffer-broker"], release)?.join("coffer-broker"))
}

/// Builds packages and gives the folder where their programs are.
fn programs(packages: &[&str], release: bool) -> Result<PathBuf> {
    step(&format!("building {}", packages.join(" and ")));
    let mut cargo = run::cargo();
    cargo.arg("build").args(packages.iter().map(|name| format!("--package={name}")));
    if release {
        cargo.arg("--release");
    }
    run::checked(&mut cargo)?;
    Ok(run::target_dir().join(if release { "release" } else { "debug" }))
}

/// Builds a program for guests: static, for any kernel, and without the builder's paths in it.
pub(crate) fn guest_program(package: &str) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    step(&format!("building {package} (static)"));
    let folder = run::target_dir().join("agent");
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let remap = [
        format!("--remap-path-prefix={}=/coffer", run::root().display()),
        format!("--remap-path-prefix={}=/cargo", home.context("neither CARGO_HOME nor HOME is set")?),
    ];
    let flags = ["-Ctarget-feature=+crt-static"].into_iter().chain(remap.iter().map(String::as_str));
    run::checked(
        run::cargo()
            .args(["build", "--package", package, "--profile=agent", "--target", TARGET])
            .env("CARGO_TARGET_DIR", &folder)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\u{1f}")),
    )?;
    Ok(folder.join(TARGET).join("agent").join(package))
}

/// Says what is done next.
pub(crate) fn step(what: &str) {
    println!("\n== {what}");
}
