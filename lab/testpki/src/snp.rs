//! AMD's authorities and chips of a test: roots, keys certified for chips or providers, and reports that they sign.
//!
//! Certificates are written byte by byte, because AMD's have a form that no library issues: RSASSA-PSS with SHA-384,
//! serial number 0, and their facts in extensions of AMD's own.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PSS_SHA384, RsaKeyPair,
};

/// 2020-01-01 to 2045-01-01.
const FROM: i64 = 1_577_836_800;
const UNTIL: i64 = 2_366_841_600;
/// The processor of a product: family, model, stepping.
const PROCESSORS: [(&str, [u8; 3]); 4] = [
    ("Milan", [0x19, 1, 1]),
    ("Genoa", [0x19, 0x11, 1]),
    ("Turin", [0x1a, 2, 1]),
    ("Venice", [0x1a, 0x50, 0]),
];

/// A product's authorities.
pub struct SnpAuthority {
    product: String,
    ark: Issuer,
    ask: Issuer,
    asvk: Issuer,
}

struct Issuer {
    key: RsaKeyPair,
    name: String,
    certificate: Vec<u8>,
}

/// What a key's certificate says.
#[derive(Clone, Debug)]
pub struct VekContent {
    /// The first second of its validity.
    pub from: i64,
    /// The last.
    pub until: i64,
    /// `productName`.
    pub product: String,
    /// The level's eight bytes, as a report has them.
    pub tcb: [u8; 8],
    /// The chip.
    pub hardware_id: Option<Vec<u8>>,
    /// The chip's id inside an OCTET STRING, as certificates of 2023 have it.
    pub wrapped_id: bool,
    /// The provider.
    pub provider: Option<String>,
    /// Extensions that are left out, by the last arcs of their identifiers: `3.1`.
    pub without: Vec<&'static str>,
    /// A key on P-256, which AMD never certifies.
    pub p256: bool,
    /// Who signs: the authority for chips' keys, or for providers'.
    pub by_asvk: bool,
}

/// A key that signs reports, with its certificate.
pub struct SnpKey {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

impl SnpAuthority {
    /// Authorities of a product.
    pub fn new(product: &str) -> Self {
        let ark = Issuer::new(&format!("ARK-{product}"), None, &[1]);
        let ask = Issuer::new(&format!("SEV-{product}"), Some(&ark), &[2]);
        let asvk = Issuer::new(&format!("SEV-VLEK-{product}"), Some(&ark), &[3]);
        Self { product: product.into(), ark, ask, asvk }
    }

    /// The root in DER.
    pub fn ark(&self) -> Vec<u8> {
        self.ark.certificate.clone()
    }

    /// The authority for chips' keys in DER.
    pub fn ask(&self) -> Vec<u8> {
        self.ask.certificate.clone()
    }

    /// The authority for providers' keys in DER.
    pub fn asvk(&self) -> Vec<u8> {
        self.asvk.certificate.clone()
    }

    /// Certificates in PEM, as AMD's key service sends a chain.
    pub fn pem(certificates: &[Vec<u8>]) -> Vec<u8> {
        use base64::Engine as _;
        let one = |der: &Vec<u8>| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> =
                text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("text")).collect();
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
        };
        certificates.iter().map(one).collect::<String>().into_bytes()
    }

    /// What an ordinary key's certificate says.
    pub fn content(&self, tcb: [u8; 8], chip: &[u8]) -> VekContent {
        VekContent {
            from: FROM,
            until: UNTIL,
            product: self.product.clone(),
            tcb,
            hardware_id: Some(chip.to_vec()),
            wrapped_id: false,
            provider: None,
            without: Vec::new(),
            p256: false,
            by_asvk: false,
        }
    }

    /// A certified key.
    pub fn certify(&self, content: &VekContent) -> SnpKey {
        let algorithm = match content.p256 {
            true => &ECDSA_P256_SHA256_FIXED_SIGNING,
            false => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let key = EcdsaKeyPair::generate(algorithm).expect("a key");
        let curve: &[u8] = match content.p256 {
            true => &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
            false => &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22],
        };
        let identifier = element(0x30, &[&[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1][..], curve].concat());
        let spki = element(0x30, &[identifier, bits(key.public_key().as_ref())].concat());
        let issuer = if content.by_asvk { &self.asvk } else { &self.ask };
        let subject = if content.provider.is_some() { "SEV-VLEK" } else { "SEV-VCEK" };
        let extensions = self.extensions(content);
        let certificate =
            issuer.issue(&[0], subject, (content.from, content.until), &spki, &extensions, false);
        SnpKey { key, certificate }
    }

    fn extensions(&self, content: &VekContent) -> Vec<u8> {
        let turin = processor(&self.product)[0] >= 0x1a;
        let [b0, b1, b2, b3, b4, b5, b6, b7] = content.tcb;
        let levels = match turin {
            false => [
                ("3.1", b0),
                ("3.2", b1),
                ("3.4", b2),
                ("3.5", b3),
                ("3.6", b4),
                ("3.7", b5),
                ("3.3", b6),
                ("3.8", b7),
            ],
            true => [
                ("3.9", b0),
                ("3.1", b1),
                ("3.2", b2),
                ("3.3", b3),
                ("3.5", b4),
                ("3.6", b5),
                ("3.7", b6),
                ("3.8", b7),
            ],
        };
        let mut all = vec![("1", integer(&[0])), ("2", element(0x16, content.product.as_bytes()))];
        all.extend(levels.map(|(arcs, level)| (arcs, integer(&[level]))));
        if let Some(id) = &content.hardware_id {
            all.push(("4", if content.wrapped_id { element(4, id) } else { id.clone() }));
        }
        if let Some(name) = &content.provider {
            all.push(("5", element(0x16, name.as_bytes())));
        }
        all.retain(|(arcs, _)| !content.without.contains(arcs));
        let one = |(arcs, value): &(&str, Vec<u8>)| {
            let mut id = vec![0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1];
            id.extend(arcs.split('.').map(|arc| arc.parse::<u8>().expect("an arc")));
            element(0x30, &[element(6, &id), element(4, value)].concat())
        };
        all.iter().flat_map(one).collect()
    }

    /// A revocation list by the root over serial numbers.
    pub fn crl(&self, this_update: i64, next_update: i64, revoked: &[&[u8]]) -> Vec<u8> {
        let entry = |serial: &&[u8]| element(0x30, &[integer(serial), time(this_update)].concat());
        let entries: Vec<u8> = revoked.iter().flat_map(entry).collect();
        let mut parts =
            vec![integer(&[1]), pss(), name(&self.ark.name), time(this_update), time(next_update)];
        if !entries.is_empty() {
            parts.push(element(0x30, &entries));
        }
        let tbs = element(0x30, &parts.concat());
        self.ark.signed(tbs)
    }

    /// A report, not signed yet, of a processor of this product whose four firmware levels are the same.
    pub fn report(&self, version: u32, tcb: [u8; 8], chip: &[u8], report_data: &[u8]) -> [u8; 1184] {
        let mut report = [0; 1184];
        put(&mut report, 0, &version.to_le_bytes());
        put(&mut report, 0x08, &0x3_0000_u64.to_le_bytes());
        put(&mut report, 0x34, &1_u32.to_le_bytes());
        put(&mut report, 0x50, report_data);
        put(&mut report, 0x90, &[0xa5; 48]);
        put(&mut report, 0x140, &[7; 32]);
        put(&mut report, 0x160, &[0xff; 32]);
        if version >= 3 {
            put(&mut report, 0x188, &processor(&self.product));
        }
        put(&mut report, 0x1a0, chip);
        for at in [0x38, 0x180, 0x1e0, 0x1f0] {
            put(&mut report, at, &tcb);
        }
        put(&mut report, 0x1e8, &[43, 55, 1, 0, 43, 55, 1]);
        if version >= 5 {
            put(&mut report, 0x1f8, &1_u64.to_le_bytes());
            put(&mut report, 0x200, &3_u64.to_le_bytes());
        }
        report
    }
}

impl SnpKey {
    /// The certificate in DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.certificate.clone()
    }

    /// Signs a report in place.
    pub fn sign(&self, report: &mut [u8; 1184]) {
        let signature = self.key.sign(&SystemRandom::new(), &report[..0x2a0]).expect("a signature");
        report[0x2a0..].fill(0);
        let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
        for (at, number) in [(0x2a0, r), (0x2e8, s)] {
            let little: Vec<u8> = number.iter().rev().copied().collect();
            put(report, at, &little);
        }
    }
}

impl Issuer {
    fn new(name: &str, above: Option<&Self>, serial: &[u8]) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let rsa = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let spki = element(0x30, &[&rsa[..], &bits(key.public_key().as_ref())].concat());
        let mut own = Self { key, name: name.into(), certificate: Vec::new() };
        let dates = (FROM, UNTIL);
        own.certificate = above.unwrap_or(&own).issue(serial, name, dates, &spki, &[], true);
        own
    }

    fn issue(
        &self,
        serial: &[u8],
        subject: &str,
        (from, until): (i64, i64),
        spki: &[u8],
        extensions: &[u8],
        is_ca: bool,
    ) -> Vec<u8> {
        let constraints = element(
            0x30,
            &[&[6, 3, 0x55, 0x1d, 0x13, 1, 1, 0xff][..], &element(4, &[0x30, 3, 1, 1, 0xff])].concat(),
        );
        let extensions = if is_ca { [extensions, &constraints].concat() } else { extensions.to_vec() };
        let tbs = [
            element(0xa0, &integer(&[2])),
            integer(serial),
            pss(),
            name(&self.name),
            element(0x30, &[time(from), time(until)].concat()),
            name(subject),
            spki.to_vec(),
            element(0xa3, &element(0x30, &extensions)),
        ];
        self.signed(element(0x30, &tbs.concat()))
    }

    fn signed(&self, tbs: Vec<u8>) -> Vec<u8> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), &tbs, &mut signature).expect("a signature");
        element(0x30, &[tbs, pss(), bits(&signature)].concat())
    }
}

fn processor(product: &str) -> [u8; 3] {
    PROCESSORS.iter().find(|(name, _)| *name == product).map_or([0x19, 1, 1], |(_, processor)| *processor)
}

fn put(report: &mut [u8; 1184], at: usize, bytes: &[u8]) {
    report[at..at + bytes.len()].copy_from_slice(bytes);
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt (RFC 4055, section 3.1).
fn pss() -> Vec<u8> {
    let sha384 = [0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0];
    let mgf1 = [&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8][..], &sha384].concat();
    let parameters =
        [element(0xa0, &sha384), element(0xa1, &element(0x30, &mgf1)), element(0xa2, &integer(&[48]))]
            .concat();
    let id = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    element(0x30, &[&id[..], &element(0x30, &parameters)].concat())
}

fn name(common: &str) -> Vec<u8> {
    let pair = [&[6, 3, 0x55, 4, 3][..], &element(0x0c, common.as_bytes())].concat();
    element(0x30, &element(0x31, &element(0x30, &pair)))
}

/// An unsigned number without leading zeros.
fn integer(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    element(2, &[sign, number].concat())
}

fn bits(octets: &[u8]) -> Vec<u8> {
    element(3, &[&[0], octets].concat())
}

/// A GeneralizedTime (RFC 5280, section 4.1.2.5.2) from seconds since 1970.
fn time(second: i64) -> Vec<u8> {
    let (days, rest) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let text =
        format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60);
    element(0x18, text.as_bytes())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match content.len() {
        short @ 0..=0x7f => element.push(short as u8),
        long => {
            let digits: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            element.push(0x80 | digits.len() as u8);
            element.extend(digits);
        }
    }
    element.extend_from_slice(content);
    element
}
