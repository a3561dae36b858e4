//! The server against clients that keep to the protocol, and against those that do not.

use proptest::prelude::*;

use crate::*;

const IHAVEOPT: u64 = 0x4948_4156_454f_5054;

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = IHAVEOPT.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn go(name: &str) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend([0, 1, 0, 3]);
    data
}

fn request(command: Command, offset: u64, length: u32) -> Vec<u8> {
    Request { flags: 0, command, cookie: 7, offset, length }.to_bytes().to_vec()
}

fn begun() -> Server {
    let mut server = Server::negotiate(Export::new("disk", 10_000));
    assert_eq!(server.output(), [&b"NBDMAGICIHAVEOPT"[..], &[0, 3]].concat());
    server.push(&[0, 0, 0, 3]);
    server
}

/// The kinds of the replies to options, and the data of each.
fn replies(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(&bytes[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
        let kind = u32::from_be_bytes(bytes[12..16].try_into().unwrap());
        let length = u32::from_be_bytes(bytes[16..20].try_into().unwrap()) as usize;
        found.push((kind, bytes[20..20 + length].to_vec()));
        bytes = &bytes[20 + length..];
    }
    found
}

#[test]
fn a_client_learns_the_size_and_reads() {
    let mut server = begun();
    server.push(&option(8, &[]));
    server.push(&option(3, &[]));
    server.push(&option(6, &go("disk")));
    server.push(&option(7, &go("")));
    server.push(&request(Command::Read, 4096, 512));
    let event = server.next().unwrap();
    let read = Read { cookie: 7, offset: 4096, length: 512 };
    assert_eq!(event, Some(Event::Read(read)));
    let told = replies(&server.output());
    let kinds: Vec<u32> = told.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [1 << 31 | 1, 2, 1, 3, 3, 1, 3, 3, 1],
        "no structured replies, a list, information, go"
    );
    assert_eq!(told[1].1, [&[0, 0, 0, 4][..], b"disk"].concat());
    let size = 10_000_u64.to_be_bytes();
    // Read-only, and the same for several connections.
    assert_eq!(told[3].1, [&[0, 0][..], &size, &[1, 3]].concat());
    server.answer(&read, Ok(&[9; 512]));
    let answer = server.output();
    assert_eq!(&answer[..16], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(answer[16..], [9; 512]);
    server.push(&request(Command::Disconnect, 0, 0));
    assert_eq!(server.next(), Ok(Some(Event::Disconnect)));
    assert_eq!(server.next(), Ok(Some(Event::Disconnect)), "the end stays the end");
}

#[test]
fn the_oldest_option_chooses_with_and_without_zeroes() {
    for (flags, length) in [(1, 134), (3, 10)] {
        let mut server = Server::negotiate(Export::new("disk", 10_000));
        server.output();
        server.push(&[0, 0, 0, flags]);
        server.push(&option(1, b"disk"));
        assert_eq!(server.next(), Ok(None));
        assert_eq!(server.output().len(), length);
        server.push(&request(Command::Read, 0, 1));
        assert!(matches!(server.next(), Ok(Some(Event::Read(_)))));
    }
    let mut server = begun();
    server.push(&option(1, b"other"));
    assert_eq!(server.next(), Err(NbdError::Unknown));
}

#[test]
fn wrong_options_are_answered_and_the_client_may_go_on() {
    let mut server = begun();
    let long = [&5_u32.to_be_bytes()[..], b"disk", &[0, 0]].concat();
    for (number, data, expected) in [
        (7, go("other"), 1 << 31 | 6),
        (7, Vec::new(), 1 << 31 | 3),
        (7, long, 1 << 31 | 3),
        (6, [go("disk"), vec![0]].concat(), 1 << 31 | 3),
        (3, vec![1], 1 << 31 | 3),
        (5, Vec::new(), 1 << 31 | 1),
        (99, vec![0; 100], 1 << 31 | 1),
    ] {
        server.push(&option(number, &data));
        assert_eq!(server.next(), Ok(None));
        assert_eq!(replies(&server.output())[0].0, expected, "option {number}");
    }
    server.push(&option(2, &[]));
    assert_eq!(server.next(), Ok(Some(Event::Disconnect)));
    assert_eq!(replies(&server.output())[0].0, 1, "an abort is acknowledged");
}

#[test]
fn requests_outside_of_the_export_and_writes_are_refused_and_the_connection_lives() {
    let mut server = Server::transmission(Export::new("", 10_000));
    assert!(server.output().is_empty(), "no greeting");
    for (command, offset, length, error) in [
        (Command::Read, 0, 0, 22),
        (Command::Read, 9_999, 2, 22),
        (Command::Read, u64::MAX, 1, 22),
        (Command::Read, 0, MAX_READ + 1, 22),
        (Command::Other(4), 0, 512, 22),
        (Command::Flush, 0, 0, 0),
    ] {
        server.push(&request(command, offset, length));
        assert_eq!(server.next(), Ok(None));
        assert_eq!(server.output()[7], error, "{command:?} {offset} {length}");
    }
    server.push(&request(Command::Write, 0, 4));
    server.push(&[1, 2]);
    assert_eq!(server.next(), Ok(None));
    assert!(server.output().is_empty(), "the payload is not whole");
    server.push(&[3, 4]);
    server.push(&request(Command::Read, 0, 10_000));
    assert!(matches!(server.next(), Ok(Some(Event::Read(_)))));
    assert_eq!(server.output()[7], 1, "a write is not permitted");
}

#[test]
fn an_answer_of_another_length_is_an_io_error() {
    let mut server = Server::transmission(Export::new("", 100));
    let read = Read { cookie: 1, offset: 0, length: 4 };
    for data in [Ok(&[0; 3][..]), Ok(&[0; 5][..]), Err(Errno::Io)] {
        server.answer(&read, data);
        let answer = server.output();
        assert_eq!((answer.len(), answer[7]), (16, 5));
    }
}

#[test]
fn what_breaks_the_form_ends_the_connection() {
    let mut server = Server::negotiate(Export::new("", 1));
    server.push(&[0, 0, 0, 2]);
    assert_eq!(server.next(), Err(NbdError::Flags(2)));
    let mut server = Server::negotiate(Export::new("", 1));
    server.push(&[0, 0, 0, 5]);
    assert_eq!(server.next(), Err(NbdError::Flags(5)));
    let mut server = begun();
    server.push(b"GET / HT");
    assert!(matches!(server.next(), Err(NbdError::Magic { .. })));
    let mut server = begun();
    let mut endless = option(7, &[]);
    endless[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    server.push(&endless);
    assert_eq!(server.next(), Err(NbdError::OptionLength(u32::MAX)));
    let mut server = begun();
    (0..=MAX_OPTIONS).for_each(|_| server.push(&option(3, &[])));
    assert_eq!(server.next(), Err(NbdError::Options));
    let mut server = Server::transmission(Export::new("", 1));
    server.push(&[0; 28]);
    assert!(matches!(server.next(), Err(NbdError::Magic { .. })));
    server.push(&request(Command::Write, 0, MAX_READ + 1));
    assert_eq!(server.next(), Err(NbdError::Payload(MAX_READ + 1)));
}

proptest! {
    #[test]
    fn however_a_client_s_bytes_are_cut_the_server_says_the_same(
        cuts in proptest::collection::vec(1_usize..40, 1..40),
        reads in proptest::collection::vec((0_u64..12_000, 0_u32..9_000), 0..6),
    ) {
        let mut bytes = vec![0, 0, 0, 3];
        bytes.extend(option(3, &[]));
        bytes.extend(option(7, &go("disk")));
        reads.iter().for_each(|(offset, length)| bytes.extend(request(Command::Read, *offset, *length)));
        let run = |pieces: Vec<&[u8]>| {
            let mut server = Server::negotiate(Export::new("disk", 10_000));
            let (mut events, mut out) = (Vec::new(), Vec::new());
            for piece in pieces {
                server.push(piece);
                while let Some(event) = server.next().unwrap() {
                    events.push(event);
                }
                out.extend(server.output());
            }
            (events, out)
        };
        let whole = run(vec![&bytes]);
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(run(pieces), whole);
    }

    #[test]
    fn any_bytes_end_in_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for mut server in [begun(), Server::transmission(Export::new("", 1))] {
            server.push(&bytes);
            for _ in 0..400 {
                match server.next() {
                    Ok(Some(Event::Read(_))) => {}
                    _ => break,
                }
            }
        }
    }
}

#[test]
fn a_client_that_asks_and_asks_waits_for_answers_and_is_heard_again_after_them() {
    let mut server = Server::transmission(Export::new("", 1 << 40));
    let reads = |count: usize, length: u32| -> Vec<u8> {
        (0..count).flat_map(|_| request(Command::Read, 0, length)).collect()
    };
    let drain = |server: &mut Server| {
        let mut found = Vec::new();
        while let Some(Event::Read(read)) = server.next().unwrap() {
            found.push(read);
        }
        found
    };
    server.push(&reads(70, 512));
    let first = drain(&mut server);
    assert_eq!(
        (first.len(), server.is_hungry()),
        (64, false),
        "so many and no more, and nothing more is heard"
    );
    server.answer(&first[0], Ok(&[0; 512]));
    assert_eq!((drain(&mut server).len(), server.is_hungry()), (1, false));
    first[1..].iter().for_each(|read| server.answer(read, Err(Errno::Io)));
    let rest = drain(&mut server);
    assert_eq!((rest.len(), server.is_hungry()), (5, true), "the last ones, and then it wants to hear more");

    // Of long ones it is the bytes that count.
    let mut server = Server::transmission(Export::new("", 1 << 40));
    server.push(&reads(3, MAX_READ));
    let long = drain(&mut server);
    assert_eq!((long.len(), server.is_hungry()), (1, false));
    server.answer(&long[0], Err(Errno::Io));
    assert_eq!(drain(&mut server).len(), 1);
}
