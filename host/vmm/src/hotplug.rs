//! Disks that come and go while the machine runs: QMP's `blockdev-add`, `device_add` and their opposites.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::MachineError;
use crate::qemu::hot_plug_port;
use crate::qmp::{Qmp, QmpError};
use crate::spec::{Content, Disk, MachineSpec};

/// How often it is asked whether the guest has let a disk go.
const LOOK: Duration = Duration::from_millis(20);

/// A disk that was attached to a running machine: what [`crate::Machine::detach`] takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Attached {
    slot: u8,
    /// The set of descriptors in which the monitor put the file.
    file_set: Option<i64>,
}

impl Attached {
    fn device(&self) -> String {
        format!("hot{}", self.slot)
    }

    fn node(&self) -> String {
        format!("hotdisk{}", self.slot)
    }
}

/// The slots of one machine.
pub(crate) struct Slots {
    taken: Vec<bool>,
}

impl Slots {
    pub(crate) fn of(spec: &MachineSpec) -> Self {
        let count = spec.hot_plug_slots.min(MachineSpec::MAX_HOT_PLUG_SLOTS);
        Self { taken: vec![false; usize::from(count)] }
    }

    pub(crate) fn attach(&mut self, monitor: &mut Qmp, disk: &Disk) -> Result<Attached, MachineError> {
        let free = (0_u8..).zip(&mut self.taken).find(|(_, taken)| !**taken);
        let Some((slot, taken)) = free else {
            return Err(MachineError::NoSlot { slots: self.taken.len() });
        };
        let mut attached = Attached { slot, file_set: None };
        match plug(monitor, disk, &mut attached) {
            Ok(()) => {
                *taken = true;
                Ok(attached)
            }
            Err(error) => {
                // What of it was done is undone; the first error is the one to tell.
                let _absent = forget(monitor, &attached);
                Err(error)
            }
        }
    }

    pub(crate) fn detach(
        &mut self,
        monitor: &mut Qmp,
        attached: &Attached,
        patience: Duration,
    ) -> Result<(), MachineError> {
        let device = attached.device();
        monitor.execute_with("device_del", json!({ "id": device }), None)?;
        let begun = Instant::now();
        while !monitor.was_deleted(&device) {
            if begun.elapsed() >= patience {
                return Err(MachineError::NotDetached { waited: patience });
            }
            std::thread::sleep(LOOK);
            // Events come with answers.
            monitor.status()?;
        }
        forget(monitor, attached)?;
        if let Some(taken) = self.taken.get_mut(usize::from(attached.slot)) {
            *taken = false;
        }
        Ok(())
    }
}

fn plug(monitor: &mut Qmp, disk: &Disk, attached: &mut Attached) -> Result<(), MachineError> {
    let file = match &disk.content {
        Content::Nbd(socket) => {
            json!({ "driver": "nbd", "read-only": disk.read_only, "server": { "type": "unix", "path": socket } })
        }
        Content::File(path) => {
            let opened = OpenOptions::new().read(true).write(!disk.read_only).open(path);
            let file =
                opened.map_err(|source| MachineError::File { what: "disk", path: path.clone(), source })?;
            let added = monitor.execute_with("add-fd", json!({}), Some(file.as_fd()))?;
            let set = added.get("fdset-id").and_then(Value::as_i64);
            let set = set.ok_or_else(|| QmpError::Form("add-fd named no set".into()))?;
            attached.file_set = Some(set);
            let name = format!("/dev/fdset/{set}");
            json!({ "driver": "file", "read-only": disk.read_only, "filename": name })
        }
    };
    let node = attached.node();
    let block = json!({ "driver": "raw", "node-name": node, "read-only": disk.read_only, "file": file });
    monitor.execute_with("blockdev-add", block, None)?;
    let device = json!({
        "driver": "virtio-blk-pci",
        "id": attached.device(),
        "drive": node,
        "serial": disk.serial,
        "bus": hot_plug_port(attached.slot),
    });
    monitor.execute_with("device_add", device, None)?;
    Ok(())
}

/// Takes a disk's content from the machine, once no device has it.
fn forget(monitor: &mut Qmp, attached: &Attached) -> Result<(), QmpError> {
    let node = monitor.execute_with("blockdev-del", json!({ "node-name": attached.node() }), None);
    if let Some(set) = attached.file_set {
        match monitor.execute_with("remove-fd", json!({ "fdset-id": set }), None) {
            // QEMU removes a set of its own accord when the last user of its only descriptor is gone.
            Ok(_) | Err(QmpError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    node.map(drop)
}
