//! Images: from a registry to the first byte and to all of them, sealed and by the ways of others.
//!
//! Each step is a program of its own (this one again, for our own code), so that its processor time and its largest
//! memory are its own. Left out: reading in a guest, which `blocks` measures.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use coffer_core_digest::Digest;
use coffer_core_oci::{Manifest, Reference, SealedBlock, media};
use coffer_core_seal::erofs;
use coffer_core_seal::sealed::BlockKey;
use coffer_core_secret::SecretBytes;
use coffer_host_cache::{Cache, Settings};
use coffer_lab_e2e::Registry;
use coffer_tools_images::{
    Destination, Layout, Limits, OpeningKeys, Progress, SealFormat, SealOptions, Source, copy, export,
    open_sealed, resolve, seal,
};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

const URI: &str = "kbs:///bench/key/one";

/// A step that is measured in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    /// Another's program.
    Run(Vec<String>),
    /// Seal, from place to place.
    Seal { from: String, to: String, ocicrypt: bool },
    /// Open all of it, into nothing.
    Open { from: String, ocicrypt: bool },
    /// Read all blocks of a sealed image in a layout, decrypted, into nothing.
    Read { layout: String, tag: String },
    /// Read all of a file into nothing.
    Plain(String),
    /// Through a cache to the blocks that a guest reads first. They are fetched; a guest verifies and decrypts them.
    First { reference: String, cache: String },
    /// All of the blob into the cache.
    Fill { reference: String, cache: String },
}

/// What a step took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Took {
    seconds: f64,
    cpu: f64,
    peak_mib: f64,
    /// Bytes that came from the registry, where they were counted.
    bytes: u64,
}

/// Does one step and tells what it took, as JSON.
pub(crate) fn work(step: &str) -> Result<()> {
    let step: Step = serde_json::from_str(step)?;
    let began = Instant::now();
    let mut bytes = 0;
    let who = match &step {
        Step::Run(words) => {
            let (program, arguments) = words.split_first().context("no program")?;
            let mut command = Command::new(program);
            let output = command.args(arguments).stdin(Stdio::null()).output()?;
            ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            UsageWho::RUSAGE_CHILDREN
        }
        own => {
            bytes =
                tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(do_own(own))?;
            UsageWho::RUSAGE_SELF
        }
    };
    let usage = getrusage(who)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let took = Took {
        seconds: began.elapsed().as_secs_f64(),
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_mib: usage.max_rss() as f64 / 1024.0,
        bytes,
    };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

fn key(ocicrypt: bool) -> SecretBytes {
    let length: u8 = if ocicrypt { 32 } else { 64 };
    SecretBytes::new((0..length).map(|at| at.wrapping_mul(7).wrapping_add(3)).collect())
}

/// Does it, and gives the bytes that came from a registry, where they are counted.
async fn do_own(step: &Step) -> Result<u64> {
    match step {
        Step::Seal { from, to, ocicrypt } => {
            let format = if *ocicrypt { SealFormat::Ocicrypt } else { SealFormat::SealedBlock };
            let options = SealOptions::new(format, URI, key(*ocicrypt));
            seal(&Source::parse(from)?, &Destination::parse(to)?, options, &Progress::none()).await?;
        }
        Step::Open { from, ocicrypt } => {
            let mut keys = OpeningKeys::none();
            keys.add_bytes(key(*ocicrypt));
            let out = Box::new(std::io::sink());
            export(&Source::parse(from)?, None, out, keys, Limits::default(), &Progress::none()).await?;
        }
        Step::Read { layout, tag } => {
            let image = resolve(&Source::parse(&format!("oci:{layout}:{tag}"))?).await?;
            let mut blocks = open_sealed(&Layout::open(Path::new(layout))?, &image, &key(false))?;
            std::io::copy(&mut blocks, &mut std::io::sink())?;
        }
        Step::Plain(file) => {
            let mut file = std::fs::File::open(file)?;
            let mut buffer = vec![0; 256 << 10];
            while file.read(&mut buffer)? > 0 {}
        }
        Step::First { reference, cache } => {
            let cache = Cache::open(Settings::new(Path::new(cache)))?;
            let image = cache.image(&Reference::parse(reference)?, true).await?;
            let blob = image.sealed.context("no sealed block")?;
            // What a guest reads first: the superblock, and the nodes of the hash tree above it.
            blob.read(0, 4096).await?;
            let (layer, block) = sealed_of(&image.documents).await?;
            ensure!(layer == *blob.digest(), "another blob");
            for offset in [block.hash_offset(), block.blob_len() - 4096] {
                blob.read(offset, 4096).await?;
            }
            return Ok(cache.transferred());
        }
        Step::Fill { reference, cache } => {
            let cache = Cache::open(Settings::new(Path::new(cache)))?;
            let image = cache.image(&Reference::parse(reference)?, true).await?;
            image.sealed.context("no sealed block")?.fill().await?;
            return Ok(cache.transferred());
        }
        Step::Run(_) => bail!("not our own"),
    }
    Ok(0)
}

/// The sealed block that one of an image's documents describes.
async fn sealed_of(documents: &[coffer_host_cache::Blob]) -> Result<(Digest, SealedBlock)> {
    for document in documents {
        let bytes = document.read(0, u32::try_from(document.size())?).await?;
        let Ok(manifest) = Manifest::parse(&bytes) else { continue };
        if let Some((layer, block)) = SealedBlock::from_manifest(&manifest)? {
            return Ok((layer.digest, block));
        }
    }
    bail!("no document describes a sealed block")
}

fn step(step: &Step) -> Result<Took> {
    let own = std::env::current_exe()?;
    let output = Command::new(own).arg("--worker").arg(serde_json::to_string(step)?).output()?;
    ensure!(output.status.success(), "{step:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Measures images of these sizes and prints a table for each.
pub(crate) fn measure(sizes_mib: &[u64]) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("coffer-bench-images-").tempdir()?;
    let Some(registry) = Registry::start(&folder.path().join("registry"))? else { return Ok(()) };
    for mib in sizes_mib {
        one(folder.path(), registry.port, *mib)?;
    }
    Ok(())
}

fn one(folder: &Path, port: u16, mib: u64) -> Result<()> {
    println!(
        "\nAn image of {mib} MiB, from a registry on this machine (seconds, processor seconds, largest memory)"
    );
    let place = |name: &str| folder.join(format!("{name}-{mib}")).display().to_string();
    let remote = |tag: &str| format!("docker://127.0.0.1:{port}/bench/i{mib}:{tag}");
    let layout = place("source");
    make(Path::new(&layout), mib)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let push = |from: &str, to: &str| -> Result<()> {
        let (from, to) = (Source::parse(from)?, Destination::parse(to)?);
        runtime.block_on(copy(&from, &to, &Progress::none()))?;
        Ok(())
    };
    push(&format!("oci:{layout}:plain"), &remote("plain"))?;
    let words = |words: &[&str]| Step::Run(words.iter().map(|word| (*word).to_owned()).collect());
    let pulled = format!("oci:{}:plain", place("pulled"));
    let from = remote("plain");
    let pull = step(&words(&[
        "skopeo",
        "copy",
        "--quiet",
        "--insecure-policy",
        "--src-tls-verify=false",
        &from,
        &pulled,
    ]))?;
    show("plain pull (skopeo)", pull);
    let unpack =
        step(&words(&["umoci", "unpack", "--image", pulled.trim_start_matches("oci:"), &place("bundle")]))?;
    show("  and unpack (umoci)", unpack);
    let seal_layers = Step::Seal { from: remote("plain"), to: remote("ocicrypt"), ocicrypt: true };
    show("encrypt layers (ocicrypt)", step(&seal_layers)?);
    let layers = step(&Step::Open { from: remote("ocicrypt"), ocicrypt: true })?;
    show("pull, decrypt and read whole layers", layers);
    let sealed = place("sealed");
    show(
        "seal blocks",
        step(&Step::Seal { from: remote("plain"), to: format!("oci:{sealed}:a"), ocicrypt: false })?,
    );
    push(&format!("oci:{sealed}:a"), &remote("sealed"))?;
    let open = step(&Step::Open { from: remote("sealed"), ocicrypt: false })?;
    show("pull, verify, decrypt and read sealed blocks", open);
    let reference = remote("sealed").trim_start_matches("docker://").to_owned();
    let cached = |what: &str, step_of: fn(String, String) -> Step, cache: &str| -> Result<()> {
        let took = step(&step_of(reference.clone(), place(cache)))?;
        show(what, took);
        println!("    {:.1} KiB from the registry", took.bytes as f64 / 1024.0);
        Ok(())
    };
    let first = |reference, cache| Step::First { reference, cache };
    cached("first blocks fetched, from an empty cache", first, "cache-first")?;
    cached("the whole blob into a cache", |reference, cache| Step::Fill { reference, cache }, "cache")?;
    cached("first blocks of the next pod", first, "cache")?;
    let read = step(&Step::Read { layout: sealed.clone(), tag: "a".into() })?;
    show("read sealed blocks from the page cache, one core", read);
    let erofs = place("erofs");
    let bytes = plain_blocks(&runtime, &sealed, &erofs)?;
    let plain = step(&Step::Plain(erofs))?;
    show("read the same blocks in plaintext", plain);
    println!(
        "  pull and unpack by whole layers takes {:.1} times what sealed blocks take; user space reads sealed blocks at {:.0} MiB/s",
        (pull.seconds + unpack.seconds) / open.seconds,
        bytes as f64 / 1_048_576.0 / read.seconds,
    );
    Ok(())
}

fn show(what: &str, took: Took) {
    println!("  {what:<50} {:>8.2} s {:>8.2} s {:>8.0} MiB", took.seconds, took.cpu, took.peak_mib);
}

/// Writes the blocks of a sealed image in plaintext, and gives their number of bytes.
fn plain_blocks(runtime: &tokio::runtime::Runtime, sealed: &str, to: &str) -> Result<u64> {
    let image = runtime.block_on(resolve(&Source::parse(&format!("oci:{sealed}:a"))?))?;
    let mut blocks = open_sealed(&Layout::open(Path::new(sealed))?, &image, &key(false))?;
    let bytes = std::io::copy(&mut blocks, &mut std::fs::File::create(to)?)?;
    blocks.rewind()?;
    // It is the file system that was sealed.
    let _key_fits = BlockKey::from_bytes(&key(false))?;
    erofs::read(blocks, 1 << 20)?;
    Ok(bytes)
}

/// A layout with one image: files of 1 MiB, half of which compress.
fn make(layout: &Path, mib: u64) -> Result<()> {
    let layout = Layout::create(layout)?;
    let mut writer = layout.writer()?;
    let gzip = flate2::write::GzEncoder::new(&mut writer, flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let (mut state, mut file) = (1_u64, vec![0_u8; 1 << 20]);
    for number in 0..mib {
        for (at, word) in file.chunks_exact_mut(8).enumerate() {
            // Splitmix64 in every second page, a counter in the others.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let value = if at / 512 % 2 == 0 { mixed ^ (mixed >> 27) } else { at as u64 };
            word.copy_from_slice(&value.to_le_bytes());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, format!("data/{number:06}"), file.as_slice())?;
    }
    archive.into_inner()?.finish()?.flush()?;
    let (digest, size) = writer.commit(None)?;
    let layer = coffer_core_oci::Descriptor::new(media::OCI_LAYER_GZIP, digest, size);
    // umoci unpacks only what has the digest of the plain archive.
    let diff = diff_id(&layout, &digest)?;
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff.to_string()]}
    });
    let config = layout.put(media::OCI_CONFIG, config.to_string().as_bytes())?;
    let manifest = layout.put(media::OCI_MANIFEST, &Manifest::new(config, vec![layer]).to_bytes()?)?;
    Ok(layout.tag(&manifest, "plain")?)
}

fn diff_id(layout: &Layout, blob: &Digest) -> Result<Digest> {
    let file = std::fs::File::open(layout.blob_path(blob))?;
    let mut plain = flate2::read::GzDecoder::new(std::io::BufReader::new(file));
    let mut hasher = coffer_core_digest::Hasher::new(coffer_core_digest::Algorithm::Sha256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match plain.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
