//! The image configuration (OCI image specification 1.1, `config.md`): what to run, as whom and where.

use std::collections::BTreeMap;

use coffer_core_digest::Digest;
use serde::{Deserialize, Serialize};

use crate::manifest::null_as_default;

/// No configuration is read beyond this.
pub const MAX_CONFIG: usize = 4 << 20;

/// Why bytes are not an image configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// More bytes than any honest configuration has.
    #[error("the image configuration has {found} bytes; the limit is {MAX_CONFIG}")]
    TooLarge {
        /// The size found.
        found: usize,
    },
    /// Not JSON, or a member of the wrong type.
    #[error("the image configuration is not readable: {0}")]
    Json(#[from] serde_json::Error),
}

/// An image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `amd64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`, …
    #[serde(default)]
    pub os: String,
    /// How to run the image.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: RunConfig,
    /// The layers' contents.
    #[serde(default)]
    pub rootfs: RootFs,
}

/// How to run an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`; empty means root.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`, …
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The fixed part of the command.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The part of the command that arguments replace.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories that are written at run time.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Where the process starts; empty means `/`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// The layers' contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The digests of the layers before compression.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration from hostile bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG {
            return Err(ConfigError::TooLarge { found: bytes.len() });
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl RunConfig {
    /// The command: the entry point, then `args` or, if there are none, the image's own arguments.
    pub fn command(&self, args: &[String]) -> Vec<String> {
        let tail = if args.is_empty() { &self.cmd } else { args };
        self.entrypoint.iter().chain(tail).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_of_a_go_program_with_nulls_is_read() {
        let text =
            br#"{"architecture":"amd64","os":"linux","history":[{"created_by":"x"}],"config":{"Env":["A=b"],
            "Cmd":null,"Entrypoint":["/bin/app"],"Volumes":null,"Labels":null,"Unknown":1},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let read = ImageConfig::parse(text).unwrap();
        assert_eq!(read.config.env, ["A=b"]);
        assert_eq!(read.config.command(&["-v".into()]), ["/bin/app", "-v"]);
        assert_eq!(read.config.command(&[]), ["/bin/app"]);
    }

    #[test]
    fn arguments_replace_the_command_and_not_the_entry_point() {
        let run = RunConfig { entrypoint: vec!["e".into()], cmd: vec!["c".into()], ..RunConfig::default() };
        assert_eq!(run.command(&[]), ["e", "c"]);
        assert_eq!(run.command(&["a".into()]), ["e", "a"]);
    }

    #[test]
    fn configuration_of_the_wrong_type_is_refused() {
        assert!(matches!(ImageConfig::parse(br#"{"config":{"Env":"A=b"}}"#), Err(ConfigError::Json(_))));
        assert!(matches!(ImageConfig::parse(&vec![b' '; MAX_CONFIG + 1]), Err(ConfigError::TooLarge { .. })));
    }
}
