//! The same tests inside a real guest, and the sealed image's way to a container: dm-verity, dm-crypt, EROFS, overlay.
//!
//! This test program is also the guest's PID 1: with the libraries it has mapped, it makes up the initial ramfs.

use super::report;
use super::world::{World, busybox, output_of};
use aes::Aes256;
use aes::cipher::KeyInit;
use coffer_guest_containers::ContainerSpec;
use coffer_sys_dm::{
    CryptTable, LoopOptions, VerityTable, attach_loop, map_crypt, map_verity, unmap, verity_is_corrupt,
    version,
};
use coffer_sys_mount::{
    Flags, block_device_by_serial, leave_initramfs, load_modules_listed_in, mount, mount_early, unmount,
};
use coffer_sys_process::{End, power_off, reap, spawn_guarded};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xts_mode::Xts128;

const BLOCK: usize = 4096;
const KEY: [u8; 64] = {
    let mut key = [0; 64];
    let mut index = 0;
    while index < 64 {
        key[index] = (index as u8).wrapping_mul(7).wrapping_add(1);
        index += 1;
    }
    key
};
const SALT: [u8; 32] = [0x5a; 32];
const SECRET: &str = "what only the sealed image holds\n";
const PASSED: &str = "all of the guest's tests passed";

/// In load order after their dependencies.
const MODULES: [&str; 9] =
    ["virtio_pci", "virtio_blk", "dm-verity", "dm-crypt", "xts", "aesni_intel", "erofs", "overlay", "loop"];

/// Boots a guest that runs all tests; `true` also where there is nothing to boot.
pub(crate) fn in_a_guest(wanted: &str) -> bool {
    const NAME: &str = "everything_holds_in_a_real_guest";
    if !NAME.contains(wanted) {
        return true;
    }
    let Some(kernel) = std::env::var_os("COFFER_TEST_KERNEL").map(PathBuf::from) else {
        println!("skipped: {NAME}: COFFER_TEST_KERNEL names no unpacked kernel package");
        return true;
    };
    for tool in ["qemu-system-x86_64", "mkfs.erofs", "veritysetup", "depmod"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: {NAME}: no {tool}");
            return true;
        }
    }
    report(NAME, || boot(&kernel))
}

fn boot(kernel: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let modules = kernel.join("lib/modules");
    let release = fs::read_dir(&modules).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();

    let (disk, root, blocks) = seal(directory.path());
    fs::write(at("good.img"), &disk).unwrap();
    let mut flipped = disk;
    let position = position_of_big_file(directory.path());
    flipped[position] ^= 1;
    fs::write(at("flipped.img"), &flipped).unwrap();
    fs::write(at("initrd"), initramfs(kernel, &release, &format!("{root} {blocks}"))).unwrap();

    let drive = |name: &str| {
        let file = at(&format!("{name}.img"));
        [
            "-drive".to_owned(),
            format!("if=none,id={name},format=raw,readonly=on,file={}", file.display()),
            "-device".to_owned(),
            format!("virtio-blk-pci,drive={name},serial={name}"),
        ]
    };
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max,-cx16",
            "-machine",
            "pc",
            "-m",
            "512",
            "-nodefaults",
        ])
        .args(["-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-append"])
        .arg("console=ttyS0 panic=-1 quiet mitigations=off")
        .arg("-kernel")
        .arg(kernel.join(format!("boot/vmlinuz-{release}")))
        .arg("-initrd")
        .arg(at("initrd"))
        .args(drive("good"))
        .args(drive("flipped"))
        .stdin(std::process::Stdio::null())
        .stdout(File::create(at("console")).unwrap());
    let status = spawn_guarded(&mut command).unwrap().wait().unwrap();
    let console = String::from_utf8_lossy(&fs::read(at("console")).unwrap()).into_owned();
    for line in console.lines() {
        println!("    {}", line.trim_end());
    }
    assert!(status.success() && console.contains(PASSED), "the guest's tests failed");
}

/// An EROFS image of a small root, encrypted, with its hash tree behind it: the disk, root hash, data blocks.
fn seal(directory: &Path) -> (Vec<u8>, String, usize) {
    let world = World::new();
    fs::write(world.root().join("secret"), SECRET).unwrap();
    fs::write(world.root().join("big"), big_file()).unwrap();
    let image = directory.join("plain.img");
    let made =
        Command::new("mkfs.erofs").args(["-T0", "--quiet"]).arg(&image).arg(world.root()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut bytes = fs::read(&image).unwrap();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    fs::write(&image, &bytes).unwrap();
    let (first, second) = KEY.split_at(32);
    let cipher = Xts128::new(Aes256::new_from_slice(first).unwrap(), Aes256::new_from_slice(second).unwrap());
    cipher.encrypt_area(&mut bytes, BLOCK, 0, |sector| sector.to_le_bytes());
    let blocks = bytes.len() / BLOCK;
    let disk = directory.join("sealed.img");
    fs::write(&disk, &bytes).unwrap();
    let output = Command::new("veritysetup")
        .args([
            "format",
            "--no-superblock",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            "--hash=sha256",
        ])
        .arg(format!("--data-blocks={blocks}"))
        .arg(format!("--hash-offset={}", bytes.len()))
        .arg(format!("--salt={}", "5a".repeat(SALT.len())))
        .args([&disk, &disk])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let root = text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();
    (fs::read(&disk).unwrap(), root, blocks)
}

fn big_file() -> Vec<u8> {
    (0..64 * BLOCK).map(|index| (index / 16 % 251) as u8).collect()
}

/// A byte in the middle of the big file, which has whole blocks of the image to itself.
fn position_of_big_file(directory: &Path) -> usize {
    let image = fs::read(directory.join("plain.img")).unwrap();
    let file = big_file();
    let block = image.chunks(BLOCK).position(|block| block == &file[..BLOCK]).unwrap();
    (block + 32) * BLOCK + 100
}

/// An initial ramfs of this program, the libraries it has mapped, busybox and the modules.
fn initramfs(kernel: &Path, release: &str, sealed: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "modules", "tmp"] {
        archive.add(directory, 0o040_755, &[]);
    }
    archive.add_console();
    archive.add("init", 0o100_755, &fs::read("/proc/self/exe").unwrap());
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox().unwrap()).unwrap());
    archive.add("etc/sealed", 0o100_644, sealed.as_bytes());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libraries: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .collect();
    archive.add("lib64", 0o040_755, &[]);
    archive.add("lib", 0o040_755, &[]);
    archive.add("lib/x86_64-linux-gnu", 0o040_755, &[]);
    for library in libraries {
        let name = Path::new(library).file_name().unwrap().to_str().unwrap();
        let place = if name.starts_with("ld-") { "lib64" } else { "lib/x86_64-linux-gnu" };
        archive.add(&format!("{place}/{name}"), 0o100_755, &fs::read(library).unwrap());
    }
    let mut list = String::new();
    for module in modules_in_order(kernel, release) {
        let name = format!("modules/{}", module.file_name().unwrap().to_str().unwrap());
        archive.add(&name, 0o100_644, &fs::read(&module).unwrap());
        list.push_str(&format!("/{name}\n"));
    }
    archive.add("etc/modules", 0o100_644, list.as_bytes());
    archive.finish()
}

/// The modules' files, each after those it needs.
fn modules_in_order(kernel: &Path, release: &str) -> Vec<PathBuf> {
    let listed = Command::new("depmod").args(["-n", "-b"]).arg(kernel).arg(release).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let dependencies = String::from_utf8(listed.stdout).unwrap();
    let folder = Path::new("lib/modules").join(release);
    let mut order = Vec::new();
    for module in MODULES {
        let file = format!("/{module}.ko:");
        let line = dependencies.lines().find(|line| line.replace('_', "-").contains(&file.replace('_', "-")));
        let line = line.unwrap_or_else(|| panic!("the kernel has no module {module}")).replace(':', "");
        // What a module needs stands behind it, the first to load last.
        for path in line.split_whitespace().rev().map(|path| kernel.join(&folder).join(path)) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order
}

/// A cpio archive in the form `newc` (kernel documentation: driver-api/early-userspace/buffer-format).
#[derive(Default)]
struct Archive(Vec<u8>, u32);

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, mode, data, (0, 0));
    }

    /// PID 1's standard streams.
    fn add_console(&mut self) {
        self.entry("dev/console", 0o020_600, &[], (5, 1));
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        self.1 += 1;
        let (inode, size, name_size) = (self.1, data.len(), name.len() + 1);
        let (major, minor) = device;
        write!(
            self.0,
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{major:08x}{minor:08x}\
             {name_size:08x}{0:08x}{name}\0",
            0, 1
        )
        .unwrap();
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.0
    }
}

/// PID 1 of the guest.
pub(crate) fn as_guest(all_tests: impl FnOnce() -> bool) -> ! {
    leave_initramfs().unwrap();
    mount_early().unwrap();
    let loaded = load_modules_listed_in(Path::new("/etc/modules")).unwrap();
    println!("guest: {loaded} modules, device mapper {:?}", version().unwrap());
    let passed = [
        report("orphans_and_children_fall_to_pid_1", reaping),
        report("sealed_image_reads_and_runs_in_the_guest", sealed_image_runs),
        report("flipped_byte_is_an_input_output_error", flipped_byte),
        report("wrong_key_gives_no_file_system", wrong_key),
        report("loop_device_carries_a_verified_file", loop_device),
        all_tests(),
    ];
    if passed.into_iter().all(|one| one) {
        println!("{PASSED}");
    }
    panic!("{}", power_off());
}

fn reaping() {
    let mut command = Command::new("/bin/busybox");
    let mut child = command.args(["sh", "-c", "(busybox true &); exit 3"]).spawn().unwrap();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.extend(reap().unwrap());
    }
    assert!(child.wait().is_err(), "the child's own handle comes too late");
    assert!(ended.iter().any(|one| one.pid == child.id() && one.end == End::Exited(3)), "{ended:?}");
    assert_eq!(reap().unwrap(), None);
}

/// Maps the disk of this serial number and gives the decrypted device and the names of both mappings.
fn open(serial: &str, key: &[u8]) -> (PathBuf, [String; 2]) {
    let disk = block_device_by_serial(serial, Duration::from_secs(5)).unwrap();
    open_device(&disk, serial, key)
}

fn open_device(disk: &Path, name: &str, key: &[u8]) -> (PathBuf, [String; 2]) {
    let sealed = fs::read_to_string("/etc/sealed").unwrap();
    let (root, blocks) = sealed.split_once(' ').unwrap();
    let blocks: u64 = blocks.parse().unwrap();
    let root: Vec<u8> =
        (0..32).map(|index| u8::from_str_radix(&root[2 * index..2 * index + 2], 16).unwrap()).collect();
    let table = VerityTable {
        data_device: disk.to_owned(),
        hash_device: disk.to_owned(),
        blocks,
        hash_start_block: blocks,
        root: root.try_into().unwrap(),
        salt: SALT.to_vec(),
    };
    let names = [format!("{name}-verity"), format!("{name}-crypt")];
    let verified = map_verity(&names[0], &table).unwrap();
    let plain =
        map_crypt(&names[1], &CryptTable { device: verified.path, sectors: blocks * 8 }, key).unwrap();
    assert!(key_is_gone(), "the key stays in the kernel's keyrings");
    (plain.path, names)
}

/// The kernel frees a key that nothing refers to any more a little later.
fn key_is_gone() -> bool {
    let start = std::time::Instant::now();
    while fs::read_to_string("/proc/keys").unwrap().contains("coffer:") {
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn close(names: &[String; 2]) {
    unmap(&names[1]).unwrap();
    unmap(&names[0]).unwrap();
}

fn mount_plain(device: &Path, target: &Path) -> Result<(), coffer_sys_mount::MountError> {
    fs::create_dir_all(target).unwrap();
    mount(device.to_str().unwrap(), target, "erofs", Flags::READ_ONLY | Flags::NO_DEVICES, "")
}

fn sealed_image_runs() {
    let (device, names) = open("good", &KEY);
    let lower = Path::new("/run/good");
    mount_plain(&device, lower).unwrap();
    assert_eq!(fs::read_to_string(lower.join("secret")).unwrap(), SECRET);
    assert!(fs::read(lower.join("big")).unwrap() == big_file());
    assert!(unmap(&names[1]).is_err(), "a mounted device cannot be unmapped");

    for directory in ["upper", "work", "root"] {
        fs::create_dir_all(Path::new("/run/overlay").join(directory)).unwrap();
    }
    let root = Path::new("/run/overlay/root");
    let options = "lowerdir=/run/good,upperdir=/run/overlay/upper,workdir=/run/overlay/work";
    mount("overlay", root, "overlay", Flags::NONE, options).unwrap();
    let script = "cat /secret; echo changed > /secret; cat /secret";
    let spec = ContainerSpec::new(root, ["sh", "-c", script].map(str::to_owned).to_vec());
    assert_eq!(output_of(&spec), format!("{SECRET}changed\n"));
    unmount(root).unwrap();
    unmount(lower).unwrap();
    close(&names);
}

fn flipped_byte() {
    let (device, names) = open("flipped", &KEY);
    let target = Path::new("/run/flipped");
    mount_plain(&device, target).unwrap();
    assert_eq!(fs::read_to_string(target.join("secret")).unwrap(), SECRET, "the rest still reads");
    assert!(!verity_is_corrupt(&names[0]).unwrap());
    let error = fs::read(target.join("big")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32), "{error}");
    assert!(verity_is_corrupt(&names[0]).unwrap());
    unmount(target).unwrap();
    close(&names);
}

fn wrong_key() {
    let mut key = KEY;
    key[63] ^= 1;
    let (device, names) = open("good", &key);
    assert!(mount_plain(&device, Path::new("/run/wrong")).is_err());
    close(&names);
}

fn loop_device() {
    let disk = block_device_by_serial("good", Duration::from_secs(5)).unwrap();
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open("/tmp/copy").unwrap();
    std::io::copy(&mut File::open(disk).unwrap(), &mut file).unwrap();
    let attached = attach_loop(&file, LoopOptions { read_only: true, direct_io: false }).unwrap();
    let (device, names) = open_device(attached.path(), "looped", &KEY);
    let target = Path::new("/run/looped");
    mount_plain(&device, target).unwrap();
    assert_eq!(fs::read_to_string(target.join("secret")).unwrap(), SECRET);
    unmount(target).unwrap();
    close(&names);
}
