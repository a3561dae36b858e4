//! CCA tokens of platforms and realms that do not exist, in each profile that there is.

use aws_lc_rs::digest;
use coffer_core_cose::cbor::{Map, Value, encode};
use coffer_core_cose::{Curve, PublicKey, Sign1, SigningKey};
use coffer_core_evidence::cca::CcaEvidence;
use serde_json::json;

/// The profiles of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CcaProfile {
    /// The first specification: the realm's key is a point.
    First,
    /// 2023: the realm's key is a COSE_Key.
    Of2023,
    /// 2024, RMM 2.0: with a client, a MEC policy, and the wrapper of conceptual messages.
    Of2024,
}

/// A platform with its key and a realm with its own.
pub struct CcaFixture {
    /// The profile of both tokens.
    pub profile: CcaProfile,
    /// The platform's key (CPAK).
    pub platform_key: SigningKey,
    /// The realm's key (RAK).
    pub realm_key: SigningKey,
    /// The name of the platform.
    pub instance_id: [u8; 33],
}

/// The kind of platform that fixtures are.
const IMPLEMENTATION: [u8; 32] = [0x7f; 32];

impl CcaFixture {
    /// A platform and a realm with keys on P-384.
    pub fn new(profile: CcaProfile) -> Self {
        Self::on(profile, Curve::P384, Curve::P384)
    }

    /// A platform and a realm with keys on these curves.
    pub fn on(profile: CcaProfile, platform: Curve, realm: Curve) -> Self {
        let key = |curve| SigningKey::generate(curve).expect("a key");
        Self { profile, platform_key: key(platform), realm_key: key(realm), instance_id: [1; 33] }
    }

    /// The trust anchors that name the platform's key, as JSON.
    pub fn anchors(&self) -> Vec<u8> {
        self.anchors_with(self.platform_key.public())
    }

    /// The same with another key.
    pub fn anchors_with(&self, key: &PublicKey) -> Vec<u8> {
        let entry = json!({
            "pkey": jwk(key),
            "instance-id": hex(&self.instance_id),
            "implementation-id": hex(&IMPLEMENTATION),
        });
        serde_json::to_vec(&json!([entry])).expect("JSON")
    }

    /// The realm's key as the token has it.
    pub fn realm_key_bytes(&self) -> Vec<u8> {
        match self.profile {
            CcaProfile::First => self.realm_key.public().as_bytes().to_vec(),
            _ => encode(&self.realm_key.public().to_cose_key()),
        }
    }

    /// The platform's claims.
    pub fn platform(&self) -> Map {
        let hash = digest::digest(&digest::SHA256, &self.realm_key_bytes());
        let component = |kind: &str, value: u8| {
            Map::new()
                .with(1, kind)
                .with(2, &[value; 32][..])
                .with(4, "1.0")
                .with(5, &[9; 32][..])
                .with(6, "sha-256")
        };
        let components = vec![component("RSE_BL2", 3).into(), component("RMM", 4).into()];
        let claims = Map::new()
            .with(10, hash.as_ref())
            .with(256, &self.instance_id[..])
            .with(2395, 0x3003)
            .with(2396, &IMPLEMENTATION[..])
            .with(2399, Value::Array(components))
            .with(2400, "https://verifier.example")
            .with(2401, &[0xcf; 4][..])
            .with(2402, "sha-256");
        match self.profile {
            CcaProfile::First => claims.with(265, "http://arm.com/CCA-SSD/1.0.0"),
            CcaProfile::Of2023 => claims.with(265, "tag:arm.com,2023:cca_platform#1.0.0"),
            CcaProfile::Of2024 => later(claims.with(265, "tag:arm.com,2024:cca_platform#2.0.0")),
        }
    }

    /// The realm's claims.
    pub fn realm(&self, challenge: &[u8; 64]) -> Map {
        let extensible = (0..4).map(|at| Value::Bytes(vec![at; 32])).collect();
        let claims = Map::new()
            .with(10, &challenge[..])
            .with(44235, &[0; 64][..])
            .with(44236, "sha-256")
            .with(44237, self.realm_key_bytes())
            .with(44238, &[0x52; 32][..])
            .with(44239, Value::Array(extensible))
            .with(44240, "sha-256");
        match self.profile {
            CcaProfile::First => claims,
            CcaProfile::Of2023 => claims.with(265, "tag:arm.com,2023:realm#1.0.0"),
            CcaProfile::Of2024 => claims.with(265, "tag:arm.com,2024:realm#2.0.0").with(44243, "private"),
        }
    }

    /// A token over any claims, each part signed by its key.
    pub fn token(&self, platform: Map, realm: Map) -> Vec<u8> {
        let platform = sign(platform, &self.platform_key);
        let realm = sign(realm, &self.realm_key);
        collect(self.profile, platform, realm)
    }

    /// The wire form of a token for this challenge.
    pub fn evidence(&self, challenge: &[u8; 64]) -> serde_json::Value {
        let token = self.token(self.platform(), self.realm(challenge));
        CcaEvidence::from_token(token).expect("a token that fits").to_value()
    }
}

/// One signed part.
pub(crate) fn sign(claims: Map, key: &SigningKey) -> Vec<u8> {
    Sign1::sign(Map::new(), &encode(&claims.into()), &[], key).expect("a signature")
}

/// The collection of two signed parts.
fn collect(profile: CcaProfile, platform: Vec<u8>, realm: Vec<u8>) -> Vec<u8> {
    let record = |part: Vec<u8>| Value::Array(vec![263.into(), part.into()]);
    let (tag, platform, realm) = match profile {
        CcaProfile::Of2024 => (907, record(platform), record(realm)),
        _ => (399, platform.into(), realm.into()),
    };
    encode(&Value::tag(tag, Map::new().with(44234, platform).with(44241, realm)))
}

/// What RMM 2.0 adds.
fn later(claims: Map) -> Map {
    let device = Map::new()
        .with(1, "sha-256")
        .with(2, &[0xd2; 32][..])
        .with(3, &[0xd3; 48][..])
        .with(4, true)
        .with(5, "spdm-1.2.0")
        .with(6, &[0xd6; 48][..])
        .with(7, "cxl-type-3")
        .with(8, 0);
    let key = Map::new().with(1, "DM").with(2, 0).with(3, 1).with(4, &[7; 32][..]);
    claims
        .with(2394, 1)
        .with(2403, &[1, 2, 3][..])
        .with(2404, Value::Array(vec![device.into()]))
        .with(2405, Value::Array(vec![key.into()]))
        .with(2406, &[5; 5][..])
}

fn jwk(key: &PublicKey) -> serde_json::Value {
    let (x, y) = key.as_bytes()[1..].split_at(key.curve().coordinate());
    json!({"kty": "EC", "crv": key.curve().name(), "x": base64url(x), "y": base64url(y)})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Without padding (RFC 4648, section 5).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}
