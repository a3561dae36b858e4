//! Which TCB level a platform meets, and how the statuses of its parts become one.
//!
//! SPEC: Intel PCS API version 4, "Get TDX TCB Info" and "Get SGX TCB Info"; TDX DCAP Quoting Library API, chapter
//! on TCB levels, with the rules for TDX 1.5 modules and for TD-preserving updates.

use coffer_core_evidence::dcap::{EnclaveReport, TdReport};
use coffer_verify_api::TcbStatus;

use crate::documents::{Grade, Identity, IsvLevel, Level, Module, TcbInfo};
use crate::pck::PckExtension;

/// Why there is no level.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoLevel {
    /// `level`, `module`, `module-level`.
    pub(crate) tail: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// The level of an SGX platform.
pub(crate) fn sgx(info: &TcbInfo, pck: &PckExtension) -> Result<Grade, NoLevel> {
    info.levels
        .iter()
        .find(|level| meets_sgx(level, pck))
        .map(|level| level.grade.clone())
        .ok_or_else(|| no_level(info, pck, None))
}

/// The level of a TDX platform that runs a module of these security versions.
pub(crate) fn tdx(info: &TcbInfo, pck: &PckExtension, svn: &[u8; 16]) -> Result<Grade, NoLevel> {
    let [module_svn, version, ..] = *svn;
    // A module with a version has levels of its own, for the first two components.
    let has_own = version > 0;
    let skipped = if has_own { 2 } else { 0 };
    let meets = |level: &&Level| {
        let needed = level.tdx.iter().flatten().skip(skipped);
        meets_sgx(level, pck)
            && level.tdx.is_some()
            && needed.zip(svn.iter().skip(skipped)).all(|(n, f)| f >= n)
    };
    let level = info.levels.iter().find(meets).ok_or_else(|| no_level(info, pck, Some(svn)))?;
    let mut grade = level.grade.clone();
    if has_own {
        let module = module(info, version)?;
        let own = isv_level(&module.levels, module_svn.into()).ok_or_else(|| NoLevel {
            tail: "module-level",
            expected: lowest(&module.levels),
            found: format!("TDX module {version:02X} with ISVSVN {module_svn}"),
        })?;
        grade = join(grade, own);
    }
    Ok(grade)
}

/// Who must have signed the module, and with which attributes.
pub(crate) fn check_module(info: &TcbInfo, report: &TdReport) -> Result<(), NoLevel> {
    let [_, version, ..] = report.tee_tcb_svn;
    let module = module(info, version)?;
    let mismatch = |name: &str, expected: &[u8], found: &[u8]| NoLevel {
        tail: "module",
        expected: format!("{name} {}", hex::encode(expected)),
        found: hex::encode(found),
    };
    if module.mr_signer != report.mr_signer_seam {
        return Err(mismatch("MRSIGNERSEAM", &module.mr_signer, &report.mr_signer_seam));
    }
    let masked = |value: &[u8; 8]| u64::from_le_bytes(*value) & u64::from_le_bytes(module.mask);
    // Attributes that the mask leaves out must be zero: a module under debug is none.
    let found = report.seam_attributes;
    if masked(&module.attributes) != masked(&found) || masked(&found) != u64::from_le_bytes(found) {
        return Err(mismatch("SEAMATTRIBUTES", &module.attributes, &found));
    }
    Ok(())
}

fn module(info: &TcbInfo, version: u8) -> Result<&Module, NoLevel> {
    let found = match version {
        0 => info.module.as_ref(),
        _ => info.modules.get(&version),
    };
    found.ok_or_else(|| NoLevel {
        tail: "module",
        expected: "a TDX module that the TCB info names".into(),
        found: format!("TDX_{version:02X}"),
    })
}

fn meets_sgx(level: &Level, pck: &PckExtension) -> bool {
    pck.components.iter().zip(level.sgx).all(|(found, needed)| *found >= needed)
        && pck.pce_svn >= level.pce_svn
}

/// The first of the levels, which begin with the highest, that this security version meets.
pub(crate) fn isv_level(levels: &[IsvLevel], svn: u16) -> Option<&Grade> {
    levels.iter().find(|(needed, _)| svn >= *needed).map(|(_, grade)| grade)
}

pub(crate) fn lowest(levels: &[IsvLevel]) -> String {
    levels.last().map_or_else(|| "no level at all".into(), |(svn, _)| format!("ISVSVN {svn} or more"))
}

fn no_level(info: &TcbInfo, pck: &PckExtension, tdx: Option<&[u8; 16]>) -> NoLevel {
    let text = |components: &[u8; 16], pce: u16, tdx: Option<&[u8; 16]>| {
        let tdx = tdx.map_or_else(String::new, |tdx| format!(", TDX {}", hex::encode(tdx)));
        format!("components {}, PCE {pce}{tdx}", hex::encode(components))
    };
    let expected = info.levels.last().map_or_else(
        || "a TCB level".to_owned(),
        |level| format!("at least {}", text(&level.sgx, level.pce_svn, level.tdx.as_ref())),
    );
    NoLevel { tail: "level", expected, found: text(&pck.components, pck.pce_svn, tdx) }
}

/// The identity that the enclave does not have, if any.
pub(crate) fn mismatch(identity: &Identity, report: &EnclaveReport) -> Option<(String, String)> {
    let differs = |name: &str, expected: &[u8], found: &[u8]| {
        (expected != found).then(|| (format!("{name} {}", hex::encode(expected)), hex::encode(found)))
    };
    let masked = |value: &[u8], mask: &[u8]| value.iter().zip(mask).map(|(v, m)| v & m).collect::<Vec<u8>>();
    let prod_id = |id: u16| id.to_be_bytes();
    // Whatever a mask leaves open, a quoting enclave under debug keeps no key.
    let debug =
        report.is_debug().then(|| ("ATTRIBUTES without DEBUG".to_owned(), hex::encode(report.attributes)));
    differs("MRSIGNER", &identity.mr_signer, &report.mr_signer)
        .or(debug)
        .or_else(|| differs("ISVPRODID", &prod_id(identity.isv_prod_id), &prod_id(report.isv_prod_id)))
        .or_else(|| {
            let mask = &identity.misc_select_mask;
            differs("MISCSELECT", &masked(&identity.misc_select, mask), &masked(&report.misc_select, mask))
        })
        .or_else(|| {
            let mask = &identity.attributes_mask;
            differs("ATTRIBUTES", &masked(&identity.attributes, mask), &masked(&report.attributes, mask))
        })
}

/// The grade of the whole with a part of it: status, the older date, the advisories of both.
pub(crate) fn join(whole: Grade, part: &Grade) -> Grade {
    let mut advisories = whole.advisories;
    for id in &part.advisories {
        if !advisories.contains(id) {
            advisories.push(id.clone());
        }
    }
    Grade { status: converge(whole.status, part.status), date: whole.date.min(part.date), advisories }
}

/// The worst of both: what either of them lacks, the whole lacks.
fn converge(whole: TcbStatus, part: TcbStatus) -> TcbStatus {
    use TcbStatus::{
        ConfigurationAndSWHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded,
        Revoked, SWHardeningNeeded, TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded, UpToDate,
    };
    let either = |statuses: &[TcbStatus]| statuses.contains(&whole) || statuses.contains(&part);
    let configuration = either(&[
        ConfigurationNeeded,
        ConfigurationAndSWHardeningNeeded,
        OutOfDateConfigurationNeeded,
        TDRelaunchAdvisedConfigurationNeeded,
    ]);
    let hardening = either(&[SWHardeningNeeded, ConfigurationAndSWHardeningNeeded]);
    if either(&[Revoked]) {
        return Revoked;
    }
    if either(&[OutOfDate, OutOfDateConfigurationNeeded]) {
        return if configuration { OutOfDateConfigurationNeeded } else { OutOfDate };
    }
    if either(&[TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded]) {
        return if configuration { TDRelaunchAdvisedConfigurationNeeded } else { TDRelaunchAdvised };
    }
    match (configuration, hardening) {
        (true, true) => ConfigurationAndSWHardeningNeeded,
        (true, false) => ConfigurationNeeded,
        (false, true) => SWHardeningNeeded,
        (false, false) => UpToDate,
    }
}

/// The status of a TD that was launched under one TCB and runs on another, after a TD-preserving update. Starting it
/// again mends only what the TCB that runs now has mended.
pub(crate) fn relaunch(launched: TcbStatus, current: TcbStatus) -> TcbStatus {
    use TcbStatus::{
        ConfigurationAndSWHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded,
        SWHardeningNeeded, TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded, UpToDate,
    };
    match (launched, current) {
        (OutOfDate, UpToDate | SWHardeningNeeded) => TDRelaunchAdvised,
        (OutOfDate, ConfigurationNeeded | ConfigurationAndSWHardeningNeeded)
        | (
            OutOfDateConfigurationNeeded,
            UpToDate | SWHardeningNeeded | ConfigurationNeeded | ConfigurationAndSWHardeningNeeded,
        ) => TDRelaunchAdvisedConfigurationNeeded,
        _ => converge(launched, current),
    }
}

#[cfg(test)]
mod tests {
    use TcbStatus::{
        ConfigurationAndSWHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded,
        Revoked, SWHardeningNeeded, TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded, UpToDate,
    };

    use super::*;

    const ALL: [TcbStatus; 9] = [
        UpToDate,
        SWHardeningNeeded,
        ConfigurationNeeded,
        ConfigurationAndSWHardeningNeeded,
        TDRelaunchAdvised,
        TDRelaunchAdvisedConfigurationNeeded,
        OutOfDate,
        OutOfDateConfigurationNeeded,
        Revoked,
    ];

    #[test]
    fn a_part_never_makes_the_whole_better_and_its_own_defect_is_never_lost() {
        for whole in ALL {
            assert_eq!(converge(whole, whole), whole);
            assert_eq!(converge(whole, UpToDate), whole);
            for part in ALL {
                let both = converge(whole, part);
                assert_eq!(both, converge(part, whole));
                assert_eq!(both == UpToDate, whole == UpToDate && part == UpToDate, "{whole:?} {part:?}");
                assert_eq!(both == Revoked, whole == Revoked || part == Revoked, "{whole:?} {part:?}");
                let late = |status| matches!(status, OutOfDate | OutOfDateConfigurationNeeded);
                if late(whole) || late(part) {
                    assert!(late(both) || both == Revoked, "{whole:?} {part:?} {both:?}");
                }
            }
        }
        assert_eq!(converge(OutOfDate, ConfigurationNeeded), OutOfDateConfigurationNeeded);
        assert_eq!(converge(UpToDate, OutOfDateConfigurationNeeded), OutOfDateConfigurationNeeded);
        assert_eq!(converge(SWHardeningNeeded, ConfigurationNeeded), ConfigurationAndSWHardeningNeeded);
    }

    #[test]
    fn a_td_is_no_better_than_the_tcb_that_it_runs_on_now() {
        for launched in ALL {
            for current in [OutOfDate, OutOfDateConfigurationNeeded, Revoked] {
                let found = relaunch(launched, current);
                let bad = matches!(found, OutOfDate | OutOfDateConfigurationNeeded | Revoked);
                assert!(bad, "{launched:?} {current:?} {found:?}");
            }
        }
        assert_eq!(relaunch(OutOfDate, UpToDate), TDRelaunchAdvised);
        assert_eq!(relaunch(OutOfDate, ConfigurationNeeded), TDRelaunchAdvisedConfigurationNeeded);
        assert_eq!(relaunch(UpToDate, UpToDate), UpToDate);
        assert_eq!(relaunch(UpToDate, ConfigurationNeeded), ConfigurationNeeded);
    }
}
