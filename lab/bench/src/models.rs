//! Sealed models: sealing, opening, reading and the mount, beside plain reads of the same bytes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use coffer_core_oci::cosign::PublicKey;
use coffer_core_sealed_stream::{Key, SegmentSize, Signature, Statement};
use coffer_guest_model_mount::{Reach, Tree, mount};
use coffer_guest_models::{Access, Destination, Job, Model, Partial, Place, Signed, fill_parallel};
use coffer_tools_images::{keygen, sign_message};
use coffer_tools_models::{Options, SealError, seal};
use nix::sys::resource::{UsageWho, getrusage};

const FILE: &str = "weights";
const ROUNDS: usize = 5;
const PIECE: usize = 1 << 20;

/// Prints figures for one model of `mib` MiB.
pub(crate) fn measure(mib: usize) -> Result<()> {
    println!("\nA sealed model of {mib} MiB, in the page cache; wall time, best of {ROUNDS}");
    let folder = tempfile::tempdir()?;
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));
    fs::create_dir(&plain)?;
    let piece: Vec<u8> = (0..PIECE).map(|at| (at * at % 251) as u8).collect();
    let mut weights = File::create(plain.join(FILE))?;
    for _ in 0..mib {
        weights.write_all(&piece)?;
    }
    let (began, key) = (Instant::now(), Key::random()?);
    let pair = keygen()?;
    let sign = |statement: &Statement| {
        let failed = |why: String| SealError::Signing(why);
        let message = statement.signing_bytes().map_err(|error| failed(error.to_string()))?;
        let (bytes, _) =
            sign_message(&pair.private_pem, &message).map_err(|error| failed(error.to_string()))?;
        Ok(Signature { bytes, key_id: String::new() })
    };
    let key_uri = "kbs:///default/model-key/bench".parse()?;
    let options = Options { key: &key, key_uri, segment_size: SegmentSize::MIB_1 };
    seal(&plain, &sealed, options, sign, &|_, _| {})?;
    println!("  seal                          {}", rate(mib, began.elapsed()));
    let open = || -> Result<Model> {
        let store = Access::default().store(&Place::Folder(sealed.clone()))?;
        let signed = Signed::read(store, &[PublicKey::from_pem(&pair.public_pem)?])?;
        Ok(signed.open(Key::new(*key.expose()))?)
    };
    let before = peak();
    let stop = AtomicBool::new(false);
    let job = Job { progress: &|_, _| {}, stop: &stop };
    let out = folder.path().join("out");
    let began = Instant::now();
    open()?.unpack(&Destination::New(out.clone()), Partial::Remove, &job)?;
    println!("  open into a folder            {}", rate(mib, began.elapsed()));
    let began = Instant::now();
    open()?.check(&job)?;
    println!("  verify, root and digest       {}", rate(mib, began.elapsed()));
    println!("  peak memory of both           {} MiB more than before", (peak() - before) / 1024);
    fs::remove_dir_all(out)?;

    let mut memory = vec![1_u8; mib * PIECE];
    let file = File::open(plain.join(FILE))?;
    let reference = best(|| read(&file, &mut memory))?;
    println!("  read plain, 1 thread          {}", rate(mib, reference));
    let model = open()?;
    let reader = model.reader(FILE)?;
    for threads in [1, 2] {
        let time = best(|| {
            let read = fill_parallel(&reader, &mut memory, 0, threads)?;
            anyhow::ensure!(read == mib * PIECE, "{read} bytes were read");
            Ok(())
        })?;
        println!(
            "  read sealed, {threads} threads        {}  {:.2} of plain",
            rate(mib, time),
            ratio(reference, time)
        );
    }
    mounted(open()?, folder.path(), mib, &mut memory, reference)
}

fn mounted(model: Model, folder: &Path, mib: usize, memory: &mut [u8], reference: Duration) -> Result<()> {
    let at = folder.join("mnt");
    fs::create_dir(&at)?;
    let mounted = match mount(Arc::new(Tree::new(model)), &at, Reach::Owner, Arc::new(|_: &str| {})) {
        Ok(mounted) => mounted,
        Err(error) => {
            println!("  skipped: {error}");
            return Ok(());
        }
    };
    let file = File::open(at.join(FILE)).context("the mounted file")?;
    for what in ["first", "again"] {
        let began = Instant::now();
        read(&file, memory)?;
        let time = began.elapsed();
        println!(
            "  read the mount, {what}         {}  {:.2} of plain",
            rate(mib, time),
            ratio(reference, time)
        );
    }
    drop(file);
    mounted.unmount().map_err(|error| anyhow!("{error}"))
}

fn read(file: &File, memory: &mut [u8]) -> Result<()> {
    for (at, piece) in memory.chunks_mut(PIECE).enumerate() {
        file.read_exact_at(piece, (at * PIECE) as u64)?;
    }
    Ok(())
}

fn best(mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut found = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        work()?;
        found = found.min(began.elapsed());
    }
    Ok(found)
}

fn rate(mib: usize, time: Duration) -> String {
    format!(
        "{:8.1} ms  {:6.2} GB/s",
        time.as_secs_f64() * 1e3,
        (mib * PIECE) as f64 / time.as_secs_f64() / 1e9
    )
}

fn ratio(reference: Duration, time: Duration) -> f64 {
    reference.as_secs_f64() / time.as_secs_f64()
}

/// The most memory that this process ever had, in KiB.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.max_rss()).unwrap_or_default()
}
