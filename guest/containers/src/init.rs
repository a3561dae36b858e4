//! The init: the container's first process until it becomes the workload.
//!
//! INVARIANT: the image's root is this process's root before it opens, makes or mounts anything by a name in the
//! image; symbolic links there can lead only to other places in the image.

use crate::{ContainerSpec, Failure, RootAccess, cgroup, error, rootfs, user, workload};
use coffer_sys_mount::{bind, make_private};
use coffer_sys_process::{
    CapabilityList, Limit, Namespaces, Resource, Size, become_user, change_root_to, close_others_at_exec,
    die_with_parent, forbid_new_privileges, limit, open_terminal, seccomp::Filter, send_descriptor,
    set_host_name, set_limit, set_umask, take_inherited_descriptor, take_terminal, unshare,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// Its word on the command line.
pub(crate) const ROLE: &str = "init";
/// The descriptor from which it reads the specification.
pub(crate) const SPEC: i32 = 3;
/// The descriptor to which it writes [`READY`] and then, if the workload cannot be executed, a failure.
pub(crate) const STATUS: i32 = 4;
/// The descriptor over which it sends the agent its terminal.
pub(crate) const CONSOLE: i32 = 5;
/// What it writes before it executes the workload.
pub(crate) const READY: u8 = b'\n';

/// Open files: programs that want more than the soft limit ask for it.
const OPEN_FILES: Limit = Limit { soft: 1024, hard: 524_288 };

pub(crate) fn main() -> ExitCode {
    let (Ok(spec), Ok(status)) = (take_inherited_descriptor(SPEC), take_inherited_descriptor(STATUS)) else {
        return ExitCode::from(error::SETUP_FAILED);
    };
    let mut status = File::from(status);
    let failure = match become_workload(File::from(spec), &mut status) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // The monitor waits for the end of this pipe; when it is gone there is nobody to tell.
    let _monitor_gone = serde_json::to_writer(&mut status, &failure);
    ExitCode::from(error::SETUP_FAILED)
}

fn become_workload(spec: File, status: &mut File) -> Result<std::convert::Infallible, Failure> {
    let spec = read_spec(spec)?;
    let console = match spec.terminal {
        Some(_) => {
            Some(take_inherited_descriptor(CONSOLE).map_err(|e| Failure::setup("taking the console", e))?)
        }
        None => None,
    };
    close_others_at_exec()?;
    let capabilities =
        CapabilityList::from_names(&spec.capabilities).map_err(|e| Failure::spec(e.to_string()))?;
    let filter = Filter::for_container(&capabilities)?;

    if let Some(group) = &spec.cgroup {
        cgroup::join(&group.path).map_err(|e| Failure::setup("joining the control group", e))?;
    }
    unshare(Namespaces::MOUNT | Namespaces::UTS | Namespaces::IPC | Namespaces::CGROUP)?;
    make_private(Path::new("/"))?;
    bind(&spec.rootfs, &spec.rootfs, true)?;
    change_root_to(&spec.rootfs)?;

    set_umask(0);
    rootfs::furnish(&spec)?;
    set_host_name(&spec.host_name)?;
    rootfs::restrict(&spec)?;
    let user = user::find(&spec.user)?;
    if let Some(console) = console {
        attach_terminal(&spec, &console, user.uid)?;
    }
    workload::make_directory(&spec.cwd)?;
    if spec.root == RootAccess::ReadOnly {
        rootfs::forbid_writes()?;
    }
    set_umask(0o022);

    set_limit(Resource::Core, Limit { soft: 0, hard: 0 })?;
    // Without the privilege to raise the limit, as in a test outside a guest, what there is must do.
    let hard = limit(Resource::OpenFiles)?.hard.min(OPEN_FILES.hard);
    set_limit(Resource::OpenFiles, OPEN_FILES)
        .or_else(|_| set_limit(Resource::OpenFiles, Limit { soft: OPEN_FILES.soft.min(hard), hard }))?;
    forbid_new_privileges()?;
    capabilities.bound()?;
    become_user(user.uid, user.gid, &user.groups)?;
    let held = if user.uid == 0 { capabilities } else { CapabilityList::none() };
    held.hold()?;

    let workload = workload::Workload::prepare(&spec, &user)?;
    // The change of user took back the request to die with the monitor.
    die_with_parent()?;
    // If the monitor died before that request, this write fails, and there will be no workload without a monitor.
    status.write_all(&[READY]).map_err(|e| Failure::setup("telling the monitor", e))?;
    filter.load()?;
    Err(workload.execute())
}

fn read_spec(mut pipe: File) -> Result<ContainerSpec, Failure> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).map_err(|e| Failure::setup("reading the specification", e))?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::spec(format!("the specification does not read: {e}")))
}

/// Takes a terminal of the container's own `devpts`, so that its name means something inside.
fn attach_terminal(spec: &ContainerSpec, console: &OwnedFd, owner: u32) -> Result<(), Failure> {
    let size = spec.terminal.map(|size| Size { rows: size.rows, cols: size.cols });
    let terminal = open_terminal(Path::new("/dev/pts"), size)?;
    rootfs::make_console(&terminal.path, owner)?;
    send_descriptor(console, terminal.master.as_fd())?;
    take_terminal(&terminal.slave)?;
    Ok(())
}
