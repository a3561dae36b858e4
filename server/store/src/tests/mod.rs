//! Claims about the store, by subject.

mod copies;
mod engines;
mod epochs;
mod journals;
mod opening;
mod resources;
mod scopes;
mod tenants;

use std::path::Path;

use coffer_core_admin::TenantName;
use coffer_core_secret::SecretBytes;

use super::*;

const AT: i64 = 1_800_000_000;

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_of(bytes)
}

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

/// The tenant of the plain paths.
fn own(store: &Store) -> Scope {
    store.tenant(&TenantName::default())
}

/// A closed store with one resource and one policy.
fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(store.was_created());
    let value = secret(b"a canary that is nowhere on the disk");
    own(&store).put_resource("default/key/1", NewResource::stored(&value, AT)).unwrap();
    own(&store).put(Table::Policies, "resource", b"package policy").unwrap();
    folder
}

fn refusal(folder: &Path) -> String {
    match Store::open(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}
