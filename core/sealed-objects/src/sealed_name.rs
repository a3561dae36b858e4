//! The sealed form of a key: one piece between slashes at a time.
//!
//! A synthetic initialization vector (Rogaway and Shrimpton, "Deterministic Authenticated-Encryption") of HMAC-SHA256,
//! cut to 16 bytes, and AES-256 in counter mode: equal names of one folder give equal ciphertext and nothing else shows.

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext};
use aws_lc_rs::cipher::{AES_256_KEY_LEN, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::name::{check_bucket, check_key};
use crate::{MAX_KEY, ObjectError, ObjectKeys, ObjectName};

const IV: usize = 16;
const SLASH: char = '/';

impl ObjectKeys {
    /// The key under which a store has the object.
    pub fn seal_name(&self, name: &ObjectName) -> Result<String, ObjectError> {
        let mut sealed = self.seal_folder(name.bucket(), folder_of(name.key()))?;
        let behind = name.key().len().min(folder_of(name.key()).len());
        sealed.push_str(&self.seal_piece(
            name.bucket(),
            folder_of(name.key()),
            name.key().get(behind..).unwrap_or_default(),
        )?);
        if sealed.len() > MAX_KEY {
            return Err(ObjectError::LongName { found: sealed.len() });
        }
        Ok(sealed)
    }

    /// What the sealed names of everything in a folder begin with. The folder is empty or ends with a slash.
    pub fn seal_folder(&self, bucket: &str, folder: &str) -> Result<String, ObjectError> {
        check_bucket(bucket)?;
        check_key(folder)?;
        let mut sealed = String::new();
        let mut begins = 0_usize;
        for (at, _) in folder.match_indices(SLASH) {
            let (parent, piece) = (folder.get(..begins), folder.get(begins..at));
            sealed.push_str(&self.seal_piece(
                bucket,
                parent.unwrap_or_default(),
                piece.unwrap_or_default(),
            )?);
            sealed.push(SLASH);
            begins = at.saturating_add(1);
        }
        match begins == folder.len() {
            true => Ok(sealed),
            false => Err(ObjectError::Name("a folder ends with a slash")),
        }
    }

    /// The key that was sealed to this one, for this bucket; nothing if nobody with the data key did. A folder, which
    /// ends with a slash, opens to a folder.
    #[must_use]
    pub fn open_name(&self, bucket: &str, sealed: &str) -> Option<String> {
        if sealed.len() > MAX_KEY {
            return None;
        }
        let (folders, last) =
            sealed.rsplit_once(SLASH).map_or((None, sealed), |(one, other)| (Some(one), other));
        let mut key = String::new();
        for piece in folders.into_iter().flat_map(|folders| folders.split(SLASH)) {
            let piece = self.open_piece(bucket, &key, piece)?;
            key.push_str(&piece);
            key.push(SLASH);
        }
        if !last.is_empty() {
            let piece = self.open_piece(bucket, &key, last)?;
            key.push_str(&piece);
        }
        (!key.is_empty()).then_some(key)
    }

    fn seal_piece(&self, bucket: &str, folder: &str, piece: &str) -> Result<String, ObjectError> {
        let refused = |_| ObjectError::Stream(coffer_core_sealed_stream::StreamError::Provider("AES-CTR"));
        let iv = self.iv(bucket, folder, piece.as_bytes());
        let mut bytes = piece.as_bytes().to_vec();
        let key = UnboundCipherKey::new(&AES_256, self.ctr.get(..AES_256_KEY_LEN).unwrap_or_default());
        let key = key.and_then(EncryptingKey::ctr).map_err(refused)?;
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        key.less_safe_encrypt(&mut bytes, context).map_err(refused)?;
        Ok(URL_SAFE_NO_PAD.encode([iv.as_slice(), &bytes].concat()))
    }

    fn open_piece(&self, bucket: &str, folder: &str, piece: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(piece).ok()?;
        let iv: [u8; IV] = *bytes.first_chunk()?;
        let key = UnboundCipherKey::new(&AES_256, self.ctr.as_slice()).and_then(DecryptingKey::ctr).ok()?;
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let plain = key.decrypt(bytes.get_mut(IV..)?, context).ok()?;
        let found = self.iv(bucket, folder, plain);
        let same = bool::from(found.ct_eq(&iv));
        // What has a slash or a control character nobody sealed as one piece.
        let text = std::str::from_utf8(plain).ok().filter(|text| !text.contains(SLASH))?;
        (same && check_key(text).is_ok()).then(|| text.to_owned())
    }

    fn iv(&self, bucket: &str, folder: &str, piece: &[u8]) -> [u8; IV] {
        let mut context = hmac::Context::with_key(&self.siv);
        for part in [bucket.as_bytes(), folder.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(piece);
        let tag = context.sign();
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// The folder of a key, with its slash; empty if it is in none.
fn folder_of(key: &str) -> &str {
    key.rfind(SLASH).and_then(|at| key.get(..=at)).unwrap_or_default()
}
