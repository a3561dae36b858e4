//! Collateral: what owners import, and what services send.

use coffer_server_collateral::{documents, examine};
use coffer_verify_api::{CollateralKey, Document, PckCa};

/// A file to import: a bundle, a quote library's collateral, a document that says what it is.
pub fn collateral_import(input: &[u8]) {
    for name in ["import", "NV_GPU_DRIVER_GH100_1.xml", "manifest.json"] {
        let Ok(found) = documents(name, input.to_vec()) else { continue };
        for (key, document) in found {
            // What was recognised by its content is what its key asks for, or is refused before it is kept.
            assert_eq!(key.to_string().parse(), Ok(key.clone()));
            let _ = examine(&key, &document);
        }
    }
}

/// A service's answer: the first byte says what was asked for.
pub fn collateral_document(input: &[u8]) {
    let Some((kind, body)) = input.split_first() else { return };
    let keys = keys();
    let key = &keys[usize::from(*kind) % keys.len()];
    let (body, chain) = match body.iter().position(|byte| *byte == 0xff) {
        Some(at) => (&body[..at], &body[at + 1..]),
        None => (body, &body[..0]),
    };
    let document = Document::new(body.to_vec(), chain.to_vec());
    assert_eq!(examine(key, &document), examine(key, &document));
}

fn keys() -> [CollateralKey; 8] {
    [
        CollateralKey::TdxTcbInfo([0; 6]),
        CollateralKey::TdQeIdentity,
        CollateralKey::PckCrl(PckCa::Platform),
        CollateralKey::AmdVcek { product: "Milan".into(), chip: vec![1; 64], tcb: 0 },
        CollateralKey::AmdVcekChain("Milan".into()),
        CollateralKey::NvidiaRim("NV_1".into()),
        CollateralKey::NvidiaOcsp([0; 32]),
        CollateralKey::HygonHskCek("N1".into()),
    ]
}

const TCB_INFO: &str = "{\"tcbInfo\":{\"id\":\"TDX\",\"fmspc\":\"000000000000\",\
                        \"nextUpdate\":\"2030-01-01T00:00:00Z\"},\"signature\":\"00\"}";
const IDENTITY: &str = "{\"enclaveIdentity\":{\"id\":\"TD_QE\",\"nextUpdate\":\"2030-01-01T00:00:00Z\"},\
                        \"signature\":\"00\"}";
const MANIFEST: &str = "<SoftwareIdentity><X509Certificate>MAA=</X509Certificate></SoftwareIdentity>";

/// A revocation list of "Intel SGX Root CA" with an empty signature.
fn revocation_list() -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let name = element(0x30, &element(0x0c, b"Intel SGX Root CA"));
    let times = [element(0x17, b"260101000000Z"), element(0x17, b"300101000000Z")].concat();
    let body = element(0x30, &[element(2, &[1]), element(0x30, &[]), name, times].concat());
    element(0x30, &[body, element(0x30, &[]), element(3, &[0])].concat())
}

pub(crate) fn document_seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, body: &[u8]| [&[kind], body].concat();
    vec![
        with(0, TCB_INFO.as_bytes()),
        with(1, IDENTITY.as_bytes()),
        with(2, &revocation_list()),
        with(3, &revocation_list()),
        with(4, b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"),
        with(5, MANIFEST.as_bytes()),
        with(6, &[0x30, 5, 10, 1, 0, 0xa0, 0]),
    ]
}

pub(crate) fn import_seeds() -> Vec<Vec<u8>> {
    let bundle = "{\"version\":1,\"documents\":[{\"key\":\"intel/root-crl\",\"file\":\"manifest.json\",\
                  \"digest\":\"sha256:00\"}]}";
    let quote = serde_json::json!({
        "pck_crl_issuer_chain": "", "root_ca_crl": "00", "pck_crl": "3000", "tcb_info_issuer_chain": "",
        "tcb_info": r#"{"id":"TDX","fmspc":"000000000000","nextUpdate":"2030-01-01T00:00:00Z"}"#,
        "tcb_info_signature": "00", "qe_identity_issuer_chain": "", "qe_identity": "{}",
        "qe_identity_signature": "00",
    })
    .to_string();
    let mut tar = vec![0; 1536];
    tar[..13].copy_from_slice(b"manifest.json");
    tar[124..135].copy_from_slice(b"00000000002");
    tar[257..265].copy_from_slice(b"ustar\x0000");
    tar[512..514].copy_from_slice(b"{}");
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    vec![
        bundle.as_bytes().to_vec(),
        quote.into_bytes(),
        tar,
        revocation_list(),
        TCB_INFO.as_bytes().to_vec(),
        MANIFEST.as_bytes().to_vec(),
        b"coffer-collateral 1 ".to_vec(),
    ]
}
