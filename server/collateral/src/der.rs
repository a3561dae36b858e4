//! The little of X.509, CRL and OCSP that dates and names need. Nothing here is believed; judges check signatures.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Elements, one after the other (ITU-T X.690, section 8.1, definite lengths only).
#[derive(Clone, Copy)]
pub(crate) struct Der<'a>(&'a [u8]);

/// One element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With its tag and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            long => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                if digits.is_empty() || digits.len() > 4 {
                    return None;
                }
                let length = digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
                (length, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len().checked_sub(rest.len())?)?;
        self.0 = rest;
        Some(Element { tag: *tag, content, whole })
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// Into a sequence.
    pub(crate) fn sequence(&mut self) -> Option<Der<'a>> {
        self.expect(SEQUENCE).map(|element| Der(element.content))
    }

    fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        if self.peek() == Some(tag) { self.next() } else { None }
    }

    fn time(&mut self) -> Option<Timestamp> {
        let element = self.next()?;
        time(element.tag, element.content)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `UTCTime` and `GeneralizedTime` as certificates have them (RFC 5280, section 4.1.2.5).
fn time(tag: u8, content: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    // OCSP responders may send a fraction of a second.
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let part = |at: usize| rest.get(at..at + 2).and_then(|digits| digits.parse::<i8>().ok());
    let date = Date::new(year, part(0)?, part(2)?).ok()?;
    let clock = Time::new(part(4)?, part(6)?, part(8)?, 0).ok()?;
    DateTime::from_parts(date, clock).to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// What is read of a certificate.
pub(crate) struct Certificate<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) not_after: Timestamp,
    /// The key's bits, as OCSP hashes them.
    pub(crate) key: &'a [u8],
    /// What follows the key: identifiers and extensions.
    rest: Der<'a>,
}

impl<'a> Certificate<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Der::new(der);
        let mut certificate = outer.sequence()?;
        if !outer.is_empty() {
            return None;
        }
        let mut body = certificate.sequence()?;
        body.optional(0xa0);
        let serial = body.expect(INTEGER)?.content;
        body.sequence()?;
        let issuer = body.expect(SEQUENCE)?.whole;
        let mut validity = body.sequence()?;
        validity.time()?;
        let not_after = validity.time()?;
        let subject = body.expect(SEQUENCE)?.whole;
        let mut spki = body.sequence()?;
        spki.sequence()?;
        let (_, key) = spki.expect(BIT_STRING)?.content.split_first()?;
        Some(Self { serial, issuer, subject, not_after, key, rest: body })
    }

    /// The value of an extension, by its object identifier's content.
    pub(crate) fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        let mut rest = self.rest;
        while let Some(element) = rest.next() {
            if element.tag != 0xa3 {
                continue;
            }
            let mut list = Der::new(element.content).sequence()?;
            while let Some(mut extension) = list.sequence() {
                if extension.expect(OID)?.content == oid {
                    extension.optional(0x01);
                    return extension.expect(OCTET_STRING).map(|value| value.content);
                }
            }
        }
        None
    }
}

/// What is read of a revocation list.
pub(crate) struct Crl<'a> {
    pub(crate) issuer: &'a [u8],
    pub(crate) next_update: Option<Timestamp>,
}

impl<'a> Crl<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Der::new(der);
        let mut crl = outer.sequence()?;
        if !outer.is_empty() {
            return None;
        }
        let mut body = crl.sequence()?;
        body.optional(INTEGER);
        body.sequence()?;
        let issuer = body.expect(SEQUENCE)?.whole;
        body.time()?;
        let next_update = match body.peek() {
            Some(UTC_TIME | GENERALIZED_TIME) => Some(body.time()?),
            _ => None,
        };
        crl.sequence()?;
        crl.expect(BIT_STRING)?;
        Some(Self { issuer, next_update })
    }
}

/// When a successful OCSP response ends (RFC 6960, section 4.2.1): the earliest end in it, or none.
pub(crate) fn ocsp_next_update(der: &[u8]) -> Option<Option<Timestamp>> {
    let mut outer = Der::new(der);
    let mut response = outer.sequence()?;
    if response.expect(ENUMERATED)?.content != [0] || !outer.is_empty() {
        return None;
    }
    let mut bytes = Der::new(response.expect(0xa0)?.content).sequence()?;
    bytes.expect(OID)?;
    let mut basic = Der::new(bytes.expect(OCTET_STRING)?.content).sequence()?;
    let mut data = basic.sequence()?;
    data.optional(0xa0);
    // The responder's name or key.
    data.next()?;
    data.time()?;
    let mut singles = data.sequence()?;
    let mut earliest = None;
    while !singles.is_empty() {
        let mut single = singles.sequence()?;
        single.sequence()?;
        single.next()?;
        single.time()?;
        if let Some(next) = single.optional(0xa0) {
            let next = Der::new(next.content).time()?;
            earliest = Some(earliest.map_or(next, |before: Timestamp| before.min(next)));
        }
    }
    Some(earliest)
}

/// Writes one element.
pub(crate) fn element(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let digits: Vec<u8> = digits.iter().copied().skip_while(|digit| *digit == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend_from_slice(&digits);
        }
    }
    out.extend_from_slice(&content);
    out
}

/// A request for the state of one certificate (RFC 6960, section 4.1.1), without a nonce, so that the answer can be
/// kept. The certificate is named with SHA-384, as NVIDIA's own verifiers name it.
pub(crate) fn ocsp_request(certificate: &Certificate<'_>, issuer: &Certificate<'_>) -> Vec<u8> {
    use coffer_core_digest::{Algorithm, Digest};
    /// 2.16.840.1.101.3.4.2.2, with NULL parameters.
    const SHA384: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00];
    let name = Digest::of(Algorithm::Sha384, issuer.subject);
    let key = Digest::of(Algorithm::Sha384, issuer.key);
    let id = element(
        SEQUENCE,
        &[
            &SHA384,
            &element(OCTET_STRING, &[name.as_bytes()]),
            &element(OCTET_STRING, &[key.as_bytes()]),
            &element(INTEGER, &[certificate.serial]),
        ],
    );
    let request = element(SEQUENCE, &[&id]);
    let list = element(SEQUENCE, &[&request]);
    let body = element(SEQUENCE, &[&list]);
    element(SEQUENCE, &[&body])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ocsp(status: u8, next_updates: &[Option<&[u8]>]) -> Vec<u8> {
        let now: &[u8] = &element(GENERALIZED_TIME, &[b"20260101000000Z"]);
        let singles: Vec<Vec<u8>> = next_updates
            .iter()
            .map(|next| {
                let next = next
                    .map(|text| element(0xa0, &[&element(GENERALIZED_TIME, &[text])]))
                    .unwrap_or_default();
                element(SEQUENCE, &[&element(SEQUENCE, &[]), &element(0x80, &[]), now, &next])
            })
            .collect();
        let data = element(
            SEQUENCE,
            &[
                &element(0xa2, &[&element(OCTET_STRING, &[&[1; 20]])]),
                now,
                &element(SEQUENCE, &[&singles.concat()]),
            ],
        );
        let basic = element(SEQUENCE, &[&data, &element(SEQUENCE, &[]), &element(BIT_STRING, &[&[0]])]);
        let bytes = element(SEQUENCE, &[&element(OID, &[&[1]]), &element(OCTET_STRING, &[&basic])]);
        element(SEQUENCE, &[&element(ENUMERATED, &[&[status]]), &element(0xa0, &[&bytes])])
    }

    #[test]
    fn an_ocsp_response_ends_with_the_first_of_its_answers() {
        let response = ocsp(0, &[Some(b"20260303000000Z"), None, Some(b"20260202030405.5Z")]);
        let end = ocsp_next_update(&response).unwrap().unwrap();
        assert_eq!(end.to_string(), "2026-02-02T03:04:05Z");
        assert_eq!(ocsp_next_update(&ocsp(0, &[None])), Some(None));
        assert_eq!(ocsp_next_update(&ocsp(6, &[None])), None, "unauthorized is no answer");
        for cut in 0..response.len() {
            assert_eq!(ocsp_next_update(&response[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn an_ocsp_request_names_the_certificate_and_asks_for_no_nonce() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap();
        let certificate = Certificate::parse(der.der()).unwrap();
        let request = ocsp_request(&certificate, &certificate);
        let mut outer = Der::new(&request);
        let mut body = outer.sequence().unwrap().sequence().unwrap();
        let mut id = body.sequence().unwrap().sequence().unwrap().sequence().unwrap();
        assert!(body.is_empty() && outer.is_empty());
        assert_eq!(id.sequence().unwrap().expect(OID).unwrap().content.len(), 9);
        assert_eq!(id.expect(OCTET_STRING).unwrap().content.len(), 48);
        assert_eq!(id.expect(OCTET_STRING).unwrap().content.len(), 48);
        assert_eq!(id.expect(INTEGER).unwrap().content, certificate.serial);
    }

    #[test]
    fn times_are_read_as_certificates_have_them_and_nothing_else_is() {
        let read = |tag, text: &str| time(tag, text.as_bytes()).map(|at| at.to_string());
        assert_eq!(read(UTC_TIME, "491231235959Z").as_deref(), Some("2049-12-31T23:59:59Z"));
        assert_eq!(read(UTC_TIME, "500101000000Z").as_deref(), Some("1950-01-01T00:00:00Z"));
        assert_eq!(read(GENERALIZED_TIME, "20500101000000Z").as_deref(), Some("2050-01-01T00:00:00Z"));
        for (tag, text) in [
            (UTC_TIME, "4912312359Z"),
            (UTC_TIME, "491331235959Z"),
            (UTC_TIME, "491231235959"),
            (GENERALIZED_TIME, "é0500101000000Z"),
            (GENERALIZED_TIME, "-0500101000000Z"),
            (INTEGER, "20500101000000Z"),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for bytes in
            [&[0x30][..], &[0x30, 0x80], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x82, 1], &[0x30, 5, 0]]
        {
            assert!(Der::new(bytes).next().is_none(), "{bytes:?}");
            assert!(Certificate::parse(bytes).is_none() && Crl::parse(bytes).is_none());
        }
    }
}
