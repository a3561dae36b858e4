//! The anti-forensic splitter (LUKS1 On-Disk Format Specification 1.2.3, section 2.4): a key becomes many stripes, all of
//! which are needed, so that a slot is destroyed where a part of it is.

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use coffer_core_secret::{NoRandomness, SecretBytes};

use crate::{KEY, VolumeKey};

const DIGEST: usize = 32;

/// Splits a key. The last stripe is the only one that is not random.
pub(crate) fn split(key: &VolumeKey, stripes: usize) -> Result<SecretBytes, NoRandomness> {
    let mut bytes = vec![0; KEY.saturating_mul(stripes)];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    let last = bytes.len().saturating_sub(KEY);
    let (random, end) = bytes.split_at_mut_checked(last).unwrap_or_default();
    let mut mixed = mix(random);
    xor(&mut mixed, key.expose());
    end.iter_mut().zip(mixed).for_each(|(to, from)| *to = from);
    Ok(SecretBytes::new(bytes))
}

/// The key that stripes were split from.
pub(crate) fn merge(stripes: &SecretBytes) -> VolumeKey {
    let last = stripes.expose().len().saturating_sub(KEY);
    let (random, end) = stripes.expose().split_at_checked(last).unwrap_or_default();
    let mut key = mix(random);
    xor(&mut key, end);
    VolumeKey::new(key)
}

/// Each stripe added to what came before, and that diffused.
fn mix(stripes: &[u8]) -> [u8; KEY] {
    stripes.chunks_exact(KEY).fold([0; KEY], |mut state, stripe| {
        xor(&mut state, stripe);
        let mut diffused = [0; KEY];
        for ((number, from), to) in (0_u32..).zip(state.chunks(DIGEST)).zip(diffused.chunks_mut(DIGEST)) {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(&number.to_be_bytes());
            hash.update(from);
            to.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        }
        diffused
    })
}

fn xor(into: &mut [u8; KEY], other: &[u8]) {
    into.iter_mut().zip(other).for_each(|(to, from)| *to ^= *from);
}
