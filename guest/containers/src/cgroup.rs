//! The container's control group (version 2), from the agent's side.

use crate::{Cgroup, ContainerError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A control group that exists; removed, with every process in it, when dropped.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

impl Group {
    pub(crate) fn create(spec: &Cgroup) -> Result<Self, ContainerError> {
        let failed = |step| {
            let path = spec.path.clone();
            move |source| ContainerError::Cgroup { step, path, source }
        };
        let controllers: Vec<&str> = [("+memory", spec.memory_max), ("+pids", spec.pids_max)]
            .iter()
            .filter_map(|(controller, limit)| limit.map(|_| *controller))
            .collect();
        if let (Some(parent), false) = (spec.path.parent(), controllers.is_empty()) {
            write(parent, "cgroup.subtree_control", &controllers.join(" "))
                .map_err(failed("enabling controllers in its parent"))?;
        }
        fs::create_dir(&spec.path).map_err(failed("making it"))?;
        let group = Self(spec.path.clone());
        if let Some(bytes) = spec.memory_max {
            write(&group.0, "memory.max", &bytes.to_string()).map_err(failed("limiting memory"))?;
            // One process of the workload killed and the others left is a state that no workload expects.
            write(&group.0, "memory.oom.group", "1").map_err(failed("limiting memory"))?;
        }
        if let Some(count) = spec.pids_max {
            write(&group.0, "pids.max", &count.to_string()).map_err(failed("limiting processes"))?;
        }
        Ok(group)
    }

    /// Whether the kernel killed a process of the group for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group that cannot be removed is empty memory in the kernel; the sandbox ends soon after its container.
        let _before_linux_5_14 = write(&self.0, "cgroup.kill", "1");
        let _stays_until_the_sandbox_ends = fs::remove_dir(&self.0);
    }
}

/// Moves the calling process into the group at this path.
pub(crate) fn join(path: &Path) -> io::Result<()> {
    write(path, "cgroup.procs", "0")
}

fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(group.join(file))
        .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()))
}
