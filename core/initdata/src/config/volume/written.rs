//! A volume as it is written: which members stand together.

use serde::Deserialize;

use super::{Ephemeral, Persistent, Rollback, SealedData, Volume, VolumeAccess, VolumeKind};
use crate::config::owner;
use crate::{Algorithm, Digest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    name: String,
    path: String,
    #[serde(default)]
    kind: Kind,
    key: Option<String>,
    rollback: Option<Rollback>,
    access: Option<VolumeAccess>,
    owner: Option<String>,
    root_hash: Option<String>,
    salt: Option<String>,
    data_blocks: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Persistent,
    Ephemeral,
    Sealed,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::Ephemeral => "ephemeral",
            Self::Sealed => "sealed",
        }
    }

    /// The members besides name, path and kind.
    const fn members(self) -> &'static [&'static str] {
        match self {
            Self::Persistent => &["key", "rollback", "access"],
            Self::Ephemeral => &["owner"],
            Self::Sealed => &["key", "root-hash", "salt", "data-blocks"],
        }
    }
}

impl TryFrom<Written> for Volume {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let kind = written.kind;
        let present = [
            ("key", written.key.is_some()),
            ("rollback", written.rollback.is_some()),
            ("access", written.access.is_some()),
            ("owner", written.owner.is_some()),
            ("root-hash", written.root_hash.is_some()),
            ("salt", written.salt.is_some()),
            ("data-blocks", written.data_blocks.is_some()),
        ];
        if let Some((member, _)) = present.iter().find(|(member, is)| *is && !kind.members().contains(member))
        {
            return Err(format!("a volume of kind {:?} has no {member}", kind.name()));
        }
        let missing = |member: &str| format!("a volume of kind {:?} needs {member}", kind.name());
        let key = || written.key.clone().ok_or_else(|| missing("key"));
        let kind = match kind {
            Kind::Persistent => VolumeKind::Persistent(Persistent {
                key: key()?,
                rollback: written.rollback.ok_or_else(|| missing("rollback"))?,
                access: written.access.unwrap_or_default(),
            }),
            Kind::Ephemeral => {
                let owner = written.owner.as_deref().map(owner::parse).transpose()?.unwrap_or_default();
                VolumeKind::Ephemeral(Ephemeral { owner })
            }
            Kind::Sealed => VolumeKind::Sealed(SealedData {
                key: key()?,
                root_hash: Digest::from_bytes(
                    Algorithm::Sha256,
                    &bytes("root-hash", &written.root_hash.ok_or_else(|| missing("root-hash"))?)?,
                )
                .map_err(|why| why.to_string())?,
                salt: bytes("salt", &written.salt.ok_or_else(|| missing("salt"))?)?,
                data_blocks: written.data_blocks.ok_or_else(|| missing("data-blocks"))?,
            }),
        };
        Ok(Self { name: written.name, path: written.path, kind })
    }
}

fn bytes(member: &str, text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) if lower => Ok(bytes),
        _ => Err(format!("{member} is not 64 hexadecimal digits in lower case")),
    }
}
