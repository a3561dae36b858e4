//! One-command sessions: authorized by HMAC, with the first parameter encrypted, under a salt that only the TPM reads.
//!
//! SPEC: TPM 2.0 Library, Part 1, sections 11.4.10 (KDFa, KDFe), 19 (sessions), 21 (parameter encryption by XOR), and
//! annex C.6.1 (salt by one-pass ECDH). Left out: authorization values, which are empty here, and bound sessions.

use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::{digest, hmac};
use coffer_core_digest::Digest;
use coffer_core_evidence::tpm::{Curve, KeyParameters};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::command::{Command, Response};
use crate::sealing_error::SealingError;
use crate::{Key, Tpm, TpmError};

const ALG_XOR: u16 = 0x000a;
const ALG_SHA256: u16 = 0x000b;
const RH_NULL: u32 = 0x4000_0007;
/// `TPMA_SESSION`: the first parameter of the command is encrypted.
pub(crate) const DECRYPT: u8 = 1 << 5;
/// `TPMA_SESSION`: the first parameter of the response is encrypted.
pub(crate) const ENCRYPT: u8 = 1 << 6;
const NONCE: usize = 32;

/// `TPM_SE`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hmac,
    Policy,
}

/// A session that ends with the one command that it authorizes.
pub(crate) struct Session {
    pub(crate) handle: u32,
    key: Zeroizing<[u8; 32]>,
    nonce_tpm: Vec<u8>,
}

impl Tpm {
    /// TPM2_StartAuthSession, salted to a storage key.
    pub(crate) fn start_session(&mut self, kind: Kind, parent: &Key) -> Result<Session, SealingError> {
        const NAME: &str = "TPM2_StartAuthSession";
        let (salt, point) = salt(parent)?;
        let nonce = nonce()?;
        let command = Command::new(NAME, 0x176)
            .handle(parent.handle)
            .handle(RH_NULL)
            .giving_handle()
            .sized("the nonce", &nonce)
            .sized("the encrypted salt", &point)
            .raw(&[u8::from(kind == Kind::Policy)])
            // XOR has no mode; its key is told by the hash.
            .u16(ALG_XOR)
            .u16(ALG_SHA256)
            .u16(ALG_SHA256);
        let response = self.run(&command)?;
        let mut parameters = response.parameters();
        let nonce_tpm = parameters.sized()?.to_vec();
        parameters.end()?;
        let mut key = Zeroizing::new([0; 32]);
        kdfa(salt.as_slice(), "ATH", &nonce_tpm, &nonce, &mut *key);
        Ok(Session { handle: response.handle(), key, nonce_tpm })
    }

    /// Runs a command with one authorized handle in a session, which ends with it. Gives the response's parameters, the
    /// first one decrypted if that was asked for.
    pub(crate) fn run_in(
        &mut self,
        session: Session,
        command: Command,
        names: &[&[u8]],
        attributes: u8,
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let handle = session.handle;
        let done = self.exchange_in(&session, command, names, attributes);
        if done.is_err() {
            // The TPM keeps a session whose command failed. That it may be gone already is no second failure.
            let _ = self.flush(handle);
        }
        done
    }

    fn exchange_in(
        &mut self,
        session: &Session,
        command: Command,
        names: &[&[u8]],
        attributes: u8,
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let nonce = nonce()?;
        let command = if attributes & DECRYPT == 0 { command } else { session.hide(command, &nonce)? };
        let mut cp = digest::Context::new(&digest::SHA256);
        cp.update(&command.code().to_be_bytes());
        names.iter().for_each(|name| cp.update(name));
        cp.update(command.parameters());
        let hmac = session.hmac(cp.finish().as_ref(), &nonce, &session.nonce_tpm, attributes);
        let mut area = session.handle.to_be_bytes().to_vec();
        put_sized(&mut area, &nonce);
        area.push(attributes);
        put_sized(&mut area, hmac.as_ref());
        let command = command.with_authorization(area);
        let response = self.run(&command)?;
        session.open(&command, &response, &nonce, attributes)
    }
}

impl Session {
    /// Encrypts the first parameter, which is sized.
    fn hide(&self, command: Command, nonce: &[u8]) -> Result<Command, SealingError> {
        let mut parameters = Zeroizing::new(command.parameters().to_vec());
        mask(&self.key, nonce, &self.nonce_tpm, &mut parameters)
            .ok_or(SealingError::Tampered("a command without a first parameter"))?;
        Ok(command.with_parameters(std::mem::take(&mut *parameters)))
    }

    /// Checks the response's authorization and decrypts its first parameter.
    fn open(
        &self,
        command: &Command,
        response: &Response,
        nonce: &[u8],
        attributes: u8,
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let mut authorization = response.authorization();
        let nonce_tpm = authorization.sized()?;
        let found_attributes = authorization.u8()?;
        let found = authorization.sized()?;
        authorization.end()?;
        let parameters = response.parameters().rest();
        let mut rp = digest::Context::new(&digest::SHA256);
        // The response code, which is success.
        rp.update(&[0; 4]);
        rp.update(&command.code().to_be_bytes());
        rp.update(parameters);
        let expected = self.hmac(rp.finish().as_ref(), nonce_tpm, nonce, found_attributes);
        if !bool::from(expected.as_ref().ct_eq(found)) {
            return Err(SealingError::Tampered("a response whose authorization is wrong"));
        }
        let mut parameters = Zeroizing::new(parameters.to_vec());
        if attributes & ENCRYPT != 0 {
            mask(&self.key, nonce_tpm, nonce, &mut parameters)
                .ok_or(SealingError::Tampered("a response without a first parameter"))?;
        }
        Ok(parameters)
    }

    fn hmac(&self, hash: &[u8], newer: &[u8], older: &[u8], attributes: u8) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.key.as_slice()));
        [hash, newer, older, &[attributes]].iter().for_each(|part| context.update(part));
        context.sign()
    }
}

/// XORs the data of the sized parameter that comes first. `None` if there is none.
fn mask(key: &[u8; 32], newer: &[u8], older: &[u8], parameters: &mut [u8]) -> Option<()> {
    let (size, rest) = parameters.split_first_chunk_mut::<2>()?;
    let data = rest.get_mut(..usize::from(u16::from_be_bytes(*size)))?;
    let mut stream = Zeroizing::new(vec![0; data.len()]);
    kdfa(key, "XOR", newer, older, &mut stream);
    data.iter_mut().zip(stream.iter()).for_each(|(byte, mask)| *byte ^= mask);
    Some(())
}

/// KDFa with SHA-256.
fn kdfa(key: &[u8], label: &str, context_u: &[u8], context_v: &[u8], out: &mut [u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let bits = u32::try_from(out.len()).unwrap_or(u32::MAX).saturating_mul(8);
    for (block, counter) in out.chunks_mut(32).zip(1_u32..) {
        let mut context = hmac::Context::with_key(&key);
        let parts: [&[u8]; 6] =
            [&counter.to_be_bytes(), label.as_bytes(), &[0], context_u, context_v, &bits.to_be_bytes()];
        parts.iter().for_each(|part| context.update(part));
        let tag = context.sign();
        block.iter_mut().zip(tag.as_ref()).for_each(|(byte, made)| *byte = *made);
    }
}

/// A salt, and the point from which the TPM computes it: one-pass ECDH with the storage key, then KDFe.
fn salt(parent: &Key) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), SealingError> {
    let KeyParameters::Ecc { curve: Curve::P256, x, y } = &parent.public.key else {
        return Err(SealingError::Tampered("a storage key that is not on P-256"));
    };
    let weak = |_| SealingError::Tampered("a storage key that is no point of its curve");
    let mut point = vec![4];
    for coordinate in [x, y] {
        point.extend(std::iter::repeat_n(0, 32_usize.saturating_sub(coordinate.len())));
        point.extend_from_slice(coordinate);
    }
    let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
        .map_err(|_| SealingError::NoRandomness)?;
    let public = private.compute_public_key().map_err(|_| SealingError::NoRandomness)?;
    let Some((own_x, own_y)) = public.as_ref().get(1..).and_then(|point| point.split_at_checked(32)) else {
        return Err(SealingError::NoRandomness);
    };
    let salt = agree_ephemeral(private, UnparsedPublicKey::new(&ECDH_P256, point), (), |z| {
        let parts = [&1_u32.to_be_bytes()[..], z, b"SECRET\0", own_x, x];
        let mut context = digest::Context::new(&digest::SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut salt = Zeroizing::new([0; 32]);
        salt.iter_mut().zip(context.finish().as_ref()).for_each(|(byte, made)| *byte = *made);
        Ok(salt)
    })
    .map_err(weak)?;
    let mut encoded = Vec::new();
    put_sized(&mut encoded, own_x);
    put_sized(&mut encoded, own_y);
    Ok((salt, encoded))
}

/// The digest of a policy that asks for these registers' present values (Part 3, TPM2_PolicyPCR).
pub(crate) fn pcr_policy(selection: &[u8], pcr_digest: &Digest) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    let parts: [&[u8]; 4] = [&[0; 32], &0x17f_u32.to_be_bytes(), selection, pcr_digest.as_bytes()];
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

/// A `TPM2B` of what is known to be short.
pub(crate) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn nonce() -> Result<[u8; NONCE], SealingError> {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce).map_err(|_| SealingError::NoRandomness)?;
    Ok(nonce)
}

impl From<TpmError> for SealingError {
    fn from(error: TpmError) -> Self {
        Self::Tpm(error)
    }
}
