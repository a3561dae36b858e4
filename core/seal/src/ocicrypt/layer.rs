//! The layer's bytes: AES-256-CTR with HMAC-SHA256 over the ciphertext.

use std::io::{self, Read, Write};

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, StreamingDecryptingKey, StreamingEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use coffer_core_digest::{Algorithm, Digest, Hasher};
use coffer_core_oci::manifest::Annotations;
use coffer_core_secret::{Secret, SecretBytes};

use super::{BrokerKey, KEY, KeyWrap, OcicryptError, packet};

const CHUNK: usize = 64 << 10;

/// The key of one layer, with all that is needed to open it.
pub struct LayerKey {
    pub(super) symkey: Secret<[u8; KEY]>,
    pub(super) nonce: [u8; 16],
    pub(super) hmac: [u8; 32],
    pub(super) digest: Option<Digest>,
}

/// An encrypted layer: what its descriptor needs.
#[derive(Clone, Debug)]
pub struct EncryptedLayer {
    /// The annotations to add to the descriptor.
    pub annotations: Annotations,
    /// SHA-256 of the ciphertext.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Proof that a whole layer was read and its HMAC and digest matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    digest: Digest,
    size: u64,
}

impl Opened {
    /// SHA-256 of the plaintext layer.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Encrypts a layer with a fresh key, which is wrapped with the broker's key `key_name`.
pub fn encrypt(
    plain: &mut dyn Read,
    out: &mut dyn Write,
    key_name: &str,
    key: &SecretBytes,
) -> Result<EncryptedLayer, OcicryptError> {
    encrypt_for(plain, out, &[&BrokerKey::new(key_name, key)?])
}

/// Encrypts a layer with a fresh key, which is wrapped for each recipient.
pub fn encrypt_for(
    plain: &mut dyn Read,
    out: &mut dyn Write,
    recipients: &[&dyn KeyWrap],
) -> Result<EncryptedLayer, OcicryptError> {
    let nonce = Secret::<[u8; 16]>::random()?;
    let mut layer =
        LayerKey { symkey: Secret::random()?, nonce: *nonce.expose(), hmac: [0; 32], digest: None };
    let mut stream = StreamingEncryptingKey::less_safe_ctr(
        unbound(&layer)?,
        EncryptionContext::Iv128(FixedLength::from(layer.nonce)),
    )
    .map_err(|_| OcicryptError::Library)?;
    let mut mac = mac(&layer);
    let (mut before, mut after) = (Hasher::new(Algorithm::Sha256), Hasher::new(Algorithm::Sha256));
    let (mut buffer, mut cipher) = (vec![0; CHUNK], vec![0; CHUNK.saturating_add(16)]);
    let mut size = 0_u64;
    loop {
        let read = crate::fill(plain, &mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        before.update(bytes);
        let update = stream.update(bytes, &mut cipher).map_err(|_| OcicryptError::Library)?;
        let written = update.written();
        mac.update(written);
        after.update(written);
        out.write_all(written)?;
        size = size.saturating_add(written.len() as u64);
    }
    out.flush()?;
    layer.hmac.iter_mut().zip(mac.sign().as_ref()).for_each(|(to, from)| *to = *from);
    let annotations = packet::annotate(&layer, &before.finish(), recipients)?;
    Ok(EncryptedLayer { annotations, digest: after.finish(), size })
}

impl LayerKey {
    /// Decrypts a whole layer into `out`. On an error the caller must discard what was written: only
    /// [`Opened`] says that it is the layer.
    pub fn decrypt(&self, cipher: &mut dyn Read, out: &mut dyn Write) -> Result<Opened, OcicryptError> {
        let mut decryptor = self.decryptor(cipher)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = crate::fill(&mut decryptor, &mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            out.write_all(bytes)?;
        }
        out.flush()?;
        decryptor.finish()
    }

    /// Decrypts while reading; see [`Decryptor`].
    pub fn decryptor<R: Read>(&self, cipher: R) -> Result<Decryptor<R>, OcicryptError> {
        let stream = StreamingDecryptingKey::ctr(
            unbound(self)?,
            DecryptionContext::Iv128(FixedLength::from(self.nonce)),
        )
        .map_err(|_| OcicryptError::Library)?;
        Ok(Decryptor {
            cipher,
            stream,
            mac: mac(self),
            expected_mac: self.hmac,
            expected_digest: self.digest,
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
            ciphertext: vec![0; CHUNK],
            plaintext: vec![0; CHUNK.saturating_add(16)],
            ready: 0..0,
        })
    }
}

fn unbound(layer: &LayerKey) -> Result<UnboundCipherKey, OcicryptError> {
    UnboundCipherKey::new(&AES_256, layer.symkey.expose()).map_err(|_| OcicryptError::Library)
}

fn mac(layer: &LayerKey) -> hmac::Context {
    hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, layer.symkey.expose()))
}

/// A reader of plaintext that is not authenticated yet.
///
/// What was read is the layer only if [`Decryptor::finish`] returned [`Opened`]; until then it must be put
/// where it can be discarded.
pub struct Decryptor<R> {
    cipher: R,
    stream: StreamingDecryptingKey,
    mac: hmac::Context,
    expected_mac: [u8; 32],
    expected_digest: Option<Digest>,
    hasher: Hasher,
    size: u64,
    ciphertext: Vec<u8>,
    plaintext: Vec<u8>,
    ready: std::ops::Range<usize>,
}

impl<R: Read> Decryptor<R> {
    /// Reads what is left and checks the HMAC of the ciphertext and the digest of the plaintext.
    pub fn finish(mut self) -> Result<Opened, OcicryptError> {
        while self.refill()? {}
        let expected = Secret::new(self.expected_mac);
        if !expected.equals(self.mac.sign().as_ref()) {
            return Err(OcicryptError::Changed);
        }
        let found = match self.expected_digest {
            // The digest may be of another algorithm; then the HMAC alone decides.
            Some(expected) if expected.algorithm() == Algorithm::Sha256 => {
                let found = self.hasher.finish();
                if found != expected {
                    return Err(OcicryptError::Digest {
                        expected: expected.to_string(),
                        found: found.to_string(),
                    });
                }
                found
            }
            _ => self.hasher.finish(),
        };
        Ok(Opened { digest: found, size: self.size })
    }

    fn refill(&mut self) -> io::Result<bool> {
        let read = crate::fill(&mut self.cipher, &mut self.ciphertext)?;
        let Some(bytes) = self.ciphertext.get(..read).filter(|bytes| !bytes.is_empty()) else {
            self.ready = 0..0;
            return Ok(false);
        };
        self.mac.update(bytes);
        let update = self
            .stream
            .update(bytes, &mut self.plaintext)
            .map_err(|_| io::Error::other("the cipher library failed"))?;
        let written = update.written();
        self.hasher.update(written);
        self.ready = 0..written.len();
        self.size = self.size.saturating_add(written.len() as u64);
        Ok(true)
    }
}

impl<R: Read> Read for Decryptor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && !self.refill()? {
            return Ok(0);
        }
        let ready = self.plaintext.get(self.ready.clone()).unwrap_or(&[]);
        let count = ready.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(ready) {
            *to = *from;
        }
        self.ready.start = self.ready.start.saturating_add(count);
        Ok(count)
    }
}
