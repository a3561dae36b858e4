//! What a container finds under `/` beside its image: kernel file systems, devices, three files in `/etc`.
//!
//! All paths here are inside the container, whose root has been entered. No other process of the container exists
//! yet, so what was looked at stays as it was.

use crate::{ContainerSpec, Failure};
use coffer_sys_mount::{Flags, bind, forbid_devices_below, mount, remount, unmount_lazily};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

/// The device nodes of a container: name, major, minor. All may be read and written by everyone.
const DEVICES: [(&str, u64, u64); 6] =
    [("full", 1, 7), ("null", 1, 3), ("random", 1, 8), ("tty", 5, 0), ("urandom", 1, 9), ("zero", 1, 5)];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
];

/// The group that owns terminals, by custom.
const TTY_GROUP: u32 = 5;

/// Mounts and makes everything.
pub(crate) fn furnish(spec: &ContainerSpec) -> Result<(), Failure> {
    // Container root may make device nodes (CAP_MKNOD), as images expect; they must have no effect, or it could
    // reach the TPM, the disks and the channel to the host.
    forbid_devices_below(Path::new("/"))?;
    make_devices()?;
    mount_on("/proc", "proc", Flags::INERT, "")?;
    mount_on("/sys", "sysfs", Flags::INERT | Flags::READ_ONLY, "")?;
    if spec.cgroup.is_some() {
        mount("cgroup2", Path::new("/sys/fs/cgroup"), "cgroup2", Flags::INERT | Flags::READ_ONLY, "")?;
    }
    for (path, contents) in [
        ("/etc/resolv.conf", spec.resolv_conf.as_deref()),
        ("/etc/hosts", spec.hosts.as_deref()),
        ("/etc/hostname", Some(format!("{}\n", spec.host_name).as_str())),
    ] {
        if let Some(contents) = contents {
            write_file(Path::new(path), contents)
                .map_err(|e| Failure::setup(&format!("writing {path}"), e))?;
        }
    }
    Ok(())
}

/// `/dev`, with each device node bound from a file system that then goes out of reach: everywhere else in the
/// container, device nodes have no effect.
fn make_devices() -> Result<(), Failure> {
    let dev = Path::new("/dev");
    let writable = Flags::NO_SUID | Flags::STRICT_ACCESS_TIME;
    make_mount_point(dev)?;
    mount("tmpfs", dev, "tmpfs", writable | Flags::NO_DEVICES, "mode=0755,size=64m")?;
    let nodes = dev.join("nodes");
    make_mount_point(&nodes)?;
    mount("tmpfs", &nodes, "tmpfs", writable, "mode=0700,size=64k")?;
    for (name, major, minor) in DEVICES {
        let (node, target) = (nodes.join(name), dev.join(name));
        let mode = Mode::from_bits_truncate(0o666);
        let made = mknod(&node, SFlag::S_IFCHR, mode, makedev(major, minor)).map_err(io::Error::from);
        made.and_then(|()| fs::write(&target, ""))
            .map_err(|e| Failure::setup(&format!("making /dev/{name}"), e))?;
        bind(&node, &target, false)?;
    }
    // The bound nodes keep it alive; nothing else can reach it.
    unmount_lazily(&nodes)?;
    fs::remove_dir(&nodes).map_err(|e| Failure::setup("making /dev", e))?;

    let terminals = format!("newinstance,ptmxmode=0666,mode=0620,gid={TTY_GROUP}");
    mount_on("/dev/pts", "devpts", Flags::NO_SUID | Flags::NO_EXEC, &terminals)?;
    mount_on("/dev/shm", "tmpfs", Flags::INERT, "mode=1777,size=64m")?;
    mount_on("/dev/mqueue", "mqueue", Flags::INERT, "")?;
    for (link, to) in LINKS {
        symlink(to, link).map_err(|e| Failure::setup(&format!("making {link}"), e))?;
    }
    Ok(())
}

/// Gives the container's terminal to its user, as a login would, and its other name.
pub(crate) fn make_console(terminal: &Path, owner: u32) -> Result<(), Failure> {
    let console = Path::new("/dev/console");
    chown(terminal, Some(Uid::from_raw(owner)), Some(Gid::from_raw(TTY_GROUP)))
        .map_err(|e| Failure::setup("giving the terminal to the user", e))?;
    fs::write(console, "").map_err(|e| Failure::setup("making /dev/console", e))?;
    bind(terminal, console, false)?;
    Ok(())
}

/// Masks what must not be read and binds what must not be written.
pub(crate) fn restrict(spec: &ContainerSpec) -> Result<(), Failure> {
    for path in &spec.read_only_paths {
        let path = absolute(path)?;
        if path.exists() {
            bind(path, path, true)?;
            remount(path, Flags::INERT | Flags::READ_ONLY)?;
        }
    }
    for path in &spec.masked_paths {
        let path = absolute(path)?;
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                mount("tmpfs", path, "tmpfs", Flags::INERT | Flags::READ_ONLY, "mode=0755,size=0")?;
            }
            Ok(_) => bind(Path::new("/dev/null"), path, false)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::setup(&format!("masking {}", path.display()), error)),
        }
    }
    Ok(())
}

/// Makes the root directory itself read-only; what is mounted below stays as it is.
pub(crate) fn forbid_writes() -> Result<(), Failure> {
    Ok(remount(Path::new("/"), Flags::READ_ONLY | Flags::NO_DEVICES)?)
}

fn absolute(path: &str) -> Result<&Path, Failure> {
    let path = Path::new(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Failure::spec(format!("`{}` is not an absolute path", path.display())))
    }
}

fn mount_on(target: &str, fstype: &str, flags: Flags, data: &str) -> Result<(), Failure> {
    let target = Path::new(target);
    make_mount_point(target)?;
    Ok(mount(fstype, target, fstype, flags, data)?)
}

/// A directory to mount on. An image that puts a link in its place would have the mount, and what is masked in it,
/// somewhere else than the specification says.
fn make_mount_point(path: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::spec(format!("{} in the image is not a directory", path.display()))),
        Err(_) => fs::create_dir(path).map_err(|e| Failure::setup(&format!("making {}", path.display()), e)),
    }
}

/// Writes a file in the image anew, whatever stood in its place; a link there is replaced, not followed.
fn write_file(path: &Path, contents: &str) -> io::Result<()> {
    if let Some(directory) = path.parent()
        && fs::metadata(directory).is_err()
    {
        fs::create_dir(directory)?;
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?.write_all(contents.as_bytes())
}
