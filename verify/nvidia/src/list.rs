//! All devices of one request: each on its own, no device twice.

use coffer_core_evidence::nvidia::{DeviceEvidence, DeviceList};
use coffer_verify_api::{Check, CollateralKey, Device, Fault, Judgement, Question};

use crate::device::{self, Inspected};
use crate::{NvidiaJudge, Outcome, dice};

const SOURCE: &str = "KBS protocol, evidence of nvidia";

pub(crate) fn judge(judge: &NvidiaJudge, question: &Question<'_>) -> Result<Vec<Device>, Fault> {
    let list = match DeviceList::parse(question.evidence) {
        Ok(list) => list,
        Err(cause) => {
            let failed =
                Check::failed("nvidia.evidence.format", "The evidence does not have the nvidia form")
                    .found(cause.to_string())
                    .source(SOURCE);
            let judgement = Judgement::Rejected(vec![failed]);
            return Ok(vec![Device { submodule: "gpu0".to_owned(), judgement }]);
        }
    };
    let devices = distinct(&list);
    let mut inspected: Vec<Result<Inspected<'_>, Vec<Check>>> = devices
        .iter()
        .map(|sent| {
            device::inspect(sent, question.report_data, &judge.device_roots, &judge.chains, question.at)
        })
        .collect();
    refuse_twice(&mut inspected);

    let mut missing: Vec<CollateralKey> = Vec::new();
    let mut outcomes: Vec<Option<Judgement>> = Vec::new();
    for device in inspected {
        outcomes.push(match device {
            Err(checks) => Some(Judgement::Rejected(checks)),
            Ok(device) => match judge.judge(device, question) {
                Outcome::Judged(judgement) => Some(judgement),
                Outcome::Missing(keys) => {
                    missing.extend(keys);
                    None
                }
            },
        });
    }
    let rejected = outcomes.iter().any(|outcome| matches!(outcome, Some(Judgement::Rejected(_))));
    if !missing.is_empty() && !rejected {
        missing.sort();
        missing.dedup();
        return Err(Fault::CollateralUnavailable(missing));
    }
    let named = names(&devices).into_iter().zip(outcomes);
    Ok(named
        .map(|(submodule, outcome)| Device {
            submodule,
            judgement: outcome.unwrap_or_else(|| not_judged(&missing)),
        })
        .collect())
}

/// A device that was not judged to the end, because another one of the same request is refused anyway.
fn not_judged(missing: &[CollateralKey]) -> Judgement {
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let check =
        Check::unavailable("nvidia.rim.unavailable", "Not judged: another device of this request is refused")
            .expected(names.join(", "))
            .found("not there")
            .source(SOURCE);
    Judgement::Rejected(vec![check])
}

/// `gpu0`, `gpu1`, `switch0`: each kind counted in the order of the list.
fn names(devices: &[&DeviceEvidence]) -> Vec<String> {
    let (mut gpus, mut switches) = (0..usize::MAX, 0..usize::MAX);
    let mut name = |device: &&DeviceEvidence| match device.arch.is_switch() {
        true => format!("switch{}", switches.next().unwrap_or(usize::MAX)),
        false => format!("gpu{}", gpus.next().unwrap_or(usize::MAX)),
    };
    devices.iter().map(&mut name).collect()
}

/// An entry that repeats another one byte for byte is the same device, told twice. It counts once.
fn distinct(list: &DeviceList) -> Vec<&DeviceEvidence> {
    let mut seen: Vec<&DeviceEvidence> = Vec::new();
    for device in &list.device_evidence_list {
        if !seen.contains(&device) {
            seen.push(device);
        }
    }
    seen
}

/// Two entries of one device would be taken for two devices, so both are refused.
fn refuse_twice(inspected: &mut [Result<Inspected<'_>, Vec<Check>>]) {
    let identities: Vec<Option<Identity>> =
        inspected.iter().map(|device| device.as_ref().ok().and_then(Identity::of)).collect();
    for (place, entry) in inspected.iter_mut().enumerate() {
        let own = identities.get(place).and_then(Option::as_ref);
        let same = |(other, identity): (usize, &Option<Identity>)| {
            other != place && own.zip(identity.as_ref()).is_some_and(|(own, other)| own.is_same(other))
        };
        let Some(twin) = identities.iter().enumerate().position(same) else { continue };
        if let Ok(device) = entry {
            let mut checks = std::mem::take(&mut device.checks);
            checks.push(
                Check::failed("nvidia.device.duplicate", "One device is named as two")
                    .expected("each device once")
                    .found(format!("entries {twin} and {place} are of the same device"))
                    .source(SOURCE),
            );
            *entry = Err(checks);
        }
    }
}

/// What names one device: its key, and its serial number where the certificate has it.
struct Identity {
    key: Vec<u8>,
    serial: Option<(String, String)>,
}

impl Identity {
    fn of(device: &Inspected<'_>) -> Option<Self> {
        let leaf = device.path.leaf()?;
        Some(Self { key: leaf.public_key().to_vec(), serial: dice::device_info(leaf) })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.key == other.key || (self.serial.is_some() && self.serial == other.serial)
    }
}
