//! What the model's owner allows, as a document at the broker.

use coffer_core_digest::Digest;
use coffer_core_oci::cosign::PublicKey;
use coffer_core_protocol::uri::ResourceUri;
use serde::Deserialize;

use crate::KserveError;

const VERSION: u64 = 1;
const MAX_POLICY: usize = 256 << 10;
/// What marks a URI as ours.
const MARK: &str = "cc+";

/// How a source is taken.
pub enum Allowed {
    /// As a sealed model.
    Sealed {
        /// Who may have signed it.
        signers: Vec<PublicKey>,
        /// The one statement that is meant; without it, any of these signers, older ones too.
        statement: Option<Digest>,
    },
    /// As KServe's own encrypted files.
    Jwe {
        /// Where the broker has the key.
        key: ResourceUri,
        /// Whether files that are not encrypted may stand among them.
        insecure_plain_files: bool,
    },
}

/// The sources that may be fetched.
pub struct Policy(Vec<Entry>);

struct Entry {
    source: String,
    destination: Option<String>,
    allowed: Allowed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u64,
    models: Vec<WireEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireEntry {
    source: String,
    destination: Option<String>,
    signers: Option<Vec<String>>,
    statement: Option<Digest>,
    jwe_key: Option<String>,
    #[serde(default)]
    insecure_plain_files: bool,
}

impl Policy {
    /// Reads `{"version":1,"models":[…]}`.
    pub fn parse(bytes: &[u8]) -> Result<Self, KserveError> {
        let refuse = KserveError::Policy;
        if bytes.len() > MAX_POLICY {
            return Err(refuse(format!("it has {} bytes; expected at most {MAX_POLICY}", bytes.len())));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|why| refuse(why.to_string()))?;
        if wire.version != VERSION {
            return Err(refuse(format!("its version is {}; expected {VERSION}", wire.version)));
        }
        wire.models.into_iter().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// How a source may be taken to a destination.
    pub fn allowed(&self, uri: &str, destination: &str) -> Result<&Allowed, KserveError> {
        let fits = |entry: &&Entry| {
            entry.source == marked_off(uri) && entry.destination.as_ref().is_none_or(|own| own == destination)
        };
        let refused = || KserveError::NotAllowed { uri: shown(uri), destination: destination.into() };
        self.0.iter().find(fits).map(|entry| &entry.allowed).ok_or_else(refused)
    }
}

fn entry(wire: WireEntry) -> Result<Entry, KserveError> {
    let refuse = |why: String| KserveError::Policy(format!("{}: {why}", wire.source));
    let allowed = match (&wire.signers, &wire.jwe_key) {
        (Some(signers), None) if !signers.is_empty() && !wire.insecure_plain_files => {
            let keys = signers.iter().map(|pem| PublicKey::from_pem(pem)).collect::<Result<_, _>>();
            Allowed::Sealed {
                signers: keys.map_err(|why| refuse(why.to_string()))?,
                statement: wire.statement,
            }
        }
        (None, Some(key)) if wire.statement.is_none() => Allowed::Jwe {
            key: key.parse().map_err(|why| refuse(format!("its key: {why}")))?,
            insecure_plain_files: wire.insecure_plain_files,
        },
        _ => {
            let why = "expected signers (and a statement), or jwe_key (and insecure_plain_files)";
            return Err(refuse(why.into()));
        }
    };
    Ok(Entry { source: marked_off(&wire.source).into(), destination: wire.destination, allowed })
}

fn marked_off(uri: &str) -> &str {
    uri.strip_prefix(MARK).unwrap_or(uri).trim_end_matches('/')
}

/// Without a query, which may have credentials.
pub(crate) fn shown(uri: &str) -> String {
    uri.split('?').next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}
