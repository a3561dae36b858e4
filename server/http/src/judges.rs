//! The judges that this broker has, made of the trust anchors in its store.

use std::sync::Arc;

use coffer_core_admin as forms;
use coffer_server_store::{Store, Table};
use coffer_verify_api::Verifier;
use coffer_verify_tpm::{TpmJudge, TrustAnchor};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::OpenError;

/// Makes the judges for the trust anchors; called again whenever these change.
pub type Judges = Arc<dyn Fn(&[TrustAnchor]) -> Vec<Arc<dyn Verifier>> + Send + Sync>;

/// The judges of shipped programs. There is none for upstream's `sample` evidence, which proves nothing.
pub fn tpm_judges() -> Judges {
    Arc::new(|anchors| vec![Arc::new(TpmJudge::new(anchors.to_vec()))])
}

/// A text is not a root certificate.
#[derive(Debug, thiserror::Error)]
#[error("not one root certificate in PEM: {0}")]
pub(crate) struct NotARoot(String);

/// Reads one root.
pub(crate) fn anchor(form: &forms::TrustAnchor) -> Result<TrustAnchor, NotARoot> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(form.certificate.as_bytes()).collect();
    let found = found.map_err(|error| NotARoot(error.to_string()))?;
    let [certificate] = found.as_slice() else {
        return Err(NotARoot(format!("there are {} certificates", found.len())));
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).map_err(|error| NotARoot(error.to_string()))?;
    Ok(TrustAnchor { certificate: certificate.to_vec(), hardware: form.hardware })
}

/// The roots in the store, in the order of their names.
pub(crate) fn stored(store: &Store) -> Result<Vec<forms::NamedTrustAnchor>, OpenError> {
    let mut list = Vec::new();
    for (name, body) in store.list(Table::TrustAnchors)? {
        let anchor = serde_json::from_slice(body.expose()).map_err(|error| OpenError::Stored {
            what: "trust anchor",
            name: name.clone(),
            why: error.to_string(),
        })?;
        list.push(forms::NamedTrustAnchor { name, anchor });
    }
    Ok(list)
}

/// The roots in the store, as judges take them.
pub(crate) fn anchors(store: &Store) -> Result<Vec<TrustAnchor>, OpenError> {
    let read = |named: forms::NamedTrustAnchor| {
        anchor(&named.anchor).map_err(|error| OpenError::Stored {
            what: "trust anchor",
            name: named.name,
            why: error.to_string(),
        })
    };
    stored(store)?.into_iter().map(read).collect()
}
