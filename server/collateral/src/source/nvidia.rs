//! NVIDIA's service of reference integrity manifests, and its OCSP responder.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use serde::Deserialize;

use super::{Fetched, Hints, Web};
use crate::der::{self, Certificate};
use crate::error::FetchError;
use crate::settings::Nvidia;

#[derive(Deserialize)]
struct Manifest {
    id: String,
    rim: String,
    #[serde(default)]
    sha256: Option<String>,
}

/// A manifest by its id; from a file server, the XML itself.
pub(super) async fn manifest(web: &Web, settings: &Nvidia, id: &str) -> Result<Fetched, FetchError> {
    let url = format!("{}/v1/rim/{id}", settings.rim.trim_end_matches('/'));
    let mut answer = web.get(&url).await?;
    if answer.body.trim_ascii_start().starts_with(b"{") {
        let shape = |found: String| FetchError::Shape {
            source_url: url.clone(),
            expected: "a manifest as {id, rim}",
            found,
        };
        let read: Manifest =
            serde_json::from_slice(&answer.body).map_err(|error| shape(error.to_string()))?;
        if read.id != id {
            return Err(shape(format!("the manifest {:?}", read.id.chars().take(128).collect::<String>())));
        }
        let xml = STANDARD.decode(read.rim.trim()).map_err(|error| shape(error.to_string()))?;
        let digest = Digest::sha256(&xml).hex();
        // The service says the digest in hexadecimal or in base64.
        let said = read.sha256.filter(|said| said.len() == 64);
        if said.is_some_and(|said| !said.eq_ignore_ascii_case(&digest)) {
            return Err(shape("a manifest that its own digest is not of".to_owned()));
        }
        answer.body = xml;
    }
    Ok(answer.into_fetched(Vec::new()))
}

/// The state of a certificate, which the evidence carries with its issuer.
pub(super) async fn ocsp(
    web: &Web,
    settings: &Nvidia,
    digest: &[u8; 32],
    hints: &Hints,
) -> Result<Fetched, FetchError> {
    let wanted = |der: &&[u8]| Digest::sha256(der).as_bytes() == digest;
    let certificate = hints.certificates().find(wanted).and_then(Certificate::parse);
    let Some(certificate) = certificate else {
        return Err(FetchError::NotServed("its certificate is not in the evidence; import the response"));
    };
    let issuer =
        hints.certificates().filter_map(Certificate::parse).find(|other| other.subject == certificate.issuer);
    let Some(issuer) = issuer else {
        return Err(FetchError::NotServed(
            "its certificate's issuer is not in the evidence; import the response",
        ));
    };
    let request = der::ocsp_request(&certificate, &issuer);
    let answer = web.post(&settings.ocsp, "application/ocsp-request", request).await?;
    Ok(answer.into_fetched(Vec::new()))
}
