//! A file system tree as data: what a stack of layers becomes, and what an EROFS image is made of.
//!
//! Contents of files are not here, only where they are ([`Extent`]), so that a tree of a large image is small.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

/// The longest file name (Linux `NAME_MAX`).
pub const MAX_NAME: usize = 255;
/// The longest symbolic link (Linux `PATH_MAX` less the NUL).
pub const MAX_TARGET: usize = 4095;

/// A node's place in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

/// Where a file's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extent {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

/// Owner, permissions, time and extended attributes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky (`0o7777`).
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by their full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory and its entries by name.
    Directory(BTreeMap<Vec<u8>, NodeId>),
    /// A regular file.
    File(Extent),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A file, directory, link or device. Several names of one node are hard links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Owner, permissions, time and extended attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
}

/// Why a tree cannot be changed as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// The name cannot be a directory entry.
    #[error("{0:?} is not a file name")]
    Name(String),
    /// The node is not a directory.
    #[error("the parent of {0:?} is not a directory")]
    NotDirectory(String),
    /// The node is a directory, which has one name only.
    #[error("{0:?} would be a second name of a directory")]
    Directory(String),
    /// The symbolic link's target is empty or too long.
    #[error("a symbolic link's target has 1 to {MAX_TARGET} bytes; found {0}")]
    Target(usize),
}

/// A file system tree.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The node that is there from the start.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree of one empty directory.
    pub fn new(root: Meta) -> Self {
        Self { nodes: vec![Node { meta: root, kind: Kind::Directory(BTreeMap::new()) }] }
    }

    /// A node. An id of another tree gives some other node or the root.
    pub fn node(&self, id: NodeId) -> &Node {
        match (self.nodes.get(id.0), self.nodes.first()) {
            (Some(node), _) | (None, Some(node)) => node,
            (None, None) => unreachable!("a tree has a root"),
        }
    }

    /// A node's owner, permissions, time and extended attributes, to change.
    pub fn meta_mut(&mut self, id: NodeId) -> Option<&mut Meta> {
        self.nodes.get_mut(id.0).map(|node| &mut node.meta)
    }

    /// All nodes ever added, the root first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The number of nodes ever added; some may have no name any more.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// The entry `name` of a directory.
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.entries(directory)?.get(name).copied()
    }

    /// The entries of a directory; `None` if the node is none.
    pub fn entries(&self, directory: NodeId) -> Option<&BTreeMap<Vec<u8>, NodeId>> {
        match &self.nodes.get(directory.0)?.kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Adds a node under a name, which replaces whatever had that name.
    pub fn insert(&mut self, directory: NodeId, name: &[u8], node: Node) -> Result<NodeId, TreeError> {
        if let Kind::Symlink(target) = &node.kind
            && (target.is_empty() || target.len() > MAX_TARGET)
        {
            return Err(TreeError::Target(target.len()));
        }
        let id = NodeId(self.nodes.len());
        self.name(directory, name, id)?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Gives a node that is not a directory one more name, which replaces whatever had it.
    pub fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Result<(), TreeError> {
        if matches!(self.node(node).kind, Kind::Directory(_)) {
            return Err(TreeError::Directory(shown(name)));
        }
        self.name(directory, name, node)
    }

    /// Takes a name away, with all that is below it.
    pub fn remove(&mut self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &mut self.nodes.get_mut(directory.0)?.kind {
            Kind::Directory(entries) => entries.remove(name),
            _ => None,
        }
    }

    fn name(&mut self, directory: NodeId, name: &[u8], id: NodeId) -> Result<(), TreeError> {
        let bad = name.is_empty()
            || name.len() > MAX_NAME
            || name == b"."
            || name == b".."
            || name.iter().any(|b| *b == b'/' || *b == 0);
        if bad {
            return Err(TreeError::Name(shown(name)));
        }
        match self.nodes.get_mut(directory.0).map(|node| &mut node.kind) {
            Some(Kind::Directory(entries)) => {
                entries.insert(name.to_vec(), id);
                Ok(())
            }
            _ => Err(TreeError::NotDirectory(shown(name))),
        }
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).collect()
}

/// Where the contents of a tree's files are read from.
pub trait Contents {
    /// Fills `buffer` from byte `offset` on.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl<T: Read + Seek> Contents for T {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.read_exact(buffer)
    }
}
