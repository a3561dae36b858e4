//! What all calls share.

use std::sync::Arc;

use coffer_core_sealed_objects::ObjectKeys;
use coffer_guest_models::sigv4::{Credentials, Signed, is_signed};
use coffer_guest_models::{Retry, S3Access, SourceError};
use hyper::StatusCode;
use hyper::header::HeaderMap;

use crate::Refusal;
use crate::known::Known;
use crate::listings::Listings;
use crate::upstream::Upstream;

/// Receives a line for each refusal. Nothing in it is a secret, or the name of an object.
pub type Log = dyn Fn(&str) + Send + Sync;

/// Who may call.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Who signs with these credentials.
    SignedWith(Credentials),
    /// Whoever reaches the address: every program of this machine, or of this sandbox.
    InsecureAnyone,
}

impl Clients {
    pub(crate) fn admit(&self, request: Signed<'_>, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Self::InsecureAnyone => Ok(()),
            Self::SignedWith(credentials) if is_signed(credentials, request, headers) => Ok(()),
            Self::SignedWith(_) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "objects.client",
                "the request is not signed with the gateway's own credentials; give the client the same access key \
                 and secret that the gateway has",
            )),
        }
    }
}

/// A gateway to one store.
pub struct Gateway {
    pub(crate) keys: Arc<ObjectKeys>,
    pub(crate) upstream: Upstream,
    pub(crate) clients: Clients,
    pub(crate) known: Known,
    pub(crate) listings: Listings,
    pub(crate) log: Arc<Log>,
}

impl Gateway {
    /// To the store of `access`, which sees nothing but what `keys` sealed. `authorities` (PEM) are trusted beside the
    /// public ones.
    pub fn new(
        keys: ObjectKeys,
        access: S3Access,
        authorities: &[String],
        retry: Retry,
        clients: Clients,
        log: Arc<Log>,
    ) -> Result<Self, SourceError> {
        let upstream = Upstream::new(access, authorities, retry)?;
        let (known, listings) = (Known::default(), Listings::default());
        Ok(Self { keys: Arc::new(keys), upstream, clients, known, listings, log })
    }
}
