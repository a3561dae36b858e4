//! What a quote must be bound to: the report data, and the init-data in the field that the platform has for it.

use coffer_core_digest::Digest;
use coffer_core_evidence::ReportData;
use coffer_verify_api::Check;

/// What the report data must hold.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// The hash over this session's nonce and key.
    Session(&'a ReportData),
    /// Exactly these bytes, for a quote inside other evidence, which says itself what is fresh.
    Field(&'a [u8; 64]),
}

const SOURCE: &str = "KBS protocol 0.4, report data; Intel SGX and TDX, REPORTDATA";

/// Compares the report data. One comparison proves freshness and binding, because the report data hashes nonce and
/// key together; when it fails, nobody can tell which of the two differs.
pub fn report_data(prefix: &str, found: &[u8; 64], expected: Expected<'_>) -> Vec<Check> {
    let session = match expected {
        Expected::Session(session) => session,
        Expected::Field(field) => {
            let title = match field == found {
                true => "The quote is bound to what stands around it",
                false => "The quote is bound to something else than what stands around it",
            };
            let code = format!("{prefix}.quote.report-data");
            return vec![Check::equal(code, title, &hex::encode(field), &hex::encode(found))];
        }
    };
    let wanted: [u8; 64] = session.field();
    let (freshness, binding) = (format!("{prefix}.quote.freshness"), format!("{prefix}.key.binding"));
    if wanted == *found {
        let fresh = Check::passed(freshness, "The quote was made for this challenge")
            .expected(hex::encode(wanted))
            .found(hex::encode(found))
            .source(SOURCE);
        let bound = Check::passed(
            binding,
            "The quote is bound to the key that secrets will be encrypted to: its report data hashes that key",
        );
        return vec![fresh, bound.source(SOURCE)];
    }
    let stale = Check::failed(freshness, "The quote was made for another challenge or another key")
        .expected(hex::encode(wanted))
        .found(hex::encode(found))
        .source(SOURCE)
        .remedy("attest again, with the nonce of this challenge and the key of this session");
    let unbound = Check::unavailable(binding, "Not told, because the report data is another hash");
    vec![stale, unbound.source(SOURCE)]
}

/// Compares a field with the digest of the init-data that was sent, cut or padded with zeros to the field's length
/// (KBS protocol, init-data).
pub fn init_data(prefix: &str, field: &str, found: &[u8], digest: &Digest) -> Check {
    let mut expected = digest.as_bytes().to_vec();
    expected.resize(found.len(), 0);
    let title = match expected == found {
        true => "The init-data sent is the one that the guest was started with",
        false => "The guest was started with other init-data than the one sent",
    };
    Check::equal(format!("{prefix}.init-data.binding"), title, &hex::encode(&expected), &hex::encode(found))
        .source(format!("KBS protocol, init-data; {field}"))
}
