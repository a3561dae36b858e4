//! The table of certificates that a host hands to its guest beside a report (GHCB, section 4.1.8.1).

use super::SnpError;

/// A host's table fits into a few pages.
const MAX_TABLE: usize = 64 << 10;
const MAX_ENTRIES: usize = 16;
/// Identifier, offset and length.
const ENTRY: usize = 24;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// AMD's root for a product.
    Ark,
    /// The key below it that certifies chips' keys, or providers'.
    Ask,
    /// A chip's own key.
    Vcek,
    /// A key that a cloud provider loaded.
    Vlek,
    /// A revocation list.
    Crl,
    /// An entry with nothing in it.
    Empty,
    /// Something else, by its identifier.
    Other(String),
}

const NAMED: [(&str, CertificateKind, [u8; 16]); 6] = [
    ("ARK", CertificateKind::Ark, 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes()),
    ("ASK", CertificateKind::Ask, 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes()),
    ("VCEK", CertificateKind::Vcek, 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes()),
    ("VLEK", CertificateKind::Vlek, 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes()),
    ("CRL", CertificateKind::Crl, 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes()),
    ("Empty", CertificateKind::Empty, [0; 16]),
];

impl CertificateKind {
    /// The name that peers write in JSON; none for [`CertificateKind::Other`].
    pub fn name(&self) -> Option<&'static str> {
        NAMED.iter().find(|(_, kind, _)| kind == self).map(|(name, _, _)| *name)
    }

    /// The kind of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        NAMED.iter().find(|(known, _, _)| *known == name).map(|(_, kind, _)| kind.clone())
    }

    /// The kind of an identifier.
    pub fn of_identifier(identifier: &[u8; 16]) -> Self {
        let known = NAMED.iter().find(|(_, _, known)| known == identifier);
        known.map_or_else(|| Self::Other(grouped(identifier)), |(_, kind, _)| kind.clone())
    }
}

/// The text form of an identifier (RFC 9562, section 4).
fn grouped(identifier: &[u8; 16]) -> String {
    let mut text = hex::encode(identifier);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

/// One certificate, in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEntry {
    /// What it is.
    pub kind: CertificateKind,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Reads the table of an extended report, as `SNP_GET_EXT_REPORT` and configfs-tsm's `auxblob` give it. A table of
/// nothing but zeros, or none at all, has no certificates.
pub fn parse_certificate_table(table: &[u8]) -> Result<Vec<CertificateEntry>, SnpError> {
    if table.len() > MAX_TABLE {
        return Err(SnpError::TooMuch {
            what: "bytes of certificates",
            limit: MAX_TABLE,
            found: table.len(),
        });
    }
    let mut entries = Vec::new();
    let mut rest = table;
    while let Some((entry, after)) = rest.split_first_chunk::<ENTRY>() {
        let (identifier, place) =
            entry.split_first_chunk::<16>().ok_or(SnpError::Table("an entry is cut"))?;
        if *identifier == [0; 16] {
            return Ok(entries);
        }
        let number =
            |from: Option<&[u8; 4]>| from.and_then(|bytes| usize::try_from(u32::from_le_bytes(*bytes)).ok());
        let (Some(offset), Some(length)) = (number(place.first_chunk()), number(place.last_chunk())) else {
            return Err(SnpError::Table("an entry is cut"));
        };
        let end = offset.checked_add(length);
        let data = end.and_then(|end| table.get(offset..end));
        let data = data.ok_or(SnpError::Table("an entry points outside"))?.to_vec();
        if entries.len() >= MAX_ENTRIES {
            return Err(SnpError::TooMuch { what: "certificates", limit: MAX_ENTRIES, found: entries.len() });
        }
        entries.push(CertificateEntry { kind: CertificateKind::of_identifier(identifier), data });
        rest = after;
    }
    match table.is_empty() {
        true => Ok(entries),
        false => Err(SnpError::Table("it has no last entry")),
    }
}
