//! What `--volume`, `--mount` and `--scratch` say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coffer_core_initdata::{Ephemeral, Persistent, Rollback, SealedData, Volume, VolumeAccess, VolumeKind};
use coffer_host_sandbox::{ScratchDisk, VolumeDisk};

/// A volume's name, as it stands in init-data and in a disk's serial number.
pub(crate) fn name(text: &str) -> Result<String, String> {
    match Volume::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no volume's name; expected up to 16 letters, digits and -")),
    }
}

/// `NAME=FILE`: the file that is attached as a volume's disk.
pub(crate) fn attached(text: &str) -> Result<VolumeDisk, String> {
    let (volume, file) = text.split_once('=').unwrap_or((text, ""));
    match file.is_empty() {
        false => Ok(VolumeDisk { name: name(volume)?, path: file.into(), read_only: false }),
        true => Err(format!("{text:?} names no file; expected NAME=FILE")),
    }
}

/// `SIZE` or `NAME=SIZE`: an empty disk for the writable layer, or for an ephemeral volume.
pub(crate) fn scratch(text: &str) -> Result<ScratchDisk, String> {
    // Where large temporary files belong; /tmp may be memory.
    let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let (volume, bytes) = match text.split_once('=') {
        Some((volume, bytes)) => (Some(name(volume)?), bytes),
        None => (None, text),
    };
    match size(bytes)? {
        0 => Err("a disk of no bytes is none".into()),
        size => Ok(ScratchDisk { volume, size, folder }),
    }
}

/// `name=…,path=…,kind=…` and what that kind has: a volume as init-data has it. What is wrong with its values, init-data
/// says.
pub(crate) fn mount(text: &str) -> Result<Volume, String> {
    let mut words: BTreeMap<&str, &str> = BTreeMap::new();
    for word in text.split(',') {
        let (member, value) = word.split_once('=').ok_or_else(|| format!("{word:?} has no value"))?;
        if words.insert(member, value).is_some() {
            return Err(format!("{member} is there twice"));
        }
    }
    let mut words = Words(words);
    let (name, path) = (words.needed("name")?, words.needed("path")?);
    let kind = match words.0.remove("kind").unwrap_or("persistent") {
        "persistent" => VolumeKind::Persistent(persistent(&mut words)?),
        "ephemeral" => {
            let owner = words.0.remove("owner").map(owner).transpose()?.unwrap_or_default();
            VolumeKind::Ephemeral(Ephemeral { owner })
        }
        "sealed" => VolumeKind::Sealed(sealed(&mut words)?),
        other => return Err(format!("kind={other}; expected persistent, ephemeral or sealed")),
    };
    match words.0.keys().next() {
        Some(other) => Err(format!("a volume of this kind has no {other}")),
        None => Ok(Volume { name, path, kind }),
    }
}

struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl Words<'_> {
    fn needed(&mut self, member: &str) -> Result<String, String> {
        self.0.remove(member).map(str::to_owned).ok_or_else(|| format!("there is no {member}=…"))
    }
}

fn persistent(words: &mut Words<'_>) -> Result<Persistent, String> {
    let key = words.needed("key")?;
    let rollback = match words.0.remove("rollback") {
        None | Some("detected") => Rollback::Detected,
        Some("insecure-not-detected") => Rollback::InsecureNotDetected,
        Some(other) => return Err(format!("rollback={other}; expected detected or insecure-not-detected")),
    };
    let access = match words.0.remove("access") {
        None | Some("read-write") => VolumeAccess::ReadWrite,
        Some("read-only") => VolumeAccess::ReadOnly,
        Some(other) => return Err(format!("access={other}; expected read-write or read-only")),
    };
    Ok(Persistent { key, rollback, access })
}

fn sealed(words: &mut Words<'_>) -> Result<SealedData, String> {
    let key = words.needed("key")?;
    let root = words.needed("root-hash")?;
    let root_hash = format!("sha256:{root}").parse().map_err(|why| format!("root-hash={root}: {why}"))?;
    let (salt_text, blocks) = (words.needed("salt")?, words.needed("data-blocks")?);
    let mut salt = [0; 32];
    hex::decode_to_slice(&salt_text, &mut salt).map_err(|why| format!("salt={salt_text}: {why}"))?;
    let data_blocks = blocks.parse().map_err(|_| format!("data-blocks={blocks} is no number"))?;
    Ok(SealedData { key, root_hash, salt, data_blocks })
}

/// The words of `--mount` for a sealed data set.
pub(crate) fn mount_words(name: &str, path: &str, data: &SealedData) -> String {
    format!(
        "name={name},path={path},kind=sealed,key={},root-hash={},salt={},data-blocks={}",
        data.key,
        data.root_hash.hex(),
        hex::encode(data.salt),
        data.data_blocks
    )
}

pub(super) fn size(text: &str) -> Result<u64, String> {
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

pub(super) fn owner(text: &str) -> Result<(u32, u32), String> {
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
    fn words_are_what_the_help_says() {
        assert_eq!((size("10G"), size("512M"), size("4096")), (Ok(10 << 30), Ok(512 << 20), Ok(4096)));
        for wrong in ["", "G", "1.5G", "10GG", "99999999999T", "-1G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(name("data-1").is_ok());
        for wrong in ["", "a b", "seventeen-letters", "a/b", "a=b"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        let read = mount("name=data,key=kbs:///a/b/c,path=/data,access=read-only").expect("a volume");
        let expected = Persistent {
            key: "kbs:///a/b/c".into(),
            rollback: Rollback::Detected,
            access: VolumeAccess::ReadOnly,
        };
        assert_eq!((read.name.as_str(), read.kind), ("data", VolumeKind::Persistent(expected)));
        for wrong in
            ["name=a", "name=a,key=b,path=c,what=d", "name=a,name=a", "name=a,key=b,path=c,rollback=no"]
        {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
        let read = mount("name=tmp,kind=ephemeral,path=/tmp,owner=5:6").expect("a volume");
        assert_eq!(read.kind, VolumeKind::Ephemeral(Ephemeral { owner: (5, 6) }));
        for wrong in ["name=a,path=/a,kind=no", "name=a,path=/a,kind=ephemeral,key=kbs:///a/b/c"] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
        let root_hash = coffer_core_digest::Digest::sha256(b"root");
        let data = SealedData { key: "kbs:///a/b/c".into(), root_hash, salt: [7; 32], data_blocks: 9 };
        let words = mount_words("set", "/set", &data);
        assert_eq!(mount(&words).map(|volume| volume.kind), Ok(VolumeKind::Sealed(data)));
        for (from, to) in
            [("salt=07", "salt=7"), ("root-hash=", "root-hash=0"), ("data-blocks=9", "data-blocks=x")]
        {
            assert!(mount(&words.replace(from, to)).is_err(), "{to}");
        }
        let disk = |text| scratch(text).map(|disk| (disk.volume, disk.size));
        assert_eq!(disk("10G"), Ok((None, 10 << 30)));
        assert_eq!(disk("tmp=1M"), Ok((Some("tmp".into()), 1 << 20)));
        for wrong in ["", "0", "tmp=", "a/b=1G", "tmp=1X"] {
            assert!(scratch(wrong).is_err(), "{wrong}");
        }
        assert!(attached("data=/a/file").is_ok() && attached("data").is_err() && attached("=x").is_err());
        assert_eq!(owner("1000:100"), Ok((1000, 100)));
        assert!(owner("root:root").is_err() && owner("1").is_err());
    }
}
