//! A device's thread against a kernel that these tests play, and a source that fails when it is told to.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coffer_core_nbd::{Command, Request};

use super::pieces::Pieces;
use super::{Failure, PIECE, Parts, Ranges, serve};
use crate::source::Pending;
use crate::{ImageError, ImageFault};

/// What a source does with the next question instead of answering it.
#[derive(Clone, Copy)]
enum Trick {
    Short,
    Gone,
}

#[derive(Default)]
struct Seen {
    asked: Vec<(u64, usize)>,
    tricks: VecDeque<Trick>,
}

struct Source {
    content: Bytes,
    seen: Arc<Mutex<Seen>>,
}

impl Ranges for Source {
    fn range(&self, offset: u64, length: usize) -> Pending<'_, Bytes> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut seen = self.seen.lock().expect("seen");
            seen.asked.push((offset, length));
            let start = usize::try_from(offset).expect("an offset");
            match seen.tricks.pop_front() {
                None => Ok(self.content.slice(start..start + length)),
                Some(Trick::Short) => Ok(self.content.slice(start..start + length - 1)),
                Some(Trick::Gone) => {
                    Err(Box::new(ImageFault::Unreachable { registry: "it".into(), why: "gone".into() }))
                }
            }
        })
    }
}

struct Kernel {
    socket: UnixStream,
    content: Bytes,
    seen: Arc<Mutex<Seen>>,
    failure: Arc<Failure>,
}

fn begin(size: usize) -> Kernel {
    let content: Bytes = (0..size).map(|at| (at / 7 + at / PIECE) as u8).collect();
    let seen = Arc::<Mutex<Seen>>::default();
    let source = Source { content: content.clone(), seen: Arc::clone(&seen) };
    let first = content.slice(..size.min(PIECE));
    let parts = Parts { size: size as u64, first, ranges: Box::new(source) };
    let (socket, ours) = UnixStream::pair().expect("sockets");
    let failure = Arc::new(Failure::default());
    let told = Arc::clone(&failure);
    std::thread::spawn(move || serve::run(ours, Pieces::new(parts), &told));
    Kernel { socket, content, seen, failure }
}

impl Kernel {
    fn ask(&mut self, command: Command, offset: usize, length: usize) {
        let request = Request {
            flags: 0,
            command,
            cookie: offset as u64,
            offset: offset as u64,
            length: length as u32,
        };
        self.socket.write_all(&request.to_bytes()).expect("the device");
    }

    /// The next reply's cookie and error.
    fn head(&mut self) -> (u64, u32) {
        let mut head = [0; 16];
        self.socket.read_exact(&mut head).expect("the device");
        (
            u64::from_be_bytes(head[8..].try_into().expect("the device")),
            u32::from_be_bytes(head[4..8].try_into().expect("the device")),
        )
    }

    /// Reads; the content, or the error's number.
    fn read(&mut self, offset: usize, length: usize) -> Result<Vec<u8>, u32> {
        self.ask(Command::Read, offset, length);
        let (cookie, error) = self.head();
        assert_eq!(cookie, offset as u64);
        if error != 0 {
            return Err(error);
        }
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).expect("the device");
        Ok(bytes)
    }

    fn asked(&self) -> Vec<(u64, usize)> {
        self.seen.lock().expect("seen").asked.clone()
    }

    fn tricks(&self, tricks: &[Trick]) {
        self.seen.lock().expect("seen").tricks.extend(tricks);
    }
}

#[test]
fn what_is_read_is_what_is_there_wherever_it_lies() {
    let size = 5 * PIECE + 3 * 4096;
    let mut kernel = begin(size);
    for (offset, length) in [
        (0, 4096),
        (PIECE - 4096, 8192),
        (size - 4096, 4096),
        (2 * PIECE, 2 * PIECE),
        (4096, 2 * PIECE),
        (5 * PIECE, 3 * 4096),
    ] {
        let expected = kernel.content.slice(offset..offset + length);
        assert_eq!(kernel.read(offset, length).expect("the device"), expected, "{length} at {offset}");
    }
}

#[test]
fn a_first_read_asks_for_nothing_and_a_far_one_for_its_piece_alone() {
    let mut kernel = begin(64 * PIECE);
    kernel.read(0, PIECE).expect("the device");
    assert_eq!(kernel.asked(), []);
    kernel.read(40 * PIECE + 8192, 4096).expect("the device");
    kernel.read(40 * PIECE, 4096).expect("the device");
    assert_eq!(kernel.asked(), [(40 * PIECE as u64, PIECE)]);
}

#[test]
fn a_program_that_reads_on_finds_each_piece_asked_for_once() {
    let mut kernel = begin(100 * PIECE);
    for number in 0..100 {
        let expected = kernel.content.slice(number * PIECE..(number + 1) * PIECE);
        assert_eq!(kernel.read(number * PIECE, PIECE).expect("the device"), expected);
    }
    let mut asked = kernel.asked();
    asked.sort_unstable();
    let once: Vec<_> = (1..100).map(|number| ((number * PIECE) as u64, PIECE)).collect();
    assert_eq!(asked, once);
    // The first one is long gone from memory, which holds a bounded number.
    kernel.read(0, 4096).expect("the device");
    assert_eq!(kernel.asked().last(), Some(&(0, PIECE)));
}

#[test]
fn two_that_want_one_piece_wait_for_one_answer() {
    let mut kernel = begin(20 * PIECE);
    for at in 0..8 {
        kernel.ask(Command::Read, 10 * PIECE + at * 4096, 4096);
    }
    for _ in 0..8 {
        let (cookie, error) = kernel.head();
        let mut bytes = [0; 4096];
        kernel.socket.read_exact(&mut bytes).expect("the device");
        let at = usize::try_from(cookie).expect("an offset");
        assert_eq!((error, &bytes[..]), (0, &kernel.content[at..at + 4096]));
    }
    assert_eq!(kernel.asked(), [(10 * PIECE as u64, PIECE)]);
}

#[test]
fn what_cannot_be_had_is_an_io_error_that_says_why_and_the_next_read_asks_again() {
    let why = |kernel: &Kernel| kernel.failure.take().map(|why: ImageError| why.code());
    let mut kernel = begin(20 * PIECE);
    kernel.tricks(&[Trick::Gone, Trick::Short]);
    assert_eq!(kernel.read(10 * PIECE, 4096), Err(5));
    assert_eq!(why(&kernel).as_deref(), Some("image.registry.unreachable"));
    assert_eq!(kernel.read(10 * PIECE, 4096), Err(5), "a short answer is none");
    assert_eq!(why(&kernel).as_deref(), Some("image.blob.size"));
    let expected = kernel.content.slice(10 * PIECE..10 * PIECE + 4096);
    assert_eq!(kernel.read(10 * PIECE, 4096).expect("the device"), expected);
    assert_eq!(why(&kernel), None);
}

#[test]
fn the_device_takes_no_writes_and_ends_with_its_kernel() {
    let mut kernel = begin(4 * PIECE);
    kernel.ask(Command::Write, 0, 4096);
    kernel.socket.write_all(&[1; 4096]).expect("the device");
    assert_eq!(kernel.head(), (0, 1), "EPERM");
    kernel.ask(Command::Disconnect, 0, 0);
    let mut rest = Vec::new();
    assert_eq!(kernel.socket.read_to_end(&mut rest).expect("the device"), 0);
    assert!(kernel.failure.take().is_none());
}
