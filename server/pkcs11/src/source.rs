//! A token's objects as a source of resources.

use coffer_core_secret::SecretBytes;
use coffer_server_source::{Answer, Source, SourceError, segments};

use crate::Token;

/// Resources out of a token: the path `a/b/c` is the object labelled `<prefix>a/b/c`.
pub struct PkcsSource {
    name: String,
    token: Token,
    prefix: String,
}

impl PkcsSource {
    /// Makes a source of this name. The prefix stands before each path as it is, as in `coffer/`.
    pub fn new(name: &str, token: &Token, prefix: &str) -> Self {
        Self { name: name.to_owned(), token: token.clone(), prefix: prefix.to_owned() }
    }

    async fn look_up(&self, path: &str) -> Result<Option<SecretBytes>, SourceError> {
        segments(path).map_err(|why| SourceError::Path { name: self.name.clone(), why: why.to_owned() })?;
        let (token, label) = (self.token.clone(), format!("{}{path}", self.prefix));
        let read = tokio::task::spawn_blocking(move || token.read(&label)).await;
        let ended = |_| SourceError::Unavailable {
            name: self.name.clone(),
            why: "the call on the token ended without an answer; try again".to_owned(),
        };
        read.map_err(ended)?.map_err(|error| error.into_source(&self.name))
    }
}

impl Source for PkcsSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn get<'a>(&'a self, path: &'a str) -> Answer<'a> {
        Box::pin(self.look_up(path))
    }
}
