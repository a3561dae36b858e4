//! Writing init-data: the same entries give the same bytes.
//!
//! Entries are multi-line literal strings, so that a person reads what was measured without undoing escapes.

use std::collections::BTreeMap;

use crate::{Algorithm, COFFER, GuestConfig, InitData, InitDataError, MAX_TEXT, VERSION};

/// Collects entries.
pub struct Builder {
    algorithm: Algorithm,
    data: BTreeMap<String, String>,
}

impl Builder {
    /// Begins. The digest's algorithm is one of SHA-256, SHA-384, SHA-512 and SM3.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, data: BTreeMap::new() }
    }

    /// Adds an entry, as in `aa.toml`, or replaces it.
    #[must_use]
    pub fn entry(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.data.insert(name.into(), text.into());
        self
    }

    /// Adds the guest's own entry.
    pub fn guest(self, config: &GuestConfig) -> Result<Self, InitDataError> {
        Ok(self.entry(COFFER, config.to_toml()?))
    }

    /// Writes, and reads back what was written.
    pub fn build(self) -> Result<InitData, InitDataError> {
        let mut text = format!(
            "# Init-data: what the owner tells the guest. Its digest is bound to the guest's measurement, so a\n\
             # changed byte, even in a comment, is another guest that no key is released to.\n\
             version = \"{VERSION}\"\nalgorithm = \"{}\"\n\n[data]\n",
            self.algorithm
        );
        for (name, value) in &self.data {
            check(name, value).map_err(|why| InitDataError::Entry { name: crate::short(name), why })?;
            text.push_str(&format!("# {}\n\"{name}\" = '''\n{value}'''\n\n", meaning(name)));
        }
        if text.len() > MAX_TEXT {
            return Err(InitDataError::TooLong);
        }
        let read = InitData::parse(text.as_bytes())?;
        match read.data().iter().eq(&self.data) {
            true => Ok(read),
            false => {
                Err(InitDataError::Entry { name: "all".into(), why: "the text does not read back the same" })
            }
        }
    }
}

fn check(name: &str, value: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        return Err("its name is not of letters, digits, dots, dashes and underscores");
    }
    if value.contains("'''") || value.ends_with('\'') {
        return Err(
            "it has three apostrophes in a row, or one at its end, which a literal string cannot hold",
        );
    }
    // TOML 1.0, "Literal strings": control characters other than tab are not permitted.
    if value.chars().any(|character| character.is_control() && character != '\n' && character != '\t') {
        return Err("it has control characters other than tab and line feed");
    }
    Ok(())
}

fn meaning(name: &str) -> &'static str {
    match name {
        COFFER => "What the guest itself may do: the broker it trusts and the containers it may run.",
        "aa.toml" => "The attestation agent's configuration: where to attest.",
        crate::DATA_HUB => {
            "The confidential data hub's configuration: where secrets and image keys come from."
        }
        "policy.rego" => "The agent's policy: which requests of the host are allowed.",
        _ => "An entry for a program in the guest.",
    }
}
