//! From the kernel's hand-over to a machine that can be spoken with.

use std::fs;
use std::path::Path;

use coffer_sys_mount::{
    Flags, MountError, leave_initramfs, load_module, load_modules_listed_in, mount, mount_early,
};
use coffer_sys_transport::{Kind, TransportError};

use crate::console;

/// Where images are made ready: the guest's memory.
pub(crate) const IMAGES: &str = "/run/coffer";

/// What is known of the machine before anybody speaks.
pub(crate) struct Machine {
    /// What carries the channel.
    pub(crate) channel: Kind,
    /// The kernel's command line.
    pub(crate) command_line: String,
}

/// Why the machine cannot be used.
#[derive(Debug)]
pub(crate) enum BootError {
    Mount(MountError),
    CommandLine(std::io::Error),
    Channel(TransportError),
    NoChannel,
}

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mount(why) => why.fmt(f),
            Self::CommandLine(why) => write!(f, "reading /proc/cmdline: {why}"),
            Self::Channel(why) => why.fmt(f),
            Self::NoChannel => {
                f.write_str("the command line names no channel; expected coffer.channel=virtio|vsock")
            }
        }
    }
}

impl From<MountError> for BootError {
    fn from(why: MountError) -> Self {
        Self::Mount(why)
    }
}

/// Mounts, modules, command line.
pub(crate) fn prepare() -> Result<Machine, BootError> {
    leave_initramfs()?;
    mount_early()?;
    console::line(concat!("coffer-agent ", env!("CARGO_PKG_VERSION")));
    let count = load_modules_listed_in(Path::new("/etc/modules"))?;
    console::line(&format!("{count} kernel modules loaded"));
    load_drivers_of_tees();
    let images = Path::new(IMAGES);
    fs::create_dir_all(images).map_err(|source| MountError::Path {
        step: "making",
        path: images.to_owned(),
        source,
    })?;
    // An inode is memory, too: the kernel's bound, one for every two pages, is kept.
    mount("tmpfs", images, "tmpfs", Flags::NO_DEVICES, "size=90%,mode=0755")?;
    let command_line = fs::read_to_string("/proc/cmdline").map_err(BootError::CommandLine)?;
    let channel = channel(&command_line)?;
    Ok(Machine { channel, command_line })
}

/// Loads the drivers of TEEs, of which a machine has at most one, and shows their requests' folder. What cannot be
/// loaded is said and no more: the probing that follows decides what the machine has.
fn load_drivers_of_tees() {
    const LIST: &str = "/etc/modules.tee";
    const CONFIGFS: &str = "/sys/kernel/config";
    /// What a driver answers on a machine of another kind.
    const NO_SUCH_DEVICE: i32 = 19;
    let list = fs::read_to_string(LIST).unwrap_or_default();
    for module in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match load_module(Path::new(module)) {
            Err(MountError::Module { source, .. }) if source.raw_os_error() == Some(NO_SUCH_DEVICE) => {}
            Err(why) => console::line(&why.to_string()),
            Ok(()) => {}
        }
    }
    let place = Path::new(CONFIGFS);
    if place.is_dir()
        && let Err(why) = mount("configfs", place, "configfs", Flags::INERT, "")
    {
        console::line(&why.to_string());
    }
}

/// The one word of ours on the command line. A second one would leave it to luck which is meant.
fn channel(command_line: &str) -> Result<Kind, BootError> {
    let mut words = command_line.split_whitespace().filter_map(|word| word.strip_prefix("coffer.channel="));
    match (words.next(), words.next()) {
        (Some(word), None) => word.parse().map_err(BootError::Channel),
        _ => Err(BootError::NoChannel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_read_from_the_command_line_and_must_be_named_once() {
        let kind = channel("console=ttyS0 quiet coffer.channel=virtio initrd=initrd\n");
        assert!(matches!(kind, Ok(Kind::Virtio)));
        assert!(matches!(channel("console=ttyS0"), Err(BootError::NoChannel)));
        assert!(matches!(channel("coffer.channel=virtio coffer.channel=vsock"), Err(BootError::NoChannel)));
        assert!(matches!(channel("coffer.channel=tcp"), Err(BootError::Channel(_))));
    }
}
