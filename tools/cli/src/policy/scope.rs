//! Which resources and TEEs a resource policy decides about.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use coffer_core_admin::PolicyBody;
use serde_json::json;

use super::{Kind, RESOURCE, Which, text};
use crate::{Context, block_on};

pub(super) const HELP: &str = "\
Several resource policies, each for its part. All that name a request must allow it; what none names is decided by the
one without --name:

  coffer policy set --name payments --path 'payments/**' payments.rego
  coffer policy set --name images --path 'default/image-key/*' --tee snp --tee tdx images.rego
  coffer policy set everything-else.rego
  coffer policy list";

/// What a resource policy decides about.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Scope {
    /// A name for a policy that decides about a part of the resources only.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which resources: repository/type/tag with `*` for one part and `**` at the end for the rest. Repeatable.
    #[arg(long = "path", value_name = "PATTERN", requires = "name")]
    paths: Vec<String>,
    /// The guests of which TEE, as in snp. Repeatable; all if none is named.
    #[arg(long = "tee", value_name = "TEE", requires = "name")]
    tees: Vec<String>,
}

/// Puts a policy in force.
pub(super) fn set(
    context: &Context,
    file: Option<&Path>,
    preset: Option<String>,
    kind: Which,
    scope: Scope,
) -> Result<()> {
    let from = match (file, &preset) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(preset)) => format!("the preset {preset}"),
        (None, None) => bail!("name either a file or a preset"),
    };
    let of = match kind.kind.appraisal() {
        Some(name) => {
            let Some(file) = file else {
                bail!("presets are resource policies; without an appraisal policy, reference values decide")
            };
            ensure!(
                scope.name.is_none(),
                "an appraisal policy (--for) judges all evidence of its kind; --name is of resource policies"
            );
            let rego = text(file)?;
            let admin = context.admin()?;
            block_on(async { Ok(admin.put_attestation_policy(name, &rego).await?) })?;
            name.to_owned()
        }
        None => {
            let Scope { name, paths, tees } = scope;
            let of = name.unwrap_or_else(|| RESOURCE.to_owned());
            let whole = match (file, preset) {
                (Some(file), _) => PolicyBody::text(text(file)?),
                (None, preset) => PolicyBody::built_in(preset.unwrap_or_default()),
            };
            let body = PolicyBody { paths, tees, ..whole };
            let admin = context.admin()?;
            block_on(async { Ok(admin.put_policy_body(&of, &body).await?) })?;
            of
        }
    };
    context.output.show(&json!({"policy": of, "from": from}), |_| match of == RESOURCE {
        true => format!("in force: {from}"),
        false => format!("in force as {of}: {from}"),
    })
}

/// Takes a policy out of force.
pub(super) fn remove(context: &Context, kind: Option<Kind>, name: Option<String>) -> Result<()> {
    let (removed, then) = match (kind.and_then(Kind::appraisal), name) {
        (Some(name), None) => {
            let admin = context.admin()?;
            block_on(async { Ok(admin.remove_attestation_policy(name).await?) })?;
            (name.to_owned(), "reference values decide")
        }
        (None, Some(name)) if name != RESOURCE => {
            let admin = context.admin()?;
            block_on(async { Ok(admin.remove_policy(&name).await?) })?;
            (name, "the policy for everything else decides")
        }
        _ => bail!(
            "there is always a resource policy; `coffer policy set --preset default` puts the built-in one"
        ),
    };
    context.output.show(&json!({"removed": removed}), |_| format!("removed {removed}; {then}"))
}

/// What it decides about, in words.
pub(super) fn about(body: &PolicyBody) -> String {
    let paths = if body.paths.is_empty() { "everything".to_owned() } else { body.paths.join(" ") };
    match body.tees.is_empty() {
        true if body.paths.is_empty() => "everything else".to_owned(),
        true => paths,
        false => format!("{paths} for {}", body.tees.join(" ")),
    }
}
