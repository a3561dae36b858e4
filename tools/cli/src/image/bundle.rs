//! `coffer image verify --bundle`: who signed an image, by a certificate for a moment and a public log.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use coffer_tools_images::{Source, resolve};
use coffer_verify_sigstore::{
    Bundle, Expected, Identity, MAX_BUNDLE, MAX_TRUST_ROOT, SigstoreError, TrustRoot,
};
use jiff::Timestamp;
use serde_json::json;

use crate::{Context, block_on};

pub(super) const HELP: &str = "\
Places are written as skopeo writes them: docker://registry/repository:tag, oci:FOLDER:TAG, docker-archive:FILE.

A bundle (*.sigstore.json) is verified without a network: the certificate's chain and its log's promise, the transparency
log's proof and signature, and the signature over the image's digest or over a statement about it. The trust root is
sigstore's trusted_root.json; get it once, from somewhere that you trust.";

/// A bundle, and what it must show.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A sigstore bundle (version 0.3) over the image.
    #[arg(long, value_name = "FILE", conflicts_with = "key", requires_all = ["trust_root", "identity", "issuer"])]
    bundle: Option<PathBuf>,
    /// Whom to trust: trusted_root.json.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    trust_root: Option<PathBuf>,
    /// Who must have signed: the certificate's e-mail address or URI, exactly.
    #[arg(long, value_name = "SUBJECT", requires = "bundle")]
    identity: Option<String>,
    /// Who must have vouched for the signer: the certificate's issuer, exactly, as in https://accounts.example.
    #[arg(long, value_name = "URL", requires = "bundle")]
    issuer: Option<String>,
    /// What a statement in the bundle must say of the image: its predicate's type. Others, such as scan results, are no
    /// signatures of it.
    #[arg(long, value_name = "TYPE", default_value = "https://sigstore.dev/cosign/sign/v1")]
    predicate_type: String,
}

pub(super) fn verify(context: &Context, from: &Source, options: &Options) -> Result<()> {
    let (Some(bundle), Some(root), Some(subject), Some(issuer)) =
        (&options.bundle, &options.trust_root, &options.identity, &options.issuer)
    else {
        bail!("--bundle needs --trust-root, --identity and --issuer");
    };
    let coded = |error: SigstoreError| anyhow!("{error} ({})", error.code());
    let parsed = Bundle::parse(&read(bundle, MAX_BUNDLE)?).map_err(coded);
    let parsed = parsed.with_context(|| bundle.display().to_string())?;
    let trusted = TrustRoot::parse(&read(root, MAX_TRUST_ROOT)?).map_err(coded);
    let trusted = trusted.with_context(|| root.display().to_string())?;
    let digest = block_on(async { Ok(resolve(from).await?) })?.digest;
    let identity = Identity { issuer: issuer.clone(), subject: subject.clone() };
    let expected = Expected { artifact: &digest, identity: &identity };
    let signed = parsed.verify(&trusted, &expected).map_err(coded)?;
    let at = Timestamp::from_second(signed.integrated_time())?;
    let statement = signed.statement().map(|statement| statement.predicate_type().to_owned());
    if let Some(found) = statement.as_ref().filter(|found| **found != options.predicate_type) {
        bail!(
            "the bundle holds a statement of {found:?} about the image, not of {:?}",
            options.predicate_type
        );
    }
    let told = json!({"verified": digest, "identity": subject, "issuer": issuer, "logged": signed.integrated_time(),
        "log-index": signed.log_index(), "statement": statement});
    context.output.show(&told, |_| {
        let what = statement.map(|kind| format!(", in a statement of {kind}")).unwrap_or_default();
        format!(
            "verified: {digest}\nsigned by {subject} of {issuer}, logged {at} as {}{what}",
            signed.log_index()
        )
    })
}

/// A file that is not longer than what is read of its kind.
fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let shown = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(shown)?;
    if file.take(most as u64 + 1).read_to_end(&mut bytes).with_context(shown)? > most {
        bail!("{} is longer than {most} bytes", path.display());
    }
    Ok(bytes)
}
