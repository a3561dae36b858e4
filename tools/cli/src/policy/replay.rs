//! `coffer policy replay`: a changed policy on recorded evidence, before it is in force.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use coffer_core_policy::{AppraisalPolicy, Policy};
use coffer_verify_api::Judgement;
use coffer_verify_replay::{Attempt, Change, Replay, Resources, Rules, replay};

use super::{Kind, RESOURCE, Which, text};
use crate::judge::{Examined, Judging, OwnStandards, examine};
use crate::output::Output;
use crate::source::Source;
use crate::{Context, block_on};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A folder of recorded evidence: what `coffer explain --list --save DIR` saves, or any evidence that
    /// `coffer explain FILE` reads.
    folder: PathBuf,
    /// The changed policy (Rego).
    #[arg(long, value_name = "FILE")]
    new: PathBuf,
    /// The policy to compare with [default: the broker's resource policy; for appraisals, reference values alone].
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    kind: Which,
    /// A resource that is asked for; may be given more than once.
    #[arg(long, value_name = "REPOSITORY/TYPE/TAG", default_value = "default/key/1")]
    path: Vec<String>,
    #[command(flatten)]
    judging: Judging,
}

pub(crate) fn run(context: &Context, options: &Options) -> Result<()> {
    let by = &options.judging;
    let mut source = Source::open(context, by.offline, &by.collateral)?;
    let mut examined = Vec::new();
    for file in files(&options.folder)? {
        match examine(&file, by, &mut source) {
            Ok(found) => examined.push((name(&file), found)),
            Err(error) => eprintln!("left out: {error:#}"),
        }
    }
    let attempts = attempts(&examined);
    if attempts.is_empty() {
        bail!(
            "no file in {} holds evidence that is genuine now; try --at or --collateral",
            options.folder.display()
        );
    }
    let standards = OwnStandards::read(by)?;
    let outcome = match options.kind.kind {
        Kind::Resource => resources(context, options, &standards, &attempts)?,
        _ => appraisals(options, &standards, &attempts)?,
    };
    context.output.show(&outcome, |outcome| shown(context.output, outcome, attempts.len()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{} cannot be read", folder.display()))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// What is genuine. A policy has no say about the rest, which is told to the person.
fn attempts(examined: &[(String, Examined)]) -> Vec<Attempt<'_>> {
    let mut attempts = Vec::new();
    for (name, found) in examined {
        for part in &found.parts {
            let id = format!("{name} {}", part.submodule);
            match &part.judgement {
                Ok(Judgement::Verified(verified)) => {
                    attempts.push(Attempt { id, verified, sent: found.sent(), at: found.at });
                }
                Ok(Judgement::Rejected(checks)) => {
                    let causes = checks.iter().flat_map(coffer_verify_api::Check::causes);
                    let codes: Vec<&str> = causes.map(|cause| cause.code.as_str()).collect();
                    eprintln!("left out: {id} is refused whatever a policy says: {}", codes.join(", "));
                }
                Err(keys) => {
                    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                    eprintln!("left out: {id} cannot be judged without {}", keys.join(", "));
                }
            }
        }
    }
    attempts
}

fn resources(
    context: &Context,
    options: &Options,
    standards: &OwnStandards,
    attempts: &[Attempt<'_>],
) -> Result<Replay> {
    let new = Policy::compile(&text(&options.new)?)?;
    let old = match &options.against {
        Some(file) => text(file)?,
        None => {
            let admin =
                context.home.broker_access(&context.broker).context("name the old policy with --against")?;
            let admin = admin.admin()?;
            let policy = block_on(async { Ok(admin.policy(RESOURCE).await?) })?;
            policy.rego.context("the broker did not say its policy; name the old one with --against")?
        }
    };
    let old = Policy::compile(&old)?;
    Ok(standards.with(|standards| {
        let rules = |policy| Rules {
            standards: *standards,
            resources: Some(Resources { policy, paths: &options.path }),
        };
        replay(&rules(&old), &rules(&new), attempts)
    }))
}

fn appraisals(options: &Options, standards: &OwnStandards, attempts: &[Attempt<'_>]) -> Result<Replay> {
    let new = AppraisalPolicy::compile(&text(&options.new)?)?;
    let old =
        options.against.as_ref().map(|file| Ok::<_, anyhow::Error>(AppraisalPolicy::compile(&text(file)?)?));
    let old = old.transpose()?;
    let (old, new) = (standards.but(old), standards.but(Some(new)));
    Ok(old.with(|old| {
        new.with(|new| {
            let rules = |standards| Rules { standards, resources: None };
            replay(&rules(*old), &rules(*new), attempts)
        })
    }))
}

fn shown(output: Output, outcome: &Replay, attempts: usize) -> String {
    let mut text = String::new();
    let groups = [
        ("newly accepted", "32", &outcome.newly_accepted),
        ("newly refused", "31", &outcome.newly_refused),
        ("changed otherwise", "33", &outcome.otherwise_changed),
    ];
    for (title, colour, changes) in groups {
        if !changes.is_empty() {
            text.push_str(&format!("{}\n", output.paint(colour, title)));
        }
        changes.iter().for_each(|change| text.push_str(&line(change)));
    }
    text.push_str(&format!(
        "of {attempts} attempts: {} newly accepted, {} newly refused, {} changed otherwise, {} unchanged\n",
        outcome.newly_accepted.len(),
        outcome.newly_refused.len(),
        outcome.otherwise_changed.len(),
        outcome.unchanged
    ));
    text
}

fn line(change: &Change) -> String {
    let mut text = format!("  {}\n", change.attempt);
    for (when, decided) in [("before", &change.before), ("after", &change.after)] {
        let said = match (decided.accepted, decided.opens.as_slice()) {
            (true, []) => "accepted".to_owned(),
            (true, opens) => format!("gets {}", opens.join(", ")),
            (false, _) => {
                let codes: Vec<&str> = decided.causes.iter().map(|cause| cause.code.as_str()).collect();
                format!("refused: {}", codes.join(", "))
            }
        };
        text.push_str(&format!("    {when:<7}{said}\n"));
    }
    text
}
