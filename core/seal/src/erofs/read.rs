//! A reader of EROFS images without a kernel: what [`super::write()`] makes, and what other tools make without
//! compression.
//!
//! The image may be hostile: whoever has its key may have written it. Inodes are met once, so that no directory is
//! within itself; entries, names and attributes are bounded. Left out: compressed and chunked files, shared
//! attributes and the blocks of other devices, which are refused by name.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};

use crate::BLOCK_LEN;
use crate::tree::{Contents, Extent, Kind, MAX_NAME, MAX_TARGET, Meta, Node, NodeId, Tree, TreeError};

use super::disk::{DIRENT, MAGIC, SLOT, SUPERBLOCK, SUPERBLOCK_LEN, XATTR_ALIGN, XATTR_HEADER, namespace};

/// Bytes of names and attributes of all inodes together, which are held in memory.
const MAX_NAMES: u64 = 512 << 20;
/// Directories are not read beyond this.
const MAX_DIRECTORY: u64 = 256 << 20;
/// Features that change how data is found (`feature_incompat`). None is known here.
const LEGACY_PADDING: u32 = 1;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no superblock.
    #[error("not an EROFS image: no superblock at byte 1024; is it the right key?")]
    Magic,
    /// A structure contradicts itself or the image's size.
    #[error("the EROFS image is malformed at {place}: {why}")]
    Malformed {
        /// The structure.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The image was made with something that is not read here.
    #[error("the EROFS image has {0}, which is not read here; mount it, or make it again without")]
    Unsupported(String),
    /// More than is held in memory.
    #[error("the EROFS image has more than {limit} {what}")]
    Limit {
        /// `entries` or `bytes of names and attributes`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Reading failed; a block that is not what was sealed is such an error.
    #[error("reading the image stopped: {0}")]
    Io(#[from] io::Error),
}

/// Reads the tree of an image with at most `entries` entries. Its extents are for the contents that come with it.
///
/// # Errors
/// Says where the image is not one, and what in it is not read here.
pub fn read<R: Read + Seek>(mut image: R, entries: u64) -> Result<(Tree, FileContents<R>), ReadError> {
    let size = image.seek(SeekFrom::End(0))?;
    let mut walk = Walk {
        image: Bounded { image, size },
        entries,
        left: entries,
        names: MAX_NAMES,
        position: 0,
        places: Vec::new(),
        met: HashMap::new(),
    };
    let superblock = Superblock::read(&mut walk.image)?;
    let tree = walk.tree(&superblock)?;
    Ok((tree, FileContents { image: walk.image.image, places: walk.places }))
}

/// The contents of an image's files.
pub struct FileContents<R> {
    image: R,
    /// First byte of the extent, and where its whole blocks and its tail are.
    places: Vec<(u64, Place)>,
}

#[derive(Clone, Copy)]
struct Place {
    blocks: u64,
    whole: u64,
    tail: u64,
}

impl<R: Read + Seek> Contents for FileContents<R> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let index = self.places.partition_point(|(start, _)| *start <= offset);
        let place = index.checked_sub(1).and_then(|index| self.places.get(index));
        let (start, place) = place.ok_or(io::ErrorKind::InvalidInput)?;
        let within = offset.saturating_sub(*start);
        let in_blocks = place.whole.saturating_sub(within).min(buffer.len() as u64) as usize;
        let (first, rest) = buffer.split_at_mut_checked(in_blocks).ok_or(io::ErrorKind::InvalidInput)?;
        if !first.is_empty() {
            self.image.seek(SeekFrom::Start(place.blocks.saturating_add(within)))?;
            self.image.read_exact(first)?;
        }
        if !rest.is_empty() {
            let into = within.saturating_add(in_blocks as u64).saturating_sub(place.whole);
            self.image.seek(SeekFrom::Start(place.tail.saturating_add(into)))?;
            self.image.read_exact(rest)?;
        }
        Ok(())
    }
}

/// The image, within its size.
struct Bounded<R> {
    image: R,
    size: u64,
}

impl<R: Read + Seek> Bounded<R> {
    fn exact<const N: usize>(&mut self, at: u64, place: &str) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(at, &mut bytes, place)?;
        Ok(bytes)
    }

    fn bytes(&mut self, at: u64, length: u64, place: &str) -> Result<Vec<u8>, ReadError> {
        self.holds(at, length, place)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        if !bytes.is_empty() {
            self.fill(at, &mut bytes, place)?;
        }
        Ok(bytes)
    }

    fn fill(&mut self, at: u64, bytes: &mut [u8], place: &str) -> Result<(), ReadError> {
        self.holds(at, bytes.len() as u64, place)?;
        self.image.seek(SeekFrom::Start(at))?;
        Ok(self.image.read_exact(bytes)?)
    }

    fn holds(&self, at: u64, length: u64, place: &str) -> Result<(), ReadError> {
        match at.checked_add(length) {
            // Where nothing is read, other tools write any place.
            _ if length == 0 => Ok(()),
            Some(end) if end <= self.size => Ok(()),
            _ => Err(malformed(place, format!("bytes {at} and {length} more are beyond the image's end"))),
        }
    }
}

struct Superblock {
    root: u64,
    build_time: i64,
    inodes_start: u64,
}

impl Superblock {
    fn read(image: &mut Bounded<impl Read + Seek>) -> Result<Self, ReadError> {
        if image.size < (SUPERBLOCK.saturating_add(SUPERBLOCK_LEN)) as u64 {
            return Err(ReadError::Magic);
        }
        let bytes = image.exact::<SUPERBLOCK_LEN>(SUPERBLOCK as u64, "the superblock")?;
        let mut fields = Fields(&bytes);
        if fields.u32() != MAGIC {
            return Err(ReadError::Magic);
        }
        fields.skip(8); // checksum, compatible features
        let block_bits = fields.u8();
        fields.skip(1); // extra slots
        let root = u64::from(fields.u16());
        fields.skip(8); // inodes
        let build_time = fields.u64() as i64;
        fields.skip(8); // nanoseconds, blocks
        let inodes = fields.u32();
        fields.skip(4 + 16 + 16); // shared attributes, UUID, volume name
        let incompatible = fields.u32();
        if block_bits != 12 {
            return Err(ReadError::Unsupported(format!("blocks of 2^{block_bits} bytes")));
        }
        if incompatible & !LEGACY_PADDING != 0 {
            return Err(ReadError::Unsupported(format!("the features {incompatible:#x}")));
        }
        Ok(Self { root, build_time, inodes_start: u64::from(inodes).saturating_mul(BLOCK_LEN) })
    }
}

/// Little-endian fields of a structure whose length is known; beyond it they are zero.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.0.first_chunk().copied().unwrap_or([0; N]);
        self.skip(N);
        bytes
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// An inode as it stands in the image.
struct Raw {
    mode: u16,
    meta: Meta,
    size: u64,
    /// Block of the data, or a device number.
    union: u32,
    /// Whole blocks, then the tail at this byte; none where the tail is in a block, too.
    tail: Option<u64>,
}

impl Raw {
    /// Where the data is.
    fn place(&self) -> Place {
        let blocks = u64::from(self.union).saturating_mul(BLOCK_LEN);
        match self.tail {
            None => Place { blocks, whole: self.size, tail: 0 },
            Some(tail) => Place { blocks, whole: self.size.saturating_sub(self.size % BLOCK_LEN), tail },
        }
    }
}

struct Walk<R> {
    image: Bounded<R>,
    entries: u64,
    left: u64,
    names: u64,
    position: u64,
    places: Vec<(u64, Place)>,
    /// The nodes of inodes that were met.
    met: HashMap<u64, NodeId>,
}

impl<R: Read + Seek> Walk<R> {
    fn tree(&mut self, superblock: &Superblock) -> Result<Tree, ReadError> {
        let root = self.inode(superblock, superblock.root)?;
        if root.mode >> 12 != 4 {
            return Err(malformed("the root", "it is no directory".into()));
        }
        let mut tree = Tree::new(root.meta.clone());
        self.met.insert(superblock.root, Tree::ROOT);
        let mut left = VecDeque::from([(Tree::ROOT, superblock.root, root)]);
        while let Some((directory, nid, raw)) = left.pop_front() {
            let place = format!("directory {nid}");
            for (name, child) in self.directory(&raw, &place)? {
                self.left = self
                    .left
                    .checked_sub(1)
                    .ok_or(ReadError::Limit { what: "entries", limit: self.entries })?;
                let refused = |error: TreeError| malformed(&place, error.to_string());
                if let Some(node) = self.met.get(&child) {
                    tree.link(directory, &name, *node).map_err(refused)?;
                    continue;
                }
                if tree.child(directory, &name).is_some() {
                    return Err(malformed(&place, "a name stands twice".into()));
                }
                let raw = self.inode(superblock, child)?;
                let node = Node { meta: raw.meta.clone(), kind: self.kind(&raw, child)? };
                let is_directory = matches!(node.kind, Kind::Directory(_));
                let id = tree.insert(directory, &name, node).map_err(refused)?;
                self.met.insert(child, id);
                if is_directory {
                    left.push_back((id, child, raw));
                }
            }
        }
        Ok(tree)
    }

    fn inode(&mut self, superblock: &Superblock, nid: u64) -> Result<Raw, ReadError> {
        let place = format!("inode {nid}");
        let at = nid.checked_mul(SLOT).and_then(|at| at.checked_add(superblock.inodes_start));
        let at = at.ok_or_else(|| malformed(&place, "it is beyond the image's end".into()))?;
        let head = self.image.exact::<32>(at, &place)?;
        let mut fields = Fields(&head);
        let format = fields.u16();
        let (extended, layout) = (format & 1 == 1, (format >> 1) & 7);
        let attributes = fields.u16();
        let mode = fields.u16();
        let length: u64 = if extended { 64 } else { 32 };
        let (size, union, uid, gid, mtime) = if extended {
            let all = self.image.exact::<64>(at, &place)?;
            let mut fields = Fields(&all);
            fields.skip(8);
            let (size, union) = (fields.u64(), fields.u32());
            fields.skip(4);
            (size, union, fields.u32(), fields.u32(), fields.u64() as i64)
        } else {
            fields.skip(2); // links
            let size = u64::from(fields.u32());
            fields.skip(4);
            let union = fields.u32();
            fields.skip(4);
            (size, union, u32::from(fields.u16()), u32::from(fields.u16()), superblock.build_time)
        };
        let behind = at.saturating_add(length);
        let (xattrs, taken) = self.attributes(behind, attributes, &place)?;
        let tail = match layout {
            0 => None,
            2 => Some(behind.saturating_add(taken)),
            1 | 3 => return Err(ReadError::Unsupported("compressed files".into())),
            4 => return Err(ReadError::Unsupported("files in chunks".into())),
            other => return Err(ReadError::Unsupported(format!("the data layout {other}"))),
        };
        let meta = Meta { mode: mode & 0o7777, uid, gid, mtime, xattrs };
        let raw = Raw { mode, meta, size, union, tail };
        if matches!(mode >> 12, 4 | 8 | 10) {
            let Place { blocks, whole, tail } = raw.place();
            self.image.holds(blocks, whole, &place)?;
            self.image.holds(tail, size.saturating_sub(whole), &place)?;
        }
        Ok(raw)
    }

    /// The attributes behind an inode, and how many bytes they take.
    fn attributes(&mut self, at: u64, count: u16, place: &str) -> Result<(Xattrs, u64), ReadError> {
        let Some(more) = count.checked_sub(1) else { return Ok((BTreeMap::new(), 0)) };
        let length = u64::from(more).saturating_mul(XATTR_ALIGN as u64).saturating_add(XATTR_HEADER as u64);
        self.names = self
            .names
            .checked_sub(length)
            .ok_or(ReadError::Limit { what: "bytes of names and attributes", limit: MAX_NAMES })?;
        let bytes = self.image.bytes(at, length, place)?;
        if bytes.get(4).is_some_and(|shared| *shared != 0) {
            return Err(ReadError::Unsupported("shared attributes".into()));
        }
        let mut rest = bytes.get(XATTR_HEADER..).unwrap_or_default();
        let mut all = BTreeMap::new();
        // A last entry of zeros is padding.
        while let [name_len, index, low, high, after @ ..] = rest {
            if [*name_len, *index, *low, *high] == [0; 4] {
                break;
            }
            let (name_len, value_len) =
                (usize::from(*name_len), usize::from(u16::from_le_bytes([*low, *high])));
            let entry = after.split_at_checked(name_len).and_then(|(name, after)| {
                let (value, _) = after.split_at_checked(value_len)?;
                Some((name, value))
            });
            let (name, value) =
                entry.ok_or_else(|| malformed(place, "an attribute is longer than its place".into()))?;
            let prefix = namespace(*index)
                .ok_or_else(|| malformed(place, format!("an attribute of the namespace {index}")))?;
            all.insert([prefix, name].concat(), value.to_vec());
            let taken =
                4_usize.saturating_add(name_len).saturating_add(value_len).next_multiple_of(XATTR_ALIGN);
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok((all, length))
    }

    fn kind(&mut self, raw: &Raw, nid: u64) -> Result<Kind, ReadError> {
        let place = format!("inode {nid}");
        Ok(match raw.mode >> 12 {
            1 => Kind::Fifo,
            2 => device(raw.union, Kind::Character),
            4 => Kind::Directory(BTreeMap::new()),
            6 => device(raw.union, Kind::Block),
            8 => {
                let extent = Extent { offset: self.position, len: raw.size };
                if raw.size > 0 {
                    self.places.push((self.position, raw.place()));
                    self.position = self
                        .position
                        .checked_add(raw.size)
                        .ok_or_else(|| malformed(&place, "its size is beyond all bounds".into()))?;
                }
                Kind::File(extent)
            }
            10 => Kind::Symlink(self.data(raw, MAX_TARGET as u64, &place)?),
            12 => Kind::Socket,
            other => return Err(malformed(&place, format!("its type is {other}"))),
        })
    }

    /// Small data of an inode, whole.
    fn data(&mut self, raw: &Raw, limit: u64, place: &str) -> Result<Vec<u8>, ReadError> {
        if raw.size > limit {
            return Err(malformed(place, format!("{} bytes; expected at most {limit}", raw.size)));
        }
        let Place { blocks, whole, tail } = raw.place();
        let mut bytes = self.image.bytes(blocks, whole, place)?;
        bytes.extend(self.image.bytes(tail, raw.size.saturating_sub(whole), place)?);
        Ok(bytes)
    }

    /// The entries of a directory but `.` and `..`.
    fn directory(&mut self, raw: &Raw, place: &str) -> Result<Vec<(Vec<u8>, u64)>, ReadError> {
        let bytes = self.data(raw, MAX_DIRECTORY, place)?;
        let mut entries = Vec::new();
        for block in bytes.chunks(BLOCK_LEN as usize) {
            let wrong = || malformed(place, "its entries contradict each other".into());
            let mut first = Fields(block.get(8..).unwrap_or_default());
            let count = usize::from(first.u16()) / DIRENT;
            let heads = block.get(..count.saturating_mul(DIRENT)).filter(|_| count > 0).ok_or_else(wrong)?;
            let mut heads = heads.chunks_exact(DIRENT).map(|head| {
                let mut fields = Fields(head);
                (fields.u64(), usize::from(fields.u16()))
            });
            let mut next = heads.next();
            while let Some((nid, start)) = next {
                next = heads.next();
                let end = next.map_or(block.len(), |(_, start)| start);
                let name = block.get(start..end).ok_or_else(wrong)?;
                // The last name of a block that is not full ends with a NUL.
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if name.len() > MAX_NAME {
                    return Err(wrong());
                }
                if name != b"." && name != b".." {
                    self.names = self.names.checked_sub(name.len().saturating_add(128) as u64).ok_or(
                        ReadError::Limit { what: "bytes of names and attributes", limit: MAX_NAMES },
                    )?;
                    entries.push((name.to_vec(), nid));
                }
            }
        }
        Ok(entries)
    }
}

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A device number as `new_decode_dev` reads it.
fn device(number: u32, kind: impl Fn(u32, u32) -> Kind) -> Kind {
    kind((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}

fn malformed(place: &str, why: String) -> ReadError {
    ReadError::Malformed { place: place.into(), why }
}

#[cfg(test)]
mod tests;
