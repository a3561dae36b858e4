//! Claims about disks that refuse: what was acknowledged stays, and the operator is told what to do.
//!
//! They want a small file system of their own, which a test may mount where it is privileged; elsewhere they are skipped.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use coffer_core_admin::TenantName;
use coffer_server_store::{Scope, Store, StoreError, Table};

/// A file system in memory, unmounted at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mounted(megabytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={megabytes}m,mode=0700");
        match mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], folder.path()) {
            true => Some(Self(folder)),
            false => {
                println!("skipped: mounting a file system is not permitted here");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(folder).output();
    output.is_ok_and(|output| output.status.success())
}

fn own(store: &Store) -> Scope {
    store.tenant(&TenantName::default())
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_serves_again_when_there_is_space() {
    let Some(disk) = Disk::mounted(12) else { return };
    let folder = disk.path().join("store");
    let store = Store::open(&folder).unwrap();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let value = vec![0x5a; 64 << 10];
    let mut kept = 0;
    let error = loop {
        match own(&store).put(Table::NamedValues, &format!("{kept}"), &value) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1_000, "the disk was never full");
    };
    assert!(kept > 10, "{kept}");
    let told = error.to_string();
    assert!(matches!(error, StoreError::Disk { .. }) && told.contains("free space"), "{told}");
    // Still full: refused again, or small enough to fit; never another error and never a panic.
    for _ in 0..3 {
        match own(&store).put(Table::NamedValues, "more", &value) {
            Ok(()) | Err(StoreError::Disk { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    fs::remove_file(&ballast).unwrap();
    own(&store).put(Table::NamedValues, "after", &value).unwrap();
    let check = |store: &Store| {
        for number in 0..kept {
            let found = own(store).get(Table::NamedValues, &format!("{number}")).unwrap();
            assert!(found.is_some_and(|found| found.equals(&value)), "{number} was lost");
        }
        assert!(own(store).get(Table::NamedValues, "after").unwrap().is_some());
        assert!(store.verify().unwrap().is_whole());
    };
    check(&store);
    drop(store);
    check(&Store::open(&folder).unwrap());
}

#[test]
fn a_store_is_not_made_on_a_full_disk_and_is_when_there_is_space() {
    let Some(disk) = Disk::mounted(3) else { return };
    let folder = disk.path().join("store");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; (3 << 20) - 40_960]).unwrap();
    let Err(error) = Store::open(&folder) else { panic!("it was made") };
    assert!(matches!(error, StoreError::Disk { .. } | StoreError::File { .. }), "{error}");
    assert!(!folder.join("store.redb").exists() || Store::open(&folder).is_err());
    fs::remove_file(&ballast).unwrap();
    let store = Store::open(&folder).unwrap();
    own(&store).put(Table::Policies, "resource", b"p").unwrap();
}

#[test]
fn a_read_only_disk_is_refused_with_its_reason_and_serves_again_when_it_is_writable() {
    let Some(disk) = Disk::mounted(12) else { return };
    let folder = disk.path().join("store");
    let store = Store::open(&folder).unwrap();
    own(&store).put(Table::Policies, "resource", b"p").unwrap();
    drop(store);
    let before = fs::read(folder.join("store.redb")).unwrap();
    assert!(mount(&["-o", "remount,ro"], disk.path()));
    let Err(error) = Store::open(&folder) else { panic!("it was opened") };
    let told = error.to_string();
    assert!(told.contains("does not let this broker write") && told.contains("Read-only"), "{told}");
    assert!(mount(&["-o", "remount,rw"], disk.path()));
    assert_eq!(fs::read(folder.join("store.redb")).unwrap(), before);
    let store = Store::open(&folder).unwrap();
    assert!(own(&store).get(Table::Policies, "resource").unwrap().is_some());
}
