//! Paths that were found before, for guests that attest again.
//!
//! INVARIANT: [`Paths::verify`] answers as [`verify_path`] does. Of what a path depends on, certificates and purposes
//! are what it is kept by, the anchors never change, and times of validity are asked again: a path is kept only if
//! every certificate sent and the anchor were valid, and used only while all of them are.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coffer_core_digest::{Algorithm, Digest, Hasher};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::blame::{self, Which};
use crate::{Leaf, PathError, Purpose, verify_path};

/// How many are kept. A guest has one for each attestation key.
const MAX_KEPT: usize = 4096;

/// Finds paths to some anchors, and remembers those that it found.
#[derive(Debug)]
pub struct Paths {
    anchors: Vec<Vec<u8>>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    leaves: HashMap<Digest, Leaf>,
    /// The oldest first.
    order: VecDeque<Digest>,
}

impl Paths {
    /// Paths to these anchors.
    pub fn new(anchors: Vec<Vec<u8>>) -> Self {
        Self { anchors, found: Mutex::default() }
    }

    /// The anchors.
    pub fn anchors(&self) -> &[Vec<u8>] {
        &self.anchors
    }

    /// As [`verify_path`].
    pub fn verify(&self, leaf_first: &[Vec<u8>], purposes: &[Purpose], at: i64) -> Result<Leaf, PathError> {
        let name = name(leaf_first, purposes);
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).leaves.get(&name).cloned();
        if let Some(leaf) = known.filter(|leaf| self.all_valid(leaf_first, leaf, at)) {
            return Ok(leaf);
        }
        let leaf = verify_path(leaf_first, &self.anchors, purposes, at)?;
        if self.all_valid(leaf_first, &leaf, at) {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).keep(name, leaf.clone());
        }
        Ok(leaf)
    }

    fn all_valid(&self, leaf_first: &[Vec<u8>], leaf: &Leaf, at: i64) -> bool {
        let Ok(seconds) = u64::try_from(at) else { return false };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let Some(anchor) = self.anchors.get(leaf.anchor) else { return false };
        std::iter::once(anchor).chain(leaf_first).all(|der| {
            let der = CertificateDer::from(der.as_slice());
            blame::check_validity(&der, || Which::sent(0, &der), time).is_ok()
        })
    }
}

impl Found {
    fn keep(&mut self, name: Digest, leaf: Leaf) {
        if self.leaves.insert(name, leaf).is_none() {
            self.order.push_back(name);
        }
        if self.order.len() > MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.leaves.remove(&oldest);
        }
    }
}

/// Lengths first, so that no two questions have the same name.
fn name(leaf_first: &[Vec<u8>], purposes: &[Purpose]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut part = |bytes: &[u8]| {
        hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    part(&u64::try_from(leaf_first.len()).unwrap_or(u64::MAX).to_be_bytes());
    leaf_first.iter().for_each(|der| part(der));
    purposes.iter().for_each(|purpose| part(purpose.encoded()));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use coffer_lab_testpki::{Authority, EKU_SERVER, Leaf as Content, TpmFixture};

    use super::*;

    const AK: &[Purpose] = &[Purpose::ATTESTATION_KEY, Purpose::ENDORSEMENT_KEY];
    const DAY: i64 = 86_400;
    /// 2026-11-20.
    const NOW: i64 = 1_795_132_800;

    fn second(day: i64) -> u64 {
        u64::try_from(NOW + day * DAY).unwrap()
    }

    fn kept(paths: &Paths) -> usize {
        paths.found.lock().unwrap().leaves.len()
    }

    #[test]
    fn what_was_found_before_is_answered_as_what_was_not_at_every_time_and_for_every_purpose() {
        let (root, other) = (Authority::root("the root"), Authority::root("another"));
        let middle = root.intermediate_until("the middle", second(20));
        let spki = TpmFixture::default().spki_der();
        let short = Content { from: second(-1), until: second(10), ..Content::default() };
        let server = Content { purposes: vec![EKU_SERVER.to_vec()], ..Content::default() };
        let sent = [
            vec![middle.certify_with(&spki, &short), middle.der()],
            vec![middle.certify_with(&spki, &short), middle.der(), other.der()],
            vec![middle.certify_with(&spki, &server), middle.der()],
            vec![middle.certify(&spki)],
            vec![other.certify(&spki)],
            vec![root.certify(&spki)],
            vec![],
        ];
        let anchors = vec![other.der(), root.der()];
        let paths = Paths::new(anchors.clone());
        let times = [0, 11, -2, 5, 19, 25, 0, 9, -1, 10, 20].map(|day| NOW + day * DAY);
        for at in times.into_iter().chain([-1]) {
            for (number, sent) in sent.iter().enumerate() {
                for purposes in [AK, &[Purpose::ATTESTATION_KEY], &[Purpose::ENDORSEMENT_KEY], &[]] {
                    let fresh = verify_path(sent, &anchors, purposes, at);
                    assert_eq!(paths.verify(sent, purposes, at), fresh, "{number} at {at} for {purposes:?}");
                }
            }
        }
        assert!(kept(&paths) > 3);
    }

    #[test]
    fn a_path_found_before_is_none_for_changed_certificates_or_other_anchors() {
        let fixture = TpmFixture::default();
        let sent = fixture.certificates().to_vec();
        let paths = Paths::new(vec![fixture.root_der()]);
        paths.verify(&sent, AK, NOW).unwrap();
        assert_eq!(kept(&paths), 1);
        for at in 0..sent[0].len() {
            let mut changed = sent.clone();
            changed[0][at] ^= 1;
            assert!(paths.verify(&changed, AK, NOW).is_err(), "byte {at}");
        }
        assert!(Paths::new(vec![TpmFixture::default().root_der()]).verify(&sent, AK, NOW).is_err());
        assert_eq!(kept(&paths), 1);
    }

    #[test]
    fn no_more_are_kept_than_the_bound_and_the_newest_stay() {
        let mut found = Found::default();
        let name = |number: usize| Digest::sha256(&number.to_be_bytes());
        for number in 0..MAX_KEPT + 3 {
            let leaf = Leaf { spki_der: Vec::new(), anchor: number };
            found.keep(name(number), leaf.clone());
            found.keep(name(number), leaf);
        }
        assert_eq!((found.leaves.len(), found.order.len()), (MAX_KEPT, MAX_KEPT));
        assert!(!found.leaves.contains_key(&name(2)) && found.leaves.contains_key(&name(3)));
    }
}
