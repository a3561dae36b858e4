//! The virtio-serial port, found by its name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::stream::{FdStream, hung_up};
use crate::{PORT_NAME, TransportError};

const PORTS: &str = "/sys/class/virtio-ports";

/// The port's device file, looked up by name: its number depends on the order of the devices.
fn find(ports: &Path, devices: &Path, name: &'static str) -> Result<PathBuf, TransportError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(ports) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(TransportError::NoPort { expected: name, found });
        }
        Err(cause) => return Err(TransportError::io(format!("reading {}", ports.display()), cause)),
    };
    for entry in entries.flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("name")) else { continue };
        if text.trim_end() == name {
            return Ok(devices.join(entry.file_name()));
        }
        found.push(text.trim_end().to_owned());
    }
    Err(TransportError::NoPort { expected: name, found })
}

fn open(path: &Path) -> Result<OwnedFd, TransportError> {
    let file: Result<File, _> =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    file.map(OwnedFd::from).map_err(|cause| TransportError::io(format!("opening {}", path.display()), cause))
}

/// Opens the port and waits until the host has opened its side.
pub(crate) async fn open_port(patience: Duration) -> Result<FdStream, TransportError> {
    let until = Instant::now() + patience;
    let path = loop {
        match find(Path::new(PORTS), Path::new("/dev"), PORT_NAME) {
            Err(TransportError::NoPort { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => break other?,
        }
    };
    let port = open(&path)?;
    wait_for_host(&port, patience, until).await?;
    FdStream::new(port).map_err(|cause| TransportError::io(format!("watching {}", path.display()), cause))
}

/// A port whose host side is closed reads as ended; a descriptor is only watched once that is over, because
/// a hang-up that was seen once stays in the reactor's readiness.
async fn wait_for_host(port: &OwnedFd, patience: Duration, until: Instant) -> Result<(), TransportError> {
    let mut pause = Duration::from_millis(1);
    while hung_up(port).map_err(|cause| TransportError::io("asking for the port's other side", cause))? {
        if Instant::now() >= until {
            return Err(TransportError::Absent { seconds: patience.as_secs() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_name_and_others_are_named_in_the_error() {
        let root = std::env::temp_dir().join(format!("coffer-ports-{}", std::process::id()));
        for (port, name) in [("vport0p1", "org.other"), ("vport3p2", PORT_NAME)] {
            fs::create_dir_all(root.join(port)).expect("folder");
            fs::write(root.join(port).join("name"), format!("{name}\n")).expect("file");
        }
        let path = find(&root, Path::new("/dev"), PORT_NAME).expect("found");
        assert_eq!(path, Path::new("/dev/vport3p2"));
        fs::remove_dir_all(root.join("vport3p2")).expect("removed");
        let error = find(&root, Path::new("/dev"), PORT_NAME).expect_err("gone");
        assert!(error.to_string().ends_with("found: org.other"), "{error}");
        fs::remove_dir_all(&root).expect("removed");
        assert!(matches!(find(&root, Path::new("/dev"), PORT_NAME), Err(TransportError::NoPort { .. })));
    }

    #[tokio::test]
    async fn a_host_that_never_comes_is_given_up() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
        drop(theirs);
        let patience = Duration::from_millis(30);
        let error = wait_for_host(&ours.into(), patience, Instant::now() + patience).await;
        assert!(matches!(error, Err(TransportError::Absent { .. })));
    }
}
