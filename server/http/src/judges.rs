//! The judges that this broker has, made of the trust anchors in its store.

use std::sync::Arc;
use std::time::Duration;

use coffer_core_admin as forms;
use coffer_server_store::{Scope, Table};
use coffer_verify_api::{DeviceVerifier, Verifier};
use coffer_verify_azure::{AzureSnpJudge, AzureTdxJudge};
use coffer_verify_cca as cca;
use coffer_verify_csv::CsvJudge;
use coffer_verify_dcap::Dcap;
use coffer_verify_nitro::NitroJudge;
use coffer_verify_nvidia::NvidiaJudge;
use coffer_verify_sgx::SgxJudge;
use coffer_verify_snp::{Roots, SnpJudge};
use coffer_verify_tdx::TdxJudge;
use coffer_verify_tpm::{TpmJudge, TrustAnchor};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::{BrokerConfig, JudgeOptions, Revocation};
use crate::error::{OpenError, TrustError};

/// Where the keys of Arm platforms are in the store's settings.
pub(crate) const CCA_ENDORSEMENTS: &str = "cca-endorsements";

/// What judges are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trust {
    /// The roots that certify TPMs' attestation keys.
    pub anchors: Vec<TrustAnchor>,
    /// The keys of Arm platforms, as JSON; none if no owner put any.
    pub cca: Option<Vec<u8>>,
    /// How long after its end collateral is still believed.
    pub stale_for: Duration,
    /// What else they ask for.
    pub options: JudgeOptions,
}

/// The judges.
#[derive(Default)]
pub struct JudgeSet {
    /// Of machines.
    pub machines: Vec<Arc<dyn Verifier>>,
    /// Of their devices.
    pub devices: Vec<Arc<dyn DeviceVerifier>>,
}

/// Makes the judges; called again whenever what they are made of changes.
pub type Judges = Arc<dyn Fn(&Trust) -> Result<JudgeSet, TrustError> + Send + Sync>;

fn tpm(trust: &Trust) -> Arc<dyn Verifier> {
    Arc::new(TpmJudge::new(trust.anchors.clone()))
}

/// The judges of shipped programs. There is none for upstream's `sample` evidence, which proves nothing.
pub fn all_judges() -> Judges {
    Arc::new(|trust| {
        let stale = u32::try_from(trust.stale_for.as_secs()).unwrap_or(u32::MAX);
        let dcap = Dcap::intel().map_err(|error| wrong("Intel's root", &error))?;
        // Shared, so that what one has verified of certificates and documents the others need not verify again.
        let dcap = Arc::new(dcap.insecure_accept_stale_collateral(stale));
        let tdx = Arc::new(TdxJudge::new(dcap.clone()));
        let amd = match trust.options.amd_revocation {
            Revocation::Required => coffer_verify_snp::Revocation::Required,
            Revocation::IfPresent => coffer_verify_snp::Revocation::WhenPresent,
        };
        let snp = SnpJudge::new(Roots::amd(), amd).insecure_accept_stale_collateral(stale);
        let snp = Arc::new(snp);
        let cca = match &trust.cca {
            Some(json) => cca::TrustAnchors::from_json(json)
                .map_err(|error| wrong("the keys of Arm platforms", &error))?,
            None => cca::TrustAnchors::default(),
        };
        let nvidia = match trust.options.nvidia_revocation {
            Revocation::Required => coffer_verify_nvidia::Revocation::Required,
            Revocation::IfPresent => coffer_verify_nvidia::Revocation::IfPresent,
        };
        Ok(JudgeSet {
            machines: vec![
                tpm(trust),
                tdx.clone(),
                Arc::new(SgxJudge::new(dcap)),
                snp.clone(),
                Arc::new(AzureSnpJudge::new(snp)),
                Arc::new(AzureTdxJudge::new(tdx)),
                Arc::new(NitroJudge::aws()),
                Arc::new(cca::CcaJudge::new(cca)),
                Arc::new(CsvJudge::new()),
            ],
            devices: vec![Arc::new(NvidiaJudge::new().revocation(nvidia))],
        })
    })
}

fn wrong(what: &'static str, error: &dyn std::fmt::Display) -> TrustError {
    TrustError { what, why: error.to_string() }
}

/// What the store and the configuration say that judges are made of.
pub(crate) fn trust(rows: &Scope, config: &BrokerConfig) -> Result<Trust, OpenError> {
    Ok(Trust {
        anchors: anchors(rows)?,
        cca: rows.get(Table::Settings, CCA_ENDORSEMENTS)?.map(|bytes| bytes.expose().to_vec()),
        stale_for: config.collateral.stale_for.duration(),
        options: config.judges.clone(),
    })
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
pub(crate) fn stored(rows: &Scope) -> Result<Vec<forms::NamedTrustAnchor>, OpenError> {
    let mut list = Vec::new();
    for (name, body) in rows.list(Table::TrustAnchors)? {
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
fn anchors(rows: &Scope) -> Result<Vec<TrustAnchor>, OpenError> {
    let read = |named: forms::NamedTrustAnchor| {
        anchor(&named.anchor).map_err(|error| OpenError::Stored {
            what: "trust anchor",
            name: named.name,
            why: error.to_string(),
        })
    };
    stored(rows)?.into_iter().map(read).collect()
}
