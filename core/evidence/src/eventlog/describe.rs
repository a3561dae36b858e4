//! What an event's data says, for people. Nothing here is believed by a judge.

use std::fmt;

use super::{Event, EventType};

/// The tag of Linux's initrd event (`INITRD_EVENT_TAG_ID` of the EFI stub).
pub const LINUX_INITRD_TAG: u32 = 0x8f3b_22ec;
/// The tag of Linux's command line event (`LOAD_OPTIONS_EVENT_TAG_ID` of the EFI stub).
pub const LINUX_LOAD_OPTIONS_TAG: u32 = 0x8f3b_22ed;

/// What an event's data says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Description {
    /// A firmware volume by its place in memory.
    FirmwareBlob {
        /// Physical address.
        base: u64,
        /// Bytes.
        length: u64,
    },
    /// A UEFI variable.
    Variable {
        /// The vendor's GUID.
        vendor: String,
        /// The name.
        name: String,
        /// The value's length in bytes.
        length: usize,
    },
    /// A program that was started.
    Image {
        /// Bytes in memory.
        length: u64,
        /// The device path, in text.
        path: String,
    },
    /// A tagged event, as Linux makes them.
    Tagged {
        /// The tag.
        tag: u32,
        /// Its text.
        text: String,
    },
    /// The end of a phase. Any other value than zero says that the firmware met an error.
    Separator {
        /// The value.
        value: u32,
    },
    /// A text.
    Text(String),
    /// Data without a known form.
    Opaque {
        /// Its length in bytes.
        length: usize,
    },
}

impl Event {
    /// What the event's data says.
    pub fn describe(&self) -> Description {
        let opaque = Description::Opaque { length: self.data.len() };
        let found = match self.kind {
            EventType::EFI_PLATFORM_FIRMWARE_BLOB => blob(&self.data),
            EventType::EFI_VARIABLE_DRIVER_CONFIG
            | EventType::EFI_VARIABLE_BOOT
            | EventType::EFI_VARIABLE_BOOT2
            | EventType::EFI_VARIABLE_AUTHORITY => variable(&self.data),
            EventType::EFI_BOOT_SERVICES_APPLICATION
            | EventType::EFI_BOOT_SERVICES_DRIVER
            | EventType::EFI_RUNTIME_SERVICES_DRIVER => image(&self.data),
            EventType::EVENT_TAG => tagged(&self.data),
            EventType::SEPARATOR => self
                .data
                .as_slice()
                .try_into()
                .ok()
                .map(|value| Description::Separator { value: u32::from_le_bytes(value) }),
            // Loaders write texts here, GRUB in ASCII and systemd-boot in UTF-16.
            EventType::IPL => text(&self.data).or_else(|| wide_text(&self.data)).map(Description::Text),
            _ => text(&self.data).map(Description::Text),
        };
        found.unwrap_or(opaque)
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirmwareBlob { base, length } => {
                write!(f, "firmware volume of {length} bytes at {base:#x}")
            }
            Self::Variable { name, length, .. } => write!(f, "variable {name} ({length} bytes)"),
            Self::Image { length, path } => write!(f, "program of {length} bytes from {path}"),
            Self::Tagged { text, .. } | Self::Text(text) => f.write_str(text),
            Self::Separator { value: 0 } => f.write_str("separator"),
            Self::Separator { value } => write!(f, "separator with the error value {value:#x}"),
            Self::Opaque { length } => write!(f, "{length} bytes"),
        }
    }
}

/// The bytes that Linux's EFI stub hashes for the command line `text`: UTF-16LE with a NUL at the end.
pub fn command_line_bytes(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    let end = at.checked_add(8)?;
    data.get(at..end)?.try_into().ok().map(u64::from_le_bytes)
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    data.get(at..end)?.try_into().ok().map(u32::from_le_bytes)
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    let end = at.checked_add(2)?;
    data.get(at..end)?.try_into().ok().map(u16::from_le_bytes)
}

fn blob(data: &[u8]) -> Option<Description> {
    (data.len() == 16).then_some(())?;
    Some(Description::FirmwareBlob { base: u64_at(data, 0)?, length: u64_at(data, 8)? })
}

/// SPEC: PFP 10.2.6, `UEFI_VARIABLE_DATA`.
fn variable(data: &[u8]) -> Option<Description> {
    let vendor = guid(data.get(..16)?)?;
    let units = usize::try_from(u64_at(data, 16)?).ok()?;
    let length = usize::try_from(u64_at(data, 24)?).ok()?;
    let end = units.checked_mul(2)?.checked_add(32)?;
    let name = utf16(data.get(32..end)?);
    Some(Description::Variable { vendor, name, length })
}

/// SPEC: PFP 10.2.3, `UEFI_IMAGE_LOAD_EVENT`.
fn image(data: &[u8]) -> Option<Description> {
    let length = u64_at(data, 8)?;
    let size = usize::try_from(u64_at(data, 24)?).ok()?;
    let path = data.get(32..32usize.checked_add(size)?)?;
    Some(Description::Image { length, path: device_path(path) })
}

/// SPEC: PFP 10.2.7, `TCG_PCClientTaggedEvent`.
fn tagged(data: &[u8]) -> Option<Description> {
    let tag = u32_at(data, 0)?;
    let size = usize::try_from(u32_at(data, 4)?).ok()?;
    let body = data.get(8..8usize.checked_add(size)?)?;
    let text = match tag {
        LINUX_INITRD_TAG => "Linux initrd".to_owned(),
        LINUX_LOAD_OPTIONS_TAG => "Linux command line".to_owned(),
        _ => text(body).unwrap_or_else(|| format!("{} bytes", body.len())),
    };
    Some(Description::Tagged { tag, text })
}

fn text(data: &[u8]) -> Option<String> {
    let data = data.strip_suffix(&[0]).unwrap_or(data);
    let text = std::str::from_utf8(data).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn wide_text(data: &[u8]) -> Option<String> {
    let latin = data.chunks_exact(2).all(|pair| pair.last() == Some(&0));
    let text = utf16(data);
    (latin && !text.is_empty()).then_some(text)
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_le_bytes);
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .filter(|c| !c.is_control())
        .collect()
}

fn guid(bytes: &[u8]) -> Option<String> {
    let tail = bytes.get(8..16)?;
    Some(format!(
        "{:08x}-{:04x}-{:04x}-{}-{}",
        u32_at(bytes, 0)?,
        u16_at(bytes, 4)?,
        u16_at(bytes, 6)?,
        hex::encode(tail.get(..2)?),
        hex::encode(tail.get(2..)?)
    ))
}

/// A device path in text, in the manner of the UEFI specification (section 10.6). Nodes without a text here are
/// shown by their numbers.
pub fn device_path(bytes: &[u8]) -> String {
    let mut nodes = Vec::new();
    let mut rest = bytes;
    while let (Some((&[kind, subtype], _)), Some(length)) = (rest.split_first_chunk::<2>(), u16_at(rest, 2)) {
        let Some((node, after)) = rest.split_at_checked(usize::from(length)) else { break };
        let Some(body) = node.get(4..) else { break };
        if kind == 0x7f {
            break;
        }
        nodes.push(match (kind, subtype) {
            (1, 1) => match body {
                [function, device, ..] => format!("Pci({device:#x},{function:#x})"),
                _ => "Pci".to_owned(),
            },
            (2, 1) => {
                format!("Acpi({:#x},{:#x})", u32_at(body, 0).unwrap_or(0), u32_at(body, 4).unwrap_or(0))
            }
            (4, 3) => format!("VenMedia({})", guid(body).unwrap_or_default()),
            (4, 4) => utf16(body),
            (4, 6) => format!("FvFile({})", guid(body).unwrap_or_default()),
            (4, 7) => format!("Fv({})", guid(body).unwrap_or_default()),
            _ => format!("Path({kind},{subtype})"),
        });
        rest = after;
    }
    nodes.join("/")
}
