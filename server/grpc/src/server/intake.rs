//! How many bytes of requests are in memory, in all and by connection.
//!
//! A message is read whole before it is parsed. Places are taken as bytes arrive, not as they are announced, so that
//! a peer that announces much and sends nothing holds nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::refusal;
use crate::MAX_MESSAGE;

/// Before each message: a flag and four bytes of length.
const PREFIX: usize = 5;
/// What a place stands for, in bytes.
const PLACE: usize = 4096;

/// What the serving side bears.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Calls at a time on one connection.
    pub streams: u32,
    /// Bytes of requests in memory, in all.
    pub memory: usize,
    /// Bytes of requests in memory, by connection.
    pub memory_of_connection: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the handshake to the first call.
    pub first_call: Duration,
    /// Without a call.
    pub idle: Duration,
    /// For a connection as a whole; then it is ended in order, and clients connect anew.
    pub age: Duration,
    /// For a request to arrive.
    pub body: Duration,
    /// For a call, whatever the client says.
    pub call: Duration,
    /// For open calls when a connection is ended in order.
    pub last_call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            streams: 32,
            memory: 128 << 20,
            memory_of_connection: 16 << 20,
            handshake: Duration::from_secs(10),
            first_call: Duration::from_secs(15),
            idle: Duration::from_secs(300),
            age: Duration::from_secs(3600),
            body: Duration::from_secs(20),
            call: Duration::from_secs(60),
            last_call: Duration::from_secs(10),
        }
    }
}

/// The memory for requests of all connections.
#[derive(Clone)]
pub struct Intake {
    limits: Arc<Limits>,
    all: Arc<Semaphore>,
}

/// One connection's share of it.
#[derive(Clone)]
pub struct Share {
    limits: Arc<Limits>,
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Places that a request in memory holds.
pub(super) struct Held {
    _all: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
}

impl Intake {
    /// With nothing in it.
    pub fn new(limits: Limits) -> Self {
        let all = Arc::new(Semaphore::new(places(limits.memory)));
        Self { limits: Arc::new(limits), all }
    }

    /// A share for a new connection.
    pub fn share(&self) -> Share {
        let own = Arc::new(Semaphore::new(places(self.limits.memory_of_connection)));
        Share { limits: self.limits.clone(), all: self.all.clone(), own }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Share {
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads one message with its prefix.
    pub(super) async fn read<B>(&self, body: B) -> Result<(Bytes, Held), Status>
    where
        B: Body<Data = Bytes>,
    {
        let slow = || {
            let within = self.limits.body;
            refusal::status(
                tonic::Code::DeadlineExceeded,
                "request.slow",
                &format!("the request did not arrive within {within:?}; send faster"),
            )
        };
        let (bytes, held) =
            tokio::time::timeout(self.limits.body, self.collect(body)).await.map_err(|_| slow())??;
        check(&bytes)?;
        Ok((bytes, held))
    }

    async fn collect<B: Body<Data = Bytes>>(&self, body: B) -> Result<(Bytes, Held), Status> {
        let most = MAX_MESSAGE.saturating_add(PREFIX);
        let mut body = pin!(body);
        let mut bytes = Vec::new();
        let mut held = Held { _all: None, _own: None };
        let mut room = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(refusal::malformed("the request ended before its message did"));
            };
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len().saturating_add(data.len());
            if length > most {
                return Err(refusal::too_large(MAX_MESSAGE));
            }
            if length > room {
                let more = length.saturating_sub(room).div_ceil(PLACE);
                held.grow(&self.own, &self.all, more)?;
                room = room.saturating_add(more.saturating_mul(PLACE));
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), held))
    }
}

impl Held {
    fn grow(&mut self, own: &Arc<Semaphore>, all: &Arc<Semaphore>, places: usize) -> Result<(), Status> {
        let places = u32::try_from(places).map_err(|_| refusal::busy())?;
        merge(&mut self._own, own, places)?;
        merge(&mut self._all, all, places)
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, from: &Arc<Semaphore>, places: u32) -> Result<(), Status> {
    let more = from.clone().try_acquire_many_owned(places).map_err(|_| refusal::busy())?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}

fn places(bytes: usize) -> usize {
    bytes.div_ceil(PLACE).clamp(1, Semaphore::MAX_PERMITS)
}

/// A unary request is one message and nothing after it.
fn check(bytes: &[u8]) -> Result<(), Status> {
    let Some((&[flag, a, b, c, d], message)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(refusal::malformed("there is no message: a call is five bytes and a message"));
    };
    let announced = u32::from_be_bytes([a, b, c, d]);
    match flag {
        0 => (),
        1 => {
            let message = "the message is compressed; send it plain";
            return Err(refusal::status(tonic::Code::Unimplemented, "request.compressed", message));
        }
        _ => return Err(refusal::malformed("the message's flag is neither 0 nor 1")),
    }
    if usize::try_from(announced).is_ok_and(|announced| announced > MAX_MESSAGE) {
        return Err(refusal::too_large(MAX_MESSAGE));
    }
    match usize::try_from(announced) == Ok(message.len()) {
        true => Ok(()),
        false => {
            let found = message.len();
            Err(refusal::malformed(format!(
                "{announced} bytes were announced, {found} came; send one message"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tonic::Code;

    use super::*;

    fn framed(length: usize) -> Full<Bytes> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        bytes.resize(length + PREFIX, 7);
        Full::new(bytes.into())
    }

    #[tokio::test]
    async fn memory_is_bounded_by_connection_and_in_all_and_given_back() {
        let intake =
            Intake::new(Limits { memory: 3 << 20, memory_of_connection: 2 << 20, ..Limits::default() });
        let (one, other) = (intake.share(), intake.share());
        let first = one.read(framed(3 << 19)).await.map_err(|status| status.to_string()).unwrap();
        assert_eq!(one.read(framed(1 << 20)).await.err().unwrap().code(), Code::Unavailable);
        let second = other.read(framed(1 << 20)).await.map_err(|status| status.to_string()).unwrap();
        assert_eq!(intake.share().read(framed(1 << 20)).await.err().unwrap().code(), Code::Unavailable);
        drop((first, second));
        assert!(one.read(framed(1 << 20)).await.is_ok());
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_refused_before_it_is_kept() {
        let share = Intake::new(Limits::default()).share();
        assert!(share.read(framed(MAX_MESSAGE)).await.is_ok());
        let status = share.read(framed(MAX_MESSAGE + 1)).await.err().unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_request_is_one_plain_message() {
        assert!(check(&[0, 0, 0, 0, 0]).is_ok());
        assert!(check(&[0, 0, 0, 0, 1, 9]).is_ok());
        for (bytes, code) in [
            (&[][..], Code::InvalidArgument),
            (&[0, 0, 0, 0], Code::InvalidArgument),
            (&[0, 0, 0, 0, 2, 9], Code::InvalidArgument),
            (&[0, 0, 0, 0, 1, 9, 9], Code::InvalidArgument),
            (&[2, 0, 0, 0, 0], Code::InvalidArgument),
            (&[1, 0, 0, 0, 0], Code::Unimplemented),
            (&[0, 255, 255, 255, 255], Code::ResourceExhausted),
        ] {
            assert_eq!(check(bytes).unwrap_err().code(), code, "{bytes:?}");
        }
    }
}
