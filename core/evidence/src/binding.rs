//! What evidence is bound to: a hash over the verifier's nonce and the attester's key.

use coffer_core_digest::Digest;

/// The hash that a TEE signs beside its measurements. Made by the handshake, never from loose bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportData(Digest);

impl ReportData {
    /// Takes the hash over the runtime data. `core/protocol` computes it.
    pub const fn from_runtime_hash(hash: Digest) -> Self {
        Self(hash)
    }

    /// The hash itself.
    pub const fn digest(&self) -> &Digest {
        &self.0
    }

    /// The hash in a field of `N` bytes: padded with zeros at the right, or cut (KBS protocol, "report data").
    pub fn field<const N: usize>(&self) -> [u8; N] {
        let mut field = [0; N];
        for (to, from) in field.iter_mut().zip(self.0.as_bytes()) {
            *to = *from;
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_field_cuts_and_a_long_one_pads() {
        let digest = Digest::of(coffer_core_digest::Algorithm::Sha384, b"x");
        let data = ReportData::from_runtime_hash(digest);
        assert_eq!(data.field::<32>().as_slice(), &digest.as_bytes()[..32]);
        assert_eq!(&data.field::<64>()[..48], digest.as_bytes());
        assert_eq!(&data.field::<64>()[48..], &[0; 16]);
    }
}
