//! `coffer policy`: who may have resources, what evidence is worth, and which platforms will do.

mod platform;
mod replay;
mod scope;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coffer_core_admin::PolicyBody;
use coffer_core_policy::lint::{self, Finding, Severity};
use serde_json::json;

use crate::output::{Output, table};
use crate::{Context, block_on};

/// The broker's name of the policy that decides about resources.
const RESOURCE: &str = "resource";

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Put a policy in force: a Rego file of yours, or one that is built in.
    ///
    /// A resource policy is `package policy` with a set `deny` of reasons (allowed means that it is empty), or with
    /// `allow` as in Trustee. `default` asks for hardware evidence that was appraised as affirming;
    /// `insecure-lab` also accepts software evidence, which protects nothing from its host.
    ///
    /// An appraisal policy (--for cpu, gpu, switch) is Trustee's: it makes the trustworthiness vector, and asks for
    /// reference values by name, which `coffer ref value set` puts. Check it first with `coffer policy check`.
    #[command(after_long_help = scope::HELP)]
    Set {
        /// A Rego file.
        #[arg(required_unless_present = "preset", conflicts_with = "preset")]
        file: Option<PathBuf>,
        /// A built-in resource policy: `default` or `insecure-lab`.
        #[arg(long)]
        preset: Option<String>,
        #[command(flatten)]
        kind: Which,
        #[command(flatten)]
        scope: scope::Scope,
    },
    /// Show the policy in force, or an earlier version of an appraisal policy.
    Show {
        #[command(flatten)]
        kind: Which,
        /// An earlier version, as `coffer policy list` counts them.
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Which resource policy, where there are several.
        #[arg(long, value_name = "NAME", default_value = RESOURCE)]
        name: String,
    },
    /// List the policies with what they decide about, and the versions of appraisal policies.
    List,
    /// Remove a policy. Without an appraisal policy evidence is compared with reference values; what a resource policy
    /// decided about is decided by the one for everything else.
    Rm {
        /// Which appraisal policy.
        #[arg(long = "for", value_enum, value_name = "KIND", required_unless_present = "name")]
        kind: Option<Kind>,
        /// Which resource policy.
        #[arg(long, value_name = "NAME", conflicts_with = "kind")]
        name: Option<String>,
    },
    /// Say what is wrong with a policy before it is in force: syntax, claims that no TEE has, rules that can never
    /// hold, and whether it lets debuggable guests through.
    Check {
        /// A Rego file.
        file: PathBuf,
        #[command(flatten)]
        kind: Which,
    },
    /// Try a changed policy on recorded evidence: what would be newly accepted, and what newly refused.
    Replay(Box<replay::Options>),
    /// Say which platforms are acceptable: patch level, debug, chips.
    #[command(subcommand)]
    Platform(platform::Command),
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Who may have resources.
    Resource,
    /// What the evidence of machines is worth.
    Cpu,
    /// What the evidence of GPUs is worth.
    Gpu,
    /// What the evidence of switches is worth.
    Switch,
}

/// What a policy is for.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Which {
    /// What the policy is for.
    #[arg(long = "for", value_enum, value_name = "KIND", default_value = "resource")]
    pub(crate) kind: Kind,
}

impl Kind {
    /// The broker's name for an appraisal policy; none for the resource policy.
    const fn appraisal(self) -> Option<&'static str> {
        match self {
            Self::Resource => None,
            Self::Cpu => Some("default_cpu"),
            Self::Gpu => Some("default_gpu"),
            Self::Switch => Some("default_switch"),
        }
    }

    pub(crate) const fn checked_as(self) -> lint::Kind {
        match self {
            Self::Resource => lint::Kind::Resource,
            _ => lint::Kind::Appraisal,
        }
    }
}

pub(crate) fn run(context: &Context, command: Command) -> Result<()> {
    let admin = || context.home.broker_access(&context.broker)?.admin();
    match command {
        Command::Check { file, kind } => check(context.output, &file, kind.kind),
        Command::Replay(options) => replay::run(context, &options),
        Command::Platform(command) => platform::run(context, command),
        Command::Set { file, preset, kind, scope } => {
            scope::set(context, file.as_deref(), preset, kind, scope)
        }
        Command::Show { kind, version, name } => match kind.kind.appraisal() {
            None if version.is_some() => {
                bail!("versions are kept of appraisal policies (--for cpu, gpu or switch)")
            }
            None => {
                let admin = admin()?;
                let policy = block_on(async { Ok(admin.policy(&name).await?) })?;
                context.output.show(&policy, |policy| {
                    let preset = policy.preset.as_ref().map(|name| format!("# the preset {name}\n"));
                    let of = match policy.paths.is_empty() && policy.tees.is_empty() {
                        true => String::new(),
                        false => format!("# decides about {}\n", scope::about(policy)),
                    };
                    format!("{of}{}{}", preset.unwrap_or_default(), policy.rego.clone().unwrap_or_default())
                })
            }
            Some(name) => {
                let admin = admin()?;
                let policy = block_on(async { Ok(admin.attestation_policy(name, version).await?) })?;
                context.output.show(&policy, |policy| {
                    format!(
                        "# {} version {}, put {}\n{}",
                        policy.name, policy.version.version, policy.version.at, policy.rego
                    )
                })
            }
        },
        Command::List => {
            let admin = admin()?;
            let (resource, list) = block_on(async {
                let mut resource = BTreeMap::new();
                for name in admin.list_policies().await?.policies {
                    let body = admin.policy(&name).await?;
                    resource.insert(name, body);
                }
                Ok((resource, admin.list_attestation_policies().await?))
            })?;
            let row = |(name, body): (&String, &PolicyBody)| {
                let which =
                    body.preset.as_ref().map_or_else(|| "yours".into(), |preset| format!("preset {preset}"));
                vec![name.clone(), "in force".to_owned(), scope::about(body), which, "-".to_owned()]
            };
            let mut rows: Vec<_> = resource.iter().map(row).collect();
            for policy in &list {
                for version in &policy.versions {
                    let current = policy.in_force && policy.current == Some(version.version);
                    rows.push(vec![
                        policy.name.clone(),
                        if current { "in force" } else { "kept" }.to_owned(),
                        "evidence".to_owned(),
                        format!("version {}", version.version),
                        version.at.clone(),
                    ]);
                }
            }
            let own = resource.get(RESOURCE);
            let all = json!({"resource": own, "policies": resource, "attestation_policies": list});
            context.output.show(&all, |_| table(&["POLICY", "STATE", "ABOUT", "WHICH", "SINCE"], &rows))
        }
        Command::Rm { kind, name } => scope::remove(context, kind, name),
    }
}

pub(crate) fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn check(output: Output, file: &Path, kind: Kind) -> Result<()> {
    let report = lint::check(kind.checked_as(), &text(file)?);
    output.show(&report, |report| {
        let mut lines: String = report.findings.iter().map(|finding| line(output, file, finding)).collect();
        if report.findings.is_empty() {
            lines.push_str(&format!("{}: nothing found\n", file.display()));
        }
        if !report.asks_for.is_empty() {
            let names: Vec<&str> = report.asks_for.iter().map(String::as_str).collect();
            lines.push_str(&format!("asks for the reference values {}\n", names.join(", ")));
        }
        lines
    })?;
    if !report.is_usable() {
        bail!("{} cannot be put in force", file.display());
    }
    Ok(())
}

fn line(output: Output, file: &Path, finding: &Finding) -> String {
    let place = finding
        .line
        .map(|line| format!("{}:{line}", file.display()))
        .unwrap_or_else(|| file.display().to_string());
    let (colour, word) = match finding.severity {
        Severity::Error => ("31", "error"),
        Severity::Warning => ("33", "warning"),
        Severity::Note => ("36", "note"),
    };
    let remedy = finding.remedy.as_ref().map(|remedy| format!("    {remedy}\n")).unwrap_or_default();
    format!("{place}: {}: {}  [{}]\n{remedy}", output.paint(colour, word), finding.message, finding.code)
}
