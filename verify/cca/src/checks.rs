//! The checks: who signed for the platform, that it vouches for the realm's key, and for which challenge and key.

use coffer_core_digest::Digest;
use coffer_core_evidence::ReportData;
use coffer_verify_api::Check;

use crate::anchors::{Anchor, TrustAnchors};
use crate::known::Known;
use crate::realm::RealmClaims;
use crate::{Parts, SPECIFIED};

/// Whether a configured key signed the platform's token, and whether that key is hardware's.
pub(crate) fn platform(parts: &Parts, anchors: &TrustAnchors, known: &Known) -> (Vec<Check>, bool) {
    const CHAIN: &str = "cca.platform.chain";
    const SIGNATURE: &str = "cca.platform.signature";
    let instance = hex::encode(parts.platform.instance_id);
    let candidates: Vec<(usize, &Anchor)> = anchors.of(&parts.platform).collect();
    if candidates.is_empty() {
        let unknown = Check::failed("cca.platform.anchor", "No key is configured for this platform")
            .expected("a trust anchor for the platform's instance")
            .found(instance)
            .source(SPECIFIED)
            .remedy("if this platform is to be trusted, add its maker's public key (CPAK) to the CCA trust anchors");
        return (vec![unknown, Check::unavailable(SIGNATURE, "Not told, because no key is known")], false);
    }

    let digest = Digest::sha256(&parts.platform_token);
    let before = known.anchor(&digest).and_then(|at| anchors.get(at));
    let signer = before.or_else(|| {
        let verified =
            |(_, anchor): &&(usize, &Anchor)| parts.signed_platform.verify(&anchor.key, &[]).is_ok();
        let (at, anchor) = candidates.iter().find(verified)?;
        known.keep(digest, *at);
        Some(anchor)
    });
    let Some(anchor) = signer else {
        let cause =
            candidates.first().and_then(|(_, anchor)| parts.signed_platform.verify(&anchor.key, &[]).err());
        let failed = Check::failed(SIGNATURE, "The platform's key did not sign the platform's token")
            .expected(format!("a signature by the key that is configured for {instance}"))
            .found(cause.map_or_else(String::new, |cause| cause.to_string()))
            .source("RFC 9052, section 4.4");
        return (vec![Check::passed(CHAIN, "A key is configured for this platform"), failed], false);
    };
    let mut checks = vec![
        Check::passed(CHAIN, "A key is configured for this platform").found(instance).source(SPECIFIED),
        Check::passed(SIGNATURE, "The platform's key signed the platform's token")
            .source("RFC 9052, section 4.4"),
    ];
    if let Some(expected) = anchor.implementation_id {
        let (expected, found) = (hex::encode(expected), hex::encode(parts.platform.implementation_id));
        let title = "The platform is of the implementation that its key is configured for";
        checks.push(Check::equal("cca.platform.implementation", title, &expected, &found).source(SPECIFIED));
    }
    (checks, anchor.hardware)
}

/// Whether the realm's key signed the realm's token, and whether the platform vouches for that key.
pub(crate) fn realm(parts: &Parts) -> [Check; 2] {
    const CODE: &str = "cca.realm.signature";
    const CHAIN: &str = "cca.realm.chain";
    const SOURCE: &str = "DEN0137, A7.2.3.1.10 and A7.2.3.2.2";
    let signature = match parts.signed_realm.verify(&parts.realm.key, &[]) {
        Ok(()) => Check::passed(CODE, "The realm's key signed the realm's token"),
        Err(cause) => Check::failed(CODE, "The realm's key did not sign the realm's token")
            .expected("a signature by the key in the realm's token")
            .found(cause.to_string()),
    };
    let found = parts.platform.challenge;
    let chain = match parts.realm.key_hash() {
        Some(expected) if expected.as_bytes() == found.as_bytes() => {
            Check::passed(CHAIN, "The platform vouches for the realm's key: it signed the key's hash")
        }
        Some(expected) => Check::failed(CHAIN, "The platform signed the hash of another realm's key")
            .expected(expected.hex())
            .found(found.hex())
            .remedy("send the two tokens that were made together"),
        None => Check::failed(CHAIN, "The hash of the realm's key is of an unknown algorithm")
            .expected("sha-256, sha-384 or sha-512")
            .found(parts.realm.public_key_hash.clone()),
    };
    [signature.source("RFC 9052, section 4.4"), chain.source(SOURCE)]
}

/// That the realm's token was made for this challenge, and for the key that secrets will be encrypted to.
pub(crate) fn freshness_and_binding(realm: &RealmClaims, report_data: &ReportData) -> [Check; 2] {
    const FRESHNESS: &str = "cca.realm.freshness";
    const BINDING: &str = "cca.key.binding";
    const SOURCE: &str = "KBS protocol, report data; DEN0137, A7.2.3.1.2";
    let expected: [u8; 64] = report_data.field();
    let (wanted, found) = (hex::encode(expected), hex::encode(realm.challenge));
    if expected == realm.challenge {
        let fresh = Check::passed(FRESHNESS, "The token was made for this challenge");
        let bound = Check::passed(
            BINDING,
            "The token is bound to the key that secrets will be encrypted to: its challenge hashes that key",
        );
        return [fresh.expected(wanted).found(found).source(SOURCE), bound.source(SOURCE)];
    }
    let stale = Check::failed(FRESHNESS, "The token was made for another challenge or another key")
        .expected(wanted)
        .found(found)
        .source(SOURCE)
        .remedy("attest again, with the nonce of this challenge and the key of this session");
    [stale, Check::unavailable(BINDING, "Not told, because the challenge is another hash").source(SOURCE)]
}

/// The realm was made with the digest of its init-data as personalization value.
pub(crate) fn init_data(realm: &RealmClaims, digest: &Digest) -> Check {
    let mut expected = [0; 64];
    for (to, from) in expected.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    let title = match expected == realm.personalization_value {
        true => "The init-data sent is the one that the realm was made with",
        false => "The realm was made with other init-data than the one sent",
    };
    let (expected, found) = (hex::encode(expected), hex::encode(realm.personalization_value));
    Check::equal("cca.init-data.binding", title, &expected, &found)
        .source("KBS protocol, init-data; DEN0137, A7.2.3.1.3 (realm personalization value)")
}
