//! Measurements of a report against those of its manifests.

use std::collections::BTreeMap;

use coffer_verify_api::Check;

use crate::manifest::Manifest;
use crate::opaque::OpaqueError;
use crate::spdm::Report;

const SOURCE: &str = "NVIDIA reference integrity manifests";
/// The video decoder's measurement: it says nothing where the decoder is off.
const NVDEC: u32 = 35;

/// Compares the active measurements of all manifests. Reports count from 1, manifests from 0.
pub(crate) fn compare(report: &Report, manifests: &[(String, &Manifest)]) -> Check {
    let mut checks = Vec::new();
    let nvdec = match report.opaque.nvdec_enabled() {
        Ok(enabled) => enabled,
        Err(cause) => {
            checks.push(nvdec_unknown(&cause));
            true
        }
    };
    let mut seen: BTreeMap<u32, &str> = BTreeMap::new();
    let mut matched = 0_usize;
    for (id, manifest) in manifests {
        for expected in manifest.values.measurements.iter().filter(|expected| expected.active) {
            if let Some(other) = seen.insert(expected.index, id) {
                checks.push(conflict(expected.index, other, id));
                continue;
            }
            if expected.index == NVDEC && !nvdec {
                continue;
            }
            let label = format!("Measurement {} ({})", expected.index, expected.name);
            let wanted = || {
                expected.values.iter().map(coffer_core_digest::Digest::hex).collect::<Vec<_>>().join(" or ")
            };
            let found = u8::try_from(expected.index.saturating_add(1))
                .ok()
                .and_then(|index| report.measurements.get(&index));
            match found {
                None => checks.push(
                    Check::failed("nvidia.measurement.missing", format!("{label} is not in the report"))
                        .expected(wanted())
                        .found("no measurement")
                        .source(id.clone()),
                ),
                Some(value) if expected.values.iter().any(|one| one.as_bytes() == value.as_slice()) => {
                    matched = matched.saturating_add(1);
                }
                Some(value) => checks.push(
                    Check::failed(
                        "nvidia.measurement.mismatch",
                        format!("{label} is not what NVIDIA published"),
                    )
                    .expected(wanted())
                    .found(hex::encode(value))
                    .source(id.clone())
                    .remedy("install firmware and driver as NVIDIA published them"),
                ),
            }
        }
        checks.extend(minimum_svn(report, id, manifest));
    }
    if checks.is_empty() {
        let title = format!("{matched} measurements are those that NVIDIA published");
        checks.push(Check::passed("nvidia.measurement.match", title).source(SOURCE));
    }
    Check::group("nvidia.measurements", "The device runs what NVIDIA published", checks)
}

fn conflict(index: u32, one: &str, other: &str) -> Check {
    Check::failed("nvidia.rim.conflict", format!("Two manifests both name measurement {index}"))
        .expected("each measurement in one manifest")
        .found(format!("{one} and {other}"))
        .source(SOURCE)
}

fn nvdec_unknown(cause: &OpaqueError) -> Check {
    Check::failed("nvidia.report.nvdec", "The state of the video decoder is not known")
        .expected("enabled or disabled")
        .found(cause.to_string())
        .source("NVIDIA opaque data, field 11")
}

fn minimum_svn<'a>(
    report: &'a Report,
    id: &'a str,
    manifest: &'a Manifest,
) -> impl Iterator<Item = Check> + 'a {
    manifest.values.minimum_svn.iter().filter_map(move |least| {
        let found = report.opaque.svn(least.field);
        if found.is_some_and(|found| found >= least.least) {
            return None;
        }
        let failed =
            Check::failed("nvidia.measurement.svn", format!("Security version {} is too low", least.name))
                .expected(format!("at least {}", least.least))
                .found(found.map_or_else(|| "none".to_owned(), |found| found.to_string()))
                .source(id.to_owned())
                .remedy("update the device's firmware");
        Some(failed)
    })
}
