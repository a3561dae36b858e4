//! One connection as a machine: bytes in, reads and bytes out.

use crate::NbdError;
use crate::export::Export;
use crate::negotiation::{
    FIXED_NEWSTYLE, MAX_OPTION, MAX_OPTIONS, NO_ZEROES, Next, OPTION_MAGIC, answer, greeting,
};
use crate::request::{Command, Errno, MAX_READ, REQUEST_LENGTH, Request, reply};

/// A read within the export, to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The client's number of the request.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much: 1 to [`MAX_READ`] bytes, within the export.
    pub length: u32,
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Data.
    Read(Read),
    /// The end. What is pending may still be sent.
    Disconnect,
}

enum Phase {
    Flags,
    Options {
        zeroes: bool,
        left: u32,
    },
    Transmission,
    /// So many bytes of a refused write are passed over; then its client is told.
    Skip {
        left: u32,
        cookie: u64,
    },
    End,
}

/// How many bytes of reads a client may have under way.
const MAX_UNDER_WAY: u64 = MAX_READ as u64;
/// How many reads.
const MAX_READS: usize = 64;

/// A connection. Holds at most one option or request, one push, and the answers that were not taken yet.
pub struct Server {
    export: Export,
    phase: Phase,
    /// How many reads are not answered yet, and how many bytes they are of.
    reads: usize,
    under_way: u64,
    hungry: bool,
    pending: Vec<u8>,
    /// How much of `pending` was used.
    taken: usize,
    out: Vec<u8>,
}

impl Server {
    /// For a client that negotiates, as QEMU and nbd-client do.
    pub fn negotiate(export: Export) -> Self {
        Self { out: greeting(), ..Self::begin(export, Phase::Flags) }
    }

    /// For a client that was told everything already, as Linux's driver is through `NBD_SET_SOCK`.
    pub fn transmission(export: Export) -> Self {
        Self::begin(export, Phase::Transmission)
    }

    fn begin(export: Export, phase: Phase) -> Self {
        let (pending, out) = (Vec::new(), Vec::new());
        Self { export, phase, reads: 0, under_way: 0, hungry: false, pending, taken: 0, out }
    }

    /// Takes bytes of the client.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.taken.min(self.pending.len()));
        self.taken = 0;
        self.hungry = false;
        self.pending.extend_from_slice(bytes);
    }

    /// Whether the client must say more before there is anything to do for it. Who serves reads from it then, and only
    /// then, so that a client that asks and asks costs bounded memory.
    pub fn is_hungry(&self) -> bool {
        self.hungry
    }

    /// The next thing that the client wants; `None` if more bytes are needed ([`Self::is_hungry`]), or so many reads are
    /// under way that answers come first.
    ///
    /// # Errors
    /// When the client breaks the protocol: the connection is to be closed, after [`Self::output`] if that has bytes.
    // Not an iterator: it ends for want of bytes, not for good.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Event>, NbdError> {
        if self.reads >= MAX_READS || self.under_way >= MAX_UNDER_WAY {
            return Ok(None);
        }
        let event = self.advance()?;
        self.hungry = event.is_none();
        if let Some(Event::Read(read)) = event {
            self.reads = self.reads.saturating_add(1);
            self.under_way = self.under_way.saturating_add(u64::from(read.length));
        }
        Ok(event)
    }

    fn advance(&mut self) -> Result<Option<Event>, NbdError> {
        loop {
            match self.phase {
                Phase::Flags => {
                    let Some(flags) = self.take::<4>() else { return Ok(None) };
                    self.flags(u32::from_be_bytes(flags))?;
                }
                Phase::Options { zeroes, left } => {
                    let Some((option, data)) = self.option()? else { return Ok(None) };
                    let left = left.checked_sub(1).ok_or(NbdError::Options)?;
                    self.phase = match answer(&self.export, zeroes, option, &data, &mut self.out) {
                        Next::More => Phase::Options { zeroes, left },
                        Next::Transmission => Phase::Transmission,
                        Next::End => Phase::End,
                        Next::Unknown => return Err(NbdError::Unknown),
                    };
                }
                Phase::Transmission => {
                    let Some(request) = self.take::<REQUEST_LENGTH>() else { return Ok(None) };
                    if let Some(event) = self.request(&Request::parse(&request)?)? {
                        return Ok(Some(event));
                    }
                }
                Phase::Skip { left, cookie } => {
                    let waiting = self.pending.len().saturating_sub(self.taken);
                    let skipped = u32::try_from(waiting).unwrap_or(u32::MAX).min(left);
                    self.taken = self.taken.saturating_add(usize::try_from(skipped).unwrap_or(waiting));
                    let left = left.saturating_sub(skipped);
                    if left > 0 {
                        self.phase = Phase::Skip { left, cookie };
                        return Ok(None);
                    }
                    self.refuse(cookie, Errno::NotPermitted);
                    self.phase = Phase::Transmission;
                }
                Phase::End => return Ok(Some(Event::Disconnect)),
            }
        }
    }

    /// Answers a read with its data, as a simple reply. What is not exactly as long as was asked becomes `EIO`.
    pub fn answer(&mut self, read: &Read, data: Result<&[u8], Errno>) {
        self.reads = self.reads.saturating_sub(1);
        self.under_way = self.under_way.saturating_sub(u64::from(read.length));
        match data {
            Ok(data) if u32::try_from(data.len()) == Ok(read.length) => {
                self.out.extend(reply(read.cookie, None));
                self.out.extend_from_slice(data);
            }
            Ok(_) => self.refuse(read.cookie, Errno::Io),
            Err(error) => self.refuse(read.cookie, error),
        }
    }

    /// What is to be sent, in order. Taken often: it is what bounds the memory of a connection.
    pub fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn flags(&mut self, flags: u32) -> Result<(), NbdError> {
        let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
        if flags & u32::from(FIXED_NEWSTYLE) == 0 || flags & !known != 0 {
            return Err(NbdError::Flags(flags));
        }
        let zeroes = flags & u32::from(NO_ZEROES) == 0;
        self.phase = Phase::Options { zeroes, left: MAX_OPTIONS };
        Ok(())
    }

    /// The next whole option: its number and its data.
    fn option(&mut self) -> Result<Option<(u32, Vec<u8>)>, NbdError> {
        let waiting = self.waiting();
        let Some((magic, rest)) = waiting.split_first_chunk::<8>() else { return Ok(None) };
        let found = u64::from_be_bytes(*magic);
        if found != OPTION_MAGIC {
            return Err(NbdError::Magic { expected: "an option", wanted: OPTION_MAGIC, found });
        }
        let Some((option, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let long = usize::try_from(length).unwrap_or(usize::MAX);
        if long > MAX_OPTION {
            return Err(NbdError::OptionLength(length));
        }
        let Some(data) = rest.get(..long) else { return Ok(None) };
        let whole = (u32::from_be_bytes(*option), data.to_vec());
        self.taken = self.taken.saturating_add(long).saturating_add(16);
        Ok(Some(whole))
    }

    fn request(&mut self, request: &Request) -> Result<Option<Event>, NbdError> {
        let Request { cookie, offset, length, .. } = *request;
        match request.command {
            Command::Read => {
                let end = offset.checked_add(u64::from(length));
                if length == 0 || length > MAX_READ || end.is_none_or(|end| end > self.export.size) {
                    self.refuse(cookie, Errno::Invalid);
                    return Ok(None);
                }
                return Ok(Some(Event::Read(Read { cookie, offset, length })));
            }
            Command::Write if length > MAX_READ => return Err(NbdError::Payload(length)),
            Command::Write => self.phase = Phase::Skip { left: length, cookie },
            Command::Disconnect => {
                self.phase = Phase::End;
                return Ok(Some(Event::Disconnect));
            }
            // Nothing is ever unwritten here.
            Command::Flush => self.out.extend(reply(cookie, None)),
            Command::Other(_) => self.refuse(cookie, Errno::Invalid),
        }
        Ok(None)
    }

    fn refuse(&mut self, cookie: u64, error: Errno) {
        self.out.extend(reply(cookie, Some(error)));
    }

    fn waiting(&self) -> &[u8] {
        self.pending.get(self.taken..).unwrap_or_default()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.waiting().first_chunk::<N>()?;
        self.taken = self.taken.saturating_add(N);
        Some(bytes)
    }
}
