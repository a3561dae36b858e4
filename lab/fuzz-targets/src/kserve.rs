//! KServe's encrypted files, from a store that lies.

use coffer_core_secret::SecretBytes;
use coffer_guest_kserve::jwe::{JweKey, Parts};

/// jwcrypto's, from the testdata of `guest/kserve`: a hundred bytes, `dir` and `A256KW`.
const FILES: [&str; 2] = [
    "eyJhbGciOiAiZGlyIiwgImVuYyI6ICJBMjU2R0NNIn0..KiAHbCVgKh_sZLC6.ycfWNhOYjN5vfdpdFWB7vfMvVetAnIcD9ifyM1kZEZgun-ynuuy9j1gQq36RurPHEDFISeNzilwpw7he3bXFmjtIruT88tWFsheTkLqYmOm0sPcecAcPKbmvlkCY7ejVqONwqA.f8PNLiQyEmbSRRZAZJ_5UQ",
    "eyJhbGciOiAiQTI1NktXIiwgImVuYyI6ICJBMjU2R0NNIn0.tCNNe9sQ7rWrGICe2i2zHEdWrKPor5npvPNvaJSVZ2-RdZWZIZ-6kA.t66M82jAzhilIdm6.gz1uPBsOXCIwm7sVOFCGttftq9GPGijMmcAut81ZsTi7Hsz9evnbxV168BIy5XWFNvuiadcqdwAAbJnisR_eR2AuQ6sWnFmVfyn3d9NboJIiVYUDLeFGvQmLgwZuy2-caSJlrg.yLPSaakH-GzIacb64Th42Q",
];

/// Opens a JWE: what was changed gives an error and not one byte, never other content.
pub fn kserve_jwe(data: &[u8]) {
    let key = JweKey::of_resource(&SecretBytes::new((0..32).collect())).unwrap();
    let Ok(parts) = Parts::read(&data, data.len() as u64) else { return };
    let mut out = Vec::new();
    match parts.open(&data, &key, &mut out) {
        Ok(()) => assert_eq!(out, (0..100_u32).map(|at| (at * at % 251) as u8).collect::<Vec<_>>()),
        Err(_) => assert!(out.is_empty()),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    FILES.iter().map(|text| text.as_bytes().to_vec()).collect()
}
