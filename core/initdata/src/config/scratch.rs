//! `[scratch]`: where the container's writable layer lies.

use serde::Deserialize;

/// Where what the workload writes beside its volumes lies, and what images are unpacked onto.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// In memory or on a disk.
    pub overlay: Overlay,
}

/// Where the writable layer lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlay {
    /// In the guest's memory, up to a part of it.
    #[default]
    Memory,
    /// On a disk that the host attaches, under a key that is drawn in the guest and goes with it.
    Disk,
}

impl Scratch {
    pub(super) fn write(self, text: &mut String) {
        // Where nothing is written, the same is meant.
        if self.overlay == Overlay::Disk {
            text.push_str(
                "\n# What the workload writes goes to a disk, under a key that is drawn in the guest and goes with it.\n\
                 [scratch]\noverlay = \"disk\"\n",
            );
        }
    }
}
