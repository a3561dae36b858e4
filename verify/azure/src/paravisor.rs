//! What stands between the platform and the quote: the paravisor's report and its runtime data.

use coffer_core_evidence::Tee;
use coffer_core_evidence::azure::{AzureError, AzureEvidence, HclError, HclReport, Platform, RuntimeClaims};
use coffer_verify_api::Check;

use crate::quote::{self, Quote};

const SOURCE: &str = "Microsoft, guest attestation for confidential VMs, attestation report format";

/// Evidence whose parts could all be read.
pub(crate) struct Parts {
    pub(crate) version: u64,
    pub(crate) hcl: HclReport,
    pub(crate) runtime: RuntimeClaims,
    pub(crate) quote: Quote,
}

/// Reads all parts, or says which cannot be read.
pub(crate) fn parts(
    tee: Tee,
    evidence: Result<AzureEvidence, AzureError>,
) -> Result<(Parts, AzureEvidence), Box<Check>> {
    let evidence = evidence.map_err(|cause| {
        let failed = Check::failed(format!("{tee}.evidence.format"), "The evidence cannot be read")
            .expected(format!("{tee} evidence of the KBS protocol, version 0, 1 or 2"))
            .found(cause.to_string())
            .source("KBS protocol 0.4, evidence of Azure's vTPMs");
        Box::new(failed)
    })?;
    let wrong = |cause: HclError| {
        let (code, title) = match cause {
            HclError::Runtime(_) => ("runtime.format", "The paravisor's runtime data cannot be read"),
            _ => ("hcl.format", "The paravisor's report cannot be read"),
        };
        Box::new(Check::failed(format!("{tee}.{code}"), title).found(cause.to_string()).source(SOURCE))
    };
    let hcl = HclReport::parse(&evidence.hcl_report).map_err(wrong)?;
    let runtime = hcl.runtime_claims().map_err(wrong)?;
    let quote = quote::parse(tee, &evidence.quote)?;
    Ok((Parts { version: evidence.version, hcl, runtime, quote }, evidence))
}

/// All checks that need neither the platform's proof nor collateral.
pub(crate) fn checks(tee: Tee, parts: &Parts, expected: &[u8]) -> Vec<Check> {
    let mut checks = vec![
        Check::passed(format!("{tee}.evidence.format"), format!("The evidence has the {tee} form"))
            .found(format!("version {}", parts.version)),
        platform(tee, &parts.hcl),
        parts.quote.signature(tee, &parts.runtime.attestation_key),
    ];
    checks.extend(parts.quote.freshness_and_binding(tee, expected));
    checks.extend(user_data(tee, parts, expected));
    checks
}

/// The report inside is of the platform that the evidence is said to be of.
fn platform(tee: Tee, hcl: &HclReport) -> Check {
    let name = |platform| match platform {
        Platform::Snp => "SNP",
        Platform::Tdx => "TDX",
    };
    let expected = if tee == Tee::AzTdxVtpm { Platform::Tdx } else { Platform::Snp };
    let found = hcl.platform();
    let title = match expected == found {
        true => "The paravisor's report is of this platform",
        false => "The paravisor's report is of another platform",
    };
    Check::equal(format!("{tee}.hcl.platform"), title, name(expected), name(found)).source(SOURCE)
}

/// Version 2 promises that the paravisor's report is fresh as well: the guest had it made with this session's hash.
fn user_data(tee: Tee, parts: &Parts, expected: &[u8]) -> Option<Check> {
    if parts.version < 2 {
        return None;
    }
    let code = format!("{tee}.hcl.user-data");
    const SOURCE: &str = "KBS protocol 0.4, evidence of Azure's vTPMs, version 2";
    let found = parts.runtime.user_data.as_deref().unwrap_or_default();
    let (bound, rest) = found.split_at_checked(expected.len()).unwrap_or_default();
    let is_bound = bound == expected && rest.iter().all(|byte| *byte == 0) && !found.is_empty();
    let check = match is_bound {
        true => Check::passed(code, "The paravisor's report was made for this challenge and this key"),
        false => Check::failed(code, "The paravisor's report was made for another challenge or another key")
            .remedy(
                "attest again, with a report that is made for this session, or send evidence of version 1",
            ),
    };
    Some(check.expected(hex::encode(expected)).found(hex::encode(found)).source(SOURCE))
}

/// The report data that the platform must have signed: the runtime data's hash, and zeros.
pub(crate) fn platform_report_data(hcl: &HclReport) -> [u8; 64] {
    let mut field = [0; 64];
    for (to, from) in field.iter_mut().zip(hcl.runtime_hash().as_bytes()) {
        *to = *from;
    }
    field
}
