//! `[[containers.secrets]]`: secrets that the guest puts into the workload's environment or files.
//!
//! Here are their names only; a sealed secret is ciphertext. The guest has them from the broker before the workload
//! starts, or nothing starts.

use serde::Deserialize;

use super::check_path;
use super::owner;
use crate::toml_text::basic;

/// One secret, and where the workload finds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Secret {
    /// Where it comes from.
    pub source: SecretSource,
    /// Where the workload finds it.
    pub place: SecretPlace,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A resource at the broker, `kbs:///repository/type/tag`.
    Resource(String),
    /// A sealed secret, `sealed.…`. What its signature and its key need is had from the broker, too.
    Sealed(String),
}

/// Where the workload finds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// In the environment, under this name.
    Env(String),
    /// In a file, which is in the guest's memory.
    File(SecretFile),
}

/// A file with a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// An absolute path without `.`, `..` and empty parts.
    pub path: String,
    /// Permission bits, `0o777` at most.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// Who may read a file of which nothing is said: its owner.
const MODE: u32 = 0o400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    resource: Option<String>,
    sealed: Option<String>,
    env: Option<String>,
    file: Option<String>,
    mode: Option<String>,
    owner: Option<String>,
}

impl TryFrom<Written> for Secret {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let source = match (written.resource, written.sealed) {
            (Some(uri), None) => SecretSource::Resource(uri),
            (None, Some(text)) => SecretSource::Sealed(text),
            _ => return Err("a secret has either resource or sealed"),
        };
        let place = match (written.env, written.file, written.mode, written.owner) {
            (Some(name), None, None, None) => SecretPlace::Env(name),
            (None, Some(path), mode, owner) => SecretPlace::File(SecretFile {
                path,
                mode: mode.as_deref().map_or(Ok(MODE), parse_mode)?,
                owner: owner.as_deref().map(owner::parse).transpose()?.unwrap_or_default(),
            }),
            _ => return Err("a secret has either env, or file and with it mode and owner"),
        };
        Ok(Self { source, place })
    }
}

/// Permission bits as they are written: four octal digits, the first of them 0.
fn parse_mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3);
    digits
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .ok_or("mode is not of the form \"0400\": four octal digits, the first of them 0")
}

impl Secret {
    /// A secret of text members, as on a command line.
    ///
    /// # Errors
    /// Says what stands together.
    pub fn of([resource, sealed, env, file, mode, owner]: [Option<String>; 6]) -> Result<Self, &'static str> {
        Written { resource, sealed, env, file, mode, owner }.try_into()
    }

    /// What is wrong with a member, and what is expected of it.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str, &str)> {
        match &self.source {
            SecretSource::Resource(uri) if !(uri.starts_with("kbs:///") && uri.split('/').count() == 6) => {
                return Some(("resource", "kbs:///repository/type/tag", uri));
            }
            SecretSource::Sealed(text)
                if !text.starts_with("sealed.") || text.contains(char::is_whitespace) =>
            {
                return Some(("sealed", "what `coffer secret seal` printed: sealed.…", text));
            }
            _ => {}
        }
        match &self.place {
            SecretPlace::Env(name) => {
                let usable = |c: char| c.is_ascii_graphic() && c != '=';
                let wrong = name.is_empty() || !name.chars().all(usable);
                wrong.then_some(("secret's env", "a name without = and spaces", name))
            }
            SecretPlace::File(file) => match check_path(&file.path) {
                Err(expected) => Some(("secret's file", expected, &file.path)),
                // The guest writes these itself.
                Ok(()) if ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].contains(&&*file.path) => {
                    Some(("secret's file", "a file that is not the guest's own", &file.path))
                }
                Ok(()) => None,
            },
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&SecretFile> {
        match &self.place {
            SecretPlace::File(file) => Some(file),
            SecretPlace::Env(_) => None,
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        text.push_str("# A secret that the guest has before the workload starts; the host has it not.\n");
        text.push_str("[[containers.secrets]]\n");
        match &self.source {
            SecretSource::Resource(uri) => text.push_str(&format!("resource = {}\n", basic(uri))),
            SecretSource::Sealed(sealed) => text.push_str(&format!("sealed = {}\n", basic(sealed))),
        }
        match &self.place {
            SecretPlace::Env(name) => text.push_str(&format!("env = {}\n", basic(name))),
            SecretPlace::File(SecretFile { path, mode, owner: (user, group) }) => text.push_str(&format!(
                "file = {}\nmode = \"{mode:04o}\"\nowner = \"{user}:{group}\"\n",
                basic(path)
            )),
        }
    }
}
