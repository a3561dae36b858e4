//! A versioned endorsement key: a chip's (VCEK) or a provider's (VLEK), as its certificate tells it.
//!
//! SPEC: VCEK Certificate and KDS Interface (AMD 57230), section 3; VLEK Certificate Definition (AMD 58369).

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use coffer_core_evidence::snp::{Tcb, TcbLayout};
use coffer_verify_x509::{Certificate, CertificateError, der};

use crate::product;
use crate::roots::{Authority, Kind, signed};

const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
const BOOTLOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
/// The reserved bytes of a TCB version.
const RESERVED: [&str; 4] =
    ["1.3.6.1.4.1.3704.1.3.4", "1.3.6.1.4.1.3704.1.3.5", "1.3.6.1.4.1.3704.1.3.6", "1.3.6.1.4.1.3704.1.3.7"];
const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";
const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
const PROVIDER: &str = "1.3.6.1.4.1.3704.1.5";
/// A point of P-384, uncompressed (SEC 1, section 2.3.3).
const POINT: usize = 97;

/// A key whose certificate's path was verified. Its validity is asked for at each use.
#[derive(Debug)]
pub(crate) struct Vek {
    pub(crate) kind: Kind,
    pub(crate) authority: Arc<Authority>,
    pub(crate) facts: Facts,
    pub(crate) key: ParsedPublicKey,
}

/// What a certificate says.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) certificate: Certificate,
    /// As it stands there: `Milan-B0`.
    pub(crate) product: String,
    /// Who may use a provider's key.
    pub(crate) provider: Option<String>,
    /// The chip, 64 or 8 bytes.
    pub(crate) hardware_id: Option<Vec<u8>>,
    tcb: Levels,
}

#[derive(Debug)]
struct Levels {
    named: Tcb,
    reserved: [u8; 4],
}

/// Why a certificate is none of a versioned endorsement key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VekError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the text holds no certificate")]
    Empty,
    #[error("it has no extension {0}, or not of the right form")]
    Extension(&'static str),
}

impl Facts {
    /// Reads a certificate in DER or, as some hosts have it, in PEM.
    pub(crate) fn read(certificate: &[u8]) -> Result<Self, VekError> {
        let certificate = match certificate.starts_with(b"-----BEGIN ") {
            true => Certificate::parse_pem(certificate)?.into_iter().next().ok_or(VekError::Empty)?,
            false => Certificate::parse(certificate)?,
        };
        let required = |oid| number(&certificate, oid).ok_or(VekError::Extension(oid));
        let fmc = certificate.extension(FMC).map(|_| required(FMC)).transpose()?;
        let named = Tcb {
            fmc,
            bootloader: required(BOOTLOADER)?,
            tee: required(TEE)?,
            snp: required(SNP)?,
            microcode: required(MICROCODE)?,
        };
        let mut reserved = [0; 4];
        for (level, oid) in reserved.iter_mut().zip(RESERVED) {
            // Turin's certificates leave out the one whose place the FMC took.
            *level = certificate.extension(oid).map(|_| required(oid)).transpose()?.unwrap_or(0);
        }
        let product = text(&certificate, PRODUCT_NAME).ok_or(VekError::Extension(PRODUCT_NAME))?;
        let provider = text(&certificate, PROVIDER);
        let hardware_id = certificate.extension(HARDWARE_ID).map(octets);
        Ok(Self { product, provider, hardware_id, tcb: Levels { named, reserved }, certificate })
    }

    /// The product without its stepping.
    pub(crate) fn line(&self) -> &str {
        product::line(&self.product)
    }

    /// The level that the key was derived for.
    pub(crate) const fn tcb(&self) -> Tcb {
        self.tcb.named
    }

    /// The level as a report has it.
    pub(crate) fn tcb_bytes(&self, layout: TcbLayout) -> [u8; 8] {
        let mut bytes = self.tcb.named.bytes(layout);
        let ([a, b, c, d], [_, _, r2, r3, r4, r5, r6, _]) = (self.tcb.reserved, &mut bytes);
        match layout {
            TcbLayout::Legacy => (*r2, *r3, *r4, *r5) = (a, b, c, d),
            TcbLayout::Turin => (*r4, *r5, *r6) = (b, c, d),
        }
        bytes
    }

    /// Whether the certificate's key is on P-384.
    pub(crate) fn key(&self) -> Option<ParsedPublicKey> {
        let point = self.certificate.public_key();
        let is_p384 = coffer_core_evidence::tpm::KeyKind::of_spki(self.certificate.spki_der())
            == Some(coffer_core_evidence::tpm::KeyKind::Ecc(coffer_core_evidence::tpm::Curve::P384));
        match is_p384 && point.len() == POINT {
            true => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok(),
            false => None,
        }
    }

    /// Whether the authority signed the certificate.
    pub(crate) fn is_signed_by(&self, authority: &Authority) -> bool {
        self.certificate.issuer_der() == authority.certificate.subject_der()
            && signed(&self.certificate, &authority.certificate)
    }
}

/// A level is an INTEGER of one byte.
fn number(certificate: &Certificate, oid: &str) -> Option<u8> {
    let mut reader = der::Reader::new(certificate.extension(oid)?);
    let number = reader.expect(der::tag::INTEGER, "level").ok()?.content;
    match (number, reader.is_empty()) {
        ([small @ 0..=0x7f], true) | ([0, small @ 0x80..=0xff], true) => Some(*small),
        _ => None,
    }
}

fn text(certificate: &Certificate, oid: &str) -> Option<String> {
    let mut reader = der::Reader::new(certificate.extension(oid)?);
    let text = reader.expect(der::tag::IA5_STRING, "name").ok()?.content;
    let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty() && text.len() <= 256)?;
    (reader.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// The chip's id stands there by itself; certificates of 2023 have an OCTET STRING around it.
fn octets(value: &[u8]) -> Vec<u8> {
    let mut reader = der::Reader::new(value);
    let wrapped = reader.expect(der::tag::OCTET_STRING, "hwID").ok().filter(|_| reader.is_empty());
    match wrapped.map(|element| element.content) {
        Some(content) if matches!(content.len(), 8 | 64) => content.to_vec(),
        _ => value.to_vec(),
    }
}
