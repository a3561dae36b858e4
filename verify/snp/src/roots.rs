//! The roots that are believed, and the authorities under them.
//!
//! An authority is believed if its product's root signed it; that is found out once, when the judge is made.

use std::sync::Arc;

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use coffer_verify_x509::{Certificate, CertificateError, der};

/// `id-RSASSA-PSS` (RFC 8017, appendix A.2.3). AMD writes its parameters in two ways, with and without the default
/// trailer; both say SHA-384, MGF1 with SHA-384 and 48 bytes of salt, which is the only form that is verified.
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// A product's certificates in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// `Milan`, `Genoa`, `Turin`.
    pub product: String,
    /// The root that is believed.
    pub ark: Vec<u8>,
    /// The authority for chips' keys; without it, it is asked for as collateral.
    pub ask: Option<Vec<u8>>,
    /// The authority for providers' keys; without it, it is asked for as collateral.
    pub asvk: Option<Vec<u8>>,
}

/// The roots of a judge.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    products: Vec<Arc<Product>>,
}

/// A product with what was found out about its certificates.
#[derive(Debug)]
pub(crate) struct Product {
    name: String,
    ark: Result<Certificate, Untrusted>,
    ask: Option<Result<Arc<Authority>, Untrusted>>,
    asvk: Option<Result<Arc<Authority>, Untrusted>>,
}

/// A key that certifies chips' or providers' keys, and the root that signed it.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) ark: Certificate,
    pub(crate) certificate: Certificate,
}

/// Why an authority is not believed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Untrusted {
    #[error("the root is no certificate: {0}")]
    Root(CertificateError),
    #[error("the root {0:?} did not sign itself")]
    RootSignature(String),
    #[error("the authority is no certificate: {0}")]
    Authority(CertificateError),
    #[error("the authority {0:?} is not signed by its product's root")]
    AuthoritySignature(String),
    #[error("{0:?} does not say that it is an authority")]
    NotAnAuthority(String),
}

/// Which kind of key is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vcek,
    Vlek,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }
}

impl Roots {
    /// AMD's, for Milan, Genoa (with Bergamo and Siena) and Turin.
    pub fn amd() -> Self {
        macro_rules! product {
            ($name:literal, $file:literal) => {
                Root {
                    product: $name.into(),
                    ark: include_bytes!(concat!("../roots/", $file, "-ark.der")).to_vec(),
                    ask: Some(include_bytes!(concat!("../roots/", $file, "-ask.der")).to_vec()),
                    asvk: Some(include_bytes!(concat!("../roots/", $file, "-asvk.der")).to_vec()),
                }
            };
        }
        Self::default()
            .with(product!("Milan", "milan"))
            .with(product!("Genoa", "genoa"))
            .with(product!("Turin", "turin"))
    }

    /// One more, or another one for a product that is already there.
    #[must_use]
    pub fn with(mut self, root: Root) -> Self {
        let Root { product: name, ark, ask, asvk } = root;
        self.products.retain(|product| product.name != name);
        let ark = self_signed(&ark);
        let authority = |der: Option<Vec<u8>>| match (der, &ark) {
            (Some(der), Ok(ark)) => Some(Authority::read(&der, ark).map(Arc::new)),
            _ => None,
        };
        let (ask, asvk) = (authority(ask), authority(asvk));
        self.products.push(Arc::new(Product { name, ark, ask, asvk }));
        self
    }

    pub(crate) fn product(&self, name: &str) -> Option<&Product> {
        self.products.iter().find(|product| product.name == name).map(AsRef::as_ref)
    }

    pub(crate) fn names(&self) -> String {
        self.products.iter().map(|product| product.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Product {
    /// The authority that is configured for a kind of keys; none if it is to be fetched.
    pub(crate) fn authority(&self, kind: Kind) -> Result<Option<Arc<Authority>>, Untrusted> {
        self.ark.as_ref().map_err(Clone::clone)?;
        let configured = match kind {
            Kind::Vcek => &self.ask,
            Kind::Vlek => &self.asvk,
        };
        configured.clone().transpose()
    }

    /// The authority in a chain that was fetched, in PEM.
    pub(crate) fn fetched(&self, pem: &[u8]) -> Result<Arc<Authority>, Untrusted> {
        let ark = self.ark.as_ref().map_err(Clone::clone)?;
        let chain = coffer_verify_x509::pem_certificates(pem).map_err(Untrusted::Authority)?;
        let first = chain.first().ok_or(Untrusted::Authority(CertificateError::Signature))?;
        Authority::read(first, ark).map(Arc::new)
    }
}

impl Authority {
    fn read(der: &[u8], ark: &Certificate) -> Result<Self, Untrusted> {
        let certificate = Certificate::parse(der).map_err(Untrusted::Authority)?;
        if certificate.issuer_der() != ark.subject_der() || !signed(&certificate, ark) {
            return Err(Untrusted::AuthoritySignature(certificate.subject_cn()));
        }
        match certificate.is_ca() {
            true => Ok(Self { ark: ark.clone(), certificate }),
            false => Err(Untrusted::NotAnAuthority(certificate.subject_cn())),
        }
    }
}

fn self_signed(der: &[u8]) -> Result<Certificate, Untrusted> {
    let ark = Certificate::parse(der).map_err(Untrusted::Root)?;
    match ark.issuer_der() == ark.subject_der() && signed(&ark, &ark) {
        true if ark.is_ca() => Ok(ark),
        true => Err(Untrusted::NotAnAuthority(ark.subject_cn())),
        false => Err(Untrusted::RootSignature(ark.subject_cn())),
    }
}

/// Whether the issuer's RSA key signed the certificate in AMD's one form.
pub(crate) fn signed(certificate: &Certificate, issuer: &Certificate) -> bool {
    signed_parts(certificate.signature_algorithm(), certificate.tbs(), certificate.signature(), issuer)
}

/// The same for anything that is signed as certificates are.
pub(crate) fn signed_parts(algorithm: &[u8], message: &[u8], signature: &[u8], issuer: &Certificate) -> bool {
    let identifier = || {
        let mut identifier = der::Reader::new(algorithm).sequence("signatureAlgorithm").ok()?;
        identifier.expect(der::tag::OID, "algorithm").ok().map(|oid| oid.content)
    };
    let is_pss = identifier().is_some_and(|found| der::oid(RSASSA_PSS).as_deref() == Some(found));
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, issuer.public_key());
    is_pss && key.verify(message, signature).is_ok()
}
