//! Real machines without a guest: what they are made of goes with them, however they end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coffer_core_channel::{ImageSource, Input, RunRequest};
use coffer_host_sandbox::{
    ChannelKind, ConsoleLog, GuestFiles, Sandbox, SandboxConfig, SandboxError, SandboxEvent,
    base_command_line,
};
use coffer_host_vmm::{Accelerator, Forward, Qemu, UserNetwork, doctor};

/// Set for the process that is killed while it owns a sandbox: where it puts its files.
const OWNER: &str = "COFFER_TEST_OWNER";
const PATIENCE: Duration = Duration::from_secs(20);

fn able() -> bool {
    let there = Qemu::default().version().is_ok()
        && Path::new(doctor::FIRMWARE.0).exists()
        && Command::new("swtpm").arg("--version").output().is_ok();
    if !there {
        println!("skipped: no QEMU, OVMF or swtpm");
    }
    there
}

/// As much of a bzImage as QEMU looks at (Linux, Documentation/arch/x86/boot.rst). The firmware finds nothing to run.
fn not_quite_a_kernel(path: &Path) {
    let mut image = vec![0u8; 8192];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&[0x0c, 0x02]);
    image[0x211] = 1;
    image[0x22c..0x230].copy_from_slice(&0x37ff_ffffu32.to_le_bytes());
    std::fs::write(path, image).unwrap();
}

fn config(place: &Path) -> SandboxConfig {
    let (kernel, initrd) = (place.join("kernel"), place.join("initrd"));
    not_quite_a_kernel(&kernel);
    std::fs::write(&initrd, b"nothing").unwrap();
    let (firmware, variables) = doctor::FIRMWARE;
    SandboxConfig {
        guest: GuestFiles { firmware: firmware.into(), variables: variables.into(), kernel, initrd },
        accelerator: Accelerator::SoftwareEmulation,
        memory_mib: 128,
        cpus: 1,
        command_line: base_command_line(ChannelKind::VirtioSerial),
        channel: ChannelKind::VirtioSerial,
        init_data_disk: vec![0; 512],
        disks: Vec::new(),
        volumes: vec![],
        scratch: vec![],
        layout: None,
        documents: Vec::new(),
        network: None,
        console: ConsoleLog::Temporary,
        run_dir_root: Some(place.join("run")),
        vtpm_ca: place.join("ca"),
        record_channel: None,
        start_timeout: PATIENCE,
        run: RunRequest {
            image: "example.org/what-is-run:1".into(),
            source: ImageSource::Registry {
                reference: "example.org/what-is-run:1".into(),
                plain_http: false,
            },
            args: Vec::new(),
            env: Vec::new(),
            input: Input::Empty,
            terminal: None,
            network: None,
        },
    }
}

/// A directory whose name is short: a socket's path has little room.
fn place() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("cs").tempdir_in("/tmp").unwrap()
}

fn alive(process: u32) -> bool {
    // An ended process that nobody has reaped has no command line.
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_silent_guest_is_given_up_and_only_its_console_stays() {
    if !able() {
        return;
    }
    let place = place();
    let record = place.path().join("record");
    let config = SandboxConfig {
        start_timeout: Duration::from_secs(2),
        record_channel: Some(record.clone()),
        ..config(place.path())
    };
    let mut sandbox = Sandbox::start(config).await.unwrap();
    let processes = sandbox.processes();
    let run_dir = sandbox.run_dir().to_owned();
    assert!(processes.into_iter().all(alive));
    let mut steps = Vec::new();
    let error = loop {
        match sandbox.next().await.unwrap() {
            Ok(SandboxEvent::Step(step)) => steps.push(step.step),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(steps, ["prepare", "tpm", "qemu"]);
    assert!(matches!(error, SandboxError::Silent { .. }), "{error}");
    assert!(sandbox.next().await.is_none());
    sandbox.shutdown(Duration::ZERO).await;
    assert!(!processes.into_iter().any(alive));
    assert!(!run_dir.exists());
    let kept = BTreeSet::from(["last-failure-console.log".to_owned(), "root.lock".to_owned()]);
    assert_eq!(names(&place.path().join("run")), kept);
    let recorded = std::fs::read(record).unwrap();
    assert!(recorded.windows(11).any(|window| window == b"what-is-run"));
}

#[tokio::test]
async fn a_dropped_sandbox_leaves_nothing() {
    if !able() {
        return;
    }
    let place = place();
    let sandbox = Sandbox::start(config(place.path())).await.unwrap();
    let processes = sandbox.processes();
    drop(sandbox);
    assert!(!processes.into_iter().any(alive));
    assert_eq!(names(&place.path().join("run")), BTreeSet::from(["root.lock".to_owned()]));
}

#[tokio::test]
async fn a_taken_port_is_named_before_anything_starts() {
    let place = place();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = taken.local_addr().unwrap();
    let network = Some(UserNetwork { forwards: vec![Forward { host, guest_port: 80 }] });
    let error = Sandbox::start(SandboxConfig { network, ..config(place.path()) }).await.err().unwrap();
    assert!(matches!(error, SandboxError::PortInUse { address } if address == host), "{error}");
    assert!(!place.path().join("run").exists());
}

#[tokio::test]
async fn too_much_memory_is_refused_with_both_numbers() {
    let place = place();
    let error =
        Sandbox::start(SandboxConfig { memory_mib: u32::MAX, ..config(place.path()) }).await.err().unwrap();
    assert!(matches!(error, SandboxError::NotEnoughMemory { .. }), "{error}");
}

#[tokio::test]
async fn a_machine_that_does_not_start_says_why_and_leaves_nothing() {
    if !able() {
        return;
    }
    let place = place();
    let broken = config(place.path());
    std::fs::write(&broken.guest.kernel, b"no kernel").unwrap();
    let error = Sandbox::start(broken).await.err().unwrap();
    assert!(error.to_string().contains("kernel"), "{error}");
    assert_eq!(names(&place.path().join("run")), BTreeSet::from(["root.lock".to_owned()]));
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
async fn owner_of_a_sandbox() {
    let Some(place) = std::env::var_os(OWNER).map(PathBuf::from) else { return };
    let sandbox = Sandbox::start(config(&place)).await.unwrap();
    let [machine, tpm] = sandbox.processes();
    println!("\nsandbox {machine} {tpm} {}", sandbox.run_dir().display());
    tokio::time::sleep(PATIENCE * 3).await;
}

#[tokio::test]
async fn what_a_killed_owner_leaves_ends_and_is_swept_by_the_next() {
    if !able() {
        return;
    }
    let place = place();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_sandbox", "--nocapture"])
        .env(OWNER, place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("sandbox ").map(str::to_owned))
        .unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let processes: [u32; 2] = [words[0].parse().unwrap(), words[1].parse().unwrap()];
    let run_dir = PathBuf::from(words[2]);
    assert!(processes.into_iter().all(alive));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let began = Instant::now();
    while processes.into_iter().any(alive) {
        assert!(began.elapsed() < PATIENCE, "{processes:?} outlived their owner");
        std::thread::yield_now();
    }
    assert!(run_dir.exists());
    let next = Sandbox::start(config(place.path())).await.unwrap();
    assert!(!run_dir.exists());
    assert!(next.run_dir().exists());
}
