//! From arguments to files in their places.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_core_protocol::uri::{ResourcePath, ResourceUri};
use coffer_core_sealed_stream::{Key, ReadAt};
use coffer_core_secret::SecretBytes;
use coffer_guest_models::{Access, Destination, Job, ModelError, Object, Partial, Place, Signed};

use crate::error::KserveError;
use crate::jwe::{BEGINNING, ENDING, JweKey, Parts};
use crate::policy::{Allowed, Policy, shown};

/// Files stand here, in the destination, until all are verified.
const WORK: &str = ".coffer-jwe";
const MAX_FILES: usize = 10_000;

/// Gives resources of the broker.
pub trait Keys {
    /// The resource, or why it is not given.
    fn resource(&self, path: &ResourcePath) -> Result<SecretBytes, String>;
}

/// A source and where its files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The source.
    pub uri: String,
    /// The folder.
    pub destination: PathBuf,
}

/// Reads `SOURCE DESTINATION [SOURCE DESTINATION …]`.
pub fn pairs(arguments: &[String]) -> Result<Vec<Pair>, KserveError> {
    let (pairs, rest) = arguments.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(KserveError::Arguments { found: arguments.len() });
    }
    Ok(pairs.iter().map(|[uri, to]| Pair { uri: uri.clone(), destination: to.into() }).collect())
}

/// Puts every model into its place, in order; the first failure ends it.
pub fn initialize(
    pairs: &[Pair],
    policy: &ResourceUri,
    keys: &dyn Keys,
    access: &Access,
    job: &Job<'_>,
) -> Result<(), KserveError> {
    let policy = Policy::parse(resource(keys, policy)?.expose())?;
    for pair in pairs {
        let to = pair.destination.to_str().unwrap_or_default();
        match policy.allowed(&pair.uri, to)? {
            Allowed::Sealed { signers, statement } => {
                let store = access.store(&Place::parse(&pair.uri)?)?;
                let signed = Signed::read(store, signers)?;
                let found = signed.verified().digest();
                if let Some(expected) = statement.filter(|expected| expected != found) {
                    let (expected, found) = (expected.to_string(), found.to_string());
                    return Err(KserveError::Pinned { uri: shown(&pair.uri), expected, found });
                }
                let name = signed.verified().statement().key().clone();
                let bytes = resource(keys, &name)?;
                let own = bytes.expose().as_slice().try_into().map_err(|_| KserveError::Key {
                    name: name.to_string(),
                    why: format!("it has {} bytes; expected 32", bytes.expose().len()),
                })?;
                let model = signed.open(Key::new(own))?;
                model.unpack(&Destination::Into(pair.destination.clone()), Partial::Keep, job)?;
            }
            Allowed::Jwe { key, insecure_plain_files } => {
                let bytes = resource(keys, key)?;
                let opened = JweKey::of_resource(&bytes).ok_or_else(|| KserveError::Key {
                    name: key.to_string(),
                    why: "it is neither an octet JWK nor 32 bytes".into(),
                })?;
                let plain = if *insecure_plain_files { Plain::InsecureCopied } else { Plain::Refused };
                open_jwe(pair, &opened, plain, access)?;
            }
        }
    }
    Ok(())
}

fn resource(keys: &dyn Keys, uri: &ResourceUri) -> Result<SecretBytes, KserveError> {
    keys.resource(uri.path()).map_err(|why| KserveError::Resource { name: uri.to_string(), why })
}

/// What becomes of files that are not encrypted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Refused,
    InsecureCopied,
}

/// A file of the source: its name below the destination, its bytes, their number.
type Found = (PathBuf, Arc<dyn Object>, u64);

fn open_jwe(pair: &Pair, key: &JweKey, plain: Plain, access: &Access) -> Result<(), KserveError> {
    let found = match Place::parse(&pair.uri)? {
        Place::Folder(path) if path.is_dir() => files(&path, access)?,
        place => {
            let (object, size) = access.object(&place)?;
            let text = shown(&pair.uri);
            let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            if matches!(name, "" | "." | "..") {
                return Err(KserveError::Empty { uri: text });
            }
            vec![(name.into(), object, size)]
        }
    };
    if found.is_empty() {
        return Err(KserveError::Empty { uri: shown(&pair.uri) });
    }
    let to = &pair.destination;
    let work = to.join(WORK);
    fs::create_dir_all(to).map_err(at(to))?;
    if fs::symlink_metadata(&work).is_ok() {
        fs::remove_dir_all(&work).map_err(at(&work))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&work).map_err(at(&work))?;
    let made = write_all(&found, &work, key, plain).and_then(|names| place_all(&names, &work, to));
    // What was refused does not stay; what was placed is no longer in it.
    let removed = fs::remove_dir_all(&work).map_err(at(&work));
    made.and(removed)
}

/// Writes every file's plaintext and returns the names at the top.
fn write_all(
    found: &[Found],
    work: &Path,
    key: &JweKey,
    plain: Plain,
) -> Result<BTreeSet<PathBuf>, KserveError> {
    let (mut names, mut encrypted) = (BTreeSet::new(), 0_usize);
    for (name, object, size) in found {
        let shown = name.display().to_string();
        let mut beginning = [0; BEGINNING.len()];
        let refused = |source| KserveError::Io { path: name.clone(), source };
        let read = object.read_at(&mut beginning, 0).map_err(refused)?;
        let by_name =
            name.extension().is_some_and(|own| own.eq_ignore_ascii_case(ENDING.trim_start_matches('.')));
        let is_encrypted = by_name || beginning.get(..read) == Some(BEGINNING);
        let own = if by_name { name.with_extension("") } else { name.clone() };
        let path = work.join(&own);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let out =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(at(&path))?;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        if is_encrypted {
            let refused = |why| KserveError::Jwe { file: shown.clone(), why };
            Parts::read(object, *size)
                .and_then(|parts| parts.open(object, key, &mut out))
                .map_err(refused)?;
            encrypted += 1;
        } else if plain == Plain::InsecureCopied {
            copy(object, *size, &mut out).map_err(at(&path))?;
        } else {
            return Err(KserveError::Plain { file: shown });
        }
        let out = out.into_inner().map_err(|error| at(&path)(error.into_error()))?;
        out.sync_all().map_err(at(&path))?;
        names.extend(own.components().next().map(|first| PathBuf::from(first.as_os_str())));
    }
    match encrypted {
        0 => Err(KserveError::Plain { file: "no file of the source".into() }),
        _ => Ok(names),
    }
}

/// Gives everything its place. What is there already must be of an earlier run.
fn place_all(names: &BTreeSet<PathBuf>, work: &Path, to: &Path) -> Result<(), KserveError> {
    for entry in fs::read_dir(to).map_err(at(to))? {
        let entry = entry.map_err(at(to))?;
        let name = PathBuf::from(entry.file_name());
        if !names.contains(&name) && entry.path() != work && name.as_os_str() != "lost+found" {
            return Err(ModelError::Foreign { path: entry.path() }.into());
        }
    }
    for name in names {
        let place = to.join(name);
        match fs::symlink_metadata(&place) {
            Ok(data) if data.is_dir() => fs::remove_dir_all(&place).map_err(at(&place))?,
            Ok(_) => fs::remove_file(&place).map_err(at(&place))?,
            Err(_) => {}
        }
        fs::rename(work.join(name), &place).map_err(at(&place))?;
    }
    File::open(to).and_then(|folder| folder.sync_all()).map_err(at(to))
}

fn copy(object: &Arc<dyn Object>, size: u64, out: &mut impl io::Write) -> io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        match object.read_at(&mut piece, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                out.write_all(piece.get(..read).unwrap_or_default())?;
                at += read as u64;
            }
        }
    }
    Ok(())
}

/// Every file below a folder. Links, devices and sockets are refused.
fn files(folder: &Path, access: &Access) -> Result<Vec<Found>, KserveError> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = folders.pop() {
        let here = folder.join(&below);
        for entry in fs::read_dir(&here).map_err(at(&here))? {
            let entry = entry.map_err(at(&here))?;
            let (path, name) = (entry.path(), below.join(entry.file_name()));
            let kind = entry.file_type().map_err(at(&path))?;
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_file() {
                let (object, size) = access.object(&Place::Folder(path))?;
                found.push((name, object, size));
            } else {
                return Err(KserveError::Plain { file: name.display().to_string() });
            }
            if found.len() > MAX_FILES {
                let source = io::Error::other(format!("more than {MAX_FILES} files"));
                return Err(KserveError::Io { path: folder.into(), source });
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KserveError {
    let path = path.to_path_buf();
    move |source| KserveError::Io { path, source }
}
