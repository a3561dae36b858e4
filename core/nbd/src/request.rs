//! The transmission phase: requests of 28 bytes, simple replies of 16 (`doc/proto.md`, "Transmission phase").

use crate::NbdError;

/// The length of a request, in bytes.
pub const REQUEST_LENGTH: usize = 28;
/// The most that one read may ask for, in bytes: what clients may assume where nothing else was said ("Block size
/// constraints").
pub const MAX_READ: u32 = 32 << 20;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `NBD_CMD_READ`.
    Read,
    /// `NBD_CMD_WRITE`; a payload follows.
    Write,
    /// `NBD_CMD_DISC`.
    Disconnect,
    /// `NBD_CMD_FLUSH`.
    Flush,
    /// Another one, by number.
    Other(u16),
}

impl Command {
    fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Other(number) => number,
        }
    }
}

/// A request of the transmission phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Command flags; a read-only server minds none of them.
    pub flags: u16,
    /// What is asked for.
    pub command: Command,
    /// The client's own number of the request, given back with the answer.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub length: u32,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// When it does not begin with the request's magic number.
    pub fn parse(bytes: &[u8; REQUEST_LENGTH]) -> Result<Self, NbdError> {
        let [m0, m1, m2, m3, f0, f1, c0, c1, rest @ ..] = *bytes;
        let [k0, k1, k2, k3, k4, k5, k6, k7, o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = rest;
        let magic = u32::from_be_bytes([m0, m1, m2, m3]);
        if magic != REQUEST_MAGIC {
            return Err(NbdError::Magic {
                expected: "a request",
                wanted: u64::from(REQUEST_MAGIC),
                found: u64::from(magic),
            });
        }
        Ok(Self {
            flags: u16::from_be_bytes([f0, f1]),
            command: Command::from_number(u16::from_be_bytes([c0, c1])),
            cookie: u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
            offset: u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// The request's bytes, as a client sends them.
    pub fn to_bytes(&self) -> [u8; REQUEST_LENGTH] {
        let mut bytes = [0; REQUEST_LENGTH];
        let fields = REQUEST_MAGIC
            .to_be_bytes()
            .into_iter()
            .chain(self.flags.to_be_bytes())
            .chain(self.command.number().to_be_bytes())
            .chain(self.cookie.to_be_bytes())
            .chain(self.offset.to_be_bytes())
            .chain(self.length.to_be_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// Why a request was not done ("Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// The export is read-only.
    NotPermitted = 1,
    /// Reading failed.
    Io = 5,
    /// The request is not one that this server does, or is outside of the export.
    Invalid = 22,
}

/// A simple reply without its data: 16 bytes.
pub(crate) fn reply(cookie: u64, error: Option<Errno>) -> [u8; 16] {
    let mut bytes = [0; 16];
    let fields = REPLY_MAGIC
        .to_be_bytes()
        .into_iter()
        .chain(error.map_or(0, |error| error as u32).to_be_bytes())
        .chain(cookie.to_be_bytes());
    bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    bytes
}
