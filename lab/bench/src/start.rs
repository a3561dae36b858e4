//! One start in a machine: its phases, the guest's memory, and the speed of sealed blocks.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The data file that is read: large enough to be longer than what the kernel reads ahead.
const DATA_MIB: usize = 48;

/// Measures and prints.
pub(crate) fn measure(coffer: &Path, guest: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let owner = Owner { coffer, folder: folder.path() };
    fs::create_dir_all(folder.path().join("home"))?;
    let copied =
        Command::new("cp").arg("-a").arg(guest.join("guest")).arg(folder.path().join("home")).status()?;
    ensure!(copied.success(), "the guest cannot be copied");
    let size = fs::metadata(guest.join("guest/initramfs.cpio.zst"))?.len();
    println!("\ninitial ramdisk: {:.1} MiB (promise: 12)", size as f64 / f64::from(1 << 20));
    owner.image()?;
    let mut broker =
        owner.command("broker --listen 127.0.0.1:0").stderr(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let measured = owner.starts();
    broker.kill()?;
    broker.wait()?;
    measured
}

struct Owner<'a> {
    coffer: &'a Path,
    folder: &'a Path,
}

impl Owner<'_> {
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(self.coffer);
        command.args(words.split_whitespace()).current_dir(self.folder).stdin(Stdio::null());
        command.env("COFFER_HOME", self.folder.join("home"));
        command
    }

    fn done(command: &mut Command) -> Result<Output> {
        let out = command.output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(out)
    }

    /// busybox and a file of pseudo-random bytes, in an image of umoci's.
    fn image(&self) -> Result<()> {
        let umoci = |words: &str| {
            let out = Command::new("umoci").args(words.split_whitespace()).current_dir(self.folder).output();
            let out = out.context("umoci is not installed")?;
            ensure!(out.status.success(), "umoci {words}: {}", String::from_utf8_lossy(&out.stderr));
            Ok(())
        };
        umoci("init --layout plain")?;
        umoci("new --image plain:latest")?;
        umoci("unpack --rootless --image plain:latest bundle")?;
        let root = self.folder.join("bundle/rootfs");
        fs::create_dir_all(root.join("bin"))?;
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
        let mut state = 1_u64;
        let data: Vec<u8> = (0..DATA_MIB << 20)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                u8::try_from(state >> 56).unwrap_or_default()
            })
            .collect();
        fs::write(root.join("data.bin"), data)?;
        umoci("repack --image plain:latest bundle")
    }

    fn starts(&self) -> Result<()> {
        for _ in 0..100 {
            if self.folder.join("home/broker/url").exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for words in [
            "image keygen --private image.key --public image.pub",
            "image seal oci:plain:latest --to oci:sealed:latest --key kbs:///bench/image-key/one",
            "image sign oci:sealed:latest --key image.key",
            "policy set --preset insecure-lab",
        ] {
            Self::done(&mut self.command(words))?;
        }
        // The first read comes from the disk, through verity and crypt; the second from the page cache.
        let script = "busybox grep -E 'MemTotal|MemFree|MemAvailable|Shmem:' /proc/meminfo; \
            for i in 1 2; do busybox time -f '%e s of wall, %S s of system' busybox dd if=/data.bin of=/dev/null bs=1M; done";
        let mut run = self.command("run oci:sealed:latest --signer image.pub --enroll --timeline --");
        let out = Self::done(run.args(["/bin/busybox", "sh", "-c", &format!("export PATH=/bin; {script}")]))?;
        println!("\none start, sealed image, as the timeline tells it");
        print!("{}", String::from_utf8_lossy(&out.stderr));
        println!(
            "\nthe guest's memory when the workload began, and {DATA_MIB} MiB of sealed blocks read twice"
        );
        print!("{}", String::from_utf8_lossy(&out.stdout));
        Ok(())
    }
}
