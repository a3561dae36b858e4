//! The installation's root: made once, kept in one file, and the certificates that it issues.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_core_digest::Digest;
use coffer_core_evidence::tpm::{KeyParameters, Public};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::VtpmError;

/// `tcg-kp-AIKCertificate` (TCG Credential Profiles for TPM Family 2.0, section 3.6).
const AK_CERTIFICATE: [u64; 5] = [2, 23, 133, 8, 3];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of a host and a broker may differ by less than this.
const BACKDATED: Duration = DAY;
const ROOT_YEARS: u32 = 20;
const LEAF_YEARS: u32 = 10;

/// The certification authority of this installation's software TPMs.
pub struct VtpmCa {
    key: KeyPair,
    root: CertificateDer<'static>,
    root_path: PathBuf,
}

impl VtpmCa {
    /// Loads the root, or makes it. Any number of processes may do this at once; one of them makes it.
    pub fn load_or_create(directory: impl AsRef<Path>) -> Result<Self, VtpmError> {
        let directory = directory.as_ref();
        let file = |what, path: &Path| {
            let path = path.to_path_buf();
            move |cause| VtpmError::File { what, path, cause }
        };
        let create = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        create.map_err(file("create the directory", directory))?;
        let lock_path = directory.join("vtpm-root.lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&lock_path);
        let lock: File = lock.map_err(file("open", &lock_path))?;
        lock.lock().map_err(file("lock", &lock_path))?;

        let path = directory.join("vtpm-root.key.pem");
        let text = match std::fs::read_to_string(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let text = make_root()?;
                write_whole(&path, &text, 0o600).map_err(file("write", &path))?;
                text
            }
            read => read.map_err(file("read", &path))?,
        };
        let damaged = |why: String| VtpmError::Authority { path: path.clone(), why };
        let key = KeyPair::from_pem(&text).map_err(|cause| damaged(cause.to_string()))?;
        let root =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|cause| damaged(cause.to_string()))?;
        let root_path = directory.join("vtpm-root.pem");
        let authority = Self { key, root, root_path };
        // The public half for the broker. Written again if it was lost or changed.
        let pem = authority.root_pem();
        if std::fs::read_to_string(&authority.root_path).ok().as_ref() != Some(&pem) {
            write_whole(&authority.root_path, &pem, 0o644).map_err(file("write", &authority.root_path))?;
        }
        Ok(authority)
    }

    /// The root certificate in DER: a trust anchor with `hardware: false`.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// The root certificate in PEM.
    pub fn root_pem(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(&self.root).as_bytes().chunks(64) {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
        }
        text + "-----END CERTIFICATE-----\n"
    }

    /// The file with the root certificate in PEM.
    pub fn root_path(&self) -> &Path {
        &self.root_path
    }

    /// A certificate for an attestation key, in DER.
    pub(crate) fn certify(&self, public: &Public, sandbox: &str) -> Result<Vec<u8>, VtpmError> {
        let mut params =
            params(&format!("Coffer vTPM {}", sandbox.chars().take(40).collect::<String>()), LEAF_YEARS)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AK_CERTIFICATE.into())];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(root_params(&self.key)?, &self.key);
        let certificate = params.signed_by(&Point::of(public)?, &issuer)?;
        Ok(certificate.der().to_vec())
    }
}

/// A P-256 key of a TPM, as rcgen takes it: the point in its uncompressed form.
struct Point(Vec<u8>);

impl Point {
    fn of(public: &Public) -> Result<Self, VtpmError> {
        let der = public.to_spki_der()?;
        // The point is the last thing in a SubjectPublicKeyInfo: the form's octet and two coordinates.
        let width = match &public.key {
            KeyParameters::Ecc { curve, .. } => 2 * curve.width() + 1,
            KeyParameters::Rsa { .. } => return Err(rcgen::Error::UnsupportedSignatureAlgorithm.into()),
        };
        Ok(Self(der[der.len() - width..].to_vec()))
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn make_root() -> Result<String, VtpmError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let root = root_params(&key)?.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), root.pem()))
}

/// The root's parameters. Its name comes from its key, so that the roots of two installations differ.
fn root_params(key: &KeyPair) -> Result<CertificateParams, VtpmError> {
    let id = hex::encode(Digest::sha256(key.public_key_raw()).as_bytes());
    let mut params =
        params(&format!("Coffer vTPM root {} (software, protects nothing)", &id[..16]), ROOT_YEARS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(name: &str, years: u32) -> Result<CertificateParams, VtpmError> {
    let mut params = CertificateParams::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + DAY * 365 * years;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| VtpmError::Random)?;
    // Positive and never zero (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Writes beside the file and renames, so that nobody ever reads half of it.
fn write_whole(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
