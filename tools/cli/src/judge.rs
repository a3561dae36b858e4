//! Evidence in a file, judged here by the judges of the broker: same code, same verdict (I-8).
//!
//! A file does not say which challenge it answers. Where the caller does not either, the evidence's own binding is
//! taken for it, and the verdict says that freshness could not be checked. Nothing is released on such a verdict.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ar4si::Appraiser;
use coffer_core_evidence::{ReportData, Tee};
use coffer_core_initdata::InitData;
use coffer_core_launch::ReferenceValues;
use coffer_core_policy::{AppraisalPolicy, NamedValues};
use coffer_core_protocol::ear::CPU;
use coffer_core_protocol::handshake::{DEFAULT_HASH, recorded_report_data};
use coffer_core_protocol::wire::RuntimeData;
use coffer_server_collateral::Hints;
use coffer_server_http::{JudgeOptions, JudgeSet, Revocation, Trust, all_judges};
use coffer_verify_api::{
    Check, CollateralKey, Fault, Judgement, Outcome, Question, Status, Timestamp, Verdict, Verifier,
};
use coffer_verify_appraisal::{PlatformPolicy, Sent, Standards, appraise, rejected, unavailable};
use coffer_verify_dcap::Dcap;
use coffer_verify_nitro::NitroJudge;
use coffer_verify_sgx::SgxJudge;
use coffer_verify_snp::{Root, Roots, SnpJudge};
use coffer_verify_tdx::TdxJudge;
use coffer_verify_tpm::TrustAnchor;
use coffer_verify_x509::{Certificate, pem_certificates};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Context;
use crate::output::Detail;
use crate::recorded::Recorded;
use crate::source::Source;

/// The exit code of a refusal, as that of `coffer run`.
const REFUSED: u8 = 120;
/// The exit code where nothing could be judged.
const UNAVAILABLE: u8 = 121;

/// By what evidence in a file is judged.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Evidence in a file")]
pub(crate) struct Judging {
    /// Reference values that `coffer measure` wrote; may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: Vec<PathBuf>,
    /// The TEE, where the file does not show it: tdx, sgx, snp, az-snp-vtpm, az-tdx-vtpm, tpm, nitro, cca, csv.
    #[arg(long, value_name = "NAME", value_parser = tee)]
    pub(crate) tee: Option<Tee>,
    /// Judge as of this time (RFC 3339) [default: now].
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// What the evidence must be bound to, in hexadecimal: the hash over nonce and key.
    #[arg(long, value_name = "HEX")]
    pub(crate) report_data: Option<String>,
    /// The init-data that the guest was given.
    #[arg(long, value_name = "FILE")]
    pub(crate) init_data: Option<PathBuf>,
    /// A TDX guest's event log (CCEL), for a quote that comes without it.
    #[arg(long, value_name = "FILE")]
    pub(crate) event_log: Option<PathBuf>,
    /// Certificates that lie beside the evidence: an SNP report's VCEK or VLEK (DER or PEM), or with --tee nvidia the
    /// chain of the device (PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Vec<PathBuf>,
    /// What platforms are acceptable (TOML), as in `coffer policy platform` [default: the strict default].
    #[arg(long, value_name = "FILE")]
    pub(crate) platform_policy: Option<PathBuf>,
    /// An appraisal policy (Rego), in place of the comparison with reference values.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Named reference values for it: a JSON object from name to value or list.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) values: Option<PathBuf>,
    /// A root to believe besides those that are built in, in PEM; for cca the platforms' keys as JSON, for snp a
    /// product's ARK with the ASK or ASVK that it signed.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Vec<PathBuf>,
    /// Judge only with the vendor's word on revoked keys (AMD's lists, NVIDIA's OCSP), not just where it is at hand.
    #[arg(long)]
    pub(crate) require_revocation: bool,
    /// Ask the network for nothing: take collateral from the cache and from --collateral only.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Collateral in files: a folder or bundle that `coffer collateral import` reads.
    #[arg(long, value_name = "PATH")]
    pub(crate) collateral: Vec<PathBuf>,
}

fn tee(name: &str) -> Result<Tee, String> {
    serde_json::from_value(Value::String(name.to_owned())).map_err(|_| "no TEE has this name".to_owned())
}

impl Judging {
    /// Options that say by what a file is judged mean nothing for an attempt, which the broker has judged.
    pub(crate) fn only_for_files(&self) -> Result<()> {
        let given = !self.expect.is_empty()
            || !self.root.is_empty()
            || !self.collateral.is_empty()
            || !self.certificate.is_empty()
            || self.offline
            || self.at.is_some()
            || [&self.init_data, &self.event_log, &self.platform_policy, &self.policy]
                .iter()
                .any(|o| o.is_some())
            || self.report_data.is_some()
            || self.tee.is_some();
        if given {
            bail!("these options are for evidence in a file; an attempt was judged by the broker already");
        }
        Ok(())
    }

    fn init_data(&self, recorded: &Recorded) -> Result<Option<InitData>> {
        let text = match (&self.init_data, &recorded.init_data) {
            (Some(file), _) => Some(read(file)?),
            (None, sent) => sent.clone().map(String::into_bytes),
        };
        let text = text
            .map(|text| InitData::parse(&text).context("the init-data is not in the form of the protocol"));
        text.transpose()
    }

    /// What the evidence must be bound to, if the file or the caller says it.
    fn report_data(&self, recorded: &Recorded, additional: Option<&str>) -> Result<Option<ReportData>> {
        if let Some(text) = &self.report_data {
            return Ok(Some(
                bound_to(&hex::decode(text).context("--report-data is no hexadecimal")?)
                    .context("--report-data must have 32, 48 or 64 bytes")?,
            ));
        }
        let Some(runtime) = &recorded.runtime_data else { return Ok(None) };
        let runtime: RuntimeData = serde_json::from_value(runtime.clone())
            .context("the runtime data is not in the form of the protocol")?;
        Ok(Some(recorded_report_data(DEFAULT_HASH, &runtime, additional)?))
    }
}

/// The hash with these bytes.
fn bound_to(bytes: &[u8]) -> Option<ReportData> {
    let algorithm = match bytes.len() {
        32 => Algorithm::Sha256,
        48 => Algorithm::Sha384,
        64 => Algorithm::Sha512,
        _ => return None,
    };
    Digest::from_bytes(algorithm, bytes).ok().map(ReportData::from_runtime_hash)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// Judges the evidence in a file and shows the verdict.
pub(crate) fn explain(context: &Context, file: &Path, by: &Judging, detail: Detail) -> Result<ExitCode> {
    let mut source = Source::open(context, by.offline, &by.collateral)?;
    let standards = OwnStandards::read(by)?;
    let examined = examine(file, by, &mut source)?;
    let parts: Vec<Part> = examined.parts.iter().map(|part| examined.appraised(part, &standards)).collect();
    context.output.show(&parts, |parts| {
        let one =
            |part: &Part| format!("{}: {}", part.submodule, context.output.verdict(&part.verdict, detail));
        parts.iter().map(one).collect()
    })?;
    let statuses: Vec<Status> = parts.iter().map(|part| part.verdict.status).collect();
    Ok(if statuses.contains(&Status::Contraindicated) {
        ExitCode::from(REFUSED)
    } else if statuses.contains(&Status::None) {
        ExitCode::from(UNAVAILABLE)
    } else {
        ExitCode::SUCCESS
    })
}

/// The verdict on the machine or on one device.
#[derive(Serialize)]
struct Part {
    /// Its name in an attestation result: `cpu0`, `gpu1`.
    submodule: String,
    #[serde(flatten)]
    verdict: Verdict,
}

/// What the judges said of a file.
pub(crate) struct Examined {
    recorded: Recorded,
    init_data: Option<InitData>,
    runtime_claims: Value,
    pub(crate) at: Timestamp,
    pub(crate) parts: Vec<Told>,
}

/// What a judge said of the machine or of one device.
pub(crate) struct Told {
    pub(crate) submodule: String,
    pub(crate) judgement: Result<Judgement, Vec<CollateralKey>>,
    /// Whether it was asked about the challenge that the evidence answers.
    fresh: bool,
}

impl Examined {
    /// What came beside the evidence.
    pub(crate) const fn sent(&self) -> Sent<'_> {
        Sent { init_data: self.init_data.as_ref(), runtime_claims: &self.runtime_claims }
    }

    fn appraised(&self, told: &Told, standards: &OwnStandards) -> Part {
        let tee = self.recorded.tee;
        let mut verdict = match &told.judgement {
            Err(missing) => unavailable(tee, missing),
            Ok(Judgement::Rejected(checks)) => rejected(tee, checks.clone()),
            Ok(Judgement::Verified(verified)) => {
                standards.with(|standards| appraise(verified, standards, &self.sent(), self.at))
            }
        };
        if !told.fresh {
            verdict.checks.iter_mut().for_each(not_fresh);
        }
        if standards.references.is_empty() {
            verdict.checks.iter_mut().for_each(|check| compared_with_nothing(check, tee));
        }
        Part { submodule: told.submodule.clone(), verdict }
    }
}

/// Reads a file and has its parts judged.
pub(crate) fn examine(file: &Path, by: &Judging, source: &mut Source) -> Result<Examined> {
    let recorded = Recorded::read(file, by.tee)?
        .with_event_log(by.event_log.as_deref())?
        .with_certificates(&by.certificate)?;
    let judges = judges(recorded.tee, by)?;
    let init_data = by.init_data(&recorded)?;
    let digest = init_data.as_ref().map(InitData::digest);
    let at = by.at.or(recorded.at).unwrap_or_else(Timestamp::now);
    let case = Case { init_data: digest.as_ref(), at };
    let mut parts = Vec::new();
    let mut devices = serde_json::from_str::<Map<String, Value>>(&recorded.additional).unwrap_or_default();
    if recorded.tee == Tee::Nvidia {
        devices.insert(Tee::Nvidia.name().to_owned(), recorded.primary.clone());
    } else {
        let Some(judge) = judges.machines.iter().find(|judge| judge.tee() == recorded.tee) else {
            bail!("there is no judge for {} evidence", recorded.tee);
        };
        let ask = |question: &Question<'_>| Ok(vec![(CPU.to_owned(), judge.verify(question)?)]);
        let given = by.report_data(&recorded, Some(&recorded.additional))?;
        parts.extend(case.judge(&recorded.primary, given, source, CPU, ask)?);
    }
    for (name, evidence) in devices {
        let Some(judge) = judges.devices.iter().find(|judge| judge.tee().name() == name) else {
            bail!("there is no judge for {name} devices");
        };
        source.hints = device_hints(&evidence);
        let ask = |question: &Question<'_>| {
            let found = judge.verify(question)?;
            Ok(found.into_iter().map(|device| (device.submodule, device.judgement)).collect())
        };
        parts.extend(case.judge(&evidence, by.report_data(&recorded, None)?, source, &name, ask)?);
    }
    let runtime_claims = recorded.runtime_data.clone().unwrap_or(Value::Null);
    Ok(Examined { recorded, init_data, runtime_claims, at, parts })
}

/// What is the same for every part of the evidence.
struct Case<'a> {
    init_data: Option<&'a Digest>,
    at: Timestamp,
}

impl Case<'_> {
    /// Asks until the judge has what it needs or no more is to be had.
    fn judge(
        &self,
        evidence: &Value,
        given: Option<ReportData>,
        source: &mut Source,
        name: &str,
        ask: impl Fn(&Question<'_>) -> Result<Vec<(String, Judgement)>, Fault>,
    ) -> Result<Vec<Told>> {
        let fresh = given.is_some();
        let mut report_data =
            given.unwrap_or_else(|| ReportData::from_runtime_hash(Digest::zero(Algorithm::Sha384)));
        let mut known = fresh;
        loop {
            let question = Question {
                evidence,
                report_data: &report_data,
                init_data: self.init_data,
                collateral: &*source,
                at: self.at,
            };
            match ask(&question) {
                Err(Fault::CollateralUnavailable(keys)) => {
                    if !source.fetch(&keys)? {
                        return Ok(vec![Told { submodule: name.to_owned(), judgement: Err(keys), fresh }]);
                    }
                }
                Err(fault) => bail!("{fault}"),
                Ok(judged) => {
                    // The evidence's own binding stands in the check that refuses it.
                    let own = judged.iter().find_map(|(_, judgement)| match judgement {
                        Judgement::Rejected(checks) => own_binding(checks),
                        Judgement::Verified(_) => None,
                    });
                    if let Some(own) = own.filter(|_| !known) {
                        (report_data, known) = (own, true);
                        continue;
                    }
                    let told = |(submodule, judgement)| Told { submodule, judgement: Ok(judgement), fresh };
                    return Ok(judged.into_iter().map(told).collect());
                }
            }
        }
    }
}

/// The certificates that devices sent.
fn device_hints(evidence: &Value) -> Hints {
    let mut hints = Hints::default();
    for device in evidence.get("device_evidence_list").and_then(Value::as_array).into_iter().flatten() {
        let pem =
            device.get("certificate").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
        hints.add_pem(&pem.unwrap_or_default());
    }
    hints
}

/// What the evidence says that it is bound to, as the judge found it where it looked for another value.
fn own_binding(checks: &[Check]) -> Option<ReportData> {
    checks.iter().find_map(|check| {
        let named = check.code.ends_with(".freshness") && check.outcome == Outcome::Failed;
        let found = check.found.as_deref().filter(|_| named).and_then(|text| hex::decode(text).ok());
        found.and_then(|bytes| bound_to(&bytes)).or_else(|| own_binding(&check.children))
    })
}

/// Takes back what a file cannot show.
fn not_fresh(check: &mut Check) {
    check.children.iter_mut().for_each(not_fresh);
    if check.code == "platform" {
        check.title = check.title.replace(" is genuine, fresh and bound to the key", " is genuine");
        if check.outcome == Outcome::Failed && check.title.ends_with(" is genuine") {
            check.title.push_str(", but its platform is not acceptable");
        }
    }
    // The evidence's own binding is no hash of the protocol, so nothing could be taken for it.
    if check.outcome == Outcome::Failed && check.code.ends_with(".freshness") {
        check.title = "The evidence answers something that is no hash over a nonce and a key".into();
        check.expected = Some("a hash of 32, 48 or 64 bytes".into());
        check.remedy =
            Some("Ask for the evidence with the report data of the protocol, or give --report-data.".into());
    }
    if check.outcome == Outcome::Passed
        && [".freshness", ".binding"].iter().any(|end| check.code.ends_with(end))
    {
        check.outcome = Outcome::Unavailable;
        check.title =
            "The file does not say which challenge and key it answers; it may be old or another guest's"
                .into();
        check.expected = None;
        check.remedy =
            Some("Give --report-data, or the client's whole request with its runtime-data.".into());
    }
}

/// Says it where evidence is refused only because nobody said what it should be.
fn compared_with_nothing(check: &mut Check, tee: Tee) {
    check.children.iter_mut().for_each(|child| compared_with_nothing(child, tee));
    if check.code == "reference.none" {
        let platform = match tee {
            Tee::Tdx | Tee::Snp | Tee::Sgx | Tee::Tpm => {
                format!(
                    "Predict them with `coffer measure --platform {tee} … -o guest.json` and judge again with --expect guest.json."
                )
            }
            _ => {
                "Give those of your guest with --expect, or a policy that compares with --policy.".to_owned()
            }
        };
        check.title =
            "The evidence is genuine, but was compared with nothing: no reference values are given".into();
        check.expected = Some("reference values of the guest that should run (--expect)".into());
        check.found = Some("none".into());
        check.remedy = Some(platform);
    }
}

/// By what it is appraised.
pub(crate) struct OwnStandards {
    references: Vec<ReferenceValues>,
    platform: PlatformPolicy,
    policy: Option<AppraisalPolicy>,
    values: NamedValues,
}

impl OwnStandards {
    /// Calls with what they are.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&Standards<'_>) -> T) -> T {
        let Self { references, platform, policy, values } = self;
        let policy = policy.as_ref().map(|policy| policy.with(values));
        let policy = policy.as_ref().map(|policy| policy as &dyn Appraiser);
        call(&Standards { references, platform, policy })
    }

    /// The same with another appraisal policy.
    pub(crate) fn but(&self, policy: Option<AppraisalPolicy>) -> Self {
        let Self { references, platform, values, .. } = self;
        Self { references: references.clone(), platform: platform.clone(), policy, values: values.clone() }
    }

    pub(crate) fn read(by: &Judging) -> Result<Self> {
        let mut references = Vec::new();
        for file in &by.expect {
            let values = ReferenceValues::from_json(&read(file)?);
            references.push(values.with_context(|| format!("{} holds no reference values", file.display()))?);
        }
        let text = |file: &PathBuf| -> Result<String> {
            String::from_utf8(read(file)?).with_context(|| format!("{} is no text", file.display()))
        };
        let platform = match &by.platform_policy {
            None => PlatformPolicy::default(),
            Some(file) => PlatformPolicy::from_toml(&text(file)?)
                .with_context(|| format!("{} is no platform policy", file.display()))?,
        };
        let policy = by.policy.as_ref().map(|file| {
            AppraisalPolicy::compile(&text(file)?)
                .with_context(|| format!("{} is no appraisal policy", file.display()))
        });
        let values = match &by.values {
            None => NamedValues::default(),
            Some(file) => serde_json::from_slice(&read(file)?)
                .with_context(|| format!("{} is no JSON object of values", file.display()))?,
        };
        Ok(Self { references, platform, policy: policy.transpose()?, values })
    }
}

/// The judges of the broker, which also believe these roots of the caller's for one TEE.
fn judges(tee: Tee, by: &Judging) -> Result<JudgeSet> {
    let word = if by.require_revocation { Revocation::Required } else { Revocation::IfPresent };
    let options = JudgeOptions { amd_revocation: word, nvidia_revocation: word };
    let (roots, mut trust) = (&by.root, Trust { options, ..Trust::default() });
    let (mut ders, mut products) = (Vec::new(), Roots::amd());
    for path in roots {
        let bytes = read(path)?;
        match tee {
            Tee::Cca => trust.cca = Some(bytes),
            Tee::Tpm => {
                trust.anchors.push(TrustAnchor { certificate: certificate(path, &bytes)?, hardware: true })
            }
            Tee::Tdx | Tee::Sgx | Tee::Nitro => ders.push(certificate(path, &bytes)?),
            Tee::Snp => products = products.with(product(path, &bytes)?),
            other => bail!(
                "--root names roots of tpm, cca, tdx, sgx, snp and nitro; those of {other} are built in"
            ),
        }
    }
    if roots.is_empty() && matches!(tee, Tee::Tpm | Tee::Cca) {
        eprintln!("no --root is named; without one nobody vouches for the keys of {tee} evidence");
    }
    let mut set = all_judges()(&trust)?;
    let own: Option<Arc<dyn Verifier>> = match tee {
        Tee::Snp if !roots.is_empty() => {
            let word = match word {
                Revocation::Required => coffer_verify_snp::Revocation::Required,
                Revocation::IfPresent => coffer_verify_snp::Revocation::WhenPresent,
            };
            Some(Arc::new(SnpJudge::new(products, word)))
        }
        _ if ders.is_empty() => None,
        Tee::Tdx => Some(Arc::new(TdxJudge::new(Arc::new(Dcap::new(ders)?)))),
        Tee::Sgx => Some(Arc::new(SgxJudge::new(Arc::new(Dcap::new(ders)?)))),
        _ => Some(Arc::new(NitroJudge::new(ders))),
    };
    if let Some(own) = own {
        set.machines.retain(|judge| judge.tee() != tee);
        set.machines.push(own);
    }
    Ok(set)
}

fn certificate(path: &Path, pem: &[u8]) -> Result<Vec<u8>> {
    let found = CertificateDer::from_pem_slice(pem);
    Ok(found.with_context(|| format!("{} is no certificate in PEM", path.display()))?.to_vec())
}

/// A product's certificates, told apart by their names (AMD, VCEK certificate specification, section 3.1).
fn product(path: &Path, pem: &[u8]) -> Result<Root> {
    let ders = pem_certificates(pem).unwrap_or_default();
    let named = |prefix: &str| -> Vec<(String, Vec<u8>)> {
        let name = |der: &Vec<u8>| {
            let name = Certificate::parse(der).ok()?.subject_cn();
            Some((name.strip_prefix(prefix)?.to_owned(), der.clone()))
        };
        ders.iter().filter_map(name).collect()
    };
    let ark = named("ARK-").into_iter().next();
    let (product, ark) =
        ark.with_context(|| format!("{} holds no certificate of a root ARK-…", path.display()))?;
    let of = |prefix: &str| named(prefix).into_iter().find(|(name, _)| *name == product).map(|(_, der)| der);
    let (ask, asvk) = (of("SEV-"), of("SEV-VLEK-"));
    Ok(Root { product, ark, ask, asvk })
}
