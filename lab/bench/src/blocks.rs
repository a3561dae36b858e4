//! Reading sealed blocks in a guest, against the same EROFS under dm-verity alone.

use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coffer_core_seal::erofs;
use coffer_core_seal::sealed::{BlockKey, seal};
use coffer_core_seal::tree::{Extent, Kind, Meta, Node, Tree};
use coffer_core_seal::verity::TreeBuilder;
use coffer_host_vmm::{
    Accelerator, Content, Disk, Firmware, Kind as Machine, LinuxBoot, MachineSpec, Qemu, Vendor, Vmm, lasting,
};
use coffer_tools_guest_image::{BuildSpec, GUEST_MODULES, Kernel, build};

const DATA: u64 = 32 << 20;
const BLOCK: usize = 4096;
const SALT: [u8; 32] = [7; 32];

/// Measures and prints. `guest` is the static program of `lab/bench-guest`, `kernel` an unpacked kernel package.
pub(crate) fn measure(guest: &Path, kernel: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = image()?;
    let blocks = image.len() / BLOCK;
    let key = BlockKey::random()?;
    let mut out = BufWriter::new(File::create(folder.path().join("sealed"))?);
    let sealed = seal(&mut image.as_slice(), &key, "kbs:///bench/key/one", &mut out)?;
    out.flush()?;
    let mut tree = TreeBuilder::new(SALT);
    image.chunks_exact(BLOCK).for_each(|block| tree.push(block));
    let mut out = BufWriter::new(File::create(folder.path().join("plain"))?);
    out.write_all(&image)?;
    let root = tree.finish(&mut out)?;
    out.flush()?;

    let kernel = Kernel::open(kernel)?;
    let built = build(&BuildSpec { agent: guest.to_path_buf(), kernel: &kernel, modules: GUEST_MODULES })?;
    let initrd = folder.path().join("initrd");
    std::fs::write(&initrd, &built.initramfs)?;
    let command_line = format!(
        "console=ttyS0 panic=-1 quiet bench.blocks={blocks} bench.plain={}:{} bench.sealed={}:{} bench.key={}",
        root.hex(),
        hex::encode(SALT),
        sealed.block.root_hash.hex(),
        hex::encode(sealed.block.salt),
        hex::encode(key.expose()),
    );
    let console = folder.path().join("console");
    File::create(&console)?;
    let disk = |name: &str| Disk {
        content: Content::File(folder.path().join(name)),
        serial: name.into(),
        read_only: true,
    };
    let spec = MachineSpec {
        kind: Machine::Plain,
        accelerator: Accelerator::SoftwareEmulation,
        vendor: Vendor::of_this_machine(),
        cpus: 1,
        memory_mib: 512,
        firmware: Firmware::Bios,
        linux: Some(LinuxBoot { kernel: kernel.image.clone(), initrd: Some(initrd), command_line }),
        tpm: None,
        disks: vec![disk("plain"), disk("sealed")],
        hot_plug_slots: 0,
        network: None,
        channel: None,
        console_log: Some(console.clone()),
    };
    run(spec)?;
    report(&std::fs::read_to_string(&console)?)
}

/// An EROFS image with one file of bytes that do not compress.
fn image() -> Result<Vec<u8>> {
    let mut tree = Tree::new(Meta { mode: 0o755, ..Meta::default() });
    let file = Node {
        meta: Meta { mode: 0o644, ..Meta::default() },
        kind: Kind::File(Extent { offset: 0, len: DATA }),
    };
    tree.insert(Tree::ROOT, b"data", file)?;
    let mut state = 1_u64;
    let data: Vec<u8> = (0..DATA)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(state >> 56).unwrap_or_default()
        })
        .collect();
    let mut image = Vec::new();
    let options = erofs::Options::default();
    erofs::write(&tree, &mut Cursor::new(data), &options, &mut image)?;
    ensure!(image.len().is_multiple_of(BLOCK), "an EROFS image is whole blocks");
    Ok(image)
}

fn run(spec: MachineSpec) -> Result<()> {
    let mut machine = lasting(move || Vmm::start(&Qemu::default(), &spec)).context("the thread failed")??;
    if machine.wait(Duration::from_secs(300))?.is_none() {
        machine.kill();
        bail!("the guest did not end");
    }
    Ok(())
}

fn report(console: &str) -> Result<()> {
    let times = |name: &str| {
        let mut times: Vec<f64> = console
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip_while(|word| *word != "bench").skip(1);
                let (found, _, time) = (words.next()?, words.next()?, words.next()?);
                (found == name).then(|| time.parse().ok())?
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().with_context(|| format!("the guest measured nothing:\n{console}"))
    };
    let (plain, sealed) = (times("plain")?, times("sealed")?);
    println!("\nreading {} MiB of an EROFS in a guest (medians, software emulation)", DATA >> 20);
    let line = |name: &str, us: f64| println!("  {name:<28} {:>7.1} ms", us / 1000.0);
    line("dm-verity alone", plain);
    line("sealed (verity and crypt)", sealed);
    println!("  sealed against verity alone: {:.2}x of its speed (promise: 0.9x)", plain / sealed);
    Ok(())
}
