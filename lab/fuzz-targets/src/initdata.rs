//! Init-data, which the host carries to the guest and an attester to the broker.

use coffer_core_initdata::{
    Algorithm, AllowedContainer, Attestation, Broker, Builder, Digest, Ephemeral, GuestConfig, InitData,
    Overlay, Permission, Persistent, Rollback, Scratch, SealedData, Secret, SecretFile, SecretPlace,
    SecretSource, SignatureRule, Volume, VolumeAccess, VolumeKind,
};

/// Reads TOML text.
pub fn init_data_toml(data: &[u8]) {
    if let Ok(read) = InitData::parse(data) {
        look(&read);
        assert_eq!(read.text().as_bytes(), data);
    }
}

/// Reads a raw disk.
pub fn init_data_disk(data: &[u8]) {
    if let Ok(read) = InitData::from_disk(data) {
        look(&read);
    }
}

/// Reads Kata's annotation.
pub fn init_data_annotation(data: &[u8]) {
    if let Ok(Ok(read)) = std::str::from_utf8(data).map(InitData::from_annotation) {
        look(&read);
    }
}

/// Reads the guest's own entry.
pub fn guest_config(data: &[u8]) {
    if let Ok(Ok(config)) = std::str::from_utf8(data).map(GuestConfig::parse) {
        assert!(config.containers.iter().all(|it| it.digest.is_some() || !it.signers.is_empty()));
        let written = config.to_toml().unwrap();
        assert_eq!(GuestConfig::parse(&written).unwrap().to_toml().unwrap(), written);
    }
}

fn look(read: &InitData) {
    let _ = read.guest_config();
    assert_eq!(read.entry_digests().len(), read.data().len());
    assert_eq!(&InitData::from_disk(&read.to_disk().unwrap()).unwrap(), read);
}

fn config() -> GuestConfig {
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    GuestConfig {
        attestation: Attestation::Required,
        broker: Some(Broker { url: "https://10.0.2.2:8443".into(), certificate: pem("CERTIFICATE") }),
        containers: vec![AllowedContainer {
            image: "registry/nginx".into(),
            signature: SignatureRule::Required,
            digest: Some(Digest::sha256(b"manifest")),
            signers: vec![pem("PUBLIC KEY")],
            args: Some(vec!["-v".into()]),
            env: vec!["A=1".into()],
            resources: vec!["kbs:///default/key/1".into()],
            secrets: secrets(),
            evidence: Permission::Denied,
            stdin: Permission::Allowed,
            terminal: Permission::Allowed,
        }],
        volumes: volumes(),
        scratch: Scratch { overlay: Overlay::Disk },
    }
}

fn volumes() -> Vec<Volume> {
    let persistent = Persistent {
        key: "kbs:///default/volume-key/data".into(),
        rollback: Rollback::Detected,
        access: VolumeAccess::ReadOnly,
    };
    let sealed = SealedData {
        key: "kbs:///default/data-key/set".into(),
        root_hash: Digest::sha256(b"root"),
        salt: [7; 32],
        data_blocks: 9,
    };
    [
        ("data", VolumeKind::Persistent(persistent)),
        ("tmp", VolumeKind::Ephemeral(Ephemeral { owner: (1000, 100) })),
        ("set", VolumeKind::Sealed(sealed)),
    ]
    .map(|(name, kind)| Volume { name: name.into(), path: format!("/srv/{name}"), kind })
    .into()
}

fn secrets() -> Vec<Secret> {
    let file = SecretFile { path: "/run/secrets/db".into(), mode: 0o440, owner: (7, 8) };
    vec![
        Secret { source: SecretSource::Sealed("sealed.a.b.c".into()), place: SecretPlace::Env("B".into()) },
        Secret {
            source: SecretSource::Resource("kbs:///default/db/password".into()),
            place: SecretPlace::File(file),
        },
    ]
}

fn built() -> InitData {
    let builder = Builder::new(Algorithm::Sha384).entry("aa.toml", "a = 1\n");
    builder.guest(&config()).unwrap().build().unwrap()
}

pub(crate) fn toml_seeds() -> Vec<Vec<u8>> {
    vec![
        built().text().as_bytes().to_vec(),
        b"version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"cdh.toml\" = '''\nx\n'''\n".to_vec(),
    ]
}

pub(crate) fn disk_seeds() -> Vec<Vec<u8>> {
    vec![built().to_disk().unwrap()]
}

pub(crate) fn annotation_seeds() -> Vec<Vec<u8>> {
    vec![built().to_annotation().unwrap().into_bytes()]
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    vec![config().to_toml().unwrap().into_bytes()]
}
