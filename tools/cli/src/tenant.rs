//! `coffer tenant`: tenants, which the operator makes and removes without seeing what they hold.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use coffer_core_admin::{NewAdmin, NewTenant, Role, TenantInfo, TenantName, TenantSettings};
use serde_json::{Value, json};

use crate::output::table;
use crate::{Context, block_on, document};

pub(crate) const HELP: &str = "\
The first owner makes a key and sends the public part; from then on the tenant is theirs, not yours:

  coffer admin keygen --out owner.pem > owner.pub                    (the owner)
  coffer tenant create team-a --owner-key owner.pub --quota resources=500
  coffer --admin-key owner.pem --tenant team-a secret list           (the owner)

Guests and admins reach it by /t/team-a/… and by its host names:

  coffer tenant set team-a --host team-a.broker.example --quota concurrent_attestations=4";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the tenants.
    List,
    /// Show one tenant's hosts and quotas.
    Show {
        /// Its name.
        name: TenantName,
    },
    /// Make a tenant with its first owner.
    Create {
        /// Lower-case letters, digits and `-`.
        name: TenantName,
        /// The first owner's public key: PEM or JWK.
        #[arg(long, value_name = "FILE")]
        owner_key: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change a tenant's hosts, quotas or note. What is not named stays.
    Set {
        /// Its name.
        name: TenantName,
        #[command(flatten)]
        settings: Settings,
        /// Take all its hosts away.
        #[arg(long, conflicts_with = "hosts")]
        no_hosts: bool,
        /// Give a quota its default again. Repeatable.
        #[arg(long, value_name = "NAME")]
        default_quota: Vec<String>,
    },
    /// Remove a tenant and all that it has. There is no way back but a backup.
    Rm {
        /// Its name.
        name: TenantName,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// What the operator says of a tenant.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// A host name by which it is reached; with `set` these take the place of those before. Repeatable.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// A quota, as in resources=500; the names are in docs/broker.md. Repeatable.
    #[arg(long = "quota", value_name = "NAME=VALUE", value_parser = quota)]
    quotas: Vec<(String, Value)>,
    /// A note for people.
    #[arg(long)]
    note: Option<String>,
}

fn quota(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, as in resources=500")?;
    let value = serde_json::from_str(value)
        .map_err(|_| format!("{value:?} is neither a number nor JSON, as in resources=500"))?;
    Ok((name.to_owned(), value))
}

impl Settings {
    fn over(self, before: TenantSettings) -> TenantSettings {
        let mut quotas: BTreeMap<String, Value> = before.quotas;
        quotas.extend(self.quotas);
        TenantSettings {
            hosts: if self.hosts.is_empty() { before.hosts } else { self.hosts },
            quotas,
            note: self.note.unwrap_or(before.note),
        }
    }
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::List => {
            let admin = context.admin()?;
            let list = block_on(async { Ok(admin.list_tenants().await?) })?;
            context.output.show(&list, |list| {
                let row = |one: &TenantInfo| {
                    let set = &one.settings;
                    vec![
                        one.name.to_string(),
                        one.made_at.clone(),
                        or_none(set.hosts.join(", ")),
                        quotas(set),
                        or_none(set.note.clone()),
                    ]
                };
                table(&["NAME", "MADE", "HOSTS", "QUOTAS", "NOTE"], &list.iter().map(row).collect::<Vec<_>>())
            })
        }
        Command::Show { name } => {
            let admin = context.admin()?;
            let found = block_on(async { Ok(admin.tenant(&name).await?) })?;
            context.output.show(&found, shown)
        }
        Command::Create { name, owner_key, settings } => {
            let public_key = document::public_key(&owner_key)?;
            let owner =
                NewAdmin { public_key: Some(public_key), roles: vec![Role::Owner], ..NewAdmin::default() };
            let new = NewTenant { settings: settings.over(TenantSettings::default()), owner };
            let admin = context.admin()?;
            let made = block_on(async { Ok(admin.make_tenant(&name, &new).await?) })?;
            context.output.show(&made, |made| {
                format!("made the tenant {0}; its owner uses --tenant {0} with their own key", made.name)
            })
        }
        Command::Set { name, settings, no_hosts, default_quota } => {
            let admin = context.admin()?;
            let found = block_on(async {
                let mut before = admin.tenant(&name).await?.settings;
                before.quotas.retain(|quota, _| !default_quota.contains(quota));
                if no_hosts {
                    before.hosts.clear();
                }
                admin.set_tenant(&name, &settings.over(before)).await?;
                Ok(admin.tenant(&name).await?)
            })?;
            context.output.show(&found, shown)
        }
        Command::Rm { name, yes } => {
            if !yes {
                confirm(&name)?;
            }
            let admin = context.admin()?;
            block_on(async { Ok(admin.remove_tenant(&name).await?) })?;
            context.output.show(&json!({"removed": name}), |_| format!("removed the tenant {name}"))
        }
    }
}

fn confirm(name: &TenantName) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("this removes all that the tenant {name} has; say --yes if that is meant");
    }
    eprintln!("This removes all that the tenant {name} has. Type its name to go on:");
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("standard input cannot be read")?;
    match line.trim() == name.as_str() {
        true => Ok(()),
        false => bail!("that is another name; nothing was removed"),
    }
}

fn shown(tenant: &TenantInfo) -> String {
    let set = &tenant.settings;
    format!(
        "{}\nmade    {}\nhosts   {}\nquotas  {}\nnote    {}\n",
        tenant.name,
        tenant.made_at,
        or_none(set.hosts.join(", ")),
        quotas(set),
        or_none(set.note.clone()),
    )
}

fn quotas(settings: &TenantSettings) -> String {
    let all = settings.quotas.iter().map(|(name, value)| format!("{name}={value}"));
    let all = all.collect::<Vec<_>>().join(" ");
    if all.is_empty() { "defaults".to_owned() } else { all }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let before = TenantSettings {
            hosts: vec!["a.example".into()],
            quotas: BTreeMap::from([("resources".to_owned(), json!(1)), ("policies".to_owned(), json!(2))]),
            note: "n".into(),
        };
        let none = Settings { hosts: Vec::new(), quotas: vec![quota("resources=5").unwrap()], note: None };
        let after = none.over(before);
        assert_eq!(
            after.quotas,
            BTreeMap::from([("resources".to_owned(), json!(5)), ("policies".to_owned(), json!(2))])
        );
        assert_eq!((after.hosts, after.note), (vec!["a.example".to_owned()], "n".to_owned()));
        assert!(quota("resources").is_err() && quota("resources=many").is_err());
    }
}
