//! What proven tokens say, by the names that Trustee's policies and Veraison's results have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_verify_api::Question;
use serde_json::{Map, Value, json};

use crate::platform::{AttachedDevice, BootKey, Component, PlatformClaims};
use crate::realm::RealmClaims;

pub(crate) fn claims(
    platform: &PlatformClaims,
    realm: &RealmClaims,
    question: &Question<'_>,
) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("platform".to_owned(), platform_claims(platform));
    claims.insert("realm".to_owned(), realm_claims(realm));
    claims.insert("report_data".to_owned(), hex::encode(realm.challenge).into());
    if question.init_data.is_some() {
        claims.insert("init_data".to_owned(), hex::encode(realm.personalization_value).into());
    }
    claims
}

fn platform_claims(platform: &PlatformClaims) -> Value {
    let mut claims = json!({
        "cca-platform-profile": platform.profile,
        "cca-platform-challenge": text(platform.challenge.as_bytes()),
        "cca-platform-implementation-id": text(&platform.implementation_id),
        "cca-platform-instance-id": text(&platform.instance_id),
        "cca-platform-config": text(&platform.config),
        "cca-platform-lifecycle": platform.lifecycle.number(),
        "cca-platform-lifecycle-state": platform.lifecycle.state(),
        "cca-platform-sw-components": platform.components.iter().map(component).collect::<Vec<_>>(),
        "cca-platform-hash-algo-id": platform.hash_algorithm,
    });
    let mut say = |name: &str, value: Option<Value>| add(&mut claims, name, value);
    say("cca-platform-service-indicator", platform.verification_service.clone().map(Value::from));
    say("cca-platform-client-id", platform.client_id.map(Value::from));
    say("cca-platform-manufacturing-config", platform.manufacturing_config.as_deref().map(text));
    say("cca-platform-extension", list(&platform.devices, device));
    say("cca-platform-tbb-rotpk", list(&platform.boot_keys, boot_key));
    say("cca-platform-peer-signers", platform.peer_signers.as_deref().map(text));
    claims
}

fn realm_claims(realm: &RealmClaims) -> Value {
    let extensible = realm.extensible_measurements.iter().map(|value| text(value.as_bytes()));
    let mut claims = json!({
        "cca-realm-challenge": text(&realm.challenge),
        "cca-realm-personalization-value": text(&realm.personalization_value),
        "cca-realm-initial-measurement": text(realm.initial_measurement.as_bytes()),
        "cca-realm-extensible-measurements": extensible.collect::<Vec<_>>(),
        "cca-realm-hash-algo-id": realm.hash_algorithm,
        "cca-realm-public-key": text(&realm.public_key),
        "cca-realm-public-key-hash-algo-id": realm.public_key_hash,
    });
    add(&mut claims, "cca-realm-profile", realm.profile.clone().map(Value::from));
    add(&mut claims, "cca-realm-mec-policy", realm.mec_policy.clone().map(Value::from));
    claims
}

fn component(component: &Component) -> Value {
    let mut claims = json!({
        "measurement-value": text(component.measurement.as_bytes()),
        "signer-id": text(component.signer.as_bytes()),
    });
    add(&mut claims, "measurement-type", component.kind.clone().map(Value::from));
    add(&mut claims, "version", component.version.clone().map(Value::from));
    add(&mut claims, "hash-algo-id", component.algorithm.clone().map(Value::from));
    claims
}

fn device(device: &AttachedDevice) -> Value {
    json!({
        "device-measurements-digest": text(device.measurements.as_bytes()),
        "certificate-chain-digest": text(device.certificates.as_bytes()),
        "uses-ide": device.uses_ide,
        "protocol": device.protocol,
        "device-type": device.kind,
    })
}

fn boot_key(key: &BootKey) -> Value {
    json!({
        "name": key.name,
        "active-array-index": key.active,
        "index": key.index,
        "hash": text(key.hash.as_bytes()),
    })
}

fn list<T>(items: &[T], say: impl Fn(&T) -> Value) -> Option<Value> {
    (!items.is_empty()).then(|| items.iter().map(say).collect())
}

fn add(claims: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(claims), Some(value)) = (claims.as_object_mut(), value) {
        claims.insert(name.to_owned(), value);
    }
}

fn text(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}
