//! A document in the cache, with what is known of it; and its file, which is whole or counts as absent.

use std::sync::Arc;

use coffer_core_digest::Digest;
use coffer_verify_api::{CollateralKey, Document};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::document::is_replaced;
use crate::settings::Settings;

/// What is known of a document beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) key: CollateralKey,
    /// The address or file that it is from.
    pub(crate) origin: String,
    pub(crate) fetched: Timestamp,
    /// An owner put it here; it is never evicted.
    #[serde(default)]
    pub(crate) imported: bool,
    /// By its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) valid_until: Option<Timestamp>,
    /// How long its source calls it good, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<i64>,
    pub(crate) digest: Digest,
    pub(crate) bytes: usize,
    pub(crate) chain_bytes: usize,
}

/// A document with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) about: About,
    pub(crate) document: Arc<Document>,
}

/// How a document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Good.
    Fresh,
    /// Good, and to be fetched anew.
    Due,
    /// Past its end.
    Ended,
}

impl About {
    pub(crate) fn state(&self, now: Timestamp, settings: &Settings) -> State {
        if self.valid_until.is_some_and(|end| now >= end) {
            return State::Ended;
        }
        match now >= self.due(settings) {
            true => State::Due,
            false => State::Fresh,
        }
    }

    /// When it is to be fetched anew.
    fn due(&self, settings: &Settings) -> Timestamp {
        let after = |seconds: i64| {
            let period = SignedDuration::from_secs(seconds);
            self.fetched.checked_add(period).unwrap_or(Timestamp::MAX)
        };
        let own = self.valid_until.map(|end| {
            let lifetime = end.duration_since(self.fetched).as_secs().max(0);
            after(lifetime.saturating_sub(settings.refresh_ahead.whole_seconds().min(lifetime / 2)))
        });
        let said = self.max_age.filter(|_| own.is_none() || is_replaced(&self.key)).map(after);
        match (own, said) {
            (Some(own), Some(said)) => own.min(said),
            (own, said) => own.or(said).unwrap_or_else(|| after(settings.refresh_undated.whole_seconds())),
        }
    }

    /// Whether it may still be given while there is no newer one.
    pub(crate) fn may_be_stale(&self, now: Timestamp, settings: &Settings) -> bool {
        let allowed = SignedDuration::from_secs(settings.stale_for.whole_seconds());
        let Some(end) = self.valid_until else { return true };
        allowed > SignedDuration::ZERO && end.checked_add(allowed).is_ok_and(|last| now < last)
    }
}

/// What a file begins with.
const MAGIC: &str = "coffer-collateral 1 ";
/// No header is longer: a key is shorter than 300 characters, an origin is cut.
const MAX_HEADER: usize = 8 << 10;

impl Kept {
    pub(crate) fn new(about: About, document: Document) -> Self {
        Self { about, document: Arc::new(document) }
    }

    /// What it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.about.bytes.saturating_add(self.about.chain_bytes).saturating_add(1024)
    }

    /// Its file: magic, a checksum over all that follows, a header in JSON, the body, the chain.
    pub(crate) fn to_file(&self) -> Result<Vec<u8>, serde_json::Error> {
        let header = serde_json::to_string(&self.about)?;
        let rest = [header.as_bytes(), b"\n", self.document.body(), self.document.issuer_chain()].concat();
        let checksum = Digest::sha256(&rest).hex();
        Ok([MAGIC.as_bytes(), checksum.as_bytes(), b"\n", &rest].concat())
    }

    /// Reads a file; whatever is not exactly what was written is none.
    pub(crate) fn from_file(bytes: &[u8]) -> Option<Self> {
        let (about, checksum, rest, body_at) = split(bytes)?;
        if Digest::sha256(rest).hex().as_bytes() != checksum {
            return None;
        }
        let (body, chain) = rest.get(body_at..)?.split_at_checked(about.bytes)?;
        if chain.len() != about.chain_bytes {
            return None;
        }
        let document = Document::new(body.to_vec(), chain.to_vec());
        (*document.digest() == about.digest).then(|| Self::new(about, document))
    }
}

/// What the first bytes of a file say. Not checked against its checksum.
pub(crate) fn about_of(start: &[u8]) -> Option<About> {
    split(start).map(|parts| parts.0)
}

/// How much of a file [`about_of`] needs.
pub(crate) const START: usize = MAGIC.len() + 64 + 1 + MAX_HEADER;

fn split(bytes: &[u8]) -> Option<(About, &[u8], &[u8], usize)> {
    let bytes = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (checksum, rest) = bytes.split_at_checked(64)?;
    let rest = rest.strip_prefix(b"\n")?;
    let window = rest.get(..rest.len().min(MAX_HEADER))?;
    let end = window.iter().position(|byte| *byte == b'\n')?;
    let about = serde_json::from_slice(rest.get(..end)?).ok()?;
    Some((about, checksum, rest, end.checked_add(1)?))
}
