//! Claims about reading certificates and revocation lists.

use coffer_lab_testpki::dcap::{Content, DcapFixture, ISSUED, NEXT_UPDATE, UNTIL};
use coffer_lab_testpki::{Authority, TpmFixture};
use proptest::prelude::*;

use crate::der::DerError;
use crate::{Certificate, CertificateError, Crl, pem_certificates};

#[test]
fn a_certificates_fields_are_read_as_they_stand() {
    let fixture = DcapFixture::tdx();
    let read = Certificate::parse(fixture.pck.der()).unwrap();
    assert_eq!(read.subject_cn(), "Intel SGX PCK Certificate");
    assert_eq!(read.issuer_cn(), "Intel SGX PCK Platform CA");
    assert_eq!(read.serial(), [0x12, 0x34]);
    assert_eq!((read.not_before(), read.not_after()), (1_577_836_800, UNTIL.cast_signed()));
    assert!(read.is_valid_at(1_577_836_800) && !read.is_valid_at(1_577_836_799));
    assert_eq!(read.extension("1.2.840.113741.1.13.1"), Some(&fixture.platform.extension()[..]));
    assert_eq!(read.extension("1.2.3"), None);
    assert_eq!(read.public_key().len(), 65);
    assert!(read.spki_der().ends_with(read.public_key()));
    assert!(!read.is_ca());
    let issuer = Certificate::parse(fixture.ca.der()).unwrap();
    assert!(issuer.is_ca());
    assert_eq!(read.issuer_der(), issuer.subject_der());
    read.verify_signed_by(&issuer).unwrap();
    let root = Certificate::parse(fixture.root.der()).unwrap();
    assert_eq!(read.verify_signed_by(&root), Err(CertificateError::Signature));
    issuer.verify_signed_by(&root).unwrap();
    root.verify_signed_by(&root).unwrap();
}

#[test]
fn keys_on_both_curves_and_of_rsa_are_followed() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let leaf = middle.certify(&TpmFixture::new(coffer_lab_testpki::KeyKind::RsaSsa).spki_der());
    let read = |der: &[u8]| Certificate::parse(der).unwrap();
    let (root, middle, leaf) = (read(&root.der()), read(&middle.der()), read(&leaf));
    middle.verify_signed_by(&root).unwrap();
    leaf.verify_signed_by(&middle).unwrap();
    // An RSA key does not sign with ECDSA.
    assert_eq!(middle.verify_signed_by(&leaf), Err(CertificateError::Algorithm));
}

#[test]
fn a_list_revokes_what_it_names_and_nothing_else() {
    let fixture = DcapFixture::tdx();
    let issuer = Certificate::parse(fixture.ca.der()).unwrap();
    let list = |revoked: &[_]| Crl::parse(&fixture.ca.crl(revoked, ISSUED, NEXT_UPDATE)).unwrap();
    let pck = Certificate::parse(fixture.pck.der()).unwrap();
    let (empty, full) = (list(&[]), list(&[fixture.pck.serial()]));
    assert!(!empty.revokes(pck.serial()) && full.revokes(pck.serial()) && !full.revokes(&[1]));
    assert_eq!((empty.revoked_count(), full.revoked_count()), (0, 1));
    assert_eq!(
        (full.this_update(), full.next_update()),
        (ISSUED.cast_signed(), Some(NEXT_UPDATE.cast_signed()))
    );
    assert_eq!(full.number(), Some(&[7][..]));
    full.verify_signed_by(&issuer).unwrap();
    // Another key of the same name, and the right key under another name.
    let other = DcapFixture::tdx();
    assert_eq!(
        full.verify_signed_by(&Certificate::parse(other.ca.der()).unwrap()),
        Err(CertificateError::Signature)
    );
    let root = Certificate::parse(fixture.root.der()).unwrap();
    assert_eq!(full.verify_signed_by(&root), Err(CertificateError::Signature));
}

#[test]
fn cuts_and_trailing_bytes_are_refused() {
    let fixture = DcapFixture::tdx();
    let crl = fixture.ca.crl(&[fixture.pck.serial()], ISSUED, NEXT_UPDATE);
    let certificate = fixture.pck.der();
    for length in 0..certificate.len() {
        Certificate::parse(&certificate[..length]).unwrap_err();
    }
    for length in 0..crl.len() {
        Crl::parse(&crl[..length]).unwrap_err();
    }
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    let trailing = |field| CertificateError::Der(DerError::Trailing { field, found: 1 });
    assert_eq!(Certificate::parse(&longer(certificate)).unwrap_err(), trailing("the certificate"));
    assert_eq!(Crl::parse(&longer(&crl)).unwrap_err(), trailing("the revocation list"));
    assert_eq!(Certificate::parse(&vec![0x30; 40_000]), Err(CertificateError::TooLong(40_000)));
}

#[test]
fn an_extension_that_stands_twice_is_refused() {
    let fixture = DcapFixture::tdx();
    let content = Content { name: "x", is_ca: false, until: UNTIL, sgx: Some(vec![5, 0]) };
    let certificate = fixture.certify(&content, 9, true);
    let der = certificate.der();
    // One that is a little longer than another, made to be the other: key usage becomes basic constraints.
    let usage = der.windows(3).position(|window| window == [0x55, 0x1d, 0x0f]).unwrap();
    let mut changed = der.to_vec();
    changed[usage + 2] = 0x13;
    assert_eq!(Certificate::parse(&changed), Err(CertificateError::Der(DerError::Value("extensions"))));
}

#[test]
fn pem_is_read_with_what_quoting_enclaves_put_behind_it() {
    let fixture = DcapFixture::tdx();
    let text = [fixture.chain_pem().as_bytes(), &[0]].concat();
    let ders = pem_certificates(&text).unwrap();
    assert_eq!(ders, [fixture.pck.der(), fixture.ca.der(), fixture.root.der()]);
    assert_eq!(Certificate::parse_pem(&text).unwrap().len(), 3);
    assert!(matches!(pem_certificates(b""), Err(CertificateError::Pem(_))));
    assert!(matches!(pem_certificates(b"-----BEGIN CERTIFICATE-----\n*\n"), Err(CertificateError::Pem(_))));
    let many = fixture.chain_pem().repeat(6);
    assert!(matches!(pem_certificates(many.as_bytes()), Err(CertificateError::Pem(_))));
}

#[test]
fn pem_of_another_spelling_is_refused_also_of_a_certificate_that_nobody_needs() {
    // Keys are new each time, and so are lengths; some certificates have padding.
    let mut seen = 0;
    for _ in 0..8 {
        let text = DcapFixture::tdx().chain_pem().into_bytes();
        let ends = (0..text.len()).filter(|at| text[*at..].starts_with(b"=\n-----END")).collect::<Vec<_>>();
        for end in ends {
            let last = (0..end).rev().find(|at| text[*at] != b'=').unwrap();
            let mut other = text.clone();
            // Every symbol with these bits at zero is followed by one with a spare bit.
            other[last] += 1;
            if !other[last].is_ascii_alphanumeric() {
                continue;
            }
            let refused = pem_certificates(&other);
            let Err(CertificateError::Pem(why)) = refused else { panic!("{refused:?}") };
            assert!(why.contains("belong to no byte"), "{why}");
            seen += 1;
        }
        assert!(pem_certificates(&text).is_ok());
    }
    assert!(seen > 0);
}

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(format!("{folder}/{name}")).ok();
    if read.is_none() {
        println!("skipped: no vectors ({name})");
    }
    read
}

#[test]
fn certificates_and_lists_of_makers_of_processors_are_read() {
    for (name, subject) in [
        ("snp/virtee_vcek_milan.der", "SEV-VCEK"),
        ("snp/virtee_vcek_turin.der", "SEV-VCEK"),
        ("snp/trustee_test-vlek.der", "SEV-VLEK"),
    ] {
        let Some(der) = vector(name) else { return };
        let read = Certificate::parse(&der).unwrap();
        assert_eq!(read.subject_cn(), subject);
        assert!(read.extension("1.3.6.1.4.1.3704.1.3.1").is_some(), "{name}");
    }
    for (name, issuer, revoked) in [
        ("tdx/gotdx_pckcrl", "Intel SGX PCK Platform CA", true),
        ("tdx/automata_1025_pck_crl.der", "Intel SGX PCK Platform CA", true),
        ("tdx/gotdx_rootcrl.der", "Intel SGX Root CA", false),
        ("tdx/intel-qvl-testpki/intermediateCaCrl.der", "Intel SGX PCK Processor CA", false),
        ("sgx/intel-qvl-testpki/intermediateCaCrl.der", "Intel SGX PCK Processor CA", true),
    ] {
        let Some(der) = vector(name) else { return };
        let read = Crl::parse(&der).unwrap();
        assert!(String::from_utf8_lossy(read.issuer_der()).contains(issuer), "{name}");
        assert_eq!(read.revoked_count() > 0, revoked, "{name}");
        assert!(read.number().is_some(), "{name}");
    }
}

proptest! {
    #[test]
    fn changed_certificates_and_lists_never_panic_and_no_longer_verify(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let fixture = DcapFixture::tdx();
        let issuer = Certificate::parse(fixture.ca.der()).unwrap();
        let mut der = fixture.pck.der().to_vec();
        let place = at.index(der.len());
        der[place] ^= 1 << bit;
        if let Ok(read) = Certificate::parse(&der) {
            prop_assert!(read.verify_signed_by(&issuer).is_err());
        }
        let mut crl = fixture.ca.crl(&[fixture.pck.serial()], ISSUED, NEXT_UPDATE);
        let place = at.index(crl.len());
        crl[place] ^= 1 << bit;
        if let Ok(read) = Crl::parse(&crl) {
            prop_assert!(read.verify_signed_by(&issuer).is_err());
        }
    }
}
