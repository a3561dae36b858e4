//! TLS with a certificate authority of the broker's own, which owners pin.
//!
//! The authority's key and certificate are made once. The server's certificate is made at each start and anew while
//! it runs, with a key that is never on disk. Clients may show certificates of authorities that the configuration
//! names. TLS 1.3 only, post-quantum hybrid key exchange preferred (D16).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use coffer_core_secret::SecretBytes;
use coffer_server_store::{Scope, Table, files};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::BrokerConfig;
use crate::error::OpenError;

/// Names of every broker: this machine, and the host as QEMU's user network names it to guests.
const NAMES: [&str; 4] = ["127.0.0.1", "::1", "localhost", "10.0.2.2"];
const AUTHORITY_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 90;
/// A clock that is behind must not find the certificate in its future.
const BACKDATED_DAYS: i64 = 2;

/// The broker's side of TLS.
pub(crate) struct Tls {
    authority: Issuer<'static, KeyPair>,
    names: Vec<String>,
    leaf: Arc<Leaf>,
    files: Option<ServerFiles>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) ca_path: PathBuf,
    pub(crate) ca_pem: String,
}

/// A certificate that somebody else issued.
struct ServerFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl ServerFiles {
    fn of(config: &BrokerConfig) -> Result<Option<Self>, OpenError> {
        let (certificate, key) = (&config.tls.certificate, &config.tls.key);
        match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(Self { certificate: certificate.clone(), key: key.clone() })),
            _ => Err(OpenError::Tls("[tls] names both `certificate` and `key`, or neither".to_owned())),
        }
    }

    fn read(&self) -> Result<CertifiedKey, OpenError> {
        let wrong = |path: &Path, why: String| OpenError::Tls(format!("{}: {why}", path.display()));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.certificate)
            .map_err(|error| wrong(&self.certificate, error.to_string()))?
            .collect();
        let chain = chain.map_err(|error| wrong(&self.certificate, error.to_string()))?;
        let pem = files::read_private(&self.key)?
            .ok_or_else(|| wrong(&self.key, "there is no such file".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(pem.expose())
            .map_err(|error| wrong(&self.key, error.to_string()))?;
        CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| wrong(&self.certificate, format!("it does not fit its key: {error}")))
    }
}

/// Where the replicas' authority is among the cluster's keys: its key and its certificate, in PEM.
const SHARED_KEY: &str = "tls/ca.key";
const SHARED_CA: &str = "tls/ca.pem";

/// Takes the authority that the replicas share; the first one makes it.
fn take_shared(rows: &Scope, key_path: &Path, ca_path: &Path, now: jiff::Timestamp) -> Result<(), OpenError> {
    if rows.get(Table::Keys, SHARED_KEY)?.is_none() {
        // One broker that becomes several keeps its authority: clients have pinned it.
        let (pem, ca) = match (files::read_private(key_path)?, std::fs::read_to_string(ca_path)) {
            (Some(pem), Ok(ca)) => (pem, ca),
            _ => {
                let key = KeyPair::generate().map_err(failed)?;
                let ca = authority_params(now)?.self_signed(&key).map_err(failed)?.pem();
                (SecretBytes::new(key.serialize_pem().into_bytes()), ca)
            }
        };
        // In one transaction, so that no replica sees the key of one and the certificate of another.
        rows.transact(|rows| {
            if rows.get(Table::Keys, SHARED_KEY)?.is_none() {
                rows.put(Table::Keys, SHARED_KEY, pem.expose())?;
                rows.put(Table::Keys, SHARED_CA, ca.as_bytes())?;
            }
            Ok::<_, coffer_server_store::StoreError>(())
        })?;
    }
    let missing = || OpenError::Tls("the replicas' authority is not in the store".to_owned());
    let key = rows.get(Table::Keys, SHARED_KEY)?.ok_or_else(missing)?;
    let ca = rows.get(Table::Keys, SHARED_CA)?.ok_or_else(missing)?;
    let same = std::fs::read(ca_path).is_ok_and(|own| own == *ca.expose());
    if !same {
        for path in [key_path, ca_path] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(OpenError::Tls(format!("{}: {error}", path.display())));
                }
                _ => (),
            }
        }
        files::create_private(key_path, key.expose())?;
        files::create_public(ca_path, ca.expose())?;
    }
    Ok(())
}

#[derive(Debug)]
struct Leaf(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Leaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// Loads the authority in `folder`, or makes it there.
    ///
    /// Replicas have one authority: it is in the rows that they share, and each writes the certificate beside its own.
    pub(crate) fn open(
        config: &BrokerConfig,
        shared: Option<&Scope>,
        now: jiff::Timestamp,
    ) -> Result<Self, OpenError> {
        let folder = config.data_dir.join("tls");
        files::create_private_folder(&folder)?;
        let (key_path, ca_path) = (folder.join("ca.key"), folder.join("ca.pem"));
        let files = ServerFiles::of(config)?;
        if let Some(rows) = shared {
            take_shared(rows, &key_path, &ca_path, now)?;
        }
        let key = match files::read_private(&key_path)? {
            Some(pem) => read_key(&pem)?,
            None => {
                let key = KeyPair::generate().map_err(failed)?;
                files::create_private(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let params = authority_params(now)?;
        let ca_pem = match std::fs::read_to_string(&ca_path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = params.self_signed(&key).map_err(failed)?.pem();
                files::create_public(&ca_path, pem.as_bytes())?;
                pem
            }
            Err(error) => return Err(OpenError::Tls(format!("{}: {error}", ca_path.display()))),
        };
        let authority = Issuer::new(params, key);
        let names: Vec<String> =
            NAMES.iter().map(ToString::to_string).chain(config.extra_names.iter().cloned()).collect();
        let first = match &files {
            Some(files) => files.read()?,
            None => certify(&authority, &names, now)?,
        };
        let leaf = Arc::new(Leaf(RwLock::new(Arc::new(first))));
        let clients = client_verifier(&config.tls.client_ca)?;
        Ok(Self { authority, names, leaf, files, clients, ca_path, ca_pem })
    }

    /// Replaces the server's certificate.
    pub(crate) fn renew(&self, now: jiff::Timestamp) -> Result<(), OpenError> {
        let next = match &self.files {
            // Read anew, so that a certificate that was renewed on disk is shown without a restart.
            Some(files) => files.read()?,
            None => certify(&self.authority, &self.names, now)?,
        };
        *self.leaf.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    pub(crate) fn server_config(&self, clients: Clients) -> Result<Arc<ServerConfig>, OpenError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| OpenError::Tls(error.to_string()))?;
        let config = match (clients, &self.clients) {
            (Clients::Asked, Some(verifier)) => config.with_client_cert_verifier(verifier.clone()),
            _ => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(self.leaf.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Whether clients are asked for certificates, where the configuration has their authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// They are asked, and may come without; one of another authority, or out of its time, ends the connection.
    Asked,
    /// They are not asked.
    NotAsked,
}

/// What verifies clients' certificates: path, time and purpose (RFC 5280), and that the client has the key.
fn client_verifier(path: &Path) -> Result<Option<Arc<dyn ClientCertVerifier>>, OpenError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| OpenError::Tls(format!("[tls] client_ca: {}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it; name a file of authorities in PEM".to_owned()));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.allow_unauthenticated().build().map_err(|error| wrong(error.to_string()))?;
    Ok(Some(verifier))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn failed(error: rcgen::Error) -> OpenError {
    OpenError::Tls(error.to_string())
}

fn read_key(pem: &SecretBytes) -> Result<KeyPair, OpenError> {
    let text = std::str::from_utf8(pem.expose()).map_err(|error| OpenError::Tls(error.to_string()))?;
    KeyPair::from_pem(text).map_err(failed)
}

fn validity(params: &mut CertificateParams, now: jiff::Timestamp, days: i64) -> Result<(), OpenError> {
    let day = |shift: i64| {
        let at = now.checked_add(jiff::SignedDuration::from_hours(shift.saturating_mul(24)));
        let date =
            at.map_err(|error| OpenError::Tls(error.to_string()))?.to_zoned(jiff::tz::TimeZone::UTC).date();
        let part = |value: i8| u8::try_from(value).unwrap_or(1);
        Ok::<_, OpenError>(rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day())))
    };
    params.not_before = day(-BACKDATED_DAYS)?;
    params.not_after = day(days)?;
    Ok(())
}

/// The same at each start but for the times, which an issuer does not pass on.
fn authority_params(now: jiff::Timestamp) -> Result<CertificateParams, OpenError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Coffer broker authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    validity(&mut params, now, AUTHORITY_DAYS)?;
    Ok(params)
}

fn certify(
    authority: &Issuer<'static, KeyPair>,
    names: &[String],
    now: jiff::Timestamp,
) -> Result<CertifiedKey, OpenError> {
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Coffer broker");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, LEAF_DAYS)?;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, authority).map_err(failed)?;
    let der =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| OpenError::Tls(error.to_string()))?;
    CertifiedKey::from_der(vec![certificate.der().clone()], der, &provider())
        .map_err(|error| OpenError::Tls(error.to_string()))
}
