//! The words in which image tools ask a key provider program (`docs/keyprovider.md` of ocicrypt): one JSON document on
//! standard input, one on standard output.
//!
//! The parameters are those of the provider `attestation-agent`: `keypath=FILE` with the wrapping key, `keyid=URI` with
//! its name at the broker, and `algorithm=A256GCM`, joined by `::`. Upstream's `sample=true` is refused: its key is
//! public.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_secret::SecretBytes;
use serde::Deserialize;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

/// The provider's name.
pub const NAME: &str = "attestation-agent";
/// No request is read beyond this.
pub const MAX_REQUEST: usize = 1 << 20;

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProviderError {
    /// Not a request.
    #[error("not a key provider's request: {0}")]
    Malformed(String),
    /// The parameters do not say what is needed.
    #[error(
        "the parameters of {NAME} are {found:?}; expected keypath=FILE::keyid=kbs:///repository/type/tag"
    )]
    Parameters {
        /// The parameters.
        found: String,
    },
    /// A parameter that this provider refuses.
    #[error("the parameter {found:?} is refused: {why}")]
    Refused {
        /// The parameter.
        found: String,
        /// Why.
        why: &'static str,
    },
}

/// What is asked.
pub enum Request {
    /// Wrap a layer's private options.
    Wrap {
        /// With which key.
        key: KeyChoice,
        /// The private options.
        options: SecretBytes,
    },
    /// Unwrap an annotation's packet.
    Unwrap {
        /// With which keys, any of which may fit.
        keys: Vec<KeyChoice>,
        /// The packet.
        packet: Vec<u8>,
    },
}

/// A wrapping key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChoice {
    /// The file with its 32 bytes.
    pub file: String,
    /// Its name at the broker. Unwrapping needs none.
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    op: String,
    #[serde(default)]
    keywrapparams: Option<WrapParams>,
    #[serde(default)]
    keyunwrapparams: Option<UnwrapParams>,
}

#[derive(Deserialize)]
struct WrapParams {
    #[serde(default)]
    ec: Option<Config>,
    #[serde(default)]
    optsdata: Option<String>,
}

#[derive(Deserialize)]
struct UnwrapParams {
    #[serde(default)]
    dc: Option<Config>,
    #[serde(default)]
    annotation: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "Parameters")]
    parameters: Option<BTreeMap<String, Option<Vec<String>>>>,
}

impl Request {
    /// Reads what a tool wrote.
    pub fn parse(json: &[u8]) -> Result<Self, ProviderError> {
        let malformed = |why: &str| ProviderError::Malformed(why.into());
        if json.len() > MAX_REQUEST {
            return Err(malformed("more than 1 MiB"));
        }
        // The parser's message could quote the key, so only its place is told.
        let wire: Wire = serde_json::from_slice(json).map_err(|error| {
            ProviderError::Malformed(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| malformed("not base64"));
        match wire.op.as_str() {
            "keywrap" => {
                let params = wire.keywrapparams.ok_or_else(|| malformed("no keywrapparams"))?;
                let key = choices(params.ec)?.into_iter().next().ok_or_else(|| malformed("no parameters"))?;
                let options = Zeroizing::new(params.optsdata.ok_or_else(|| malformed("no optsdata"))?);
                Ok(Self::Wrap { key, options: SecretBytes::new(decode(&options)?) })
            }
            "keyunwrap" => {
                let params = wire.keyunwrapparams.ok_or_else(|| malformed("no keyunwrapparams"))?;
                let packet = decode(&params.annotation.ok_or_else(|| malformed("no annotation"))?)?;
                Ok(Self::Unwrap { keys: choices(params.dc)?, packet })
            }
            other => {
                let other: String = other.chars().take(32).collect();
                Err(ProviderError::Malformed(format!("op is {other:?}; expected keywrap or keyunwrap")))
            }
        }
    }
}

/// The answer to a request to wrap.
pub fn wrapped(packet: &[u8]) -> Vec<u8> {
    json!({"keywrapresults": {"annotation": STANDARD.encode(packet)}}).to_string().into_bytes()
}

/// The answer to a request to unwrap.
pub fn unwrapped(options: &SecretBytes) -> Zeroizing<Vec<u8>> {
    let mut text = STANDARD.encode(options.expose());
    let answer = Zeroizing::new(format!(r#"{{"keyunwrapresults":{{"optsdata":"{text}"}}}}"#).into_bytes());
    text.zeroize();
    answer
}

/// The keys that the provider's parameters name; each parameter is base64 of a text.
fn choices(config: Option<Config>) -> Result<Vec<KeyChoice>, ProviderError> {
    let mut all = config.and_then(|config| config.parameters).unwrap_or_default();
    let own = all.remove(NAME).flatten().unwrap_or_default();
    let read = |text: &String| {
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| ProviderError::Malformed("a parameter is not base64".into()))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| ProviderError::Malformed("a parameter is no text".into()))?;
        KeyChoice::parse(&text)
    };
    match own.is_empty() {
        true => Err(ProviderError::Parameters { found: String::new() }),
        false => own.iter().map(read).collect(),
    }
}

impl KeyChoice {
    fn parse(text: &str) -> Result<Self, ProviderError> {
        let shown = |text: &str| text.chars().take(128).collect::<String>();
        let (mut file, mut name) = (None, None);
        for part in text.split("::") {
            let refuse = |why| ProviderError::Refused { found: shown(part), why };
            match part.split_once('=') {
                Some(("keypath", path)) if !path.is_empty() => file = Some(path.to_owned()),
                Some(("keyid", id)) if !id.is_empty() => name = Some(uri(id)),
                Some(("algorithm", "A256GCM")) => {}
                Some(("algorithm", _)) => return Err(refuse("only A256GCM authenticates the layer's key")),
                Some(("sample", "false")) => {}
                Some(("sample", _)) => return Err(refuse("the sample key is public")),
                _ => return Err(refuse("expected keypath, keyid or algorithm")),
            }
        }
        match file {
            Some(file) => Ok(Self { file, name }),
            None => Err(ProviderError::Parameters { found: shown(text) }),
        }
    }
}

/// Upstream writes `kbs:///`, `/` or nothing before the resource's path; all mean the same.
fn uri(id: &str) -> String {
    match id.strip_prefix("kbs://") {
        Some(_) => id.to_owned(),
        None => format!("kbs:///{}", id.trim_start_matches('/')),
    }
}
