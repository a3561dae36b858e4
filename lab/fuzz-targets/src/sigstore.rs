//! Sigstore bundles and trust roots, each against a constant one of the other.

use coffer_core_digest::Digest;
use coffer_verify_sigstore::{Bundle, Expected, Identity, Signed, SigstoreError, TrustRoot};

const TRUST_ROOT: &[u8] = include_bytes!("../seeds/sigstore-trust-root.json");
const MESSAGE: &[u8] = include_bytes!("../seeds/sigstore-message.json");
const ENVELOPE: &[u8] = include_bytes!("../seeds/sigstore-envelope.json");

fn verify(bundle: &Bundle, root: &TrustRoot) -> Result<Signed, SigstoreError> {
    let artifact = Digest::sha256(b"an artifact");
    let identity = Identity {
        issuer: "https://issuer.test".to_owned(),
        subject: "https://forge.test/team/app/.ci/release.yml@refs/tags/v1".to_owned(),
    };
    let signed = bundle.verify(root, &Expected { artifact: &artifact, identity: &identity });
    if let Ok(signed) = &signed {
        assert_eq!((signed.artifact(), signed.identity()), (&artifact, &identity));
    }
    signed
}

pub fn sigstore_bundle(data: &[u8]) {
    let root = TrustRoot::parse(TRUST_ROOT).unwrap();
    let Ok(bundle) = Bundle::parse(data) else { return };
    if let Ok(signed) = verify(&bundle, &root) {
        // The log never promised another time or place, so no input can have one.
        assert_eq!((signed.integrated_time(), signed.log_index()), (1_767_225_600, 1002));
    }
}

pub fn sigstore_trust_root(data: &[u8]) {
    let Ok(root) = TrustRoot::parse(data) else { return };
    for bundle in [MESSAGE, ENVELOPE] {
        let _ = verify(&Bundle::parse(bundle).unwrap(), &root);
    }
}

pub(crate) fn bundle_seeds() -> Vec<Vec<u8>> {
    vec![MESSAGE.to_vec(), ENVELOPE.to_vec()]
}

pub(crate) fn trust_root_seeds() -> Vec<Vec<u8>> {
    vec![TRUST_ROOT.to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_accepted() {
        let root = TrustRoot::parse(TRUST_ROOT).unwrap();
        for bundle in bundle_seeds() {
            verify(&Bundle::parse(&bundle).unwrap(), &root).unwrap();
        }
    }
}
