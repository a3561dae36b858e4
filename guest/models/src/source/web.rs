//! Objects below one address: a web server's folder, or a prefix of a bucket.

use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_core_sealed_stream::MAX_ENVELOPE;
use reqwest::Url;

use super::http::{Http, Remote, Target};
use super::{Object, Store, stream_name};
use crate::sigv4::Signer;
use crate::{ENVELOPE, MANIFEST, Place, SourceError};

pub(crate) struct Web {
    http: Http,
    base: Url,
    signer: Option<Arc<Signer>>,
    name: String,
}

impl Web {
    /// The folder at `base`, whose path ends with `/`. A query, as presigned addresses have, goes with each request.
    pub(crate) fn new(http: Http, base: Url) -> Self {
        let name = Place::Web(base.clone()).to_string();
        Self { http, base, signer: None, name }
    }

    pub(crate) fn signed(http: Http, base: Url, signer: Option<Signer>, name: String) -> Self {
        Self { http, base, signer: signer.map(Arc::new), name }
    }

    fn target(&self, name: &str) -> Target {
        let mut url = self.base.clone();
        let path = format!("{}{name}", url.path());
        url.set_path(&path);
        let place = self.name.clone();
        Target { url, what: name.into(), place, signer: self.signer.clone(), bearer: None }
    }
}

impl Store for Web {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn envelope(&self) -> Result<Vec<u8>, SourceError> {
        self.http.small(&self.target(ENVELOPE), "*/*", MAX_ENVELOPE as u64)
    }

    fn manifest(&self, _: &Digest, size: u64) -> Result<Vec<u8>, SourceError> {
        self.http.small(&self.target(MANIFEST), "*/*", size)
    }

    fn stream(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Object>, SourceError> {
        Ok(Arc::new(Remote::new(self.http.clone(), self.target(&stream_name(digest)), size)))
    }

    fn is_remote(&self) -> bool {
        true
    }
}
