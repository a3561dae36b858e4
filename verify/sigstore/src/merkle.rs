//! Inclusion in a Merkle tree (RFC 9162, section 2.1.3.2, the same tree as that of RFC 6962, section 2.1).

use crate::error::SigstoreError;
use crate::key::sha256;
use crate::wire::Hash;

/// The hash of a leaf: the octet 0 keeps it apart from inner nodes (RFC 6962, section 2.1).
pub(crate) fn leaf(body: &[u8]) -> [u8; 32] {
    sha256(&[&[0], body].concat())
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left.as_slice(), right.as_slice()].concat())
}

/// The root that the path leads to from a leaf, in a tree of `size` leaves.
pub(crate) fn root(leaf: [u8; 32], index: u64, size: u64, path: &[Hash]) -> Result<[u8; 32], SigstoreError> {
    if index >= size {
        return Err(SigstoreError::InclusionIndex { found: index, size });
    }
    let expected = path_length(index, size);
    if path.len() != expected {
        return Err(SigstoreError::InclusionLength { expected, found: path.len() });
    }
    let (mut at, mut last, mut hash) = (index, size.saturating_sub(1), leaf);
    for Hash(sibling) in path {
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            // The last node of a level without a sibling is the same node one level up.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    Ok(hash)
}

/// How many siblings lie between a leaf and the root.
fn path_length(index: u64, size: u64) -> usize {
    let (mut at, mut last, mut count) = (index, size.saturating_sub(1), 0_usize);
    while last > 0 {
        if at & 1 == 1 || at < last {
            count = count.saturating_add(1);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MTH of RFC 6962, section 2.1, by its definition.
    fn head(leaves: &[Vec<u8>]) -> [u8; 32] {
        match leaves {
            [] => sha256(&[]),
            [one] => leaf(one),
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node(&head(left), &head(right))
            }
        }
    }

    /// PATH of RFC 6962, section 2.1.1, by its definition.
    fn path(index: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut below, beside) = match index < left.len() {
            true => (path(index, left), head(right)),
            false => (path(index - left.len(), right), head(left)),
        };
        below.push(Hash(beside));
        below
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_no_other() {
        for size in 1..40_usize {
            let leaves: Vec<Vec<u8>> = (0..size).map(|n| n.to_string().into_bytes()).collect();
            let expected = head(&leaves);
            for index in 0..size {
                let path = path(index, &leaves);
                let compute = |leaf, at: usize, path: &[Hash]| root(leaf, at as u64, size as u64, path);
                assert_eq!(compute(leaf(&leaves[index]), index, &path), Ok(expected), "{index} of {size}");
                assert_ne!(compute(leaf(b"other"), index, &path), Ok(expected));
                for other in (0..size + 2).filter(|other| *other != index) {
                    assert_ne!(
                        compute(leaf(&leaves[index]), other, &path),
                        Ok(expected),
                        "{index} as {other}"
                    );
                }
                let longer = [path.clone(), vec![Hash([0; 32])]].concat();
                let code = compute(leaf(&leaves[index]), index, &longer).unwrap_err().code();
                assert_eq!(code, "sigstore.inclusion.length");
            }
        }
    }

    proptest! {
        #[test]
        fn any_numbers_are_answered(index: u64, size: u64, length in 0_usize..66) {
            let found = root([0; 32], index, size, &vec![Hash([1; 32]); length]);
            prop_assert!(index < size || found.is_err());
        }
    }
}
