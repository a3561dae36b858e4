//! What a device's evidence says, by the names of upstream's local verifier and of NVIDIA's own tokens.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::nvidia::Architecture;
use coffer_verify_api::{Claims, Posture, Tcb, Timestamp};
use serde_json::{Map, Value, json};

use crate::chain::Path;
use crate::device::Inspected;
use crate::dice;
use crate::manifest::Manifest;

/// Manifests with their ids, and whether each certificate was said to be good.
pub(crate) struct Judged<'a> {
    pub(crate) manifests: &'a [(String, &'a Manifest)],
    pub(crate) asked: bool,
}

pub(crate) fn claims(device: &Inspected<'_>, judged: &Judged<'_>) -> Claims {
    let report = &device.report;
    let digest = |value: &[u8]| Digest::from_bytes(Algorithm::Sha384, value).ok();
    let registers = report.measurements.iter().filter_map(|(index, value)| {
        // Named as manifests count.
        Some((format!("measurement{}", index.saturating_sub(1)), digest(value)?))
    });
    let components: BTreeMap<String, u64> = judged
        .manifests
        .iter()
        .flat_map(|(_, manifest)| &manifest.values.minimum_svn)
        .filter_map(|least| Some((least.name.clone(), report.opaque.svn(least.field)?)))
        .collect();
    Claims {
        tee: Tee::Nvidia,
        hardware: true,
        registers: registers.collect(),
        events: Vec::new(),
        posture: Posture {
            // Debug firmware has other measurements than those that were compared.
            debug: Some(false),
            tcb: Some(Tcb { components, ..Tcb::default() }),
            chip: chip(device),
            generation: Some(device.sent.arch.name().to_owned()),
            ..Posture::default()
        },
        json: json(device, judged),
    }
}

fn chip(device: &Inspected<'_>) -> Option<String> {
    let leaf = device.path.leaf()?;
    let serial = dice::device_info(leaf).map(|(_, serial)| serial.to_ascii_lowercase());
    let is_hex = |serial: &String| serial.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(serial.filter(is_hex).unwrap_or_else(|| hex::encode(leaf.serial())))
}

fn json(device: &Inspected<'_>, judged: &Judged<'_>) -> Map<String, Value> {
    let (report, path) = (&device.report, &device.path);
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    let arch = match device.sent.arch {
        Architecture::Hopper => "Hopper",
        Architecture::Blackwell => "Blackwell",
        Architecture::Ls10 => "LS10",
    };
    say("arch", arch.into());
    say("uuid", device.sent.uuid.clone().into());
    let measurements = report.measurements.iter();
    say(
        "measurements",
        measurements.map(|(index, value)| (index.to_string(), Value::from(hex::encode(value)))).collect(),
    );
    say("config", report.opaque.json().into());

    say("eat_nonce", hex::encode(report.nonce).into());
    say("measres", "success".into());
    say("secboot", true.into());
    say("dbgstat", "disabled".into());
    say("hwmodel", path.certificates.get(1).map(|device| device.subject_cn()).into());
    say("ueid", path.leaf().map(|leaf| decimal(leaf.serial())).into());
    say("x-nvidia-overall-att-result", true.into());
    say("x-nvidia-mismatch-measurement-records", Value::Null);
    say("x-nvidia-attestation-warning", Value::Null);
    let switch = device.sent.arch.is_switch();
    let kind = if switch { "switch" } else { "gpu" };
    say("x-nvidia-device-type", if switch { "nvswitch" } else { "gpu" }.into());
    let mut named = |name: &str, value: Value| say(&format!("x-nvidia-{kind}-{name}"), value);
    named("arch-check", true.into());
    named("attestation-report-parsed", true.into());
    named("attestation-report-signature-verified", true.into());
    named("attestation-report-nonce-match", true.into());
    named("attestation-report-cert-chain", chain(path, judged.asked));
    named("attestation-report-cert-chain-fwid-match", true.into());
    named(if switch { "bios-version" } else { "vbios-version" }, device.vbios.clone().into());
    if let Some(driver) = &device.driver {
        named("driver-version", driver.clone().into());
        named("vbios-index-no-conflict", true.into());
    }
    for (id, manifest) in judged.manifests {
        let what = match (switch, id.starts_with("NV_GPU_VBIOS_")) {
            (true, _) => "bios",
            (false, true) => "vbios",
            (false, false) => "driver",
        };
        for fact in
            ["fetched", "schema-validated", "signature-verified", "version-match", "measurements-available"]
        {
            named(&format!("{what}-rim-{fact}"), true.into());
        }
        if let Some(path) = &manifest.path {
            named(&format!("{what}-rim-cert-chain"), chain(path, judged.asked));
        }
    }
    if let Some((_, manifest)) = judged.manifests.first() {
        say("oemid", manifest.values.manufacturer.clone().into());
    }
    claims
}

/// NVIDIA's words for a chain that was verified; no word on revocation if nobody was asked.
fn chain(path: &Path, asked: bool) -> Value {
    let ends = Timestamp::from_second(path.ends()).map(|end| end.to_string());
    json!({
        "x-nvidia-cert-status": "valid",
        "x-nvidia-cert-ocsp-status": if asked { Value::from("good") } else { Value::Null },
        "x-nvidia-cert-expiration-date": ends.unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned()),
        "x-nvidia-cert-revocation-reason": null,
    })
}

/// A serial number in decimal digits, as NVIDIA writes it.
fn decimal(big_endian: &[u8]) -> String {
    let mut digits: Vec<u8> = vec![0];
    for byte in big_endian {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit).saturating_mul(256).saturating_add(carry);
            *digit = u8::try_from(value % 10).unwrap_or(0);
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or(0));
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(digit.saturating_add(b'0'))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn serial_numbers_are_written_in_decimal() {
        for number in [0_u128, 9, 10, 255, 256, 4_294_967_296, u128::MAX] {
            assert_eq!(super::decimal(&number.to_be_bytes()), number.to_string());
        }
        let serial = hex::decode("53c22ba15e5d68088282da074ed9fb37aa585771").unwrap();
        assert_eq!(super::decimal(&serial), "478176379286082186618948445787393647364802107249");
    }
}
