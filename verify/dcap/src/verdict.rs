//! What is known of a platform whose quote is genuine, as posture and as claims.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_verify_api::{Check, Posture, Tcb, TcbStatus};
use serde_json::{Map, Value, json};

use crate::pck::PckExtension;
use crate::window::{Window, text};

/// What certificates and collateral say of a platform.
#[derive(Clone, Debug)]
pub struct PlatformVerdict {
    pub(crate) pck: PckExtension,
    pub(crate) tee_tcb_svn: Option<[u8; 16]>,
    pub(crate) qe_svn: u16,
    pub(crate) status: TcbStatus,
    pub(crate) date: String,
    pub(crate) advisories: Vec<String>,
    /// Of the TCB that runs now, where it may be another than the one at launch (TDX 1.5).
    pub(crate) current: Option<(TcbStatus, String, Vec<String>)>,
    pub(crate) evaluation: u32,
    pub(crate) window: Window,
    pub(crate) stale: bool,
    pub(crate) root_key: Option<Vec<u8>>,
    pub(crate) root_list: Option<Vec<u8>>,
    pub(crate) pck_list: Option<Vec<u8>>,
}

impl PlatformVerdict {
    /// What the platform's certificate says.
    pub const fn pck(&self) -> &PckExtension {
        &self.pck
    }

    /// What Intel says of the platform's TCB, with all its parts.
    pub const fn status(&self) -> TcbStatus {
        self.status
    }

    /// The advisories that apply.
    pub fn advisories(&self) -> &[String] {
        &self.advisories
    }

    /// The patch level, for owners to decide on.
    pub fn tcb(&self) -> Tcb {
        let mut components = BTreeMap::new();
        let named = |name: &str, svns: &[u8; 16], components: &mut BTreeMap<String, u64>| {
            for (svn, number) in svns.iter().zip(1_u8..) {
                components.insert(format!("{name}-{number:02}"), u64::from(*svn));
            }
        };
        named("sgx", &self.pck.components, &mut components);
        if let Some(svns) = &self.tee_tcb_svn {
            named("tdx", svns, &mut components);
        }
        components.insert("pce".into(), u64::from(self.pck.pce_svn));
        components.insert("qe".into(), u64::from(self.qe_svn));
        Tcb {
            status: Some(self.status),
            date: Some(self.date.clone()),
            advisories: self.advisories.clone(),
            evaluation: Some(self.evaluation),
            components,
        }
    }

    /// What owners decide on and every TEE of Intel's has: TCB, chip, generation, the age of collateral.
    pub fn posture(&self) -> Posture {
        Posture {
            tcb: Some(self.tcb()),
            chip: Some(self.chip()),
            generation: Some(self.generation()),
            stale_collateral: Some(self.stale),
            ..Posture::default()
        }
    }

    /// What names this one platform: its instance id if it has several packages, else its provisioning id.
    pub fn chip(&self) -> String {
        self.pck.platform_instance_id.map_or_else(|| hex::encode(self.pck.ppid), hex::encode)
    }

    /// The FMSPC.
    pub fn generation(&self) -> String {
        hex::encode(self.pck.fmspc)
    }

    /// The claims that Intel's library tells beside its result, by the names that policies know them by.
    pub fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("tcb_status", self.status.name().into());
        say("tcb_date", self.date.clone().into());
        say("advisory_ids", self.advisories.clone().into());
        if let Some((status, date, advisories)) = &self.current {
            say("tcb_status_current", status.name().into());
            say("tcb_date_current", date.clone().into());
            say("advisory_ids_current", advisories.clone().into());
        }
        say("collateral_expiration_status", if self.stale { "1" } else { "0" }.into());
        say("earliest_issue_date", text(self.window.earliest).into());
        say("latest_issue_date", text(self.window.latest).into());
        say("earliest_expiration_date", text(self.window.until).into());
        say("pck_crl_num", number(self.pck_list.as_deref()));
        say("root_ca_crl_num", number(self.root_list.as_deref()));
        say("tcb_eval_num", self.evaluation.into());
        say("platform_provider_id", hex::encode(self.pck.ppid).into());
        let sgx_type = match self.pck.sgx_type {
            0 => "Standard".to_owned(),
            1 => "Scalable".to_owned(),
            2 => "Scalable with Integrity".to_owned(),
            other => format!("Unknown ({other})"),
        };
        say("sgx_type", sgx_type.into());
        if self.pck.sgx_type > 0 {
            say("is_dynamic_platform", self.pck.dynamic_platform.unwrap_or(false).into());
            say("is_cached_keys", self.pck.cached_keys.unwrap_or(false).into());
            say("is_smt_enabled", self.pck.smt_enabled.unwrap_or(false).into());
        }
        let root = self.root_key.as_deref().map(|key| Digest::of(Algorithm::Sha384, key).hex());
        say("root_key_id", root.unwrap_or_default().into());
        if let Some(id) = self.pck.platform_instance_id {
            say("platform_instance_id", hex::encode(id).into());
        }
        say("fmspc", hex::encode(self.pck.fmspc).into());
        say("pce_svn", json!(self.pck.pce_svn));
        claims
    }

    pub(crate) fn status_check(&self, prefix: &str) -> Check {
        let named = match self.advisories.is_empty() {
            true => self.status.name().to_owned(),
            false => format!("{}: {}", self.status, self.advisories.join(", ")),
        };
        // Whether it is good enough is for the owner to say, not for the judge.
        Check::informational(
            format!("{prefix}.tcb.status"),
            format!("Intel says of the TCB of {}:", self.date),
        )
        .found(named)
        .source("Intel SGX and TDX Provisioning Certification Service API, version 4")
    }
}

/// A list's number, as a number where it fits.
fn number(octets: Option<&[u8]>) -> Value {
    let Some(octets) = octets else { return Value::Null };
    match octets.len() {
        0..=8 => octets.iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet)).into(),
        _ => hex::encode(octets).into(),
    }
}
