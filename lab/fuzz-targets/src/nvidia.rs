//! NVIDIA devices: the list, reports, manifests and answers about certificates.

use coffer_core_evidence::nvidia::DeviceList;
use coffer_verify_api::Timestamp;
use coffer_verify_nvidia::{NvidiaJudge, Report, rim_values, verify_ocsp};
use coffer_verify_x509::Certificate;

/// Reads a list of devices and the reports in it.
pub fn nvidia_evidence(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else { return };
    let Ok(list) = DeviceList::parse(&value) else { return };
    for device in &list.device_evidence_list {
        nvidia_report(&device.evidence);
    }
    // Text is read as hexadecimal where it begins as that of a report does; base64 of a report never does.
    let are_reports = |list: &DeviceList| {
        list.device_evidence_list.iter().all(|device| matches!(device.evidence.first(), Some(0x10..=0x1f)))
    };
    if are_reports(&list) {
        let written = serde_json::to_value(&list).unwrap();
        assert_eq!(DeviceList::parse(&written).unwrap(), list);
    }
}

/// Reads a report of a GPU and of a switch.
pub fn nvidia_report(data: &[u8]) {
    for is_switch in [false, true] {
        let Ok(report) = Report::parse(data, is_switch) else { continue };
        let (signed, signature) = report.split(data).unwrap();
        assert_eq!(signed.len() + signature.len(), data.len());
        let _ =
            (report.opaque.driver_version(), report.opaque.vbios_version(), report.opaque.nvdec_enabled());
        let _ = report.opaque.json();
    }
}

/// Reads a manifest, makes its canonical form and verifies its signature.
pub fn nvidia_rim(data: &[u8]) {
    let values = rim_values(data);
    // Nothing that a fuzzer makes is signed under NVIDIA's root.
    NvidiaJudge::new().verified_rim(data, Timestamp::UNIX_EPOCH).unwrap_err();
    if let Ok(values) = values {
        assert!(values.measurements.iter().any(|measurement| measurement.active));
    }
}

/// Reads an answer about a certificate.
pub fn nvidia_ocsp(data: &[u8]) {
    const ROOT: &[u8] = include_bytes!("../../../verify/nvidia/roots/device-identity-ca.pem");
    let root = Certificate::parse_pem(ROOT).unwrap().remove(0);
    verify_ocsp(data, &root, &root).unwrap_err();
}

/// A report with two measurements, some fields and a signature of zeros; the same behind the newer header.
pub(crate) fn report_seeds() -> Vec<Vec<u8>> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
    let fields: [(u16, &[u8]); 7] = [
        (6, &[0, 0x9f, 0, 0x96, 1, 0, 0, 0]),
        (3, b"550.90.07\0"),
        (12, &[1, 0, 0, 0, 2, 0, 0, 0]),
        (11, &[0x55]),
        (22, &[7; 16]),
        (34, &[1, 0]),
        (36, &[2, 0]),
    ];
    let opaque = |typed: bool| -> Vec<u8> {
        let kind: &[u8] = if typed { &[0x87, 0] } else { &[] };
        let head: &[u8] = if typed { b"NVDAOD\0\0\x01\0\0\0" } else { &[] };
        let field =
            |(number, bytes): &(u16, &[u8])| [&number.to_le_bytes()[..], kind, &sized(bytes)].concat();
        [head, &fields.iter().flat_map(field).collect::<Vec<u8>>()].concat()
    };
    let report = |typed: bool| -> Vec<u8> {
        let block =
            |index: u8| [&[index, 1][..], &sized(&[&[1][..], &sized(&[index; 48])].concat())].concat();
        let record = [block(1), block(2)].concat();
        let request = [&[0x11, 0xe0, 1, 0xff][..], &[9; 32], &[0]].concat();
        let length = (record.len() as u32).to_le_bytes();
        let response =
            [&[0x11, 0x60, 0, 0, 2][..], &length[..3], &record, &[8; 32], &sized(&opaque(typed))].concat();
        [request, response, vec![0; 96]].concat()
    };
    vec![report(false), report(true)]
}

pub(crate) fn evidence_seeds() -> Vec<Vec<u8>> {
    let device = |evidence: &Vec<u8>| {
        let hex: String = evidence.iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::json!({"arch": "HOPPER", "uuid": "GPU-1", "evidence": hex, "certificate": "LS0t"})
    };
    let list: Vec<_> = report_seeds().iter().map(device).collect();
    vec![serde_json::to_vec(&serde_json::json!({"device_evidence_list": list})).unwrap()]
}

/// A manifest with all its parts and a signature that is not valid.
pub(crate) fn rim_seeds() -> Vec<Vec<u8>> {
    const ROOT: &str = include_str!("../../../verify/nvidia/roots/corim-signing-root-ca.pem");
    let root: String = ROOT.lines().filter(|line| !line.starts_with('-')).collect();
    let hash = "00".repeat(48);
    let text = format!(
        "<?xml version=\"1.0\"?>\n<SoftwareIdentity xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\" \
         xmlns:h=\"http://www.w3.org/2001/04/xmlenc#sha384\" tagId=\"t\"><Meta product=\"GH100\" \
         colloquialVersion=\"550.90.07\" a='&lt;&#x41;'/><Payload><Resource type=\"Measurement\" index=\"1\" \
         active=\"True\" alternatives=\"1\" name=\"M\" size=\"48\" h:Hash0=\"{hash}\"/></Payload>\
         <ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo>\
         <ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"/>\
         <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"/>\
         <ds:Reference URI=\"\"><ds:Transforms>\
         <ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>\
         <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"/>\
         <ds:DigestValue>AAAA</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>AAAA\
         </ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{root}</ds:X509Certificate></ds:X509Data>\
         </ds:KeyInfo></ds:Signature></SoftwareIdentity>\n"
    );
    vec![text.into_bytes()]
}

/// An answer with one status, unsigned.
pub(crate) fn ocsp_seeds() -> Vec<Vec<u8>> {
    let der = |tag: u8, content: &[u8]| -> Vec<u8> {
        let length = content.len();
        let head = if length < 0x80 {
            vec![tag, length as u8]
        } else {
            vec![tag, 0x82, (length >> 8) as u8, length as u8]
        };
        // Lengths from 0x80 to 0xff would need one octet; what is longer is padded beyond.
        [head, content.to_vec()].concat()
    };
    let time = der(0x18, b"20260101000000Z");
    let hash = der(4, &[1; 32]);
    let sha256 = der(0x30, &der(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]));
    let id = der(0x30, &[sha256, hash.clone(), hash, der(2, &[1])].concat());
    let revoked = der(0xa1, &[time.clone(), der(0xa0, &der(10, &[6]))].concat());
    let single = der(0x30, &[id, revoked, time.clone(), vec![0; 128]].concat());
    let data =
        der(0x30, &[der(0xa2, &der(4, &[2; 20])), time, der(0x30, &[single, vec![0; 64]].concat())].concat());
    let algorithm = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]));
    let basic = der(0x30, &[data, algorithm, der(3, &[0; 72])].concat());
    let kind = der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
    let bytes = der(0xa0, &der(0x30, &[kind, der(4, &basic)].concat()));
    vec![der(0x30, &[der(10, &[0]), bytes].concat()), vec![0x30, 3, 10, 1, 6]]
}
