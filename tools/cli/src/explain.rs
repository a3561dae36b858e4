//! `coffer explain`: the verdict tree of an attestation, as the broker decided by it, or of evidence in a file, as
//! the same code judges it here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use coffer_core_admin::{Attempt, AttemptSummary, Cause};
use coffer_tools_client::AdminClient;
use coffer_verify_api::Verdict;
use serde_json::json;

use crate::judge::{self, Judging};
use crate::output::{Detail, Output, table};
use crate::{Context, block_on};

/// Which attestation.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// An attempt that the broker knows, by the beginning of its name (the last one if none is named), or a file
    /// with evidence: a client's request, a TEE's wire form, or a quote or report as the device gave it.
    #[arg(value_name = "ATTEMPT|FILE")]
    what: Option<String>,
    /// Show every check, also those deep inside something that passed.
    #[arg(long)]
    all: bool,
    /// List the last attestations instead.
    #[arg(long, conflicts_with = "what")]
    list: bool,
    /// Save the evidence of the attempt, as the broker kept it, for `coffer explain FILE` and `coffer policy replay`;
    /// with --list, that of every attempt that is listed, into a folder.
    #[arg(long, value_name = "PATH")]
    save: Option<PathBuf>,
    #[command(flatten)]
    judging: Judging,
}

const AFTER_HELP: &str = "\
Evidence in a file is judged here, without a broker and, if its collateral was imported, without a network:

  coffer explain quote.bin --expect guest.json --at 2026-03-01T00:00:00Z
  coffer explain report.bin --certificate vlek.der                an SNP report whose cloud gave a VLEK
  coffer explain quote.bin --collateral bundle.tar --offline      nothing is fetched
  coffer explain --tee nvidia report.txt --certificate chain.pem  one GPU

Without --expect or --policy, evidence is only found genuine or not: it is compared with nothing, and so refused.

Exit codes for a file: 0 affirming or warning, 120 refused, 121 could not be judged (collateral is missing).";

pub(crate) fn run(context: &Context, options: &Options) -> Result<ExitCode> {
    let detail = if options.all { Detail::All } else { Detail::Usual };
    if let Some(file) = options.what.as_deref().map(Path::new).filter(|path| path.is_file()) {
        return judge::explain(context, file, &options.judging, detail);
    }
    if let Some(path) = options.what.as_deref().filter(|what| Path::new(what).is_dir()) {
        bail!(
            "{path} is a folder; name one file in it, or try a policy on all of them with `coffer policy replay`"
        );
    }
    // The name of an attempt has no slash and no dot.
    if let Some(path) = options.what.as_deref().filter(|what| what.contains(['/', '.'])) {
        bail!("{path}: there is no such file");
    }
    options.judging.only_for_files()?;
    let admin = context.home.broker_access(&context.broker)?.admin()?;
    let attempts = block_on(async { Ok(admin.attempts().await?) })?;
    if let (true, Some(folder)) = (options.list, &options.save) {
        return save_all(context, &admin, &attempts, folder);
    }
    if options.list {
        context.output.show(&attempts, |attempts| {
            let row = |a: &coffer_core_admin::AttemptSummary| {
                let code = a.code.clone().unwrap_or_else(|| "-".into());
                vec![a.id.clone(), a.at.clone(), a.tee.clone(), a.status.clone(), code]
            };
            table(&["ATTEMPT", "AT", "TEE", "STATUS", "CAUSE"], &attempts.iter().map(row).collect::<Vec<_>>())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let beginning = options.what.as_deref().unwrap_or_default();
    let Some(chosen) = attempts.iter().find(|attempt| attempt.id.starts_with(beginning)) else {
        bail!(
            "{beginning:?} is neither a file nor an attestation that the broker knows; `coffer explain --list` shows \
             those that it knows"
        );
    };
    if let Some(file) = &options.save {
        let kept = block_on(async { Ok(admin.attempt_evidence(&chosen.id).await?) })?;
        std::fs::write(file, serde_json::to_vec_pretty(&kept)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        context.output.show(&json!({"attempt": kept.attempt, "saved": file}), |_| {
            format!("saved the evidence of {} to {}", kept.attempt, file.display())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let attempt = block_on(async { Ok(admin.attempt(&chosen.id).await?) })?;
    let verdict: Option<Verdict> = serde_json::from_value(attempt.verdict.clone()).ok();
    context.output.show(&attempt, |attempt| text(context.output, attempt, verdict.as_ref(), detail))?;
    Ok(ExitCode::SUCCESS)
}

fn save_all(
    context: &Context,
    admin: &AdminClient,
    attempts: &[AttemptSummary],
    folder: &Path,
) -> Result<ExitCode> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut saved = Vec::new();
    for attempt in attempts {
        // Not every attempt has its evidence kept; those that have are what there is to replay.
        match block_on(async { Ok(admin.attempt_evidence(&attempt.id).await?) }) {
            Ok(kept) => {
                let file = folder.join(format!("{}.json", attempt.id));
                std::fs::write(&file, serde_json::to_vec_pretty(&kept)?)
                    .with_context(|| format!("{} cannot be written", file.display()))?;
                saved.push(attempt.id.clone());
            }
            Err(error) => eprintln!("{}: {error:#}", attempt.id),
        }
    }
    context.output.show(&saved, |saved| format!("saved the evidence of {} attempts", saved.len()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(output: Output, attempt: &Attempt, verdict: Option<&Verdict>, detail: Detail) -> String {
    let mut text = format!("attempt {} at {}\n", attempt.summary.id, attempt.summary.at);
    match verdict {
        Some(verdict) => text.push_str(&output.verdict(verdict, detail)),
        None => attempt.causes.iter().for_each(|cause| text.push_str(&cause_text(output, cause))),
    }
    for decision in &attempt.decisions {
        text.push_str(&format!("{} kbs:///{}: {}\n", decision.at, decision.resource, decision.outcome));
        decision.causes.iter().for_each(|cause| text.push_str(&cause_text(output, cause)));
    }
    text
}

/// One cause with what was expected, what was found and what to do.
pub(crate) fn cause_text(output: Output, cause: &Cause) -> String {
    let mut text = format!("  {} {}  [{}]\n", output.paint("31", "✗"), cause.title, cause.code);
    for (name, value) in [("expected", &cause.expected), ("found", &cause.found), ("remedy", &cause.remedy)] {
        if let Some(value) = value {
            text.push_str(&format!("      {name:<9}{value}\n"));
        }
    }
    text
}

/// What failed in an attempt, for `coffer run`; empty if the verdict was good.
pub(crate) fn failures_of(context: &Context, attempt: &str) -> Result<String> {
    let admin = context.home.broker_access(&context.broker)?.admin()?;
    let attempt = block_on(async { Ok(admin.attempt(attempt).await?) })?;
    let verdict: Verdict =
        serde_json::from_value(attempt.verdict).context("the broker's verdict is not understood")?;
    let failed = verdict.checks.iter().any(coffer_verify_api::Check::has_failed);
    Ok(if failed { context.output.verdict(&verdict, Detail::Failed) } else { String::new() })
}
