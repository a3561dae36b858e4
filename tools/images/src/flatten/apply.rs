//! Applies the changes of one layer to the tree below it.

use std::collections::{BTreeMap, VecDeque};

use coffer_core_seal::tree::{Extent, Kind, Meta, Node, NodeId, Tree};
use coffer_core_tar::{Entry, EntryType, shown};

use crate::error::ImageError;

/// Names in a layer that take names of lower layers away (image-spec 1.1, `layer.md`, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Longest path, and most symbolic links on one (Linux `PATH_MAX`, `MAXSYMLINKS`).
const MAX_PATH: usize = 4096;
const MAX_LINKS: usize = 40;

/// One entry of a layer.
pub(super) struct Change {
    path: Vec<Vec<u8>>,
    shown: String,
    what: What,
}

enum What {
    /// Add this, or put it in place of what is there.
    Put(Node),
    /// One more name of this path.
    Link(Vec<Vec<u8>>),
    /// Take the name away from lower layers.
    Hide(Vec<u8>),
    /// Take everything away that lower layers have in this directory.
    HideAll,
    /// Aufs bookkeeping.
    Ignore,
}

impl Change {
    pub(super) fn of(entry: Entry, extent: Extent) -> Result<Self, ImageError> {
        let shown = shown(&entry.path);
        let refuse = |why: &str| ImageError::Entry { path: shown.clone(), why: why.into() };
        let as_directory = entry.path.ends_with(b"/");
        let mut path = parts(&entry.path).map_err(&refuse)?;
        let name = path.last().map(Vec::as_slice).unwrap_or_default();
        let hides = match name {
            OPAQUE => Some(What::HideAll),
            _ if name.starts_with(b".wh..wh.") => Some(What::Ignore),
            _ => match name.strip_prefix(WHITEOUT) {
                Some(b"" | b"." | b"..") => return Err(refuse("a whiteout without a name")),
                Some(hidden) => Some(What::Hide(hidden.to_vec())),
                None => None,
            },
        };
        if let Some(what) = hides {
            path.pop();
            return Ok(Self { path, shown, what });
        }
        let kind = match entry.kind {
            EntryType::Regular if as_directory => Kind::Directory(BTreeMap::new()),
            EntryType::Regular | EntryType::Continuous => Kind::File(extent),
            EntryType::Directory => Kind::Directory(BTreeMap::new()),
            EntryType::Symlink => Kind::Symlink(entry.link),
            EntryType::Char => Kind::Character(entry.device.0, entry.device.1),
            EntryType::Block => Kind::Block(entry.device.0, entry.device.1),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Link => {
                let what = What::Link(parts(&entry.link).map_err(&refuse)?);
                return Ok(Self { path, shown, what });
            }
            _ => return Err(refuse("an entry of a kind that images do not have")),
        };
        let Entry { mode, uid, gid, mtime, xattrs, .. } = entry;
        let node = Node { meta: Meta { mode, uid, gid, mtime, xattrs }, kind };
        Ok(Self { path, shown, what: What::Put(node) })
    }
}

/// The parts of a path; `.` and slashes at its ends mean nothing, `..` is refused.
fn parts(path: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if path.len() > MAX_PATH {
        return Err("the path is longer than any that Linux has");
    }
    let parts: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("the path leads out of its directory with '..'");
    }
    Ok(parts.into_iter().map(<[u8]>::to_vec).collect())
}

/// Whiteouts come first, whatever their place in the layer: they are about lower layers only.
pub(super) fn apply(tree: &mut Tree, changes: Vec<Change>) -> Result<(), ImageError> {
    for change in &changes {
        match &change.what {
            What::Hide(name) => {
                if let Some(directory) = find(tree, &change.path) {
                    tree.remove(directory, name);
                }
            }
            What::HideAll => {
                if let Some(directory) = find(tree, &change.path) {
                    let names: Vec<_> = tree
                        .entries(directory)
                        .into_iter()
                        .flat_map(|entries| entries.keys().cloned())
                        .collect();
                    for name in names {
                        tree.remove(directory, &name);
                    }
                }
            }
            _ => {}
        }
    }
    for Change { path, shown, what } in changes {
        let refuse = |why: String| ImageError::Entry { path: shown.clone(), why };
        match what {
            What::Put(node) => put(tree, &path, node).map_err(refuse)?,
            What::Link(target) => link(tree, &path, &target).map_err(refuse)?,
            What::Hide(_) | What::HideAll | What::Ignore => {}
        }
    }
    Ok(())
}

fn put(tree: &mut Tree, path: &[Vec<u8>], node: Node) -> Result<(), String> {
    let is_directory = matches!(node.kind, Kind::Directory(_));
    let Some((name, above)) = path.split_last() else {
        return match (is_directory, tree.meta_mut(Tree::ROOT)) {
            (true, Some(meta)) => {
                *meta = node.meta;
                Ok(())
            }
            _ => Err("the root can only be a directory".into()),
        };
    };
    let directory = make(tree, above)?;
    if is_directory
        && let Some(there) = tree.child(directory, name)
        && tree.entries(there).is_some()
        && let Some(meta) = tree.meta_mut(there)
    {
        *meta = node.meta;
        return Ok(());
    }
    tree.insert(directory, name, node).map(|_| ()).map_err(|error| error.to_string())
}

fn link(tree: &mut Tree, path: &[Vec<u8>], target: &[Vec<u8>]) -> Result<(), String> {
    let missing = || "a hard link to a file that is not there".to_owned();
    let (target_name, target_above) = target.split_last().ok_or_else(missing)?;
    let from = find(tree, target_above).and_then(|directory| tree.child(directory, target_name));
    let (name, above) = path.split_last().ok_or("the root cannot be a hard link")?;
    let node = from.ok_or_else(missing)?;
    let directory = make(tree, above)?;
    tree.link(directory, name, node).map_err(|error| error.to_string())
}

/// The directory at a path, if it is there; links on the way stay within the image.
fn find(tree: &Tree, path: &[Vec<u8>]) -> Option<NodeId> {
    walk(path, |at, name| match tree.child(at, name) {
        Some(node) => Ok(match &tree.node(node).kind {
            Kind::Directory(_) => Way::Down(node),
            Kind::Symlink(target) => Way::Elsewhere(target.clone()),
            _ => return Err(String::new()),
        }),
        None => Err(String::new()),
    })
    .ok()
}

/// Like [`find`], but makes what is missing.
fn make(tree: &mut Tree, path: &[Vec<u8>]) -> Result<NodeId, String> {
    walk(path, |at, name| match tree.child(at, name) {
        Some(node) => match &tree.node(node).kind {
            Kind::Directory(_) => Ok(Way::Down(node)),
            Kind::Symlink(target) => Ok(Way::Elsewhere(target.clone())),
            _ => Err(format!("{:?} above it is not a directory", shown(name))),
        },
        None => {
            let node = Node {
                meta: Meta { mode: 0o755, ..Meta::default() },
                kind: Kind::Directory(BTreeMap::new()),
            };
            tree.insert(at, name, node).map(Way::Down).map_err(|error| error.to_string())
        }
    })
}

enum Way {
    Down(NodeId),
    Elsewhere(Vec<u8>),
}

/// Walks a path from the root; `..` in a link's target stops at the root.
fn walk(
    path: &[Vec<u8>],
    mut step: impl FnMut(NodeId, &[u8]) -> Result<Way, String>,
) -> Result<NodeId, String> {
    let mut queue: VecDeque<Vec<u8>> = path.iter().cloned().collect();
    let mut trail = vec![Tree::ROOT];
    let mut links = 0;
    while let Some(name) = queue.pop_front() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            _ => {}
        }
        let at = trail.last().copied().unwrap_or(Tree::ROOT);
        match step(at, &name)? {
            Way::Down(node) => trail.push(node),
            Way::Elsewhere(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err("too many symbolic links above it".into());
                }
                if target.starts_with(b"/") {
                    trail.truncate(1);
                }
                for part in target.split(|byte| *byte == b'/').rev() {
                    queue.push_front(part.to_vec());
                }
            }
        }
    }
    Ok(trail.last().copied().unwrap_or(Tree::ROOT))
}
