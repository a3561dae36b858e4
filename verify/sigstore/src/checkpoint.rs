//! Checkpoints: a log's tree head as a signed note (C2SP tlog-checkpoint and signed-note).
//!
//! A log is its key here, as everywhere in Rekor: its base URL is not compared, because deployments write other names
//! into checkpoints. The origin must be the name under which the log signs, or that with Rekor's ` - <tree>` behind it,
//! because one key can sign for several trees. Left out: witnesses' cosignatures, which are skipped as C2SP
//! signed-note says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::SigstoreError;
use crate::key::sha256;
use crate::trust_root::Log;
use crate::wire::shown;

const MAX_CHECKPOINT: usize = 16 << 10;
/// C2SP signed-note, "Format": readers bound the number of signatures.
const MAX_SIGNATURES: usize = 16;

/// A tree head that a log signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TreeHead {
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
}

/// Reads the note and verifies that the log signed it.
pub(crate) fn open(note: &str, log: &Log) -> Result<TreeHead, SigstoreError> {
    let malformed = SigstoreError::Checkpoint;
    if note.len() > MAX_CHECKPOINT || note.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err(malformed("a text of at most 16 KiB without control characters"));
    }
    // The text ends with a newline, which is signed; an empty line and the signatures follow.
    let split = note.rfind("\n\n").and_then(|at| note.split_at_checked(at.saturating_add(1)));
    let (text, signatures) = split.ok_or(malformed("a text, an empty line and signatures"))?;
    let signatures = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    let signatures: Vec<&str> =
        signatures.ok_or(malformed("a newline at the end"))?.split('\n').take(MAX_SIGNATURES).collect();

    let mut lines = text.split('\n');
    let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(malformed("three lines with origin, size and root hash"));
    };
    let number = size.parse().ok().filter(|number: &u64| number.to_string() == size);
    let size = number.ok_or(malformed("a decimal tree size in the second line"))?;
    let root = STANDARD.decode(root).ok().and_then(|root| <[u8; 32]>::try_from(root).ok());
    let root = root.ok_or(malformed("a SHA-256 in base64 in the third line"))?;

    let lines: Vec<(&str, Vec<u8>)> = signatures.iter().filter_map(|line| signature_line(line)).collect();
    if !lines.iter().any(|(name, _)| is_origin_of(origin, name)) {
        let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
        return Err(SigstoreError::CheckpointOrigin {
            expected: shown(&names.join(", ")),
            found: shown(origin),
        });
    }
    let is_signed = |(name, signed): &(&str, Vec<u8>)| {
        let Some((hint, signature)) = signed.split_first_chunk::<4>() else { return false };
        is_origin_of(origin, name)
            && hints(name, log).contains(hint)
            && log.key.has_signed(text.as_bytes(), signature)
    };
    match lines.iter().any(is_signed) {
        true => Ok(TreeHead { size, root }),
        false => Err(SigstoreError::CheckpointSignature { log: hex::encode(log.id) }),
    }
}

/// Whether the origin is the name, or the name with Rekor's number of a tree.
fn is_origin_of(origin: &str, name: &str) -> bool {
    let is_number = |tree: &str| !tree.is_empty() && tree.bytes().all(|byte| byte.is_ascii_digit());
    match origin.strip_prefix(name) {
        _ if name.is_empty() => false,
        Some("") => true,
        Some(rest) => rest.strip_prefix(" - ").is_some_and(is_number),
        None => false,
    }
}

/// The name, and the key's identifier with the signature, of a line: an em dash, the name and base64.
fn signature_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    STANDARD.decode(encoded).ok().map(|decoded| (name, decoded))
}

/// The key identifiers under which the log's signature may stand: of an ECDSA key, and of any key by Rekor, the start
/// of SHA-256 of the key's info; of an Ed25519 key by C2SP signed-note, "Signatures", that of a hash with the name.
fn hints(name: &str, log: &Log) -> Vec<[u8; 4]> {
    let start = |hash: [u8; 32]| hash.first_chunk::<4>().copied();
    let named = |bits: &[u8]| sha256(&[name.as_bytes(), b"\n\x01", bits].concat());
    let both = [start(log.key.fingerprint()), log.key.ed25519_bits().and_then(|bits| start(named(bits)))];
    both.into_iter().flatten().collect()
}
