//! Linux 6.12 of Debian's backports, downloaded beside the built guest and never installed, and the module for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// The package that always names the newest kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";
const SOURCE: &str = "deb http://deb.debian.org/debian bookworm-backports main\n";

/// An unpacked kernel and the module.
pub(crate) struct Prepared {
    pub(crate) root: PathBuf,
    pub(crate) module: Vec<u8>,
}

impl Prepared {
    /// None, said aloud, where this machine cannot have the packages.
    pub(crate) fn get() -> Result<Option<Self>> {
        let skipped = |why: &str| {
            println!("skipped: no Linux 6.12 for the configfs-tsm guest: {why}");
            Ok(None)
        };
        for program in ["apt-get", "dpkg-deb", "make", "cc"] {
            if Command::new(program).arg("--version").output().is_err() {
                return skipped(&format!("{program} is not installed"));
            }
        }
        let guest = PathBuf::from(std::env::var_os("COFFER_E2E_GUEST").context("no guest was built")?);
        let folder = guest.parent().context("the guest has no folder")?.join("tsm-kernel");
        let version = match downloaded(&folder) {
            Ok(version) => version,
            Err(why) => return skipped(&format!("{why:#}")),
        };
        let root = folder.join("root");
        let module = build(&folder, &root, &version)?;
        Ok(Some(Self { root, module }))
    }
}

/// Downloads and unpacks, once. Gives the kernel's version, as in `6.12.95+deb12-cloud-amd64`.
fn downloaded(folder: &Path) -> Result<String> {
    let done = folder.join("version");
    if let Ok(version) = fs::read_to_string(&done) {
        return Ok(version);
    }
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("lists/partial"))?;
    fs::write(folder.join("sources.list"), SOURCE)?;
    apt(folder, "apt-get", &["-qq", "update"])?;
    let shown = apt(folder, "apt-cache", &["show", "--no-all-versions", META])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
    let depends = depends.with_context(|| format!("{META} is not known there"))?;
    let image = depends.split([' ', ',']).next().unwrap_or_default();
    let version = image.strip_prefix("linux-image-").context("the package depends on no kernel")?;
    let common = version.strip_suffix("-cloud-amd64").context("another kind of kernel")?;
    let packages = [
        image.to_owned(),
        format!("linux-headers-{version}"),
        format!("linux-headers-{common}-common"),
        format!("linux-kbuild-{common}"),
    ];
    let mut words = vec!["-qq", "download"];
    words.extend(packages.iter().map(String::as_str));
    apt(folder, "apt-get", &words)?;
    let root = folder.join("root");
    for entry in fs::read_dir(folder)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            checked(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
            fs::remove_file(package)?;
        }
    }
    // The headers name their place on a machine that has them installed.
    let makefile = root.join("usr/src").join(format!("linux-headers-{version}")).join("Makefile");
    let text = fs::read_to_string(&makefile)?;
    fs::write(&makefile, text.replace("/usr/src/", &format!("{}/usr/src/", root.display())))?;
    fs::write(done, version)?;
    Ok(version.to_owned())
}

/// A package tool with lists of its own, so that the machine's are left alone.
fn apt(folder: &Path, program: &str, words: &[&str]) -> Result<Output> {
    let own = |name: &str, place: &str| format!("{name}={}", folder.join(place).display());
    let options = [
        own("Dir::Etc::sourcelist", "sources.list"),
        "Dir::Etc::sourceparts=/dev/null".into(),
        own("Dir::State::lists", "lists"),
        own("Dir::Cache", "cache"),
        "Acquire::Retries=2".into(),
        "Acquire::http::Timeout=20".into(),
    ];
    let mut command = Command::new(program);
    command.args(options.iter().flat_map(|option| ["-o", option])).args(words).current_dir(folder);
    checked(&mut command)
}

fn build(folder: &Path, root: &Path, version: &str) -> Result<Vec<u8>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tsm-module");
    let place = folder.join("module");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place)?;
    for name in ["Makefile", "coffer_lab_tsm.c"] {
        fs::copy(sources.join(name), place.join(name))?;
    }
    let mut make = Command::new("make");
    make.arg("-C").arg(root.join("usr/src").join(format!("linux-headers-{version}")));
    make.arg(format!("M={}", place.display())).args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]);
    // The kernel's own compiler where it is there.
    if Command::new("x86_64-linux-gnu-gcc-12").arg("--version").output().is_err() {
        make.arg("CC=cc");
    }
    checked(&mut make)?;
    fs::read(place.join("coffer_lab_tsm.ko")).context("the module was not built")
}

fn checked(command: &mut Command) -> Result<Output> {
    let out = command.output().with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{:?} failed: {}", command.get_program(), said.trim());
    Ok(out)
}
