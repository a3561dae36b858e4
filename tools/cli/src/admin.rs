//! `coffer admin`: who may administer a tenant, by keys of their own or by an OpenID issuer's word; and its keys.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use coffer_core_admin::{AdminInfo, CertificateName, NewAdmin, Role};
use coffer_core_protocol::jws::SigningKey;
use serde_json::{Value, json};

use crate::key_file::{pem, write_private};
use crate::output::table;
use crate::when::Expiry;
use crate::{Context, block_on, document};

pub(crate) const HELP: &str = "\
A new admin makes a key and sends you the public part; you add it with the roles that they need:

  coffer admin keygen --out ana.pem > ana.pub            (Ana)
  coffer admin add ana --public-key ana.pub --role security --expires-in 1y
  coffer --admin-key ana.pem admin whoami                (Ana)

With an OpenID provider there are no keys to hand out. Write the issuer into a file, and its tokens' groups make roles:

  [[issuers]]
  name = \"company\"
  issuer = \"https://login.example\"
  audiences = [\"coffer-broker\"]
  roles = [{ claim = \"groups\", value = \"security-team\", roles = [\"security\"] }]

  coffer admin issuer set issuers.toml
  coffer --token-file /run/user/1000/token admin whoami

Where the broker's configuration names an authority of client certificates ([tls] client_ca):

  coffer admin add ana --certificate uri=spiffe://example.org/ana --role security";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the admins with keys or certificates of their own.
    List,
    /// Add an admin's public key or certificate, or replace the one of that name.
    Add(New),
    /// Remove an admin. What they sign is refused from now on.
    Rm {
        /// The name.
        name: String,
    },
    /// Make an admin's key. The public part is written to standard output.
    Keygen {
        /// Where to write the private key (PEM, readable by you only). An existing file is never overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Say who the broker takes you for, and what you may do.
    Whoami,
    /// OpenID issuers whose tokens admins may use.
    #[command(subcommand)]
    Issuer(Issuers),
    /// Other verifiers whose attestation tokens are taken beside the broker's own.
    #[command(subcommand)]
    TokenIssuer(Issuers),
    /// Sign attestation tokens with a new key from now on. Older tokens stay good until they end.
    RotateTokenKey,
    /// Seal the tenant's rows with a new key from now on, and seal what is there anew.
    RotateDataKey,
}

/// An admin to be added.
#[derive(clap::Args)]
pub(crate) struct New {
    /// A name, which logs and provenance show.
    name: String,
    #[command(flatten)]
    shows: Shows,
    /// What they may do: owner, security, auditor or publisher. Repeatable.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<Role>,
    #[command(flatten)]
    expiry: Expiry,
}

/// What an admin is known by.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Shows {
    /// The public key: PEM or JWK; Ed25519 or P-256.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// What names their client certificate: uri=, dns=, email=, common-name= or sha256=. The broker's configuration names
    /// the certificate's authority ([tls] client_ca).
    #[arg(long, value_name = "KIND=NAME", conflicts_with_all = ["expires_in", "expires_at"])]
    certificate: Option<CertificateName>,
}

impl Shows {
    /// What is sent.
    pub(crate) fn read(self, roles: Vec<Role>, expires_at: Option<String>) -> Result<NewAdmin> {
        let public_key = self.public_key.as_deref().map(document::public_key).transpose()?;
        Ok(NewAdmin { public_key, certificate: self.certificate, roles, expires_at })
    }
}

/// A list of issuers that is replaced as a whole.
#[derive(clap::Subcommand)]
pub(crate) enum Issuers {
    /// Show them.
    List,
    /// Take those in a file, and no others.
    Set {
        /// TOML or JSON with a list `issuers`.
        file: PathBuf,
    },
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let output = context.output;
    match command {
        Command::Keygen { out } => {
            let key = SigningKey::generate_ed25519()?;
            write_private(&out, &pem(&key.to_pkcs8()?))?;
            let public = serde_json::to_value(key.verifying_key())?;
            output.show(&json!({"private_key": out, "public_key": public}), |_| public.to_string())
        }
        Command::Whoami => {
            let admin = context.admin()?;
            let who = block_on(async { Ok(admin.whoami().await?) })?;
            output.show(&who, |who| {
                let scope =
                    if who.cluster { "the cluster".to_owned() } else { format!("tenant {}", who.tenant) };
                format!("{} at {scope}: {}", who.subject, roles(&who.roles))
            })
        }
        Command::List => {
            let admin = context.admin()?;
            let list = block_on(async { Ok(admin.list_admins().await?) })?;
            output.show(&list, |list| admins(list))
        }
        Command::Add(new) => {
            let (name, body) = new.read()?;
            let admin = context.admin()?;
            block_on(async { Ok(admin.put_admin(&name, &body).await?) })?;
            output.show(&json!({"admin": name, "roles": body.roles}), |_| {
                format!("{name} is {} now", roles(&body.roles))
            })
        }
        Command::Rm { name } => {
            let admin = context.admin()?;
            block_on(async { Ok(admin.remove_admin(&name).await?) })?;
            output.show(&json!({"removed": name}), |_| format!("removed the admin {name}"))
        }
        Command::Issuer(Issuers::List) => {
            let admin = context.admin()?;
            let found = block_on(async { Ok(admin.admin_issuers().await?) })?;
            output.show(&found, |found| shown(found, &["name", "issuer", "roles"]))
        }
        Command::Issuer(Issuers::Set { file }) => {
            let issuers = issuers(&file)?;
            let admin = context.admin()?;
            block_on(async { Ok(admin.put_admin_issuers(&issuers).await?) })?;
            output.show(&issuers, |issuers| shown(issuers, &["name", "issuer", "roles"]))
        }
        Command::TokenIssuer(Issuers::List) => {
            let admin = context.admin()?;
            let found = block_on(async { Ok(admin.token_issuers().await?) })?;
            output.show(&found, |found| shown(found, &["name", "issuer", "hardware"]))
        }
        Command::TokenIssuer(Issuers::Set { file }) => {
            let issuers = issuers(&file)?;
            let admin = context.admin()?;
            block_on(async { Ok(admin.put_token_issuers(&issuers).await?) })?;
            output.show(&issuers, |issuers| shown(issuers, &["name", "issuer", "hardware"]))
        }
        Command::RotateTokenKey => {
            let admin = context.admin()?;
            block_on(async { Ok(admin.rotate_token_key().await?) })?;
            output.show(&json!({"rotated": "token-key"}), |_| {
                "attestation tokens are signed with a new key; those that verify them read /.well-known/jwks.json".into()
            })
        }
        Command::RotateDataKey => {
            let admin = context.admin()?;
            let epoch = block_on(async { Ok(admin.rotate_data_key().await?) })?;
            output.show(&json!({"rotated": "data-key", "epoch": epoch}), |_| {
                format!("rows are sealed with the key of epoch {epoch}; older ones are being sealed anew")
            })
        }
    }
}

impl New {
    /// The name, and what is sent.
    pub(crate) fn read(self) -> Result<(String, NewAdmin)> {
        Ok((self.name, self.shows.read(self.roles, self.expiry.time()?)?))
    }
}

/// A file with a list `issuers`; the broker says what is wrong inside.
fn issuers(file: &std::path::Path) -> Result<Value> {
    let value = document::read(file)?;
    ensure!(
        value.get("issuers").is_some_and(Value::is_array),
        "{} has no list `issuers`; an empty one (issuers = []) trusts nobody",
        file.display()
    );
    Ok(value)
}

fn shown(found: &Value, columns: &[&str]) -> String {
    let cell = |one: &Value, name: &&str| match one.get(*name) {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(rules)) => rules.iter().map(rule).collect::<Vec<_>>().join("; "),
        Some(other) => other.to_string(),
    };
    let list = found.get("issuers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<_>> =
        list.iter().map(|one| columns.iter().map(|name| cell(one, name)).collect()).collect();
    let heading: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
    table(&heading.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

/// As in `groups=security-team: security`.
fn rule(rule: &Value) -> String {
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or("-");
    let roles = rule.get("roles").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let roles: Vec<&str> = roles.iter().filter_map(Value::as_str).collect();
    format!("{}={}: {}", text("claim"), text("value"), roles.join(", "))
}

pub(crate) fn admins(list: &[AdminInfo]) -> String {
    let row = |one: &AdminInfo| {
        let expires = one.expires_at.clone().unwrap_or_else(|| "-".into());
        let known_by = one.thumbprint.clone().or_else(|| Some(one.certificate.as_ref()?.to_string()));
        let known_by = known_by.unwrap_or_else(|| "-".into());
        vec![one.name.clone(), roles(&one.roles), expires, known_by]
    };
    table(&["NAME", "ROLES", "EXPIRES", "KEY OR CERTIFICATE"], &list.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn roles(roles: &[Role]) -> String {
    match roles {
        [] => "nobody".to_owned(),
        some => some.iter().map(|role| role.name()).collect::<Vec<_>>().join(", "),
    }
}
