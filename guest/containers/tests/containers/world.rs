//! A root directory, a runtime, and one run from start to end.

use coffer_guest_containers::{Container, ContainerError, ContainerSpec, Exit, Output};
use std::fs;
use std::future::Future;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No container of these tests may take longer; slow emulated machines included.
const PATIENCE: Duration = Duration::from_secs(60);

const APPLETS: [&str; 24] = [
    "cat", "chroot", "echo", "env", "grep", "head", "hostname", "id", "kill", "ls", "mkdir", "mknod",
    "mount", "ps", "pwd", "readlink", "sh", "sleep", "stty", "test", "touch", "tty", "umask", "unshare",
];

/// Where busybox is on this machine.
pub(crate) fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists())
}

/// Whether containers can be tested here, or why not.
pub(crate) fn possible() -> Result<(), String> {
    if busybox().is_none() {
        return Err("no busybox (package busybox-static)".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    let bits = u64::from_str_radix(effective.trim(), 16).unwrap_or(0);
    /// CAP_SYS_ADMIN.
    const ADMIN: u64 = 1 << 21;
    if bits & ADMIN == 0 { Err("no CAP_SYS_ADMIN: containers need root".to_owned()) } else { Ok(()) }
}

/// A root directory with busybox, two users and an empty `/etc` otherwise.
pub(crate) struct World {
    directory: TempDir,
}

/// What a container did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for name in ["bin", "etc", "tmp", "home"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\napp:x:1001:\naudio:x:29:app\n").unwrap();
        Self { directory }
    }

    /// The root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A directory beside the root, which no container may see.
    pub(crate) fn outside(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn spec(&self, args: &[&str]) -> ContainerSpec {
        ContainerSpec::new(self.root(), args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    pub(crate) fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }
}

/// Runs a future as the agent does: on one thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, future).await.expect("the container took too long")
    })
}

/// Runs a container with this input to its end.
pub(crate) fn run_with(spec: &ContainerSpec, input: &[u8]) -> Result<Outcome, ContainerError> {
    block_on(async {
        let mut running = Container::start(spec).await?;
        let mut stdin = running.stdin.take().unwrap();
        // A workload that does not read its input has closed it; that is its right.
        let _unread = stdin.write_all(input).await;
        drop(stdin);
        let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
        let (out, err, exit) = tokio::join!(read(stdout), read(stderr), running.wait());
        Ok(Outcome { exit: exit?, out, err })
    })
}

pub(crate) fn run(spec: &ContainerSpec) -> Outcome {
    run_with(spec, b"").unwrap_or_else(|error| panic!("{}: {error}", error.code()))
}

/// The output of a shell script that must succeed.
pub(crate) fn output(world: &World, script: &str) -> String {
    output_of(&world.shell(script))
}

/// The output of a container that must succeed.
pub(crate) fn output_of(spec: &ContainerSpec) -> String {
    let outcome = run(spec);
    assert_eq!(outcome.exit.code, 0, "{outcome:?}");
    outcome.out
}

async fn read(stream: Option<Output>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await.unwrap();
    }
    String::from_utf8(bytes).unwrap()
}

/// Reads a stream until the text was seen.
pub(crate) async fn read_until(stream: &mut Output, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut bytes = [0; 256];
        let count = stream.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "the stream ended before `{text}`: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    seen
}
