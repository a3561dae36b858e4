//! What is served: a name and a size.

/// The longest export name, in bytes (`doc/proto.md`, "Values", "String values").
pub const MAX_NAME: usize = 4096;

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name; a client that asks for the empty name gets it too ("the default export").
    pub(crate) name: String,
    pub(crate) size: u64,
}

impl Export {
    /// An export of `size` bytes; of a name over [`MAX_NAME`] bytes only the default name is left.
    pub fn new(name: &str, size: u64) -> Self {
        let name = if name.len() > MAX_NAME { String::new() } else { name.to_owned() };
        Self { name, size }
    }

    pub(crate) fn is_named(&self, name: &[u8]) -> bool {
        name.is_empty() || name == self.name.as_bytes()
    }
}
