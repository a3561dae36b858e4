//! A real machine that starts from a blob which is not there yet.

use coffer_host_vmm::{Accelerator, Content, Disk, Firmware, Kind, MachineSpec, Qemu, Vendor, lasting};
use tokio::runtime::Handle;

use super::registry::{Answer, Registry};
use super::*;

/// The sector that the boot code reads, and what is in it.
const SECTOR: u64 = 1000;
const WORD: &[u8; 6] = b"sealed";

/// A disk whose first sector loads another one through the BIOS and writes its first bytes to the serial port.
fn bootable() -> Vec<u8> {
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x40, 0x7c, // mov si, 0x7c40: the request below
        0xb4, 0x42, // mov ah, 0x42: extended read
        0xb2, 0x80, // mov dl, 0x80: the first disk
        0xcd, 0x13, // int 0x13
        0xbe, 0x00, 0x7e, // mov si, 0x7e00: where it was read to
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: the serial port
        0xb9, 0x06, 0x00, // mov cx, 6
        0xac, // lodsb
        0xee, // out dx, al
        0xe2, 0xfc, // loop
        0xf4, // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut disk = vec![0; 1 << 20];
    disk[..code.len()].copy_from_slice(&code);
    disk[0x40..0x48].copy_from_slice(&[16, 0, 1, 0, 0x00, 0x7e, 0, 0]);
    disk[0x48..0x50].copy_from_slice(&SECTOR.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let place = SECTOR as usize * 512;
    disk[place..place + WORD.len()].copy_from_slice(WORD);
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_boots_from_a_blob_of_which_only_what_it_reads_is_fetched() {
    if Qemu::default().version().is_err() {
        println!("skipped: no QEMU");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let disk = bootable();
    // Nothing comes but the pieces around the two sectors; the rest of the blob is silence.
    let near = |first: usize, sector: u64| first.abs_diff(sector as usize * 512) < 4 * PIECE as usize;
    registry.behave(move |request| match request.range {
        Some((first, _)) if near(first, 0) || near(first, SECTOR) => Answer::Serve,
        _ => Answer::Stall(0),
    });
    let cache = cache(folder.path());
    let blob = blob(&cache, &registry, &disk).await.unwrap();
    let served = blob.serve(&Handle::current(), &folder.path().join("disk.sock")).unwrap();
    let console = folder.path().join("console.log");
    let spec = MachineSpec {
        kind: Kind::Plain,
        accelerator: Accelerator::SoftwareEmulation,
        vendor: Vendor::Intel,
        cpus: 1,
        memory_mib: 32,
        firmware: Firmware::Bios,
        linux: None,
        tpm: None,
        disks: vec![Disk {
            content: Content::Nbd(served.socket().to_owned()),
            serial: "sealed".into(),
            read_only: true,
        }],
        hot_plug_slots: 0,
        network: None,
        channel: None,
        console_log: Some(console.clone()),
    };
    let started = tokio::task::spawn_blocking(move || lasting(move || Qemu::default().start(&spec)));
    let _machine = started.await.unwrap().unwrap().unwrap();
    let said = async {
        loop {
            let said = std::fs::read(&console).unwrap_or_default();
            if said.windows(WORD.len()).any(|part| part == WORD) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), said).await.expect("the boot code wrote its word");
    assert!(!blob.is_whole() && blob.present() < 20 * PIECE, "{} bytes", blob.present());
}
