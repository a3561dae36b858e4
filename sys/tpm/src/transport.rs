//! How bytes reach a TPM: a character device, or a stream socket of swtpm.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::TpmError;

/// The kernel's `TPM_BUFSIZE`. No response of a PC Client TPM is longer.
pub(crate) const MAX_MESSAGE: usize = 4096;
const HEADER: usize = 10;
/// Making an RSA key under emulation takes longer than any other command.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) enum Transport {
    Device(File),
    Socket(UnixStream),
}

impl Transport {
    pub(crate) fn device(path: &Path) -> Result<Self, TpmError> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.map(Self::Device).map_err(|cause| TpmError::Open { path: path.into(), cause })
    }

    pub(crate) fn socket(path: &Path) -> Result<Self, TpmError> {
        let connected = UnixStream::connect(path).and_then(Self::stream);
        connected.map_err(|cause| TpmError::Open { path: path.into(), cause })
    }

    pub(crate) fn stream(stream: UnixStream) -> Result<Self, Error> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::Socket(stream))
    }

    pub(crate) fn exchange(&mut self, command: &'static str, bytes: &[u8]) -> Result<Vec<u8>, TpmError> {
        let exchanged = match self {
            Self::Device(file) => exchange_device(file, bytes),
            Self::Socket(stream) => exchange_socket(stream, bytes),
        };
        exchanged.map_err(|cause| TpmError::Io { command, cause })
    }
}

/// The kernel takes a command in one write and gives its whole response in one read.
fn exchange_device(file: &mut File, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let written = file.write(bytes)?;
    if written != bytes.len() {
        return Err(Error::new(ErrorKind::WriteZero, "the device took only a part of the command"));
    }
    let mut response = vec![0; MAX_MESSAGE];
    let count = loop {
        match file.read(&mut response) {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    response.truncate(count);
    Ok(response)
}

/// A stream has no message bounds, so the header's size tells where the response ends.
fn exchange_socket(stream: &mut UnixStream, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    stream.write_all(bytes)?;
    let mut response = vec![0; HEADER];
    stream.read_exact(&mut response)?;
    let size =
        response.get(2..6).and_then(|size| <[u8; 4]>::try_from(size).ok()).map_or(0, u32::from_be_bytes);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if !(HEADER..=MAX_MESSAGE).contains(&size) {
        return Err(Error::new(ErrorKind::InvalidData, "the response announces an impossible size"));
    }
    response.resize(size, 0);
    stream.read_exact(response.get_mut(HEADER..).unwrap_or_default())?;
    Ok(response)
}
