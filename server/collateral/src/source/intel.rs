//! Intel's provisioning certification service, API v4, and caching services that answer the same calls.

use coffer_verify_api::{CollateralKey, Document};

use super::{Fetched, Web};
use crate::document::crl_der;
use crate::error::FetchError;
use crate::settings::{Intel, Update};

const TCB_CHAIN: [&str; 2] = ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"];
const IDENTITY_CHAIN: [&str; 1] = ["SGX-Enclave-Identity-Issuer-Chain"];
const CRL_CHAIN: [&str; 1] = ["SGX-PCK-CRL-Issuer-Chain"];

pub(super) async fn fetch(web: &Web, settings: &Intel, key: &CollateralKey) -> Result<Fetched, FetchError> {
    let base = settings.pcs.trim_end_matches('/');
    let update = |separator: char| match settings.update {
        Update::Standard => String::new(),
        Update::Early => format!("{separator}update=early"),
    };
    let (url, chain): (String, &[&str]) = match key {
        CollateralKey::TdxTcbInfo(fmspc) => (
            format!("{base}/tdx/certification/v4/tcb?fmspc={}{}", hex::encode(fmspc), update('&')),
            &TCB_CHAIN,
        ),
        CollateralKey::SgxTcbInfo(fmspc) => (
            format!("{base}/sgx/certification/v4/tcb?fmspc={}{}", hex::encode(fmspc), update('&')),
            &TCB_CHAIN,
        ),
        CollateralKey::TdQeIdentity => {
            (format!("{base}/tdx/certification/v4/qe/identity{}", update('?')), &IDENTITY_CHAIN)
        }
        CollateralKey::SgxQeIdentity => {
            (format!("{base}/sgx/certification/v4/qe/identity{}", update('?')), &IDENTITY_CHAIN)
        }
        CollateralKey::PckCrl(ca) => {
            (format!("{base}/sgx/certification/v4/pckcrl?ca={}&encoding=der", ca.name()), &CRL_CHAIN)
        }
        CollateralKey::IntelRootCrl => (settings.root_crl.clone(), &[]),
        _ => return Err(FetchError::NotServed("it is not of Intel's services")),
    };
    let answer = web.get(&url).await?;
    let found = chain.iter().find_map(|name| answer.headers.get(*name));
    let issuer_chain = match (chain.is_empty(), found) {
        (true, _) => Vec::new(),
        (false, Some(value)) => percent_decoded(value.as_bytes()),
        (false, None) => {
            return Err(FetchError::Shape {
                source_url: url,
                expected: "an issuer chain in the headers",
                found: "none".to_owned(),
            });
        }
    };
    let body = match key {
        CollateralKey::PckCrl(_) | CollateralKey::IntelRootCrl => crl_der(answer.body),
        _ => answer.body,
    };
    Ok(Fetched { document: Document::new(body, issuer_chain), origin: answer.url, max_age: answer.max_age })
}

/// Percent-encoding undone (RFC 3986, section 2.1); what is none stays.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let code = match byte {
            b'%' => after.first_chunk::<2>().and_then(|digits| hex::decode(digits).ok()),
            _ => None,
        };
        match code {
            Some(code) => {
                out.extend(code);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_and_a_plus_stays_a_plus() {
        assert_eq!(percent_decoded(b"-----BEGIN%20A-----%0Aab+/%3D"), b"-----BEGIN A-----\nab+/=");
        assert_eq!(percent_decoded(b"100%"), b"100%");
        assert_eq!(percent_decoded(b"%zz%4"), b"%zz%4");
    }
}
