//! Network block devices: the server against any client.

use coffer_core_nbd::{Command, Errno, Event, Export, Request, Server};

const SIZE: u64 = 1 << 20;

/// A client's bytes, cut as the first byte says; the second says whether it negotiates.
pub fn nbd(data: &[u8]) {
    let [cut, kind, bytes @ ..] = data else { return };
    let export = Export::new("disk", SIZE);
    let mut server = match kind & 1 {
        0 => Server::negotiate(export),
        _ => Server::transmission(export),
    };
    for piece in bytes.chunks(usize::from(*cut).max(1)) {
        server.push(piece);
        loop {
            match server.next() {
                Ok(Some(Event::Read(read))) => {
                    assert!(read.length > 0 && read.offset + u64::from(read.length) <= SIZE);
                    server.answer(&read, Err(Errno::Io));
                }
                Ok(None) => break,
                Ok(Some(Event::Disconnect)) | Err(_) => return,
            }
        }
        // What is said is bounded by what was heard.
        assert!(server.output().len() <= 200 + 16 * (piece.len() + 40));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let option = |number: u32, data: &[u8]| {
        let length = u32::try_from(data.len()).unwrap();
        [b"IHAVEOPT", &number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
    };
    let request = |command, offset, length| {
        Request { flags: 0, command, cookie: 1, offset, length }.to_bytes().to_vec()
    };
    let asked = [
        request(Command::Read, 4096, 8192),
        request(Command::Write, 0, 4),
        vec![1, 2, 3, 4],
        request(Command::Flush, 0, 0),
        request(Command::Disconnect, 0, 0),
    ]
    .concat();
    let go = [&[0, 0, 0, 4][..], b"disk", &[0, 1, 0, 3]].concat();
    let negotiated =
        [&[9, 0, 0, 0, 0, 3][..], &option(8, &[]), &option(3, &[]), &option(6, &go), &option(7, &go), &asked];
    vec![
        negotiated.concat(),
        [&[28, 1][..], &asked].concat(),
        [&[9, 0, 0, 0, 0, 1][..], &option(1, b"disk")].concat(),
    ]
}
