//! Names, numbers and reads, without a kernel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_core_sealed_stream::SharedReader;
use coffer_guest_models::{Model, ModelError, Object};

/// Readers of as many files are kept; each has a few opened segments.
const READERS: usize = 16;
/// The root's number.
pub(crate) const ROOT: u64 = 1;

/// What a number stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// The folder that it is in; the root is in itself.
    pub parent: u64,
    /// Folder or file.
    pub kind: Kind,
}

/// Folder or file.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers by name.
    Folder(BTreeMap<String, u64>),
    /// A file of the manifest.
    File {
        /// Its path in the model.
        path: String,
        /// Bytes of plaintext.
        size: u64,
        /// Whether it may be executed.
        executable: bool,
        /// Bytes that are opened at a time.
        segment: u32,
    },
}

/// Why a read gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The number is no file's.
    #[error("there is no file of this number")]
    NoFile,
    /// The file, or one segment of it, is refused.
    #[error("{file}: {why} [{code}]")]
    Refused {
        /// Its path in the model.
        file: String,
        /// Why, with the segment's number.
        why: String,
        /// The stable code.
        code: &'static str,
    },
}

type Reader = Arc<SharedReader<Arc<dyn Object>>>;

/// The files and folders of a model.
pub struct Tree {
    model: Model,
    /// By number, from 1.
    nodes: Vec<Node>,
    /// The one that was used last is last.
    readers: Mutex<Vec<(u64, Reader)>>,
}

impl Tree {
    /// Numbers everything that the manifest lists.
    #[must_use]
    pub fn new(model: Model) -> Self {
        let mut nodes = vec![Node { parent: ROOT, kind: Kind::Folder(BTreeMap::new()) }];
        for file in model.artifact().manifest().files() {
            let (path, layout) = (file.path().to_string(), file.layout());
            let mut names = path.split('/').peekable();
            let mut at = ROOT;
            while let Some(name) = names.next() {
                let next = nodes.len() as u64 + 1;
                let Some(Node { kind: Kind::Folder(names_here), .. }) = node_mut(&mut nodes, at) else {
                    break;
                };
                let known = names_here.get(name).copied();
                let number = known.unwrap_or(next);
                names_here.insert(name.to_owned(), number);
                if known.is_none() {
                    let kind = match names.peek() {
                        Some(_) => Kind::Folder(BTreeMap::new()),
                        None => Kind::File {
                            path: path.clone(),
                            size: layout.size(),
                            executable: file.executable(),
                            segment: layout.segment_size().bytes(),
                        },
                    };
                    nodes.push(Node { parent: at, kind });
                }
                at = number;
            }
        }
        Self { model, nodes, readers: Mutex::default() }
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// What a number stands for.
    #[must_use]
    pub fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// The number of a name in a folder.
    #[must_use]
    pub fn lookup(&self, folder: u64, name: &str) -> Option<u64> {
        match &self.node(folder)?.kind {
            Kind::Folder(names) => names.get(name).copied(),
            Kind::File { .. } => None,
        }
    }

    /// Fills `buffer` from `offset` on, and returns less than its length only at the file's end.
    pub fn read(&self, number: u64, buffer: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let Some(Node { kind: Kind::File { path, .. }, .. }) = self.node(number) else {
            return Err(ReadError::NoFile);
        };
        let refused = |why: String, code| ReadError::Refused { file: path.clone(), why, code };
        let reader = self.reader(number, path).map_err(|error| refused(error.to_string(), error.code()))?;
        reader.read_at(buffer, offset).map_err(|error| refused(error.to_string(), error.code()))
    }

    /// Opens a file's header, so that what is wrong with all of it is known before it is read.
    pub fn open(&self, number: u64) -> Result<(), ReadError> {
        self.read(number, &mut [], 0).map(drop)
    }

    /// Compares header and tags of every file with the manifest: 16 bytes are read for each segment.
    pub fn check_roots(&self) -> Result<(), ModelError> {
        self.model.check_roots()
    }

    fn reader(&self, number: u64, path: &str) -> Result<Reader, ModelError> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = readers.iter().position(|(own, _)| *own == number) {
            let found = readers.remove(place);
            let reader = Arc::clone(&found.1);
            readers.push(found);
            return Ok(reader);
        }
        drop(readers);
        // Others may do the same meanwhile; what they made is used or let go.
        let made = Arc::new(self.model.reader(path)?);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reader)) = readers.iter().find(|(own, _)| *own == number) {
            return Ok(Arc::clone(reader));
        }
        if readers.len() >= READERS {
            readers.remove(0);
        }
        readers.push((number, Arc::clone(&made)));
        Ok(made)
    }
}

fn node_mut(nodes: &mut [Node], number: u64) -> Option<&mut Node> {
    nodes.get_mut(usize::try_from(number.checked_sub(1)?).ok()?)
}
