//! What the report is bound to: the challenge, the key, and the init-data that the host gave.

use coffer_core_digest::Digest;
use coffer_core_evidence::snp::Report;
use coffer_verify_api::Check;

/// One comparison proves two things, because the report data hashes the challenge's nonce together with the key that
/// will receive secrets. When it fails, nobody can tell which of the two differs, so only freshness is said to fail.
pub(crate) fn report_data(report: &Report, expected: &[u8; 64]) -> [Check; 2] {
    const SOURCE: &str =
        "KBS protocol 0.4, report data; SEV-SNP Firmware ABI (AMD 56860), table 23, REPORT_DATA";
    const FRESHNESS: &str = "snp.report.freshness";
    const BINDING: &str = "snp.key.binding";
    let (wanted, found) = (hex::encode(expected), hex::encode(report.report_data()));
    if report.report_data() == expected {
        let fresh = Check::passed(FRESHNESS, "The report was made for this challenge");
        let bound = Check::passed(
            BINDING,
            "The report is bound to the key that secrets will be encrypted to: its report data hashes that key",
        );
        return [fresh.expected(wanted).found(found).source(SOURCE), bound.source(SOURCE)];
    }
    let stale = Check::failed(FRESHNESS, "The report was made for another challenge or another key")
        .expected(wanted)
        .found(found)
        .source(SOURCE)
        .remedy("attest again, with the nonce of this challenge and the key of this session");
    let unbound = Check::unavailable(BINDING, "Not told, because the report data is another hash");
    [stale, unbound.source(SOURCE)]
}

/// The host data holds init-data's digest, cut or padded with zeros to 32 bytes.
pub(crate) fn init_data(report: &Report, digest: &Digest) -> Check {
    let mut expected = [0; 32];
    for (to, from) in expected.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    let found = report.host_data();
    let title = match *found == expected {
        true => "The init-data sent is the one that the guest was launched with",
        false => "The guest was launched with other init-data than the one sent",
    };
    Check::equal("snp.init-data.binding", title, &hex::encode(expected), &hex::encode(found))
        .source("KBS protocol, init-data; SEV-SNP Firmware ABI (AMD 56860), table 23, HOST_DATA")
        .remedy("launch the guest with the digest of this init-data as host data")
}
