//! What is accepted, and beside it each defect with the reason that it is refused for.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use proptest::prelude::*;

use super::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";

fn text(version: &str, algorithm: &str, rest: &str) -> String {
    format!("version = \"{version}\"\nalgorithm = \"{algorithm}\"\n{rest}")
}

fn reason(text: &str) -> &'static str {
    InitData::parse(text.as_bytes()).expect_err(text).code()
}

fn config() -> GuestConfig {
    GuestConfig {
        attestation: Attestation::Required,
        broker: Some(Broker { url: "https://10.0.2.2:8443".into(), certificate: PEM.into() }),
        containers: vec![
            AllowedContainer {
                image: "registry.example/nginx:1".into(),
                signature: SignatureRule::Required,
                digest: None,
                signers: vec![KEY.into()],
                args: Some(vec!["-c".into(), "echo \"it's '''\\n'''\"\n\tend".into()]),
                env: vec!["A=1".into()],
                secrets: secrets(),
                resources: vec!["kbs:///default/config/1".into(), "kbs:///default/config/2".into()],
                evidence: Permission::Allowed,
                stdin: Permission::Allowed,
                terminal: Permission::Denied,
            },
            AllowedContainer {
                image: "pinned".into(),
                signature: SignatureRule::DigestOnly,
                digest: Some(Digest::sha256(b"manifest")),
                signers: vec![],
                args: None,
                env: vec![],
                resources: vec![],
                secrets: vec![],
                evidence: Permission::Denied,
                stdin: Permission::Denied,
                terminal: Permission::Allowed,
            },
        ],
        volumes: vec![volume(), scratch(), sealed()],
        scratch: Scratch { overlay: Overlay::Disk },
    }
}

fn secrets() -> Vec<Secret> {
    let resource = || SecretSource::Resource("kbs:///default/db/password".into());
    let file = SecretFile { path: "/run/secrets/db".into(), mode: 0o440, owner: (7, 8) };
    vec![
        Secret { source: resource(), place: SecretPlace::Env("DB_PASSWORD".into()) },
        Secret { source: SecretSource::Sealed("sealed.a.b.c".into()), place: SecretPlace::Env("B".into()) },
        Secret { source: resource(), place: SecretPlace::File(file) },
    ]
}

#[test]
fn secrets_have_one_source_and_one_place_that_nothing_else_has() {
    let text = config().to_toml().unwrap();
    let parse = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        GuestConfig::parse(&text.replacen(from, to, 1)).map_err(|error| error.code())
    };
    let (malformed, value, contradiction) =
        ("init-data.coffer.malformed", "init-data.container.value", "init-data.container.contradiction");
    for (from, to, expected) in [
        ("sealed = \"sealed.a.b.c\"", "", malformed),
        ("sealed = \"sealed.a.b.c\"", "sealed = \"sealed.a.b.c\"\nresource = \"kbs:///a/b/c\"", malformed),
        ("env = \"B\"", "", malformed),
        ("env = \"B\"", "env = \"B\"\nfile = \"/x\"", malformed),
        ("env = \"B\"", "env = \"B\"\nmode = \"0400\"", malformed),
        ("mode = \"0440\"", "mode = \"440\"", malformed),
        ("mode = \"0440\"", "mode = \"4755\"", malformed),
        ("owner = \"7:8\"", "owner = \"a:b\"", malformed),
        ("sealed = \"sealed.a.b.c\"", "sealed = \"hunter2\"", value),
        ("resource = \"kbs:///default/db/password\"", "resource = \"kbs:///a\"", value),
        ("env = \"B\"", "env = \"B=1\"", value),
        ("env = \"B\"", "env = \"\"", value),
        ("/run/secrets/db", "run/secrets/db", value),
        ("/run/secrets/db", "/proc/1/environ", value),
        ("/run/secrets/db", "/etc/hosts", value),
        ("env = \"B\"", "env = \"DB_PASSWORD\"", contradiction),
        ("env = \"B\"", "env = \"A\"", contradiction),
        ("env = \"B\"", "file = \"/run/secrets\"", contradiction),
        ("/run/secrets/db", "/srv/data/db", contradiction),
        ("/run/secrets/db", "/srv", contradiction),
    ] {
        assert_eq!(parse(from, to), Err(expected), "{from} {to}");
    }
    let read = parse("mode = \"0440\"\nowner = \"7:8\"\n", "").unwrap();
    let file = read.containers[0].secrets[2].file().unwrap();
    assert_eq!((file.mode, file.owner), (0o400, (0, 0)), "its owner may read it, unless it is said");
    let nobody = GuestConfig { attestation: Attestation::InsecureNone, volumes: vec![], ..config() };
    assert_eq!(nobody.check().unwrap_err().code(), contradiction);
}

fn volume() -> Volume {
    Volume {
        name: "data".into(),
        path: "/srv/data".into(),
        kind: persistent("kbs:///default/volume-key/data"),
    }
}

fn persistent(key: &str) -> VolumeKind {
    VolumeKind::Persistent(Persistent {
        key: key.into(),
        rollback: Rollback::Detected,
        access: VolumeAccess::ReadWrite,
    })
}

fn scratch() -> Volume {
    let kind = VolumeKind::Ephemeral(Ephemeral { owner: (1000, 100) });
    Volume { name: "tmp".into(), path: "/tmp".into(), kind }
}

fn sealed() -> Volume {
    let data = SealedData {
        key: "kbs:///default/data-key/set".into(),
        root_hash: Digest::sha256(b"root"),
        salt: [7; 32],
        data_blocks: 12,
    };
    Volume { name: "set".into(), path: "/srv/set".into(), kind: VolumeKind::Sealed(data) }
}

#[test]
fn volumes_that_cannot_be_mounted_as_they_are_written_are_refused() {
    let second =
        Volume { name: "b".into(), path: "/b".into(), kind: persistent("kbs:///default/volume-key/b") };
    let check = |volume: Volume| GuestConfig { volumes: vec![self::volume(), volume], ..config() }.check();
    let short = || second.clone();
    assert_eq!(check(short()), Ok(()));
    let refused = [
        Volume { name: "data".into(), ..short() },
        Volume { name: "a/b".into(), ..short() },
        Volume { name: "seventeen-letters".into(), ..short() },
        Volume { kind: volume().kind, ..short() },
        Volume { kind: persistent("kbs:///a/b"), ..short() },
        sealed_with(&|data| data.key = "kbs:///default/volume-key/data".into()),
        sealed_with(&|data| data.data_blocks = 0),
        sealed_with(&|data| data.data_blocks = (1 << 32) + 1),
        sealed_with(&|data| data.root_hash = Digest::zero(Algorithm::Sha384)),
        Volume { path: "b".into(), ..short() },
        Volume { path: "/".into(), ..short() },
        Volume { path: "/b/../c".into(), ..short() },
        Volume { path: "/b//c".into(), ..short() },
        Volume { path: "/proc/x".into(), ..short() },
        Volume { path: "/srv".into(), ..short() },
        Volume { path: "/srv/data/below".into(), ..short() },
    ];
    for volume in refused {
        let shown = format!("{volume:?}");
        assert_eq!(check(volume).map_err(|error| error.code()), Err("init-data.volume.value"), "{shown}");
    }
    assert_eq!(check(Volume { path: "/srv/database".into(), ..short() }), Ok(()));
    let nobody = GuestConfig { volumes: vec![sealed()], attestation: Attestation::InsecureNone, ..config() };
    assert_eq!(nobody.check(), Err(ConfigError::VolumeWithoutAttestation));
    // A disk whose key is drawn in the guest needs nobody.
    assert_eq!(GuestConfig { volumes: vec![scratch()], containers: vec![], ..nobody }.check(), Ok(()));
}

fn sealed_with(change: &dyn Fn(&mut SealedData)) -> Volume {
    let mut volume = sealed();
    if let VolumeKind::Sealed(data) = &mut volume.kind {
        change(data);
    }
    volume
}

#[test]
fn members_of_another_kind_of_volume_and_missing_ones_are_refused() {
    let text = config().to_toml().unwrap();
    let parse = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        GuestConfig::parse(&text.replacen(from, to, 1)).map_err(|error| error.code())
    };
    // A volume of before there were kinds is a persistent one.
    assert_eq!(parse("kind = \"persistent\"\n", ""), Ok(config()));
    for (from, to) in [
        ("rollback = \"detected\"\n", ""),
        ("key = \"kbs:///default/volume-key/data\"\n", ""),
        ("kind = \"persistent\"", "kind = \"ephemeral\""),
        ("kind = \"ephemeral\"", "kind = \"ephemeral\"\nkey = \"kbs:///a/b/c\""),
        ("kind = \"ephemeral\"", "kind = \"other\""),
        ("owner = \"1000:100\"", "owner = \"root\""),
        ("owner = \"1000:100\"", "owner = \"01000:100\""),
        ("kind = \"sealed\"", "kind = \"sealed\"\naccess = \"read-write\""),
        ("data-blocks = 12\n", ""),
        ("salt = \"0707", "salt = \"07"),
        ("root-hash = \"", "root-hash = \"sha256:"),
        ("overlay = \"disk\"", "overlay = \"network\""),
        ("overlay = \"disk\"", "overlay = \"disk\"\nsize = 1"),
        ("overlay = \"disk\"\n", ""),
    ] {
        assert_eq!(parse(from, to), Err("init-data.coffer.malformed"), "{from} {to}");
    }
}

fn built() -> InitData {
    let builder = Builder::new(Algorithm::Sha384).entry("aa.toml", "[token_configs.kbs]\nurl = 'x'\n");
    builder.guest(&config()).unwrap().build().unwrap()
}

#[test]
fn the_digest_is_over_the_bytes_and_not_over_their_meaning() {
    let one = text("0.1.0", "sha256", "[data]\n\"aa.toml\" = '''\nx = 1\n'''\n");
    let other = one.replace("[data]", "\n[data]");
    let (read, also) = (InitData::parse(one.as_bytes()).unwrap(), InitData::parse(other.as_bytes()).unwrap());
    assert_eq!(read.digest(), Digest::sha256(one.as_bytes()));
    assert_eq!(read.data(), also.data());
    assert_ne!(read.digest(), also.digest());
    assert_eq!(read.entry("aa.toml"), Some("x = 1\n"));
    assert_eq!(read.entry_digests()["aa.toml"], Digest::sha256(b"x = 1\n"));
}

#[test]
fn each_algorithm_of_the_form_is_read() {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512, Algorithm::Sm3] {
        let read = InitData::parse(text("0.1.0", algorithm.name(), "").as_bytes()).unwrap();
        assert_eq!(read.digest().algorithm(), algorithm);
    }
}

#[test]
fn what_is_no_init_data_is_refused_with_its_reason() {
    assert_eq!(reason(&text("0.2.0", "sha256", "")), "init-data.version");
    for algorithm in ["sha1", "SM3", "SHA-256", "md5"] {
        assert_eq!(reason(&text("0.1.0", algorithm, "")), "init-data.algorithm", "{algorithm}");
    }
    assert_eq!(reason(""), "init-data.malformed");
    assert_eq!(reason(&text("0.1.0", "sha256", "[dat]\n")), "init-data.malformed");
    assert_eq!(reason(&text("0.1.0", "sha256", "[data]\na = 1\n")), "init-data.malformed");
    assert_eq!(reason(&text("0.1.0", "sha256", "[data]\na = ''\na = ''\n")), "init-data.malformed");
    assert_eq!(
        reason(&text("0.1.0", "sha256", &format!("# {}", "x".repeat(MAX_TEXT)))),
        "init-data.too-large"
    );
    assert_eq!(InitData::parse(&[0xff]).unwrap_err().code(), "init-data.malformed");
}

#[test]
fn building_is_deterministic_and_says_what_each_entry_is_for() {
    let (one, two) = (built(), built());
    assert_eq!(one.text(), two.text());
    assert_eq!(one.to_disk().unwrap(), two.to_disk().unwrap());
    assert!(one.text().contains("# The attestation agent's configuration"));
    assert!(one.text().contains("# A container that may run."));
    assert_eq!(one.guest_config().unwrap().unwrap(), config());
    assert_eq!(one.entry("aa.toml"), Some("[token_configs.kbs]\nurl = 'x'\n"));
}

#[test]
fn entries_that_a_literal_string_cannot_hold_are_refused() {
    for (name, value) in
        [("a", "x'''y"), ("a", "x'"), ("a", "\r\n"), ("a", "\u{0}"), ("a\"", "x"), ("", "x"), ("a b", "x")]
    {
        let refused = Builder::new(Algorithm::Sha256).entry(name, value).build().unwrap_err();
        assert_eq!(refused.code(), "init-data.entry", "{name:?} {value:?}");
    }
    let long = Builder::new(Algorithm::Sha256).entry("a", "x".repeat(MAX_TEXT)).build();
    assert_eq!(long.unwrap_err().code(), "init-data.too-large");
}

#[test]
fn disk_and_annotation_read_back_the_text_verbatim() {
    let built = built();
    let disk = built.to_disk().unwrap();
    assert_eq!((&disk[..8], disk.len() % DISK_SECTOR), (&b"initdata"[..], 0));
    assert_eq!(InitData::from_disk(&disk).unwrap(), built);
    let larger = [disk.as_slice(), &[0; 4096]].concat();
    assert_eq!(InitData::from_disk(&larger).unwrap(), built);
    assert_eq!(InitData::from_annotation(&built.to_annotation().unwrap()).unwrap(), built);
    let header = disk[..DISK_HEADER].try_into().unwrap();
    let length = usize::try_from(InitData::disk_length(&header).unwrap()).unwrap();
    assert_eq!(InitData::from_disk(&disk[..length]).unwrap(), built);
}

fn disk_of(packed: &[u8], length: u64) -> Vec<u8> {
    [b"initdata".as_slice(), &length.to_le_bytes(), packed].concat()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn each_defect_of_a_disk_is_refused_with_its_reason() {
    let disk = built().to_disk().unwrap();
    let code = |disk: &[u8]| InitData::from_disk(disk).unwrap_err().code();
    assert_eq!(code(b""), "init-data.disk.magic");
    assert_eq!(code(b"initdata"), "init-data.disk.truncated");
    assert_eq!(code(&[0; 512]), "init-data.disk.magic");
    assert_eq!(code(&disk[..64]), "init-data.disk.truncated");
    let mut flipped = disk.clone();
    flipped[40] ^= 1;
    assert_eq!(code(&flipped), "init-data.compression");
    assert_eq!(code(&disk_of(&[], u64::MAX)), "init-data.too-large");
    assert_eq!(code(&disk_of(&[0; 8], 9)), "init-data.disk.truncated");
    let packed = gzip(text("0.1.0", "sha256", "").as_bytes());
    let twice = [packed.as_slice(), &packed].concat();
    assert!(InitData::from_disk(&disk_of(&packed, packed.len() as u64)).is_ok());
    assert_eq!(code(&disk_of(&twice, twice.len() as u64)), "init-data.compression");
    assert_eq!(InitData::from_annotation("%").unwrap_err().code(), "init-data.annotation");
}

#[test]
fn a_decompression_bomb_is_refused_at_the_bound() {
    let packed = gzip(&vec![b'#'; 64 << 20]);
    assert!(packed.len() < MAX_TEXT);
    let refused = InitData::from_disk(&disk_of(&packed, packed.len() as u64)).unwrap_err();
    assert_eq!(refused.code(), "init-data.too-large");
}

#[test]
fn a_container_without_a_pin_is_refused() {
    let mut config = config();
    config.containers[0].signers.clear();
    assert_eq!(config.to_toml().unwrap_err().code(), "init-data.container.unpinned");
    let text =
        "attestation = \"insecure-none\"\n[[containers]]\nimage = \"a\"\nsignature = \"digest-only\"\n";
    assert_eq!(GuestConfig::parse(text).unwrap_err().code(), "init-data.container.unpinned");
}

#[test]
fn each_defect_of_the_guest_s_entry_is_refused_with_its_reason() {
    let check = |expected: &str, change: &dyn Fn(&mut GuestConfig)| {
        let mut config = config();
        change(&mut config);
        assert_eq!(config.to_toml().unwrap_err().code(), expected);
    };
    let broker = |config: &mut GuestConfig| config.broker.take().unwrap();
    check("init-data.broker.missing", &|c| c.broker = None);
    check("init-data.broker.url", &|c| c.broker = Some(Broker { url: "http://a".into(), ..broker(c) }));
    check("init-data.broker.url", &|c| c.broker = Some(Broker { url: "https://".into(), ..broker(c) }));
    check("init-data.broker.url", &|c| c.broker = Some(Broker { url: "https://a@b".into(), ..broker(c) }));
    check("init-data.broker.certificate", &|c| {
        c.broker = Some(Broker { certificate: KEY.into(), ..broker(c) });
    });
    check("init-data.container.contradiction", &|c| c.containers[1].signature = SignatureRule::Required);
    check("init-data.container.contradiction", &|c| c.containers[0].signature = SignatureRule::DigestOnly);
    check("init-data.container.signer", &|c| c.containers[0].signers[0] = PEM.into());
    check("init-data.container.value", &|c| c.containers[0].image = "a b".into());
    check("init-data.container.value", &|c| c.containers[0].env = vec!["=1".into()]);
    check("init-data.container.value", &|c| c.containers[0].resources.push("kbs://a/b".into()));
    check("init-data.container.value", &|c| c.containers[1].digest = Some(Digest::zero(Algorithm::Sha1)));
    for unknown in
        ["attestation = \"optional\"", "attestation = true", "attestation = \"required\"\nmore = 1"]
    {
        assert_eq!(
            GuestConfig::parse(unknown).unwrap_err().code(),
            "init-data.coffer.malformed",
            "{unknown}"
        );
    }
}

#[test]
fn only_what_is_named_insecure_runs_without_a_broker() {
    let mut config = config();
    config.broker = None;
    config.volumes.clear();
    config.containers[0].secrets.clear();
    config.attestation = Attestation::InsecureNone;
    assert_eq!(GuestConfig::parse(&config.to_toml().unwrap()).unwrap(), config);
}

#[test]
fn what_is_not_written_is_denied() {
    let digest = Digest::sha256(b"manifest");
    let text = format!(
        "attestation = \"insecure-none\"\n[[containers]]\nimage = \"a\"\nsignature = \"digest-only\"\ndigest = \"{digest}\"\n"
    );
    let read = GuestConfig::parse(&text).unwrap();
    let container = &read.containers[0];
    assert!(container.resources.is_empty());
    for permission in [container.evidence, container.stdin, container.terminal] {
        assert_eq!(permission, Permission::Denied);
    }
    let allowed = GuestConfig::parse(&format!("{text}stdin = \"allowed\"\n")).unwrap();
    assert_eq!(allowed.containers[0].stdin, Permission::Allowed);
    for wrong in ["stdin = true", "evidence = \"yes\"", "resource = \"kbs:///a/b/c\"", "resources = [1]"] {
        let refused = GuestConfig::parse(&format!("{text}{wrong}\n")).unwrap_err();
        assert_eq!(refused.code(), "init-data.coffer.malformed", "{wrong}");
    }
}

#[test]
fn registry_roots_are_an_entry_that_reads_back_and_others_are_refused() {
    let roots = |roots: &[&str]| RegistryAccess {
        roots: roots.iter().map(|pem| (*pem).to_owned()).collect(),
        ..RegistryAccess::default()
    };
    let entry = roots(&[PEM, PEM]).to_toml().unwrap();
    let data = Builder::new(Algorithm::Sha256).entry(DATA_HUB, entry).build().unwrap();
    let read: toml::Table = data.entry(DATA_HUB).unwrap().parse().unwrap();
    assert_eq!(read["image"]["extra_root_certificates"][1].as_str(), Some(PEM));
    for wrong in [KEY, "", "no PEM"] {
        let refused = roots(&[wrong]).to_toml().unwrap_err();
        assert_eq!(refused.code(), "init-data.registry-root", "{wrong}");
    }
    for wrong in ["a b", "kbs:///\"", "x\ny"] {
        let access = RegistryAccess { credentials: Some(wrong.into()), ..RegistryAccess::default() };
        assert_eq!(access.to_toml().unwrap_err().code(), "init-data.registry-access", "{wrong}");
    }
}

proptest! {
    #[test]
    fn what_is_built_reads_back(value in "[ -~\\n\\t]{0,200}", args in proptest::collection::vec(any::<String>(), 0..4)) {
        let built = Builder::new(Algorithm::Sha256).entry("e.toml", value.clone()).build();
        match built {
            Ok(data) => prop_assert_eq!(data.entry("e.toml"), Some(value.as_str())),
            Err(error) => prop_assert_eq!(error.code(), "init-data.entry"),
        }
        let mut config = config();
        config.containers[0].args = Some(args);
        let text = config.to_toml().unwrap();
        prop_assert!(!text.contains("'''"));
        prop_assert_eq!(GuestConfig::parse(&text).unwrap(), config);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = InitData::parse(&bytes);
        let _ = InitData::from_disk(&bytes);
        let disk = [b"initdata".as_slice(), &bytes].concat();
        let _ = InitData::from_disk(&disk);
    }
}
