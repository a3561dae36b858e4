//! `coffer ref`: the measurements that the broker expects.

mod signer;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_core_corim::{Corim, CorimError, PublicKey, Validity, from_corim, is_signed, named_values, open};
use coffer_core_launch::ReferenceValues;
use coffer_verify_api::{Check, Timestamp};
use coffer_verify_nvidia::NvidiaJudge;
use serde_json::{Value, json};

use crate::{Context, block_on};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Add reference values: what `coffer measure` wrote, or a CoRIM of others.
    ///
    /// A CoRIM of `coffer measure --corim` brings reference values with their events. From any other CoRIM, and from
    /// an NVIDIA manifest (RIM), named values are taken for appraisal policies to ask for.
    ///
    /// What is signed goes to the broker as it is, which verifies it with the keys of `coffer ref signer` and keeps the
    /// signer's name. With --key a CoRIM is verified here instead, and sent as if it were not signed.
    Add {
        /// The file: JSON, a JWS over it, CoRIM, or an NVIDIA RIM.
        file: PathBuf,
        /// The key that must have signed a CoRIM (PEM), verified here; may be given more than once.
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
        /// Take a CoRIM that nobody signed.
        #[arg(long, conflicts_with = "key")]
        insecure_unsigned: bool,
    },
    /// List the reference values, who brought each, who signed it, and whether it still counts.
    List,
    /// Say from when on reference values do not count.
    Expire {
        /// Their id, as `coffer ref list` shows it.
        id: String,
        #[command(flatten)]
        when: state::When,
    },
    /// Let reference values count no more, but keep them: adding the same again is refused.
    Revoke {
        /// Their id, as `coffer ref list` shows it.
        id: String,
        /// Why; shown to auditors.
        #[arg(long)]
        reason: String,
    },
    /// Who may sign reference values.
    #[command(subcommand, after_help = signer::HELP)]
    Signer(signer::Command),
    /// Remove reference values: guests that match only them get nothing any more.
    Rm {
        /// Their id, as `coffer ref list` shows it.
        id: String,
    },
    /// Values that appraisal policies ask for by name.
    #[command(subcommand)]
    Value(Named),
}

#[derive(clap::Subcommand)]
pub(crate) enum Named {
    /// Put the value of a name, in place of the one before.
    Set {
        /// The name, as in `snp_launch_measurement`.
        name: String,
        /// JSON, as in '["00ff…"]' or 3; what is no JSON is a text.
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// List the names and their values.
    List,
    /// Say from when on the value of a name does not count.
    Expire {
        /// The name.
        name: String,
        #[command(flatten)]
        when: state::When,
    },
    /// Let the value of a name count no more, but keep it.
    Revoke {
        /// The name.
        name: String,
        /// Why; shown to auditors.
        #[arg(long)]
        reason: String,
    },
    /// Remove a name.
    Rm {
        /// The name.
        name: String,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = context.admin()?;
    match command {
        Command::Add { file, key, insecure_unsigned } => {
            let bytes = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            if is_for_the_broker(&bytes, &key)? {
                block_on(async { Ok(admin.add_reference_document(bytes).await?) })?;
                return context.output.show(&json!({"verified_by_broker": file}), |_| {
                    format!("the broker verified and added {}; see `coffer ref list`", file.display())
                });
            }
            let read = Import::read(&bytes, &key, insecure_unsigned);
            let Import { references, named } =
                read.with_context(|| format!("{} was not added", file.display()))?;
            for values in &references {
                block_on(async { Ok(admin.add_reference(values).await?) })?;
            }
            for (name, value) in &named {
                block_on(async { Ok(admin.put_named_value(name, value).await?) })?;
            }
            let ids: Vec<String> = references.iter().map(|values| member(values, "id")).collect();
            let names: Vec<&String> = named.keys().collect();
            context.output.show(&json!({"added": ids, "named": names}), |_| {
                let ids = ids.iter().map(|id| format!("added reference values {id}\n"));
                let names = names.iter().map(|name| format!("added the named value {name}\n"));
                ids.chain(names).collect()
            })
        }
        Command::List => state::list(context.output, &admin),
        Command::Expire { id, when } => state::expire(context.output, &admin, &id, &when),
        Command::Revoke { id, reason } => state::revoke(context.output, &admin, &id, reason),
        Command::Signer(command) => signer::run(context.output, &admin, command),
        Command::Rm { id } => {
            block_on(async { Ok(admin.remove_reference(&id).await?) })?;
            context.output.show(&json!({"removed": id}), |_| format!("removed reference values {id}"))
        }
        Command::Value(Named::Set { name, values }) => {
            let read = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            let value = match values.as_slice() {
                [one] => read(one),
                several => several.iter().map(read).collect(),
            };
            block_on(async { Ok(admin.put_named_value(&name, &value).await?) })?;
            context.output.show(&json!({"name": name, "value": value}), |_| format!("{name} is {value}"))
        }
        Command::Value(Named::List) => state::list_named(context.output, &admin),
        Command::Value(Named::Expire { name, when }) => {
            state::expire_named(context.output, &admin, &name, &when)
        }
        Command::Value(Named::Revoke { name, reason }) => {
            state::revoke_named(context.output, &admin, &name, reason)
        }
        Command::Value(Named::Rm { name }) => {
            block_on(async { Ok(admin.remove_named_value(&name).await?) })?;
            context.output.show(&json!({"removed": name}), |_| format!("removed {name}"))
        }
    }
}

/// Whether the broker is to verify a signature: of a JWS always, of a CoRIM unless the caller does it here.
fn is_for_the_broker(bytes: &[u8], keys: &[PathBuf]) -> Result<bool> {
    let jws = bytes.trim_ascii_start().starts_with(b"eyJ");
    if jws && !keys.is_empty() {
        bail!(
            "a JWS is verified by the broker; give it the signer's key with `coffer ref signer add`, not with --key"
        );
    }
    Ok(jws || (keys.is_empty() && std::str::from_utf8(bytes).is_err() && is_signed(bytes)))
}

/// What a file brings.
#[derive(Default)]
struct Import {
    /// Reference values in the broker's form.
    references: Vec<Value>,
    /// Values by name.
    named: BTreeMap<String, Value>,
}

impl Import {
    fn read(bytes: &[u8], keys: &[PathBuf], unsigned_too: bool) -> Result<Self> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return match text.trim_start() {
                json if json.starts_with('{') => Self::of_json(bytes),
                xml if xml.starts_with('<') => Self::of_rim(bytes),
                _ => bail!("expected what `coffer measure` writes, a CoRIM, or an NVIDIA RIM"),
            };
        }
        Self::of_corim(bytes, keys, unsigned_too)
    }

    fn of_json(bytes: &[u8]) -> Result<Self> {
        // Read as the broker reads it, so that what is wrong is told here.
        let values = ReferenceValues::from_json(bytes)?;
        Ok(Self { references: vec![serde_json::to_value(values)?], ..Self::default() })
    }

    fn of_corim(bytes: &[u8], keys: &[PathBuf], unsigned_too: bool) -> Result<Self> {
        let unsigned = match is_signed(bytes) {
            true => {
                let keys: Vec<PublicKey> = keys.iter().map(|path| public_key(path)).collect::<Result<_>>()?;
                let opened = open(bytes, &keys)?;
                in_time(opened.validity, "signature")?;
                opened.unsigned
            }
            false if unsigned_too => bytes.to_vec(),
            false => {
                bail!("nobody signed the CoRIM; have it signed, or take it as it is with --insecure-unsigned")
            }
        };
        match from_corim(&unsigned) {
            Ok(values) => Ok(Self {
                references: values.iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
                ..Self::default()
            }),
            Err(CorimError::Profile { .. }) => {
                in_time(Corim::parse(&unsigned)?.validity, "document")?;
                Ok(Self { named: named_values(&unsigned)?, ..Self::default() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A manifest that NVIDIA signed: its golden measurements by index.
    fn of_rim(bytes: &[u8]) -> Result<Self> {
        let rim = NvidiaJudge::new().verified_rim(bytes, Timestamp::now());
        let rim = rim.map_err(|checks| {
            let causes = checks
                .iter()
                .flat_map(Check::causes)
                .map(|cause| format!("{} [{}]", cause.title, cause.code));
            anyhow!("the manifest is not believed: {}", causes.collect::<Vec<_>>().join("; "))
        })?;
        let named = rim.measurements.iter().filter(|measurement| measurement.active).map(|measurement| {
            let name = format!("nvidia_{}_{}_measurement_{}", rim.product, rim.version, measurement.index);
            (name, measurement.values.iter().map(|digest| Value::String(digest.hex())).collect())
        });
        Ok(Self { named: named.collect(), ..Self::default() })
    }
}

fn in_time(validity: Option<Validity>, what: &str) -> Result<()> {
    let now = Timestamp::now();
    match validity.is_none_or(|validity| validity.holds_at(now.as_second())) {
        true => Ok(()),
        false => bail!("the CoRIM's {what} is not valid now, at {now}; ask its maker for a newer one"),
    }
}

fn public_key(path: &Path) -> Result<PublicKey> {
    let pem = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    PublicKey::from_pem(&pem).with_context(|| format!("{} is no public key in PEM", path.display()))
}

fn member(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or("-").to_string()
}
