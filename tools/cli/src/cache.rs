//! `coffer cache`: the blobs of registries that this host keeps for its guests.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use coffer_core_digest::Digest;
use coffer_host_cache::{BOUND, Cache, CacheError, Entry, Registries, Settings};
use coffer_tools_images::{Source, Transport};
use jiff::Timestamp;
use serde_json::json;

use crate::output::{progress, table};
use crate::{Context, block_on, image};

/// How often progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

/// Where the cache is, and how it is filled.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The cache's folder, on a local disk [default: blobs in COFFER_HOME].
    #[arg(long, env = "COFFER_CACHE_DIR", global = true, value_name = "DIR", help_heading = "Cache")]
    cache_dir: Option<PathBuf>,
    /// How much the cache may hold, as in 500M or 20G [default: 20G].
    #[arg(
        long,
        env = "COFFER_CACHE_SIZE",
        global = true,
        value_name = "SIZE",
        value_parser = size,
        help_heading = "Cache"
    )]
    cache_size: Option<u64>,
    /// How registries are reached: mirrors, roots, proxies [default: registries.toml in COFFER_HOME].
    #[arg(long, env = "COFFER_REGISTRIES", global = true, value_name = "FILE", help_heading = "Cache")]
    registries: Option<PathBuf>,
}

impl Place {
    /// Opens the cache.
    pub(crate) fn open(&self, context: &Context) -> Result<Cache> {
        let folder = self.cache_dir.clone().unwrap_or_else(|| context.home.blobs());
        let registries = self.registries.clone().unwrap_or_else(|| context.home.registries());
        let settings = Settings {
            bound: self.cache_size.unwrap_or(BOUND),
            registries: Registries::read(&registries).map_err(coded)?,
            ..Settings::new(&std::path::absolute(folder)?)
        };
        Cache::open(settings).map_err(coded)
    }
}

/// An error of the cache, with its code.
pub(crate) fn coded(error: CacheError) -> anyhow::Error {
    let code = error.code();
    anyhow::Error::new(error).context(format!("the cache of images failed  [{code}]"))
}

/// Which cache, and what with it.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the blobs, the last used first.
    List,
    /// Fetch a sealed image of a registry, so that guests start from what is here.
    Fill {
        /// The image: docker://registry/repository:tag.
        image: String,
        /// Speak plain HTTP to registries.
        #[arg(long)]
        plain_http: bool,
    },
    /// Compare every blob with its digest, and remove those that changed on the disk.
    Verify,
    /// Remove what no sandbox uses, the longest unused first.
    Prune {
        /// Stop when not more than this is left, as in 5G.
        #[arg(long, default_value = "0", value_parser = size, value_name = "SIZE")]
        to: u64,
    },
}

pub(crate) fn run(context: &Context, options: Options) -> Result<()> {
    let cache = options.place.open(context)?;
    match options.command {
        Command::List => list(context, &cache),
        Command::Fill { image, plain_http } => fill(context, &cache, &image, plain_http),
        Command::Verify => {
            removed(context, &cache.verify().map_err(coded)?, "changed on the disk and were removed")
        }
        Command::Prune { to } => removed(context, &cache.prune(to).map_err(coded)?, "were removed"),
    }
}

fn list(context: &Context, cache: &Cache) -> Result<()> {
    let entries = cache.list().map_err(coded)?;
    let used = |at| Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default();
    let told = |entry: &Entry| {
        json!({
            "digest": entry.digest,
            "size": entry.size,
            "present": entry.present,
            "held": entry.held,
            "used": used(entry.used),
        })
    };
    let told: Vec<_> = entries.iter().map(told).collect();
    context.output.show(&told, |_| {
        let row = |entry: &Entry| {
            let present = match entry.present == entry.size {
                true => "whole".into(),
                false => entry.present.to_string(),
            };
            let held = if entry.held { "in use" } else { "" };
            vec![entry.digest.to_string(), entry.size.to_string(), present, used(entry.used), held.into()]
        };
        let rows: Vec<_> = entries.iter().map(row).collect();
        table(&["BLOB", "BYTES", "PRESENT", "USED", ""], &rows)
    })
}

fn removed(context: &Context, gone: &[Digest], what: &str) -> Result<()> {
    context.output.show(&json!({ "removed": gone }), |_| {
        let lines: Vec<String> = gone.iter().map(ToString::to_string).collect();
        format!("{} blobs {what}\n{}", gone.len(), lines.join("\n"))
    })
}

fn fill(context: &Context, cache: &Cache, name: &str, plain_http: bool) -> Result<()> {
    let Source::Registry(reference, transport) = image::source(name, plain_http)? else {
        bail!("{name} is in no registry; guests read layouts where they are");
    };
    let (digest, size) = block_on(async {
        let image =
            cache.image(&reference, transport == Transport::InsecurePlainHttp).await.map_err(coded)?;
        let Some(sealed) = image.sealed else {
            bail!(
                "{name} is not sealed as a block, so that guests pull it themselves; see `coffer image seal`"
            );
        };
        let bar = progress("filling", Some(sealed.size()));
        let mut filling = std::pin::pin!(sealed.fill());
        loop {
            match tokio::time::timeout(SHOWN, filling.as_mut()).await {
                Ok(filled) => break filled.map_err(coded)?,
                Err(_) => bar.set_position(sealed.present()),
            }
        }
        bar.finish_and_clear();
        Ok((image.digest, sealed.size()))
    })?;
    let transferred = cache.transferred();
    let told = json!({ "digest": digest, "size": size, "transferred": transferred });
    context.output.show(&told, |_| format!("{digest}\n{size} bytes are here, {transferred} were transferred"))
}

/// Bytes, with K, M, G or T for powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; expected a number with K, M, G or T, as in 20G");
    let (digits, shift) = match text.char_indices().last() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            let shift = match unit.to_ascii_uppercase() {
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return Err(wrong()),
            };
            (text.get(..at).unwrap_or_default(), shift)
        }
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("20G"), Ok(20 << 30));
        assert_eq!(size("1k"), Ok(1024));
        for wrong in ["", "G", "-1", "1X", "99999999T", "1.5G", "1 G", "1µ"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
