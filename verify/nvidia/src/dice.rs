//! What a device's certificate says of the device: its firmware's digest and its serial number.
//!
//! SPEC: TCG DICE Attestation Architecture 1.1, section 6.1 (`DiceTcbInfo`); NVIDIA's older devices put an earlier
//! structure (`CompositeDeviceID`) under the same identifier. DMTF DSP0274 gives the name of a device.

use coffer_verify_x509::Certificate;
use coffer_verify_x509::der::{Reader, tag};

const DICE: &str = "2.23.133.5.4.1";
const DICE_ALIAS: &str = "2.23.133.5.4.1.1";
const ALTERNATIVE_NAME: &str = "2.5.29.17";
/// `id-DMTF-device-info`, 1.3.6.1.4.1.412.274.1.
const DMTF_DEVICE: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x83, 0x1c, 0x82, 0x12, 1];
/// `fwids` of `DiceTcbInfo`.
const FWIDS: u8 = 0xa6;
const FWID_LEN: usize = 48;

/// The digest of the firmware that holds the key, if the certificate names one.
pub(crate) fn fwid(certificate: &Certificate) -> Option<Vec<u8>> {
    let value = [DICE, DICE_ALIAS].iter().find_map(|oid| certificate.extension(oid))?;
    let structured = structured(value).map(<[u8]>::to_vec);
    // Some devices append the digest to bytes of their own.
    let tail = || value.len().checked_sub(FWID_LEN).and_then(|start| value.get(start..)).map(<[u8]>::to_vec);
    structured.or_else(tail).filter(|fwid| fwid.len() == FWID_LEN)
}

fn structured(value: &[u8]) -> Option<&[u8]> {
    let mut outer = Reader::new(value);
    let mut fields = outer.sequence("device information").ok()?;
    outer.end("device information").ok()?;
    // CompositeDeviceID may be wrapped together with its identifier.
    if fields.peek() == Some(tag::OID) {
        fields.any("identifier").ok()?;
        fields = fields.sequence("composite device identity").ok()?;
    }
    let mut last = None;
    while !fields.is_empty() {
        let element = fields.any("device information").ok()?;
        match element.tag {
            FWIDS => return hash(Reader::new(element.content)),
            tag::SEQUENCE => last = Some(element.whole),
            _ => {}
        }
    }
    hash(Reader::new(last?))
}

/// `FWID ::= SEQUENCE { hashAlg, digest }`, the first of them.
fn hash(mut list: Reader<'_>) -> Option<&[u8]> {
    let mut fwid = list.sequence("fwid").ok()?;
    fwid.expect(tag::OID, "hashAlg").ok()?;
    fwid.expect(tag::OCTET_STRING, "digest").ok().map(|digest| digest.content)
}

/// `NVIDIA:GH100:48B02D92494BADF4`: who made it, what it is, which one it is.
pub(crate) fn device_info(certificate: &Certificate) -> Option<(String, String)> {
    let mut names = Reader::new(certificate.extension(ALTERNATIVE_NAME)?).sequence("names").ok()?;
    while !names.is_empty() {
        let name = names.any("a name").ok()?;
        // otherName is the first choice.
        if name.tag != 0xa0 {
            continue;
        }
        let mut other = Reader::new(name.content);
        if other.expect(tag::OID, "the name's kind").ok()?.content != DMTF_DEVICE {
            continue;
        }
        let text = Reader::new(other.any("the name").ok()?.content).any("the name").ok()?.content;
        let text = std::str::from_utf8(text).ok()?;
        let parts: Vec<&str> = text.split(':').collect();
        return match parts.as_slice() {
            [_, product, serial] if !serial.is_empty() => Some(((*product).to_owned(), (*serial).to_owned())),
            _ => None,
        };
    }
    None
}
