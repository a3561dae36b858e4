//! Where each document is asked for, and how it comes out of the answer.

mod amd;
mod intel;
mod nvidia;
mod web;

use coffer_verify_api::{CollateralKey, Document};

use crate::error::{CacheError, FetchError};
use crate::settings::Settings;

pub(crate) use web::Web;

/// What a source gave.
pub(crate) struct Fetched {
    pub(crate) document: Document,
    pub(crate) origin: String,
    /// In seconds.
    pub(crate) max_age: Option<i64>,
}

/// Certificates from the evidence. Some documents cannot be asked for by their key alone.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    certificates: Vec<Vec<u8>>,
}

/// How many certificates of one request are looked at.
const MAX_CERTIFICATES: usize = 256;

impl Hints {
    /// Adds certificates in PEM; what is not one is left out.
    pub fn add_pem(&mut self, pem: &[u8]) {
        let found = crate::document::certificates_in_pem(pem).unwrap_or_default();
        let room = MAX_CERTIFICATES.saturating_sub(self.certificates.len());
        self.certificates.extend(found.into_iter().take(room));
    }

    /// Adds one certificate in DER.
    pub fn add_der(&mut self, der: Vec<u8>) {
        if self.certificates.len() < MAX_CERTIFICATES {
            self.certificates.push(der);
        }
    }

    pub(crate) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(Vec::as_slice)
    }
}

/// All sources.
pub(crate) struct Sources {
    web: Web,
    unproven: Web,
    settings: Settings,
}

impl Sources {
    pub(crate) fn new(settings: &Settings) -> Result<Self, CacheError> {
        let web = Web::new(settings)?;
        Ok(Self { unproven: web.unproven(), web, settings: settings.clone() })
    }

    /// Asks the source of this key, which only evidence names if it is `unproven`.
    pub(crate) async fn fetch(
        &self,
        key: &CollateralKey,
        hints: &Hints,
        unproven: bool,
    ) -> Result<Fetched, FetchError> {
        let web = if unproven { &self.unproven } else { &self.web };
        match key {
            CollateralKey::TdxTcbInfo(_)
            | CollateralKey::SgxTcbInfo(_)
            | CollateralKey::TdQeIdentity
            | CollateralKey::SgxQeIdentity
            | CollateralKey::PckCrl(_)
            | CollateralKey::IntelRootCrl => intel::fetch(web, &self.settings.intel, key).await,
            CollateralKey::PckChain(_) => Err(FetchError::NotServed(
                "a chain for a platform that does not carry it is given by nobody for its digest; import it",
            )),
            CollateralKey::AmdVcek { .. }
            | CollateralKey::AmdVcekChain(_)
            | CollateralKey::AmdVlekChain(_)
            | CollateralKey::AmdCrl(_) => amd::fetch(web, &self.settings.amd, key).await,
            CollateralKey::NvidiaRim(id) => nvidia::manifest(web, &self.settings.nvidia, id).await,
            CollateralKey::NvidiaOcsp(digest) => {
                nvidia::ocsp(web, &self.settings.nvidia, digest, hints).await
            }
            CollateralKey::HygonHskCek(serial) => {
                let base = self.settings.hygon.kds.trim_end_matches('/');
                let answer = web.get(&format!("{base}/hsk_cek?snumber={serial}")).await?;
                Ok(answer.into_fetched(Vec::new()))
            }
            _ => Err(FetchError::NotServed("its kind is not known here")),
        }
    }
}
