//! An event log as claims, by the names and texts that policies written for upstream know.
//!
//! Only digests are proven. The texts are the log's own word, but where `digest_matches_event` says that the digest
//! covers them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Algorithm;
use coffer_core_evidence::eventlog::{AAEL_TAG, Event, EventType};
use serde_json::{Map, Value, json};

/// More nodes than any device path has.
const MAX_NODES: usize = 64;

/// The events as `uefi_event_logs`. The header of the log is none of them.
pub fn uefi_event_log(events: &[Event], bank: Algorithm) -> Vec<Value> {
    let is_header =
        |event: &Event| event.kind == EventType::NO_ACTION && event.data.starts_with(b"Spec ID Event03\0");
    events.iter().filter(|event| !is_header(event)).map(|event| entry(event, bank)).collect()
}

fn entry(event: &Event, bank: Algorithm) -> Value {
    let digest = event.digest(bank);
    let digests: Vec<Value> =
        digest.iter().map(|digest| json!({"alg": algorithm(bank), "digest": digest.hex()})).collect();
    json!({
        "index": event.register,
        "type_name": event.kind.name().map_or_else(|| format!("{:#010x}", event.kind.0), str::to_owned),
        "digests": digests,
        "event": STANDARD.encode(&event.data),
        "digest_matches_event": event.is_covered(bank),
        "details": details(event),
    })
}

fn algorithm(bank: Algorithm) -> String {
    let name = bank.name().to_uppercase();
    match name.strip_prefix("SHA") {
        Some(size) => format!("SHA-{size}"),
        None => name,
    }
}

/// What the event's data says. Data that does not have the form of its type says nothing.
fn details(event: &Event) -> Value {
    let data = event.data.as_slice();
    let found = match event.kind {
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY => variable(data),
        EventType::EFI_BOOT_SERVICES_APPLICATION
        | EventType::EFI_BOOT_SERVICES_DRIVER
        | EventType::EFI_RUNTIME_SERVICES_DRIVER => device_paths(data),
        EventType::EFI_HANDOFF_TABLES2 | EventType::EFI_PLATFORM_FIRMWARE_BLOB2 => described(data),
        EventType::EVENT_TAG => tagged(data),
        EventType::IPL => Some(string(&loader(data))),
        EventType::PLATFORM_CONFIG_FLAGS => {
            // td-shim puts a length between two texts, which upstream shows as a space.
            let text = std::str::from_utf8(data).unwrap_or_default().replace('\u{10}', " ");
            Some(string(&text.chars().filter(|c| !c.is_control()).collect::<String>()))
        }
        EventType::POST_CODE | EventType::POST_CODE2 | EventType::EFI_ACTION | EventType::ACTION => {
            std::str::from_utf8(data).ok().map(|text| string(text.trim_end_matches('\0')))
        }
        _ => None,
    };
    Value::Object(found.unwrap_or_default())
}

fn string(text: &str) -> Map<String, Value> {
    [("string".to_owned(), text.into())].into_iter().collect()
}

/// `UEFI_VARIABLE_DATA` (PFP, section 10.2.6).
fn variable(data: &[u8]) -> Option<Map<String, Value>> {
    let (guid, rest) = data.split_first_chunk::<16>()?;
    let (name_length, rest) = rest.split_first_chunk::<8>()?;
    let (data_length, rest) = rest.split_first_chunk::<8>()?;
    let (name_length, data_length) = (u64::from_le_bytes(*name_length), u64::from_le_bytes(*data_length));
    let (name, rest) = rest.split_at_checked(usize::try_from(name_length.checked_mul(2)?).ok()?)?;
    let value = rest.get(..usize::try_from(data_length).ok()?)?;
    let text = hex::encode(guid);
    // The groups as they are stored, which is how upstream shows them.
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let id = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-");
    let said = json!({
        "variable_name": id,
        "unicode_name": wide(name),
        "unicode_name_length": name_length,
        "variable_data": STANDARD.encode(value),
        "variable_data_length": data_length,
    });
    match said {
        Value::Object(said) => Some(said),
        _ => None,
    }
}

/// `UEFI_IMAGE_LOAD_EVENT` (PFP, section 10.2.3), then nodes of a device path (UEFI 2.11, section 10.3).
fn device_paths(data: &[u8]) -> Option<Map<String, Value>> {
    let (_, rest) = data.split_at_checked(24)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let mut path = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut nodes: Vec<String> = Vec::new();
    while let [kind, subtype, low, high, ..] = *path {
        let (node, after) = path.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        if kind == 0x7f {
            break;
        }
        if nodes.len() >= MAX_NODES {
            return None;
        }
        nodes.push(node_text(kind, subtype, node.get(4..)?));
        path = after;
    }
    match nodes.is_empty() {
        true => Some(Map::new()),
        false => Some([("device_paths".to_owned(), nodes.into())].into_iter().collect()),
    }
}

fn node_text(kind: u8, subtype: u8, body: &[u8]) -> String {
    let known = match (kind, subtype, body) {
        (1, 1, [function, device]) => Some(format!("Pci({function},{device})")),
        (2, 1, _) => acpi(body),
        (4, 1, _) => hard_drive(body),
        (4, 3, _) => body
            .split_first_chunk::<16>()
            .map(|(id, data)| format!("VenMedia({},{})", guid(id), hex::encode(data))),
        (4, 4, _) => Some(format!("File({})", wide(body))),
        _ => None,
    };
    known.unwrap_or_else(|| format!("Path({kind},{subtype},{})", hex::encode(body)))
}

fn acpi(body: &[u8]) -> Option<String> {
    let (hid, rest) = body.split_first_chunk::<4>()?;
    let (uid, _) = rest.split_first_chunk::<4>()?;
    let (hid, uid) = (u32::from_le_bytes(*hid), u32::from_le_bytes(*uid));
    // Three letters of five bits, then a product number (EISA id).
    let letter = |shift: u32| u8::try_from((hid >> shift) & 0x1f).unwrap_or(0).saturating_add(b'@');
    let letters: String = [10, 5, 0].map(|shift| char::from(letter(shift))).iter().collect();
    Some(format!("ACPI({letters}{:04X},{uid})", hid >> 16))
}

fn hard_drive(body: &[u8]) -> Option<String> {
    let (number, rest) = body.split_first_chunk::<4>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let number = u32::from_le_bytes(*number);
    let name = match rest.first()? {
        1 => format!("MBR,{:#010x}", id.first_chunk::<4>().map_or(0, |id| u32::from_le_bytes(*id))),
        2 => format!("GPT,{}", guid(id)),
        _ => return None,
    };
    let place = match number {
        0 => String::new(),
        _ => format!(",{:#x},{:#x}", u64::from_le_bytes(*start), u64::from_le_bytes(*size)),
    };
    Some(format!("HD({number},{name}{place})"))
}

fn guid(id: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *id;
    let text = hex::encode_upper([d, c, b, a, f, e, h, g]);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let tail = hex::encode_upper(rest);
    let (clock, node) = tail.split_at_checked(4).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), clock, node].join("-")
}

/// A length of one octet and a description (PFP, `UEFI_PLATFORM_FIRMWARE_BLOB2` and `UEFI_HANDOFF_TABLE_POINTERS2`).
fn described(data: &[u8]) -> Option<Map<String, Value>> {
    let (length, rest) = data.split_first()?;
    let text = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
    Some(string(text.trim_end_matches('\0')))
}

/// `TCG_PCClientTaggedEvent`; that of the attestation agent has three words.
fn tagged(data: &[u8]) -> Option<Map<String, Value>> {
    let (tag, rest) = data.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let text = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let text = std::str::from_utf8(text).ok()?.replace('\0', "");
    let mut said = string(&text);
    let mut words = text.splitn(3, ' ');
    if u32::from_le_bytes(*tag) == AAEL_TAG
        && let (Some(domain), Some(operation), Some(content)) = (words.next(), words.next(), words.next())
    {
        said.insert("unicode_name".into(), "AAEL".into());
        let content = serde_json::from_str(content).unwrap_or_else(|_| Value::from(content));
        said.insert("data".into(), json!({"domain": domain, "operation": operation, "content": content}));
    }
    Some(said)
}

/// What a boot loader measured: GRUB's and shim's texts end with a zero, Google's are UTF-16 behind "2e00".
fn loader(data: &[u8]) -> String {
    match data.strip_prefix(&[0x2e, 0]) {
        Some(rest) if rest.len().is_multiple_of(2) => wide(rest),
        _ => {
            let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
            let text = std::str::from_utf8(data.get(..end).unwrap_or_default());
            text.map_or_else(|_| hex::encode(data), str::to_owned)
        }
    }
}

/// UTF-16, little endian, until its zero.
fn wide(bytes: &[u8]) -> String {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units: Vec<u16> =
        pairs.iter().map(|pair| u16::from_le_bytes(*pair)).take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}
