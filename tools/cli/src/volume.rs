//! `coffer volume`: make, grow and inspect encrypted volumes, and seal data sets.

mod words;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use coffer_core_initdata::{SealedData, Volume, VolumeKind};
use coffer_core_protocol::counter::Counter;
use coffer_tools_volumes as volumes;
use coffer_tools_volumes::{
    Integrity, NewDataSet, NewVolume, create, generation, grow, inspect, new_data_key, new_key, seal,
};
use serde_json::json;

use crate::image::KeyPlace;
use crate::{Context, block_on, secret};
pub(crate) use words::{attached, mount, scratch};
use words::{mount_words, name, owner, size};

pub(crate) const HELP: &str = "\
A volume is a LUKS2 file with an empty ext4 inside, made here without root. Attach it with
`coffer run --volume NAME=FILE --mount name=NAME,key=URI,path=/PATH IMAGE`; docs/volumes.md tells the rest.";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a volume. Only an attested guest gets its key.
    Create {
        /// The volume's name: up to 16 letters, digits and `-`.
        #[arg(value_parser = name)]
        name: String,
        /// Room for files, as in 500M, 10G, 1T.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        size: u64,
        /// The file to make; it must not exist.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// The address under which guests ask for the key, as in kbs:///default/volume-key/data.
        #[arg(long, value_name = "URI")]
        key: String,
        /// Take the key from this file (32 bytes or more, random) instead of making one.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Write the new key to this file instead of the broker.
        #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
        key_out: Option<PathBuf>,
        /// Replace the key that the broker has at this address. Volumes made with the old one are lost.
        #[arg(long, conflicts_with_all = ["key_file", "key_out"])]
        replace_key: bool,
        /// User and group, by number, that the volume's root directory belongs to [default: 0:0].
        #[arg(long, value_name = "UID:GID", value_parser = owner)]
        owner: Option<(u32, u32)>,
        /// Give each sector a MAC, so that one that the host changed is an error and not noise.
        ///
        /// It takes room and about half of the speed. The guest that opens the volume first makes its file system. Not
        /// noticed is a single sector that is put back together with its MAC.
        #[arg(long, value_enum, conflicts_with = "owner")]
        integrity: Option<Mac>,
    },
    /// Say that this copy of a volume is the good one: after a restore, of the volume or of the broker.
    ///
    /// The broker's counter is set to what the file says. Every other copy is refused from then on.
    Accept {
        /// The file.
        file: PathBuf,
        /// The address of the volume's key.
        #[arg(long, value_name = "URI")]
        key: String,
    },
    /// Seal a folder as a data set that guests only read.
    ///
    /// What is written is ciphertext under a hash tree. Init-data pins the tree's root, so that a guest reads this data
    /// and no other; the lines for it are printed.
    Seal {
        /// The folder. Links are kept; extended attributes are not.
        folder: PathBuf,
        /// The file to make; it must not exist.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// The address under which guests ask for the key, as in kbs:///default/data-key/set.
        #[arg(long, value_name = "URI")]
        key: String,
        /// The volume's name in init-data [default: the folder's].
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: Option<String>,
        /// Where the workload finds it [default: /srv/NAME].
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        /// Take the key from this file (64 bytes) instead of making one. The same folder and key give the same bytes.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// Write the new key to this file instead of the broker.
        #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
        key_out: Option<PathBuf>,
        /// Replace the key that the broker has at this address. What was sealed with the old one is lost.
        #[arg(long, conflicts_with_all = ["key_file", "key_out"])]
        replace_key: bool,
        /// User and group, by number, that everything belongs to, instead of those that it has here.
        #[arg(long, value_name = "UID:GID", value_parser = owner)]
        owner: Option<(u32, u32)>,
    },
    /// Make a volume larger. Its file system grows when a guest opens it next; needs no key.
    Grow {
        /// The file. No guest may have it open.
        file: PathBuf,
        /// Room for files from then on, as in 20G. A volume is never made smaller.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        size: u64,
    },
    /// Show what a volume's file says of itself. Needs no key.
    Inspect {
        /// The file.
        file: PathBuf,
    },
}

/// The MAC of each sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mac {
    /// HMAC with SHA-256, as `cryptsetup --integrity hmac-sha256` has it.
    HmacSha256,
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Create { name, size, file, key, key_file, key_out, replace_key, owner, integrity } => {
            if file.exists() {
                // Before there is a key.
                bail!("{} exists; a volume is never made over a file", file.display());
            }
            let place = KeyPlace::of(key_file, key_out, replace_key);
            let secret = place.key(context, &key, || Ok(new_key()?))?;
            if matches!(place, KeyPlace::Broker | KeyPlace::BrokerReplacing) {
                // A counter that another volume left at this address would refuse the new one.
                set_counter(context, &key, &Counter::default())?;
            }
            let integrity = match integrity {
                None => Integrity::None,
                Some(Mac::HmacSha256) => Integrity::HmacSha256,
            };
            let owner = owner.unwrap_or_default();
            let new = NewVolume { file: &file, name: &name, size, key: &secret, owner, integrity };
            let uuid = create(&new)?;
            let told = json!({"file": file, "name": name, "uuid": uuid, "size": size, "key": key});
            context.output.show(&told, |_| format!("made {} ({uuid})\nkey {key}", file.display()))
        }
        Command::Accept { file, key } => {
            let found = generation(&file)?;
            let counter = Counter { number: found.number, mark: hex::encode(found.mark) };
            set_counter(context, &key, &counter)?;
            let told = json!({"file": file, "generation": found.number, "key": key});
            context.output.show(&told, |_| {
                format!("{} opens from now on, at generation {}", file.display(), found.number)
            })
        }
        Command::Seal { folder, file, key, name, path, key_file, key_out, replace_key, owner } => {
            if file.exists() {
                // Before there is a key.
                bail!("{} exists; a data set is never written over a file", file.display());
            }
            let name = match name {
                Some(name) => name,
                None => named_like(&folder)?,
            };
            let path = path.unwrap_or_else(|| format!("/srv/{name}"));
            let place = KeyPlace::of(key_file, key_out, replace_key);
            let secret = place.key(context, &key, || Ok(new_data_key()?))?;
            let new = NewDataSet { folder: &folder, file: &file, key: &secret, key_uri: &key, owner };
            let block = seal(&new)?;
            let (root_hash, salt, data_blocks) = (block.root_hash, block.salt, block.data_blocks);
            let data = SealedData { key, root_hash, salt, data_blocks };
            let words = mount_words(&name, &path, &data);
            let volume = Volume { name, path, kind: VolumeKind::Sealed(data) };
            let told = json!({"file": file, "name": volume.name, "path": volume.path, "root-hash": root_hash.hex(),
                "bytes": block.blob_len(), "mount": words, "init-data": volume.to_toml().trim_start()});
            context.output.show(&told, |_| {
                format!(
                    "sealed {} ({} bytes). In coffer.toml of the init-data:\n{}\nor on the command line:\n\
                     --volume {}={} --mount {words}",
                    file.display(),
                    block.blob_len(),
                    volume.to_toml(),
                    volume.name,
                    file.display()
                )
            })
        }
        Command::Grow { file, size } => {
            let before = grow(&file, size)?;
            let told = json!({"file": file, "before": before, "size": size});
            context.output.show(&told, |_| {
                format!(
                    "{} has room for {size} bytes instead of {before}, from the next time that a guest opens it",
                    file.display()
                )
            })
        }
        Command::Inspect { file } => {
            let about = inspect(&file)?;
            context.output.show(&about, |about| {
                let rollback = match about.rollback {
                    volumes::Rollback::Detectable => "old copies can be told",
                    volumes::Rollback::InsecureNotDetectable => {
                        "old copies cannot be told: no room for records"
                    }
                };
                format!(
                    "{} {}\ncipher      {}, sectors of {} bytes\nintegrity   {}\ndata        {} bytes at {}\nkey slots   {}\n\
                     roll-back   {rollback}",
                    about.uuid,
                    about.label,
                    about.cipher,
                    about.sector_size,
                    about.integrity,
                    about.data_size,
                    about.data_offset,
                    about.key_slots
                )
            })
        }
    }
}

fn set_counter(context: &Context, uri: &str, counter: &Counter) -> Result<()> {
    let (path, admin) = (secret::path_of(uri)?, context.admin()?);
    block_on(async { Ok(admin.set_counter(&path, counter).await?) })
}

/// A volume's name from its folder's.
fn named_like(folder: &Path) -> Result<String> {
    let last = std::path::absolute(folder)?.file_name().map(|name| name.to_string_lossy().into_owned());
    match name(last.as_deref().unwrap_or_default()) {
        Ok(name) => Ok(name),
        Err(why) => bail!("{why}; say --name"),
    }
}
