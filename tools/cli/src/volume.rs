//! `coffer volume`: make and inspect encrypted volumes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use coffer_core_initdata::{Rollback, Volume, VolumeAccess};
use coffer_core_protocol::counter::Counter;
use coffer_host_sandbox::VolumeDisk;
use coffer_tools_volumes as volumes;
use coffer_tools_volumes::{NewVolume, create, generation, inspect, new_key};
use serde_json::json;

use crate::image::KeyPlace;
use crate::{Context, block_on, secret};

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
        /// User and group, by number, that the volume's root directory belongs to.
        #[arg(long, value_name = "UID:GID", default_value = "0:0", value_parser = owner)]
        owner: (u32, u32),
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
    /// Show what a volume's file says of itself. Needs no key.
    Inspect {
        /// The file.
        file: PathBuf,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Create { name, size, file, key, key_file, key_out, replace_key, owner } => {
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
            let new = NewVolume { file: &file, name: &name, size, key: &secret, owner };
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
                    "{} {}\ncipher      {}, sectors of {} bytes\ndata        {} bytes at {}\nkey slots   {}\n\
                     roll-back   {rollback}",
                    about.uuid,
                    about.label,
                    about.cipher,
                    about.sector_size,
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

/// A volume's name, as it stands in init-data and in a disk's serial number.
fn name(text: &str) -> Result<String, String> {
    match Volume::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no volume's name; expected up to 16 letters, digits and -")),
    }
}

/// `NAME=FILE`: the file that is attached as a volume's disk.
pub(crate) fn attached(text: &str) -> Result<VolumeDisk, String> {
    let (volume, file) = text.split_once('=').unwrap_or((text, ""));
    match file.is_empty() {
        false => Ok(VolumeDisk { name: name(volume)?, path: file.into() }),
        true => Err(format!("{text:?} names no file; expected NAME=FILE")),
    }
}

/// `name=…,key=…,path=…`: a volume as init-data has it. What is wrong with its values, init-data says.
pub(crate) fn mount(text: &str) -> Result<Volume, String> {
    let mut words: BTreeMap<&str, &str> = BTreeMap::new();
    for word in text.split(',') {
        let (member, value) = word.split_once('=').ok_or_else(|| format!("{word:?} has no value"))?;
        if words.insert(member, value).is_some() {
            return Err(format!("{member} is there twice"));
        }
    }
    let mut take = |member: &str| words.remove(member);
    let mut needed =
        |member| take(member).map(str::to_owned).ok_or_else(|| format!("there is no {member}=…"));
    let (name, key, path) = (needed("name")?, needed("key")?, needed("path")?);
    let rollback = match take("rollback") {
        None | Some("detected") => Rollback::Detected,
        Some("insecure-not-detected") => Rollback::InsecureNotDetected,
        Some(other) => return Err(format!("rollback={other}; expected detected or insecure-not-detected")),
    };
    let access = match take("access") {
        None | Some("read-write") => VolumeAccess::ReadWrite,
        Some("read-only") => VolumeAccess::ReadOnly,
        Some(other) => return Err(format!("access={other}; expected read-write or read-only")),
    };
    match words.keys().next() {
        Some(other) => Err(format!("{other} is not known; expected name, key, path, access, rollback")),
        None => Ok(Volume { name, key, path, rollback, access }),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; expected a number with M, G or T, as in 10G");
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let factor: u64 = match text.get(digits.len()..) {
        Some("") => 1,
        Some("K") => 1 << 10,
        Some("M") => 1 << 20,
        Some("G") => 1 << 30,
        Some("T") => 1 << 40,
        _ => return Err(wrong()),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').unwrap_or_default();
    match (user.parse(), group.parse()) {
        (Ok(user), Ok(group)) => Ok((user, group)),
        _ => Err(format!("{text:?} is no owner; expected UID:GID, as in 1000:1000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_names_and_owners_are_what_the_help_says() {
        assert_eq!((size("10G"), size("512M"), size("4096")), (Ok(10 << 30), Ok(512 << 20), Ok(4096)));
        for wrong in ["", "G", "1.5G", "10GG", "99999999999T", "-1G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(name("data-1").is_ok());
        for wrong in ["", "a b", "seventeen-letters", "a/b", "a=b"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        let read = mount("name=data,key=kbs:///a/b/c,path=/data,access=read-only").expect("a volume");
        assert_eq!((read.name.as_str(), read.access), ("data", VolumeAccess::ReadOnly));
        assert_eq!(read.rollback, Rollback::Detected, "unless it is said");
        for wrong in
            ["name=a", "name=a,key=b,path=c,what=d", "name=a,name=a", "name=a,key=b,path=c,rollback=no"]
        {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
        assert!(attached("data=/a/file").is_ok() && attached("data").is_err() && attached("=x").is_err());
        assert_eq!(owner("1000:100"), Ok((1000, 100)));
        assert!(owner("root:root").is_err() && owner("1").is_err());
    }
}
