//! PID 1 of a guest that maps one EROFS twice, reads it in turn, and prints how long each took.
//!
//! `bench.blocks`, `bench.plain` and `bench.sealed` (root:salt), and `bench.key` come on the command line. Left out:
//! everything that the real agent does.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use coffer_sys_dm::{CryptTable, VerityTable, map_crypt, map_verity};
use coffer_sys_mount::{
    Flags, block_device_by_serial, leave_initramfs, load_modules_listed_in, mount, mount_early,
};

const PATIENCE: Duration = Duration::from_secs(20);
const ROUNDS: u32 = 5;

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is the first process of a guest that only measures");
        return;
    }
    if let Err(error) = measure() {
        println!("bench failed: {error:#}");
    }
    println!("{}", coffer_sys_process::power_off());
}

fn measure() -> Result<()> {
    leave_initramfs()?;
    mount_early()?;
    load_modules_listed_in(Path::new("/etc/modules"))?;
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let word = |name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .ok_or_else(|| anyhow!("{name} is not on the command line"))
    };
    let blocks: u64 = word("bench.blocks")?.parse()?;
    let verity = |name: &str, tree: &str| {
        let (root, salt) = tree.split_once(':').context("root:salt")?;
        let device = block_device_by_serial(name, PATIENCE)?;
        let root = hex::decode(root)?.try_into().map_err(|_| anyhow!("a root has 32 bytes"))?;
        let table = VerityTable {
            data_device: device.clone(),
            hash_device: device,
            blocks,
            hash_start_block: blocks,
            root,
            salt: hex::decode(salt)?,
        };
        Ok::<PathBuf, anyhow::Error>(map_verity(name, &table)?.path)
    };
    let plain = verity("plain", word("bench.plain")?)?;
    let ciphertext = verity("sealed", word("bench.sealed")?)?;
    let key = hex::decode(word("bench.key")?)?;
    let sealed = map_crypt("opened", &CryptTable { device: ciphertext, sectors: blocks * 8 }, &key)?.path;
    for (name, device) in [("plain", plain), ("sealed", sealed)] {
        let target = Path::new("/run").join(name);
        std::fs::create_dir_all(&target)?;
        mount(&device.to_string_lossy(), &target, "erofs", Flags::READ_ONLY, "")?;
    }
    for _ in 0..ROUNDS {
        for name in ["plain", "sealed"] {
            std::fs::write("/proc/sys/vm/drop_caches", "3")?;
            let begun = Instant::now();
            let bytes = read(&Path::new("/run").join(name).join("data"))?;
            println!("bench {name} {bytes} {}", begun.elapsed().as_micros());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<usize> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}
