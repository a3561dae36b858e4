//! Evidence in a file: the forms in which attesters, brokers and device files leave it, told apart.
//!
//! What is read here is a claim. Nothing is believed of it but what a judge then checks.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_evidence::Tee;
use coffer_verify_api::Timestamp;
use coffer_verify_x509::{Certificate, pem_certificates};
use serde_json::{Value, json};

/// More than any attester sends.
const MAX_FILE: u64 = 32 << 20;
const SNP_REPORT: usize = 1184;

/// Evidence as it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// The TEE.
    pub(crate) tee: Tee,
    /// The evidence in the TEE's wire form.
    pub(crate) primary: Value,
    /// The devices' evidence, as the text that the machine's evidence is bound to.
    pub(crate) additional: String,
    /// What the evidence answers, if the file says it: nonce and key.
    pub(crate) runtime_data: Option<Value>,
    /// The init-data that was sent beside it.
    pub(crate) init_data: Option<String>,
    /// When it was judged, if the file says it.
    pub(crate) at: Option<Timestamp>,
}

impl Recorded {
    /// Reads a file: the request of a KBS client, a broker's export, the wire form of a TEE, or a device's bytes
    /// (also as hexadecimal or base64 text).
    pub(crate) fn read(path: &Path, tee: Option<Tee>) -> Result<Self> {
        let length = std::fs::metadata(path).map(|found| found.len());
        if length.as_ref().is_ok_and(|length| *length > MAX_FILE) {
            bail!("{} is longer than evidence can be ({MAX_FILE} bytes)", path.display());
        }
        let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&bytes, tee)
            .with_context(|| format!("{} is no evidence that is known here", path.display()))
    }

    /// As [`Recorded::read`], from bytes.
    pub(crate) fn parse(bytes: &[u8], tee: Option<Tee>) -> Result<Self> {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(json @ Value::Object(_)) => Self::of_json(json, tee),
            // NVIDIA's tools write the list without the object around it.
            Ok(Value::Array(list)) if list.first().is_some_and(|one| one.get("certificate").is_some()) => {
                Ok(Self::alone(Tee::Nvidia, json!({ "device_evidence_list": list })))
            }
            _ => {
                let raw = as_text(bytes).unwrap_or_else(|| bytes.to_vec());
                let (found, primary) = of_bytes(&raw, tee)?;
                Ok(Self::alone(found, primary))
            }
        }
    }

    /// Adds a TDX guest's event log that lies in a file of its own.
    pub(crate) fn with_event_log(mut self, path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(self) };
        if self.tee != Tee::Tdx {
            bail!("an event log in a file of its own belongs to tdx evidence; this is {}", self.tee);
        }
        let log = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if let Value::Object(members) = &mut self.primary {
            members.insert("cc_eventlog".into(), STANDARD.encode(log).into());
        }
        Ok(self)
    }

    /// Adds certificates that the device gave beside the evidence.
    pub(crate) fn with_certificates(mut self, paths: &[PathBuf]) -> Result<Self> {
        for path in paths {
            let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            match self.tee {
                Tee::Snp => {
                    let der = pem_certificates(&bytes).ok().and_then(|list| list.into_iter().next());
                    let der = der.unwrap_or(bytes);
                    let issuer = Certificate::parse(&der)
                        .with_context(|| format!("{} is no certificate", path.display()))?
                        .issuer_cn();
                    let kind = if issuer.starts_with("SEV-VLEK") { "VLEK" } else { "VCEK" };
                    let entry = json!({ "cert_type": kind, "data": der });
                    match self.primary.get_mut("cert_chain").and_then(Value::as_array_mut) {
                        Some(list) => list.push(entry),
                        None => self.primary["cert_chain"] = json!([entry]),
                    }
                }
                Tee::Nvidia => {
                    let devices = self.primary.get_mut("device_evidence_list").and_then(Value::as_array_mut);
                    for device in devices.into_iter().flatten() {
                        device["certificate"] = STANDARD.encode(&bytes).into();
                    }
                }
                other => {
                    bail!("certificates lie beside snp and nvidia evidence; {other} evidence holds its own")
                }
            }
        }
        Ok(self)
    }

    const fn alone(tee: Tee, primary: Value) -> Self {
        Self { tee, primary, additional: String::new(), runtime_data: None, init_data: None, at: None }
    }

    fn of_json(mut json: Value, tee: Option<Tee>) -> Result<Self> {
        let named = json.get("tee").and_then(|name| serde_json::from_value(name.clone()).ok());
        let tee = tee.or(named);
        // What a broker exports of an attempt is the request with the time.
        if let Some(request) = json.get_mut("request").map(Value::take) {
            let at = json.get("at").and_then(Value::as_str).and_then(|at| at.parse().ok());
            return Ok(Self { at, ..Self::of_json(request, tee)? });
        }
        // The attest request of the KBS protocol (section 3.2).
        if let Some(sent) = json.get_mut("tee-evidence").map(Value::take) {
            let primary = sent.get("primary_evidence").cloned().unwrap_or(Value::Null);
            let additional = sent.get("additional_evidence").and_then(Value::as_str).unwrap_or_default();
            let init_data = json.pointer("/init-data/body").and_then(Value::as_str).map(str::to_owned);
            return Ok(Self {
                tee: shape(&primary, tee)?,
                primary,
                additional: additional.to_owned(),
                runtime_data: json.get("runtime-data").cloned(),
                init_data,
                at: None,
            });
        }
        if let Some(evidence) = json.get("evidence").filter(|inner| inner.is_object()) {
            return Ok(Self::alone(shape(evidence, tee)?, evidence.clone()));
        }
        if let Some(list) = nvidia_list(&json) {
            return Ok(Self::alone(Tee::Nvidia, json!({ "device_evidence_list": list })));
        }
        // A report as the processor's own tools print it, without its certificates.
        if json.get("chip_id").is_some() && json.get("reported_tcb").is_some() {
            return Ok(Self::alone(Tee::Snp, json!({ "attestation_report": json })));
        }
        Ok(Self::alone(shape(&json, tee)?, json))
    }
}

/// The devices in the forms of NVIDIA's own tools: `evidences`, each with its `arch`; or the request to its remote
/// service, with `arch` once beside `evidence_list`.
fn nvidia_list(json: &Value) -> Option<Vec<Value>> {
    let list = json.get("evidences").or_else(|| json.get("evidence_list"))?.as_array()?;
    let outer = json.get("arch").cloned().unwrap_or(Value::Null);
    let device = |(number, one): (usize, &Value)| {
        let member = |name: &str| one.get(name).cloned();
        json!({
            "arch": member("arch").unwrap_or_else(|| outer.clone()),
            "uuid": member("uuid").unwrap_or_else(|| format!("device {number}").into()),
            "evidence": member("evidence"),
            "certificate": member("certificate"),
        })
    };
    Some(list.iter().enumerate().map(device).collect())
}

/// The TEE whose wire form this is (KBS protocol, section 3.11).
fn shape(evidence: &Value, given: Option<Tee>) -> Result<Tee> {
    if let Some(tee) = given {
        return Ok(tee);
    }
    let has = |member: &str| evidence.get(member).is_some();
    let of_quote = || {
        let quote = evidence.get("quote").and_then(Value::as_str)?;
        quote_tee(&STANDARD.decode(quote).ok()?)
    };
    let tee = match () {
        () if has("hcl_report") || has("report") && has("quote") => match has("td_quote") {
            true => Some(Tee::AzTdxVtpm),
            false => Some(Tee::AzSnpVtpm),
        },
        () if has("cc_eventlog") && has("quote") => of_quote().or(Some(Tee::Tdx)),
        () if has("quote") => of_quote(),
        () if has("attestation_report") && has("serial_number") => Some(Tee::Csv),
        () if has("attestation_report") => Some(Tee::Snp),
        () if has("ak_public") => Some(Tee::Tpm),
        () if has("attestation_document") => Some(Tee::Nitro),
        () if has("token") => Some(Tee::Cca),
        () if has("device_evidence_list") => Some(Tee::Nvidia),
        () => None,
    };
    tee.ok_or_else(|| {
        anyhow!("the JSON has the form of no TEE's evidence; name the TEE with --tee, as in `--tee snp`")
    })
}

/// The wire form of what a device gave.
fn of_bytes(raw: &[u8], given: Option<Tee>) -> Result<(Tee, Value)> {
    let tee = given.or_else(|| sniff(raw)).ok_or_else(|| {
        anyhow!("the bytes begin like no TEE's evidence; name the TEE with --tee, as in `--tee tdx`")
    })?;
    let primary = match tee {
        Tee::Tdx | Tee::Sgx => json!({ "quote": STANDARD.encode(raw) }),
        Tee::Snp => {
            // An extended report has its table of certificates behind it.
            let (report, table) = raw.split_at(raw.len().min(SNP_REPORT));
            coffer_core_evidence::snp::wire_of_raw(report, table)?
        }
        Tee::Nitro => json!({ "attestation_document": STANDARD.encode(raw) }),
        Tee::Cca => json!({ "token": raw }),
        // The certificates come with --certificate; the report says whether it is a switch's by its opaque data, and
        // the generation is only the attester's word.
        Tee::Nvidia => {
            json!({"device_evidence_list": [{"arch": "HOPPER", "evidence": STANDARD.encode(raw), "certificate": ""}]})
        }
        other => bail!("{other} evidence has no form in bytes; give its JSON"),
    };
    Ok((tee, primary))
}

fn sniff(raw: &[u8]) -> Option<Tee> {
    match raw {
        // Tags 399 and 907, the collection of CCA tokens.
        [0xd9, 0x01, 0x8f, ..] | [0xd9, 0x03, 0x8b, ..] => Some(Tee::Cca),
        // COSE_Sign1, tagged or not.
        [0xd2, 0x84, ..] | [0x84, 0x44, ..] => Some(Tee::Nitro),
        _ => quote_tee(raw).or_else(|| {
            let version = raw.get(..4)?;
            (raw.len() >= SNP_REPORT && matches!(version, [2..=5, 0, 0, 0])).then_some(Tee::Snp)
        }),
    }
}

/// SPEC: Intel's quote header, all versions: version, key type, TEE type.
fn quote_tee(quote: &[u8]) -> Option<Tee> {
    match quote.get(..8)? {
        [4..=5, 0, 2 | 3, 0, 0, 0, 0, 0] => Some(Tee::Sgx),
        [4..=5, 0, 2 | 3, 0, 0x81, 0, 0, 0] => Some(Tee::Tdx),
        // Version 3 has no TEE type; what stands there are the enclave's security versions.
        [3, 0, 2 | 3, 0, ..] => Some(Tee::Sgx),
        _ => None,
    }
}

/// Bytes that were written as hexadecimal or base64 text.
fn as_text(bytes: &[u8]) -> Option<Vec<u8>> {
    let text: String = std::str::from_utf8(bytes).ok()?.split_whitespace().collect();
    let text = text.strip_prefix("0x").unwrap_or(&text);
    let read = hex::decode(text).ok().or_else(|| STANDARD.decode(text).ok());
    read.filter(|read| !read.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn tee_of(bytes: &[u8]) -> Option<Tee> {
        Recorded::parse(bytes, None).ok().map(|found| found.tee)
    }

    #[test]
    fn a_quote_is_known_raw_in_hexadecimal_and_in_base64() {
        let quote: Vec<u8> = [&[4, 0, 2, 0, 0x81, 0, 0, 0][..], &[0; 1000]].concat();
        for form in [quote.clone(), hex::encode(&quote).into_bytes(), STANDARD.encode(&quote).into_bytes()] {
            let found = Recorded::parse(&form, None).unwrap();
            assert_eq!((found.tee, found.primary), (Tee::Tdx, json!({"quote": STANDARD.encode(&quote)})));
        }
        assert_eq!(tee_of(&[&[3, 0, 2, 0, 9, 0, 8, 0][..], &[1; 432]].concat()), Some(Tee::Sgx));
    }

    #[test]
    fn a_report_is_no_quote_though_both_begin_with_their_version() {
        for version in 2..=5 {
            let report = [&[version, 0, 0, 0][..], &[0; SNP_REPORT - 4]].concat();
            assert_eq!(sniff(&report), Some(Tee::Snp), "{version}");
        }
    }

    #[test]
    fn a_request_of_a_client_brings_what_it_answers() {
        let request = json!({
            "tee-evidence": {"primary_evidence": {"ak_public": ""}, "additional_evidence": "{}"},
            "runtime-data": {"nonce": "x"}, "init-data": {"format": "toml", "body": "text"},
        });
        let found = Recorded::parse(request.to_string().as_bytes(), None).unwrap();
        assert_eq!((found.tee, found.additional.as_str()), (Tee::Tpm, "{}"));
        assert_eq!(found.runtime_data, Some(json!({"nonce": "x"})));
        assert_eq!(found.init_data.as_deref(), Some("text"));
    }

    #[test]
    fn the_forms_of_vendors_own_tools_are_read() {
        let device = json!({"arch": "HOPPER", "uuid": "GPU-1", "evidence": "EeA=", "certificate": "LS0t"});
        let list = |found: &Recorded| found.primary["device_evidence_list"][0].clone();
        let forms = [
            json!([device]),
            json!({"evidences": [device], "result_code": 0}),
            json!({"nonce": "00", "arch": "HOPPER", "evidence_list": [
                {"uuid": "GPU-1", "evidence": "EeA=", "certificate": "LS0t"},
            ]}),
        ];
        for form in forms {
            let found = Recorded::parse(form.to_string().as_bytes(), None).unwrap();
            assert_eq!((found.tee, list(&found)), (Tee::Nvidia, device.clone()), "{form}");
        }
        let report = json!({"version": 3, "chip_id": [0], "reported_tcb": {"snp": 1}});
        let found = Recorded::parse(report.to_string().as_bytes(), None).unwrap();
        assert_eq!((found.tee, &found.primary["attestation_report"]), (Tee::Snp, &report));
        assert_eq!(tee_of(&[0xd9, 0x03, 0x8b, 0xa0]), Some(Tee::Cca));
    }

    #[test]
    fn what_is_of_no_tee_says_how_to_name_it() {
        for bytes in [&b"{}"[..], b"hello", b"", &[0xff; 64]] {
            let error = Recorded::parse(bytes, None).expect_err("must be refused").to_string();
            assert!(error.contains("--tee"), "{error}");
        }
    }
}
