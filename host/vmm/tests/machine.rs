//! Real QEMU processes: they answer, they end, and they do not outlive their owner.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coffer_host_vmm::{
    Accelerator, Channel, Content, Disk, Firmware, Kind, Machine, MachineError, MachineSpec, Qemu, Vendor,
    lasting,
};

/// Set for the process that is killed while it owns a machine.
const OWNER: &str = "COFFER_TEST_OWNER";
const PATIENCE: Duration = Duration::from_secs(20);

/// A machine without anything to boot: its BIOS says so and waits.
fn idle() -> MachineSpec {
    MachineSpec {
        kind: Kind::Plain,
        accelerator: Accelerator::SoftwareEmulation,
        vendor: Vendor::Intel,
        cpus: 1,
        memory_mib: 32,
        firmware: Firmware::Bios,
        linux: None,
        tpm: None,
        disks: Vec::new(),
        hot_plug_slots: 0,
        network: Some(Default::default()),
        channel: Some(Channel::VirtioSerial),
        console_log: None,
    }
}

fn installed() -> bool {
    let there = Qemu::default().version().is_ok();
    if !there {
        println!("skipped: no QEMU");
    }
    there
}

fn start(spec: MachineSpec) -> Result<coffer_host_vmm::Running, MachineError> {
    lasting(move || Qemu::default().start(&spec)).unwrap()
}

#[test]
fn a_machine_answers_and_ends_when_it_is_killed() {
    if !installed() {
        return;
    }
    let mut machine = start(idle()).unwrap();
    assert!(machine.status().unwrap().running);
    assert!(machine.take_channel().is_some());
    assert!(machine.take_channel().is_none());
    assert_eq!(machine.try_wait().unwrap(), None);
    let process = machine.process_id();
    machine.kill();
    assert!(machine.try_wait().unwrap().is_some());
    assert!(!Path::new(&format!("/proc/{process}")).exists());
}

#[test]
fn a_machine_starts_from_a_thread_that_ends_and_lives_on() {
    if !installed() {
        return;
    }
    let mut machine = std::thread::spawn(|| start(idle()).unwrap()).join().unwrap();
    assert!(machine.status().unwrap().running);
}

#[test]
fn a_disk_that_is_not_there_is_named() {
    let disk =
        Disk { content: Content::File("/nonexistent/disk".into()), serial: "x".into(), read_only: true };
    let error = start(MachineSpec { disks: vec![disk], ..idle() }).err().unwrap();
    assert!(error.to_string().contains("disk /nonexistent/disk"), "{error}");
}

fn disk(path: &Path, serial: &str) -> Disk {
    Disk { content: Content::File(path.to_owned()), serial: serial.into(), read_only: true }
}

#[test]
fn disks_come_and_go_while_the_machine_runs() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, vec![0x5a; 1 << 20]).unwrap();
    let mut machine = start(MachineSpec { hot_plug_slots: 2, ..idle() }).unwrap();
    let holds = |machine: &coffer_host_vmm::Running| {
        let open = std::fs::read_dir(format!("/proc/{}/fd", machine.process_id())).unwrap();
        let at = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.unwrap().path());
        open.filter_map(|entry| at(entry).ok()).any(|target| target == path)
    };
    assert!(!holds(&machine));
    let first = machine.attach(&disk(&path, "one")).unwrap();
    let second = machine.attach(&disk(&path, "two")).unwrap();
    assert!(holds(&machine));
    match machine.attach(&disk(&path, "three")) {
        Err(MachineError::NoSlot { slots: 2 }) => {}
        other => panic!("expected no slot, found {other:?}"),
    }
    machine.detach(&first, PATIENCE).unwrap();
    // A disk that cannot be attached leaves its slot free.
    let absent = machine.attach(&disk(Path::new("/nonexistent/disk"), "x")).unwrap_err();
    assert!(absent.to_string().contains("/nonexistent/disk"), "{absent}");
    let unserved = Disk { content: Content::Nbd("/nonexistent/socket".into()), ..disk(&path, "x") };
    let refused = machine.attach(&unserved).unwrap_err();
    assert!(refused.to_string().contains("blockdev-add"), "{refused}");
    let third = machine.attach(&disk(&path, "three")).unwrap();
    machine.detach(&second, PATIENCE).unwrap();
    machine.detach(&third, PATIENCE).unwrap();
    assert!(!holds(&machine), "the file is still open in the machine");
    assert!(machine.status().unwrap().running);
}

#[test]
fn a_machine_without_slots_takes_no_disk() {
    if !installed() {
        return;
    }
    let mut machine = start(idle()).unwrap();
    let refused = machine.attach(&disk(Path::new("/dev/null"), "x")).unwrap_err();
    assert!(matches!(refused, MachineError::NoSlot { slots: 0 }), "{refused}");
}

#[test]
fn what_qemu_says_at_a_failed_start_is_told() {
    if !installed() {
        return;
    }
    let spec = MachineSpec { tpm: Some("/nonexistent/tpm.sock".into()), ..idle() };
    match start(spec) {
        Err(MachineError::Ended { errors, .. }) => assert!(errors.contains("tpm.sock"), "{errors}"),
        other => panic!("expected the end, found {:?}", other.err()),
    }
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn owner_of_a_machine() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let machine = start(idle()).unwrap();
    println!("\nmachine {}", machine.process_id());
    std::thread::sleep(PATIENCE * 3);
}

#[test]
fn a_machine_does_not_outlive_an_owner_that_is_killed() {
    if !installed() {
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_machine", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(owner.stdout.take().unwrap());
    let process: u32 = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("machine ").map(|id| id.parse().unwrap()))
        .unwrap();
    let place = format!("/proc/{process}/cmdline");
    assert!(std::fs::read_to_string(&place).unwrap().contains("qemu"));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let began = Instant::now();
    // An ended process whose new parent has not reaped it yet has no command line.
    while std::fs::read(&place).is_ok_and(|line| !line.is_empty()) {
        assert!(began.elapsed() < PATIENCE, "QEMU {process} outlived its owner");
        std::thread::yield_now();
    }
}
