//! Copies of a broker's store, which come back from places that the broker does not guard.

use coffer_core_digest::Digest;
use coffer_server_store::{Store, Table, check_backup};

/// Reads a copy: the input, and the input with its own hash after it, which a fuzzer would not find.
pub fn store_backup(data: &[u8]) {
    let hashed = [data, Digest::sha256(data).as_bytes()].concat();
    for copy in [data, hashed.as_slice()] {
        let Ok(info) = check_backup(&mut &*copy) else { continue };
        assert!(info.rows < copy.len() as u64 && info.master_key.len() < copy.len());
        let more = [copy, &[0]].concat();
        assert!(check_backup(&mut more.as_slice()).is_err());
    }
}

/// Copies of a new store, whole and without the hash.
pub(crate) fn backup_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tenant = "a".parse().unwrap();
    store.create_tenant(&tenant, b"{}").unwrap();
    store.tenant(&tenant).put(Table::Policies, "resource", b"package policy").unwrap();
    let mut copy = Vec::new();
    store.backup(&mut copy).unwrap();
    let bare = copy[..copy.len() - 32].to_vec();
    vec![bare, copy]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_copies_that_are_taken() {
        let [bare, copy] = backup_seeds().try_into().unwrap();
        assert!(check_backup(&mut copy.as_slice()).unwrap().rows > 2);
        assert!(check_backup(&mut bare.as_slice()).is_err());
        assert_eq!([bare.as_slice(), Digest::sha256(&bare).as_bytes()].concat(), copy);
    }
}
