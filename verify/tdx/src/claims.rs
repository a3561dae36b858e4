//! What a proven quote says, by names that policies and tokens use.

use std::collections::BTreeMap;

use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_evidence::dcap::{Quote, TdAttributes, TdReport};
use coffer_core_evidence::eventlog::{Event, EventType};
use coffer_verify_api::{Claims, Posture};
use coffer_verify_dcap::PlatformVerdict;
use serde_json::{Map, Value, json};

use crate::details;

pub(crate) fn claims(
    quote: &Quote<'_>,
    report: &TdReport,
    verdict: &PlatformVerdict,
    events: Option<Vec<Event>>,
) -> Claims {
    let attributes = report.td_attributes;
    let posture = Posture {
        // Profiling bits of the same group open the TD as well.
        debug: Some(attributes.has(TdAttributes::TUD)),
        migration: Some(attributes.has(TdAttributes::MIGRATABLE)),
        smt: verdict.pck().smt_enabled,
        service_td: Some(report.has_service_td()),
        ..verdict.posture()
    };
    Claims {
        tee: Tee::Tdx,
        hardware: true,
        registers: registers(report),
        posture,
        json: json(quote, report, verdict, events.as_deref()),
        events: events.unwrap_or_default(),
    }
}

fn registers(report: &TdReport) -> BTreeMap<String, Digest> {
    let [rtmr0, rtmr1, rtmr2, rtmr3] = &report.rtmrs;
    let named = [
        ("mrtd", &report.mr_td),
        ("mrconfigid", &report.mr_config_id),
        ("mrowner", &report.mr_owner),
        ("mrownerconfig", &report.mr_owner_config),
        ("mrseam", &report.mr_seam),
        ("mrsignerseam", &report.mr_signer_seam),
        ("rtmr0", rtmr0),
        ("rtmr1", rtmr1),
        ("rtmr2", rtmr2),
        ("rtmr3", rtmr3),
    ];
    let digest = |value: &[u8; 48]| Digest::from_bytes(Algorithm::Sha384, value).ok();
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), digest(value)?))).collect()
}

fn json(
    quote: &Quote<'_>,
    report: &TdReport,
    verdict: &PlatformVerdict,
    events: Option<&[Event]>,
) -> Map<String, Value> {
    let mut claims = verdict.claims();
    claims.extend(quote_claims(quote, report));
    if let Some(events) = events {
        claims.insert("uefi_event_logs".into(), details::uefi_event_log(events, Algorithm::Sha384).into());
        claims.insert("ccel".into(), ccel(events));
    }
    claims
}

/// What the quote itself says.
pub(crate) fn quote_claims(quote: &Quote<'_>, report: &TdReport) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut said = json!({"header": header(quote), "body": body(report)});
    if let (Some((kind, size)), Some(said)) = (quote.body_kind, said.as_object_mut()) {
        said.insert("type".into(), hex::encode(kind.to_le_bytes()).into());
        said.insert("size".into(), hex::encode(size.to_le_bytes()).into());
    }
    let attributes = report.td_attributes;
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("quote", said);
    say(
        "td_attributes",
        json!({
            "debug": attributes.has(TdAttributes::DEBUG),
            "key_locker": attributes.has(TdAttributes::KL),
            "perfmon": attributes.has(TdAttributes::PERFMON),
            "protection_keys": attributes.has(TdAttributes::PKS),
            "septve_disable": attributes.has(TdAttributes::SEPT_VE_DISABLE),
            "migratable": attributes.has(TdAttributes::MIGRATABLE),
        }),
    );
    say("report_data", hex::encode(report.report_data).into());
    say("init_data", hex::encode(report.mr_config_id).into());
    claims
}

fn header(quote: &Quote<'_>) -> Value {
    let header = &quote.header;
    json!({
        "version": hex::encode(header.version.to_le_bytes()),
        "att_key_type": hex::encode(header.key_type.to_le_bytes()),
        "tee_type": hex::encode(header.tee_type.to_le_bytes()),
        "reserved": hex::encode(header.reserved),
        "vendor_id": hex::encode(header.vendor_id),
        "user_data": hex::encode(header.user_data),
    })
}

fn body(report: &TdReport) -> Value {
    let [rtmr0, rtmr1, rtmr2, rtmr3] = &report.rtmrs;
    let mut body = json!({
        "tcb_svn": hex::encode(report.tee_tcb_svn),
        "mr_seam": hex::encode(report.mr_seam),
        "mrsigner_seam": hex::encode(report.mr_signer_seam),
        "seam_attributes": hex::encode(report.seam_attributes),
        "td_attributes": hex::encode(report.td_attributes.0),
        "xfam": hex::encode(report.xfam),
        "mr_td": hex::encode(report.mr_td),
        "mr_config_id": hex::encode(report.mr_config_id),
        "mr_owner": hex::encode(report.mr_owner),
        "mr_owner_config": hex::encode(report.mr_owner_config),
        "rtmr_0": hex::encode(rtmr0),
        "rtmr_1": hex::encode(rtmr1),
        "rtmr_2": hex::encode(rtmr2),
        "rtmr_3": hex::encode(rtmr3),
        "report_data": hex::encode(report.report_data),
    });
    let Some(said) = body.as_object_mut() else { return body };
    let mut say = |name: &str, value: &[u8]| said.insert(name.to_owned(), hex::encode(value).into());
    if let Some(td15) = &report.td15 {
        say("tee_tcb_svn2", &td15.tee_tcb_svn2);
        say("mr_servicetd", &td15.mr_service_td);
    }
    if let Some(ex) = &report.td15_ex {
        say("vm_id", &[ex.vm_id]);
        say("td_id", &ex.td_id);
        say("dev_info", &ex.dev_info);
        say("init_servicetd_hash", &ex.init_service_td_hash);
        say("init_servicetd_attributes", &ex.init_service_td_attributes);
        say("init_cpu_svn", &ex.init_cpu_svn);
        say("init_tee_tcb_svn", &ex.init_tee_tcb_svn);
        say("init_tee_fmspc", &ex.init_tee_fmspc);
        say("cur_servicetd_hash", &ex.cur_service_td_hash);
        say("cur_servicetd_attributes", &ex.cur_service_td_attributes);
    }
    body
}

/// What policies for releases of upstream before 0.12 ask for: digests by what they are of.
///
/// A log proves the digests and their order in each register, and not the texts beside most of them: whoever runs in
/// the guest may name an event as it likes. So these claims prove nothing alone; values of whole registers do. What
/// could be two events' is claimed of none.
fn ccel(events: &[Event]) -> Value {
    let mut said: BTreeMap<&str, Option<String>> = BTreeMap::new();
    // What the firmware measures when it is left (TCG PC Client Platform Firmware Profile, "EV_EFI_ACTION"). The
    // digest cannot be hidden by another name for its event.
    let leaving = Digest::of(Algorithm::Sha384, b"Exit Boot Services Invocation");
    let leaves = |event: &Event| event.register == 2 && event.digest(Algorithm::Sha384) == Some(&leaving);
    let end = events.iter().position(leaves).unwrap_or(events.len());
    for (place, event) in events.iter().enumerate() {
        let Some(digest) = event.digest(Algorithm::Sha384) else { continue };
        let text = String::from_utf8_lossy(&event.data);
        let name = match (event.kind, event.register) {
            // The firmware loads nothing after it was left.
            (EventType::EFI_BOOT_SERVICES_APPLICATION, 2) if is_kernel(event) && place < end => "kernel",
            (EventType::EFI_PLATFORM_FIRMWARE_BLOB2, 1 | 2) if text.contains("td_payload") => "kernel",
            (EventType::EVENT_TAG, 3) if text.contains("LOADED_IMAGE::LoadOptions") => "cmdline",
            (EventType::EVENT_TAG, 3) if text.contains("Linux initrd") => "initrd",
            _ => continue,
        };
        said.entry(name).and_modify(|known| *known = None).or_insert_with(|| Some(digest.hex()));
    }
    let said = said.into_iter().filter_map(|(name, digest)| Some((name.to_owned(), digest?.into())));
    Value::Object(said.collect())
}

fn is_kernel(event: &Event) -> bool {
    let named: Vec<u8> = "kernel\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    event.data.windows(named.len()).any(|window| window == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(register: u32, kind: EventType, data: &[u8], measured: &[u8]) -> Event {
        let digests = vec![Digest::of(Algorithm::Sha384, measured)];
        Event { register, kind, digests, data: data.to_vec() }
    }

    fn kernel(measured: &[u8]) -> Event {
        let path: Vec<u8> = "kernel\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        event(2, EventType::EFI_BOOT_SERVICES_APPLICATION, &path, measured)
    }

    fn leaving() -> Event {
        let text = b"Exit Boot Services Invocation";
        event(2, EventType::EFI_ACTION, text, text)
    }

    fn hex(measured: &[u8]) -> String {
        Digest::of(Algorithm::Sha384, measured).hex()
    }

    #[test]
    fn each_name_is_claimed_of_the_one_event_that_can_be_it() {
        let events = [
            kernel(b"kernel"),
            leaving(),
            event(3, EventType::EVENT_TAG, b"LOADED_IMAGE::LoadOptions", b"options"),
            event(3, EventType::EVENT_TAG, b"Linux initrd", b"initrd"),
        ];
        let expected =
            json!({"kernel": hex(b"kernel"), "cmdline": hex(b"options"), "initrd": hex(b"initrd")});
        assert_eq!(ccel(&events), expected);
        let payload = event(2, EventType::EFI_PLATFORM_FIRMWARE_BLOB2, b"td_payload", b"payload");
        assert_eq!(ccel(&[payload]), json!({"kernel": hex(b"payload")}));
    }

    #[test]
    fn a_running_kernel_cannot_name_another_one_in_its_place() {
        // Its own event under another name, and the approved one's after the firmware was left, whatever it is called.
        let own = event(2, EventType::EFI_BOOT_SERVICES_APPLICATION, b"shell", b"evil");
        let mut renamed = leaving();
        renamed.kind = EventType::EVENT_TAG;
        renamed.data.clear();
        for left in [leaving(), renamed] {
            assert_eq!(ccel(&[own.clone(), left.clone(), kernel(b"approved")]), json!({}));
            let claimed = ccel(&[kernel(b"evil"), left, kernel(b"approved")]);
            assert_eq!(claimed, json!({"kernel": hex(b"evil")}));
        }
    }

    #[test]
    fn what_could_be_two_events_is_claimed_of_none() {
        assert_eq!(ccel(&[kernel(b"evil"), kernel(b"approved")]), json!({}));
        for text in ["LOADED_IMAGE::LoadOptions", "Linux initrd"] {
            let tag =
                |register, measured: &[u8]| event(register, EventType::EVENT_TAG, text.as_bytes(), measured);
            assert_eq!(ccel(&[tag(3, b"evil"), tag(3, b"approved"), tag(3, b"third")]), json!({}));
            assert_eq!(ccel(&[tag(4, b"approved"), tag(2, b"approved")]), json!({}), "another register");
        }
    }
}
