//! KServe's encrypted files: compact JWE of any length, in bounded memory.
//!
//! SPEC: RFC 7516, sections 3.1 and 5.2; RFC 7518, sections 4.4, 4.5 and 5.3; KServe, `jwe_decryptor.py`, whose files
//! may end with white space. INVARIANT: nothing is written before the tag over everything was verified.

use std::io::{self, Write};

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use coffer_core_sealed_stream::ReadAt;
use coffer_core_secret::{Secret, SecretBytes};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

pub use crate::error::JweError;
use crate::gcm::{Counter, Tag};

/// Header, wrapped key and IV are in here.
const HEAD: usize = 64 << 10;
/// Tag and white space are in here.
const TAIL: u64 = 256;
/// Base64 that is read at once; whole groups of four.
const PIECE: usize = 1 << 20;
/// What a compact JWE begins with: base64 of `{"`.
pub const BEGINNING: &[u8] = b"eyJ";
/// The ending of an encrypted file's name; its plaintext has none.
pub const ENDING: &str = ".jwe";

/// A key for KServe's files.
pub struct JweKey(Secret<[u8; 32]>);

impl JweKey {
    /// Reads a resource as KServe does: a JWK of type `oct`, the base64 of its `k`, or 32 bytes.
    #[must_use]
    pub fn of_resource(bytes: &SecretBytes) -> Option<Self> {
        let bytes = bytes.expose();
        let decoded = |text: &str| {
            let text = text.trim().trim_end_matches('=');
            URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new)
        };
        let of = |bytes: &[u8]| bytes.try_into().ok().map(|own| Self(Secret::new(own)));
        let Ok(text) = std::str::from_utf8(bytes) else { return of(bytes) };
        if let Ok(Value::Object(jwk)) = serde_json::from_str(text) {
            let symmetric = jwk.get("kty").and_then(Value::as_str) == Some("oct");
            return of(&decoded(jwk.get("k").and_then(Value::as_str).filter(|_| symmetric)?)?);
        }
        decoded(text).and_then(|own| of(&own)).or_else(|| of(bytes))
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: String,
    #[serde(default)]
    zip: Option<Value>,
    #[serde(default)]
    crit: Option<Value>,
}

/// How the content's key is given.
#[derive(Clone, Copy)]
enum Wrapping {
    Direct,
    Aes,
}

impl Header {
    fn wrapping(&self) -> Result<Wrapping, JweError> {
        match (self.alg.as_str(), self.enc.as_str()) {
            _ if self.zip.is_some() => Err(JweError::Header("zip")),
            _ if self.crit.is_some() => Err(JweError::Header("crit")),
            ("dir", "A256GCM") => Ok(Wrapping::Direct),
            ("A256KW", "A256GCM") => Ok(Wrapping::Aes),
            (alg, enc) => {
                let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(32).collect();
                Err(JweError::Algorithm { alg: shown(alg), enc: shown(enc) })
            }
        }
    }
}

/// The parts of a JWE; the ciphertext stays where it is.
pub struct Parts {
    protected: Vec<u8>,
    wrapping: Wrapping,
    encrypted_key: Vec<u8>,
    iv: [u8; 12],
    tag: [u8; 16],
    begins: u64,
    ends: u64,
}

fn decode(text: &[u8]) -> Result<Vec<u8>, JweError> {
    let wrong = |_| JweError::Form("a part is not base64");
    match text.ends_with(b"=") {
        true => URL_SAFE.decode(text).map_err(wrong),
        false => URL_SAFE_NO_PAD.decode(text).map_err(wrong),
    }
}

impl Parts {
    /// Finds the parts in a source of `size` bytes.
    pub fn read(source: &impl ReadAt, size: u64) -> Result<Self, JweError> {
        let mut head = vec![0; usize::try_from(size).unwrap_or(HEAD).min(HEAD)];
        fill(source, &mut head, 0)?;
        let mut parts = head.splitn(4, |byte| *byte == b'.');
        let mut part = || parts.next().ok_or(JweError::Form("it does not have five parts"));
        let (protected, encrypted_key, iv) = (part()?, part()?, part()?);
        let missing = JweError::Form("its head is too long, or it does not have five parts");
        parts.next().ok_or(missing)?;
        let begins = (protected.len() + encrypted_key.len() + iv.len() + 3) as u64;
        let mut tail = vec![0; usize::try_from(size.min(TAIL)).unwrap_or_default()];
        fill(source, &mut tail, size.saturating_sub(TAIL))?;
        let tail = tail.trim_ascii_end();
        let dot = tail.iter().rposition(|byte| *byte == b'.').ok_or(JweError::Form("it has no tag"))?;
        let ends = size.saturating_sub(TAIL).saturating_add(dot as u64);
        if ends < begins {
            return Err(JweError::Form("it does not have five parts"));
        }
        let tag = tail.get(dot.saturating_add(1)..).unwrap_or_default();
        let header = decode(protected)?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| JweError::Form("its header is none"))?;
        Ok(Self {
            protected: protected.to_vec(),
            wrapping: header.wrapping()?,
            encrypted_key: decode(encrypted_key)?,
            iv: decode(iv)?.try_into().map_err(|_| JweError::Form("its IV does not have 12 bytes"))?,
            tag: decode(tag)?.try_into().map_err(|_| JweError::Form("its tag does not have 16 bytes"))?,
            begins,
            ends,
        })
    }

    /// Verifies the tag over everything, then decrypts to `out`, verifying again: the source may have changed.
    ///
    /// What is in `out` after an error is not to be used.
    pub fn open(&self, source: &impl ReadAt, key: &JweKey, out: &mut impl Write) -> Result<(), JweError> {
        let content = self.content_key(key)?;
        let content = content.expose();
        let new = || Tag::new(content, &self.iv, &self.protected);
        let mut tag = new()?;
        self.pieces(source, |sealed| tag.update(sealed))?;
        tag.verify(&self.tag)?;
        let (mut tag, mut counter) = (new()?, Counter::new(content, &self.iv, 2)?);
        let mut plain = Zeroizing::new(Vec::new());
        self.pieces(source, |sealed| {
            tag.update(sealed)?;
            counter.next(sealed, &mut plain)?;
            out.write_all(&plain).map_err(JweError::Write)
        })?;
        tag.verify(&self.tag)?;
        out.flush().map_err(JweError::Write)
    }

    fn content_key(&self, key: &JweKey) -> Result<Secret<[u8; 32]>, JweError> {
        match self.wrapping {
            Wrapping::Direct if self.encrypted_key.is_empty() => Ok(Secret::new(*key.0.expose())),
            Wrapping::Direct => Err(JweError::Form("its key is both given and to be known")),
            Wrapping::Aes => {
                let kek = AesKek::new(&AES_256, key.0.expose()).map_err(|_| JweError::Provider)?;
                let mut room = Zeroizing::new([0; 64]);
                let opened =
                    kek.unwrap(&self.encrypted_key, room.as_mut_slice()).map_err(|_| JweError::Wrapped)?;
                let own: &[u8] = opened;
                Ok(Secret::new(own.try_into().map_err(|_| JweError::Wrapped)?))
            }
        }
    }

    /// Calls `take` with the decoded ciphertext, piece by piece.
    fn pieces(
        &self,
        source: &impl ReadAt,
        mut take: impl FnMut(&[u8]) -> Result<(), JweError>,
    ) -> Result<(), JweError> {
        let mut text = vec![0; PIECE];
        let mut at = self.begins;
        while at < self.ends {
            let left = usize::try_from(self.ends - at).unwrap_or(usize::MAX);
            let piece = text.get_mut(..left.min(PIECE)).unwrap_or_default();
            fill(source, piece, at)?;
            at += piece.len() as u64;
            // Only the last piece may have padding or an incomplete group.
            let decoded = match at < self.ends {
                true => {
                    URL_SAFE_NO_PAD.decode(&*piece).map_err(|_| JweError::Form("a part is not base64"))?
                }
                false => decode(piece)?,
            };
            take(&decoded)?;
        }
        Ok(())
    }
}

fn fill(source: &impl ReadAt, buffer: &mut [u8], offset: u64) -> Result<(), JweError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => return Err(JweError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(JweError::Read(error)),
        }
    }
    Ok(())
}
