//! Appraisals: a refusal that is explained beside an acceptance, and a policy that was compiled once beside one that
//! is compiled each time.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::ReportData;
use coffer_core_evidence::ar4si::Status;
use coffer_core_launch::ReferenceValues;
use coffer_core_policy::{AppraisalPolicy, NamedValues};
use coffer_verify_api::{Judgement, NoCollateral, Question, Timestamp, Verified, Verifier};
use coffer_verify_appraisal::{PlatformPolicy, Sent, Standards, annotated_evidence, appraise};
use serde_json::{Value, json};

use crate::clock::us;
use crate::judges::each;
use crate::release::Guests;

/// A policy for every machine's TEE, in upstream's dialect. Upstream's own is measured where a folder has it.
const EXAMPLE: &str = include_str!("../../../server/http/policies/examples/appraisal.rego");

/// Measures and prints.
pub(crate) fn measure(rounds: u32) -> Result<()> {
    let guests = Guests::new();
    refusal(&guests, rounds)?;
    let claims = guests.claims()?;
    policy("the example policy", EXAMPLE, &claims, rounds)?;
    match std::env::var_os("COFFER_TRUSTEE_POLICIES") {
        Some(folder) => {
            let file = std::path::Path::new(&folder).join("cpu.rego");
            let rego = std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            policy("Trustee's default CPU policy", &rego, &claims, rounds)
        }
        None => {
            println!(
                "  skipped: Trustee's own policy (COFFER_TRUSTEE_POLICIES names no folder with cpu.rego)"
            );
            Ok(())
        }
    }
}

fn refusal(guests: &Guests, rounds: u32) -> Result<()> {
    let at = Timestamp::now();
    let judge = guests.judge();
    let report_data = ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"));
    let evidence = guests.evidence_of(&report_data);
    let (right, wrong) = (guests.reference(), guests.other_reference());
    let (right, wrong) = (reference(&right)?, reference(&wrong)?);
    let platform = PlatformPolicy::default();
    let verdict = |references: &ReferenceValues, wanted: Status| {
        each(rounds, || {
            let question = Question {
                evidence: &evidence,
                report_data: &report_data,
                init_data: None,
                collateral: &NoCollateral,
                at,
            };
            let Judgement::Verified(verified) = judge.verify(&question)? else {
                bail!("the evidence is refused")
            };
            let references = std::slice::from_ref(references);
            let standards = Standards { references, platform: &platform, policy: None };
            let verdict = appraise(&verified, &standards, &Sent::NOTHING, at);
            ensure!(verdict.status == wanted, "the verdict is {:?}, not {wanted:?}", verdict.status);
            black_box(verdict);
            Ok(())
        })
    };
    let accepted = verdict(&right, Status::Affirming)?;
    let refused = verdict(&wrong, Status::Contraindicated)?;
    println!("\nverdicts on a TPM's quote with thirty events, judged and appraised: CPU for one");
    println!(
        "  accepted {:.1} µs, refused with the event that differs {:.1} µs: {:.2}x (promise: at most 1.5x)",
        us(accepted),
        us(refused),
        refused.as_secs_f64() / accepted.as_secs_f64()
    );
    Ok(())
}

fn reference(json: &Value) -> Result<ReferenceValues> {
    Ok(ReferenceValues::from_json(json.to_string().as_bytes())?)
}

fn policy(name: &str, rego: &str, claims: &Value, rounds: u32) -> Result<()> {
    let values: NamedValues = BTreeMap::from([("tpm_pcr04".to_owned(), json!(["00"]))]).into_iter().collect();
    let once = AppraisalPolicy::compile(rego)?;
    let kept = each(rounds, || {
        black_box(once.appraise(claims, &values)?);
        Ok(())
    })?;
    let fresh = each(rounds.div_ceil(3), || {
        black_box(AppraisalPolicy::compile(rego)?.appraise(claims, &values)?);
        Ok(())
    })?;
    print_policy(name, rego.len(), kept, fresh);
    Ok(())
}

fn print_policy(name: &str, bytes: usize, kept: Duration, fresh: Duration) {
    println!(
        "  {name} ({bytes} bytes): {:.0} µs compiled once, {:.0} µs compiled each time: {:.1}x (promise: 5x)",
        us(kept),
        us(fresh),
        fresh.as_secs_f64() / kept.as_secs_f64()
    );
}

impl Guests {
    /// What a policy gets to see of them.
    fn claims(&self) -> Result<Value> {
        let report_data = ReportData::from_runtime_hash(Digest::of(Algorithm::Sha384, b"nonce and key"));
        let evidence = self.evidence_of(&report_data);
        let question = Question {
            evidence: &evidence,
            report_data: &report_data,
            init_data: None,
            collateral: &NoCollateral,
            at: Timestamp::now(),
        };
        let Judgement::Verified(verified) = self.judge().verify(&question)? else {
            bail!("the evidence is refused")
        };
        Ok(Value::Object(annotated_evidence(Verified::get(&verified), &Sent::NOTHING)))
    }
}
