//! The fixed newstyle negotiation (`doc/proto.md`, "Handshake phase"): options and their replies.

use crate::export::{Export, MAX_NAME};
use crate::request::MAX_READ;

/// The most data of one option, in bytes: a name, its length, and as many requests for information as there are kinds.
pub const MAX_OPTION: usize = MAX_NAME + 64;
/// How many options a client may send before it chooses.
pub const MAX_OPTIONS: u32 = 64;

/// `NBDMAGIC`.
pub(crate) const GREETING: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`.
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Both sides' handshake flags: fixed newstyle, no zeroes.
pub(crate) const FIXED_NEWSTYLE: u16 = 1;
pub(crate) const NO_ZEROES: u16 = 2;
/// Transmission flags: has flags, read-only, and several connections see the same.
const TRANSMISSION: u16 = 1 | 1 << 1 | 1 << 8;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_LIST: u32 = 3;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;

const REP_ACK: u32 = 1;
const REP_SERVER: u32 = 2;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
const REP_ERR_INVALID: u32 = 1 << 31 | 3;
const REP_ERR_UNKNOWN: u32 = 1 << 31 | 6;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;
/// The least, and the best, that a read may ask for.
const BLOCK_SIZES: [u32; 2] = [1, 4096];

/// Where an option leads.
pub(crate) enum Next {
    /// More options.
    More,
    /// The transmission phase.
    Transmission,
    /// The end.
    End,
    /// The end, because the export is not there and this option knows no error.
    Unknown,
}

/// The server's first words.
pub(crate) fn greeting() -> Vec<u8> {
    let mut out = GREETING.to_be_bytes().to_vec();
    out.extend(OPTION_MAGIC.to_be_bytes());
    out.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    out
}

/// Answers one option.
pub(crate) fn answer(export: &Export, zeroes: bool, option: u32, data: &[u8], out: &mut Vec<u8>) -> Next {
    match option {
        OPT_EXPORT_NAME => {
            if !export.is_named(data) {
                return Next::Unknown;
            }
            out.extend(export.size.to_be_bytes());
            out.extend(TRANSMISSION.to_be_bytes());
            if zeroes {
                out.extend([0; 124]);
            }
            Next::Transmission
        }
        OPT_ABORT => {
            reply(out, option, REP_ACK, &[]);
            Next::End
        }
        OPT_LIST if data.is_empty() => {
            let name = export.name.as_bytes();
            let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
            reply(out, option, REP_SERVER, &[&length.to_be_bytes(), name].concat());
            reply(out, option, REP_ACK, &[]);
            Next::More
        }
        OPT_LIST => {
            reply(out, option, REP_ERR_INVALID, b"a list takes no data");
            Next::More
        }
        OPT_INFO | OPT_GO => match wanted_name(data) {
            None => {
                reply(out, option, REP_ERR_INVALID, b"the name's length or the list of requests is wrong");
                Next::More
            }
            Some(name) if !export.is_named(name) => {
                reply(out, option, REP_ERR_UNKNOWN, b"there is no export of this name");
                Next::More
            }
            Some(_) => {
                information(export, option, out);
                reply(out, option, REP_ACK, &[]);
                if option == OPT_GO { Next::Transmission } else { Next::More }
            }
        },
        _ => {
            reply(out, option, REP_ERR_UNSUP, b"");
            Next::More
        }
    }
}

/// Size and block sizes are always told; the protocol lets a server tell more than was asked.
fn information(export: &Export, option: u32, out: &mut Vec<u8>) {
    let mut told = INFO_EXPORT.to_be_bytes().to_vec();
    told.extend(export.size.to_be_bytes());
    told.extend(TRANSMISSION.to_be_bytes());
    reply(out, option, REP_INFO, &told);
    let mut sizes = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
    BLOCK_SIZES.into_iter().chain([MAX_READ]).for_each(|size| sizes.extend(size.to_be_bytes()));
    reply(out, option, REP_INFO, &sizes);
}

/// The name in the data of `INFO` and `GO`: its length, the name, a count, and as many numbers of two bytes.
fn wanted_name(data: &[u8]) -> Option<&[u8]> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (count, requests) = rest.split_first_chunk::<2>()?;
    let expected = usize::from(u16::from_be_bytes(*count)).checked_mul(2)?;
    (requests.len() == expected && name.len() <= MAX_NAME).then_some(name)
}

fn reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    out.extend(REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(kind.to_be_bytes());
    // Every reply of this server is shorter than an option.
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(data);
}
