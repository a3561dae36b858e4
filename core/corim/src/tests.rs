//! Claims about documents: published ones, our own, and their refusal twins.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coffer_core_cose::cbor::{self, Map, NULL, Value};
use coffer_core_cose::{CoseError, Curve, Sign1, label};
use coffer_core_digest::{Algorithm, Digest};
use coffer_core_evidence::Tee;
use coffer_core_launch::{Bound, ExpectedInitData, ReferenceValues};
use proptest::prelude::*;

use super::*;

fn vector(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var("COFFER_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
    let read = std::fs::read(PathBuf::from(folder).join("corim").join(name)).ok();
    if read.is_none() {
        println!("skipped: no vectors ({name})");
    }
    read
}

/// Reference values with events and explanations, as `core/launch` predicts them.
fn predicted() -> ReferenceValues {
    let json = include_bytes!("../../launch/testdata/reference.json");
    ReferenceValues::from_json(json).unwrap().with_origin("coffer measure on workstation-3")
}

/// Registers alone.
fn plain(platform: Tee, registers: &[(&str, Algorithm)]) -> ReferenceValues {
    let digest =
        |(name, algorithm): &(&str, Algorithm)| ((*name).to_owned(), Digest::of(*algorithm, name.as_bytes()));
    let registers = registers.iter().map(digest).collect();
    let versions = BTreeMap::from([
        ("isvsvn".to_owned(), Bound::AtLeast(3)),
        ("isvprodid".to_owned(), Bound::Exactly(7)),
    ]);
    let entries = BTreeMap::from([
        ("aa.toml".to_owned(), Digest::sha256(b"aa")),
        ("cdh.toml".to_owned(), Digest::sha256(b"c")),
    ]);
    let init_data = ExpectedInitData { digest: Digest::sha256(b"init-data"), entries };
    ReferenceValues::from_registers(platform, Algorithm::Sha384, registers, versions, Some(init_data))
        .unwrap()
}

fn samples() -> Vec<ReferenceValues> {
    use Algorithm::{Sha256, Sha384, Sha512};
    let dated = plain(Tee::Snp, &[("measurement", Sha384), ("id-key-digest", Sha384)]);
    let mut dated =
        dated.with_times(Some("2026-11-21T03:00:00Z".into()), Some("2027-11-21T00:00:00Z".into()));
    dated.not_before = Some("2026-11-21T03:00:00Z".into());
    let mut open_end = plain(Tee::Nitro, &[("pcr0", Sha384)]);
    open_end.not_before = Some("2026-11-21T03:00:00Z".into());
    vec![
        predicted(),
        plain(Tee::Tdx, &[("mrtd", Sha384), ("rtmr0", Sha384)]).with_origin("CI"),
        plain(Tee::Sgx, &[("mrenclave", Sha256), ("mrsigner", Sha256)]),
        plain(Tee::Cca, &[("rim", Sha512), ("rem0", Sha256)]),
        plain(Tee::Csv, &[("measure", Algorithm::Sm3)]),
        dated,
        open_end,
    ]
}

/// The document with a changed module.
fn changed(values: &ReferenceValues, change: impl FnOnce(&mut Corim)) -> Vec<u8> {
    let mut corim = Corim::parse(&to_corim(values).unwrap()).unwrap();
    change(&mut corim);
    corim.to_bytes()
}

#[test]
fn reference_values_come_back_as_they_were() {
    for values in samples() {
        let written = to_corim(&values).unwrap();
        assert_eq!(from_corim(&written).unwrap(), std::slice::from_ref(&values), "{}", values.platform());
        assert_eq!(to_corim(&values).unwrap(), written, "the form is deterministic");
        let corim = Corim::parse(&written).unwrap();
        assert_eq!((corim.id.as_str(), corim.profiles.as_slice()), (values.id(), &[PROFILE.to_owned()][..]));
        assert_eq!(corim.to_bytes(), written);
    }
}

#[test]
fn without_the_explanation_the_values_are_the_same_and_only_explanations_are_lost() {
    for values in samples() {
        let written = changed(&values, |corim| corim.modules[0].explanation = None);
        let [read] = <[ReferenceValues; 1]>::try_from(from_corim(&written).unwrap()).unwrap();
        assert_eq!(read.registers(), values.registers());
        assert_eq!(
            (read.id(), read.bank(), read.platform()),
            (values.id(), values.bank(), values.platform())
        );
        assert_eq!((read.versions(), read.init_data()), (values.versions(), values.init_data()));
        assert_eq!(
            (&read.origin, &read.not_before, &read.expires),
            (&values.origin, &values.not_before, &values.expires)
        );
        assert!(read.events().is_empty());
    }
    assert!(!predicted().events().is_empty());
}

#[test]
fn an_explanation_that_contradicts_the_measurements_is_refused() {
    let values = samples().remove(1);
    let refused = |change: fn(&mut Corim)| match from_corim(&changed(&values, change)).expect_err("accepted")
    {
        CorimError::Contradiction(what) => what,
        other => panic!("{other}"),
    };
    let other = || to_corim(&samples().remove(2)).unwrap();
    assert_eq!(
        refused(|corim| {
            let registers = &mut corim.modules[0].references[0].measurements;
            let at = registers.iter().position(|one| one.key == Some(Key::Text("mrtd".into()))).unwrap();
            registers[at].digests[0].value[0] ^= 1;
        }),
        "a register"
    );
    assert_eq!(
        refused(|corim| corim.modules[0].references[0].measurements.retain(|one| one.svn.is_none())),
        "a version"
    );
    assert_eq!(refused(|corim| corim.entities.clear()), "the origin");
    assert_eq!(
        refused(|corim| corim.validity = Some(Validity { not_before: None, not_after: 1 })),
        "the validity"
    );
    let foreign = Corim::parse(&other()).unwrap().modules.remove(0).explanation;
    let mixed = changed(&values, |corim| corim.modules[0].explanation = foreign);
    assert!(matches!(from_corim(&mixed), Err(CorimError::Contradiction("the platform" | "the bank"))));
    let broken = changed(&values, |corim| corim.modules[0].explanation = Some("{}".into()));
    assert!(matches!(from_corim(&broken), Err(CorimError::Reference(_))));
}

#[test]
fn documents_that_are_not_of_our_profile_are_not_taken_for_ours() {
    let values = samples().remove(1);
    let refused = |change: fn(&mut Corim)| from_corim(&changed(&values, change)).expect_err("accepted");
    assert!(matches!(refused(|corim| corim.profiles.clear()), CorimError::Profile { .. }));
    assert!(matches!(refused(|corim| corim.profiles.push("urn:other".into())), CorimError::Profile { .. }));
    let form = |change: fn(&mut Comid)| {
        let document = changed(&values, |corim| {
            corim.modules[0].explanation = None;
            change(&mut corim.modules[0]);
        });
        let refused = from_corim(&document).expect_err("accepted");
        assert!(matches!(refused, CorimError::Form { .. }), "{refused}");
    };
    form(|module| module.references[0].environment.class.as_mut().unwrap().vendor = Some("ACME".into()));
    form(|module| module.references[0].environment.class.as_mut().unwrap().model = Some("z80".into()));
    form(|module| {
        let twice = module.references[0].measurements[0].clone();
        module.references[0].measurements.push(twice);
    });
    form(|module| module.references[0].measurements[0].key = Some(Key::Number(1)));
    form(|module| module.references[0].measurements[0].key = None);
    form(|module| module.references[0].measurements[0].digests[0].algorithm = HashName::Number(2));
    form(|module| {
        module.references[0].measurements[0]
            .digests
            .push(Hash { algorithm: HashName::Number(1), value: vec![1] })
    });
    form(|module| module.references[0].measurements.retain(|one| one.key != Some(Key::Text("bank".into()))));
    form(|module| {
        module.references[0].measurements.retain(|one| one.key != Some(Key::Text("init-data".into())))
    });
    form(|module| {
        let again = module.references[0].clone();
        module.references.push(again);
    });
}

#[test]
fn what_was_signed_is_opened_by_its_key_and_by_no_other() {
    let unsigned = to_corim(&predicted()).unwrap();
    for curve in [Curve::P256, Curve::P384] {
        let (key, other) = (SigningKey::generate(curve).unwrap(), SigningKey::generate(curve).unwrap());
        let of_other_kind =
            SigningKey::generate(if curve == Curve::P256 { Curve::P384 } else { Curve::P256 }).unwrap();
        let signed = sign(&unsigned, &key, "coffer measure").unwrap();
        assert!(is_signed(&signed) && !is_signed(&unsigned));
        let keys = [of_other_kind.public().clone(), other.public().clone(), key.public().clone()];
        let opened = open(&signed, &keys).unwrap();
        assert_eq!((&opened.unsigned, &opened.key), (&unsigned, key.public()));
        assert_eq!(opened.signer.as_deref(), Some("coffer measure"));
        assert_eq!(from_corim(&opened.unsigned).unwrap(), [predicted()]);

        let signature = |refused: Result<Opened, CorimError>| match refused {
            Err(CorimError::Cose(CoseError::Signature)) => {}
            other => panic!("{other:?}"),
        };
        signature(open(&signed, &keys[..2]));
        signature(open(&signed, &[keys[1].clone(), keys[0].clone()]));
        assert!(matches!(open(&signed, &keys[..1]), Err(CorimError::Cose(CoseError::Algorithm { .. }))));
        assert!(matches!(open(&signed, &[]), Err(CorimError::NoKey)));
        for at in (0..signed.len()).step_by(97) {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &keys).is_err(), "byte {at}");
        }
        for end in [0, 1, 100, signed.len() - 1] {
            assert!(open(&signed[..end], &keys).is_err());
        }
        assert!(matches!(Corim::parse(&signed), Err(CorimError::Signed)));
        assert!(matches!(open(&unsigned, &keys), Err(CorimError::Form { .. })));
        // The tags of older drafts around both kinds.
        let value = cbor::decode(&signed).unwrap();
        for wrapped in [
            Value::tag(502, value.clone()),
            Value::tag(500, Value::tag(502, value.clone())),
            Value::tag(500, value),
        ] {
            assert_eq!(open(&cbor::encode(&wrapped), &keys).unwrap(), opened);
        }
    }
}

#[test]
fn a_signature_over_something_else_is_refused() {
    let key = SigningKey::generate(Curve::P256).unwrap();
    let keys = [key.public().clone()];
    let unsigned = to_corim(&samples().remove(1)).unwrap();
    let with = |header: Map| open(&Sign1::sign(header, &unsigned, &[], &key).unwrap(), &keys);
    assert!(matches!(with(Map::new()), Err(CorimError::ContentType { .. })));
    assert!(matches!(with(Map::new().with(3, "application/eat+cwt")), Err(CorimError::ContentType { .. })));
    let rim = || Map::new().with(3, "application/rim+cbor");
    let unnamed = with(rim()).unwrap();
    assert_eq!((unnamed.signer, unnamed.validity), (None, None));
    assert!(matches!(with(rim().with(8, Map::new())), Err(CorimError::Form { .. })));
    assert!(matches!(with(rim().with(8, &[0xff][..])), Err(CorimError::Cbor(_))));
    let claims = Map::new().with(1, "ACME").with(4, 2000).with(5, 1000);
    let opened = with(rim().with(label::CWT_CLAIMS, claims)).unwrap();
    assert_eq!(opened.signer.as_deref(), Some("ACME"));
    let validity = opened.validity.unwrap();
    assert_eq!([999, 1000, 2000, 2001].map(|at| validity.holds_at(at)), [false, true, true, false]);
    assert!(sign(b"no document", &key, "x").is_err());
}

#[test]
fn published_documents_are_read_with_trustees_names() {
    const NAME: &str = "ACME/RoadRunner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests";
    let expected = serde_json::json!([
        "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7",
        "0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f",
        "a3a5e715f0cc574a73c3f9bebb6bc24f32ffd5b67b387244c2c909da779a1478",
    ]);
    // Veraison's test key, which signed them.
    let key = PublicKey::from_coordinates(
        Curve::P256,
        &hex::decode("30a0424cd21c2944838a2d75c92b37e76ea20d9f00893a3b4eee8a3c0aafec3e").unwrap(),
        &hex::decode("e04b65e92456d9888b52b379bdfbd51ee869ef1f0fc65b6659695b6cce081723").unwrap(),
    );
    let key = key.unwrap();
    for name in ["unsigned-good-corim.cbor", "signed-good-corim.cbor", "signed-example-corim.cbor"] {
        let Some(document) = vector(name) else { return };
        let unsigned = match is_signed(&document) {
            false => document,
            true => {
                let opened = open(&document, std::slice::from_ref(&key)).unwrap();
                assert_eq!(opened.signer.as_deref(), Some("ACME Ltd signing key"));
                // 2021-12-31 to 2025-12-31.
                let validity = opened.validity.unwrap();
                assert!(validity.holds_at(1_640_908_800) && validity.holds_at(1_767_139_200));
                assert!(!validity.holds_at(1_795_132_800));
                let mut broken = document.clone();
                *broken.last_mut().unwrap() ^= 1;
                assert!(matches!(
                    open(&broken, std::slice::from_ref(&key)),
                    Err(CorimError::Cose(CoseError::Signature))
                ));
                opened.unsigned
            }
        };
        let corim = Corim::parse(&unsigned).unwrap();
        assert_eq!((corim.id.as_str(), corim.modules.len(), corim.skipped), ("test corim id", 1, 0));
        assert_eq!(corim.modules[0].id, "43bbe37f-2e61-4b33-aed3-53cff1428b16");
        assert_eq!(corim.modules[0].entities[0].uri.as_deref(), Some("https://acme.example"));
        assert_eq!(named_values(&unsigned).unwrap(), BTreeMap::from([(NAME.to_owned(), expected.clone())]));
        assert!(matches!(from_corim(&unsigned), Err(CorimError::Profile { .. })));
        for end in 0..unsigned.len() {
            assert!(Corim::parse(&unsigned[..end]).is_err());
        }
    }
}

#[test]
fn every_kind_of_value_has_its_name() {
    let environment = Environment {
        class: Some(Class { vendor: Some("V".into()), model: Some("M".into()), ..Class::default() }),
        ..Environment::default()
    };
    let hash = |algorithm, byte| Hash { algorithm, value: vec![byte; 4] };
    let measurements = vec![
        Measurement { digests: vec![hash(HashName::Number(1), 1)], ..Measurement::named("k") },
        Measurement {
            digests: vec![hash(HashName::Text("x".into()), 2), hash(HashName::Number(1), 1)],
            ..Measurement::named("k")
        },
        Measurement {
            key: Some(Key::Number(5)),
            raw: Some(Raw { value: vec![0xab], mask: None }),
            ..Measurement::default()
        },
        Measurement {
            name: Some("n".into()),
            serial_number: Some("s".into()),
            version: Some("1.2".into()),
            ..Measurement::default()
        },
        Measurement {
            svn: Some(Svn::AtLeast(3)),
            key: Some(Key::Other(Value::tag(111, &[1][..]))),
            ..Measurement::default()
        },
        Measurement {
            registers: vec![(Value::Unsigned(0), vec![hash(HashName::Number(7), 9)])],
            ..Measurement::named("r")
        },
        Measurement {
            raw: Some(Raw { value: vec![0xcd], mask: Some(vec![0xff]) }),
            ..Measurement::named("masked")
        },
    ];
    let module =
        Comid { id: "m".into(), references: vec![Triple { environment, measurements }], ..Comid::default() };
    let corim = Corim { id: "c".into(), modules: vec![module], ..Corim::default() };
    assert_eq!(Corim::parse(&corim.to_bytes()).unwrap(), corim);
    let expected = serde_json::json!({
        "V/M/k/digests": ["01010101", "02020202"],
        "V/M/claim5/raw_bytes": "ab",
        "V/M/n/s/version": "1.2",
        "V/M/svn": 3,
        "V/M/r/registers/0": ["09090909"],
        "V/M/masked/raw_bytes": "cd",
    });
    assert_eq!(serde_json::to_value(named_values(&corim.to_bytes()).unwrap()).unwrap(), expected);
}

#[test]
fn what_is_not_of_the_form_is_refused_by_part() {
    let document = cbor::decode(&to_corim(&samples().remove(1)).unwrap()).unwrap();
    let good = document.as_tag().unwrap().1.as_map().unwrap().clone();
    let comid = good.at(1).unwrap().as_array().unwrap()[0].as_tag().unwrap().1.as_bytes().unwrap().to_vec();
    let comid = cbor::decode(&comid).unwrap().as_map().unwrap().clone();
    let refused = |map: Map, part: &str| match Corim::parse(&cbor::encode(&Value::tag(501, map))) {
        Err(CorimError::Form { what, .. }) => assert_eq!(what, part),
        other => panic!("{part}: {other:?}"),
    };
    let list = |items: Vec<Value>| Value::Array(items);
    refused(good.clone().with(0, 1), "id");
    refused(good.clone().with(0, &[1; 15][..]), "id");
    refused(good.clone().with(1, list(Vec::new())), "tags");
    refused(good.clone().with(3, 1), "profile");
    refused(good.clone().with(4, Map::new()), "not after");
    refused(good.clone().with(4, Map::new().with(1, "2026-01-01")), "not after");
    refused(good.clone().with(5, list(vec![Map::new().with(0, "x").into()])), "entity roles");
    refused(good.clone().with(1, list(vec![Value::tag(506, Map::new())])), "CoMID");
    let with = |comid: Map| good.clone().with(1, list(vec![Value::tag(506, cbor::encode(&comid.into()))]));
    refused(with(comid.clone().with(1, Map::new())), "tag id");
    refused(with(comid.clone().with(4, Map::new())), "triples");
    let references = |value: Value| with(comid.clone().with(4, Map::new().with(0, value)));
    refused(references(list(Vec::new())), "reference triples");
    refused(references(list(vec![list(vec![Map::new().into()])])), "reference triple");
    let class = || Map::new().with(0, Map::new().with(1, "V"));
    let triple =
        |measurement: Value| references(list(vec![list(vec![class().into(), list(vec![measurement])])]));
    let one = |values: Map| triple(Map::new().with(1, values).into());
    refused(triple(NULL), "measurement");
    refused(one(Map::new()), "measurement values");
    refused(one(Map::new().with(2, list(Vec::new()))), "digests");
    refused(one(Map::new().with(2, list(vec![list(vec![1.into(), 2.into()])]))), "digests");
    refused(one(Map::new().with(1, -1)), "svn");
    refused(one(Map::new().with(11, 1)), "name");
    refused(one(Map::new().with(14, Map::new().with(0, 1))), "integrity registers");
    refused(
        references(list(vec![list(vec![
            Map::new().into(),
            list(vec![Map::new().with(1, Map::new().with(11, "n")).into()]),
        ])])),
        "environment",
    );
    // Tags that are no CoMID and statements that are no reference values are skipped, and told.
    let endorsed = comid.clone().with(4, Map::new().with(1, list(vec![NULL])));
    let tags = vec![Value::tag(505, &[0][..]), Value::tag(506, cbor::encode(&endorsed.into()))];
    let corim = Corim::parse(&cbor::encode(&Value::tag(501, good.with(1, list(tags))))).unwrap();
    assert_eq!((corim.skipped, corim.modules[0].skipped, corim.modules[0].references.len()), (1, 1, 0));

    assert!(matches!(Corim::parse(&vec![0; MAX_CORIM + 1]), Err(CorimError::TooLong(_))));
    assert!(matches!(open(&vec![0; MAX_CORIM + 1], &[]), Err(CorimError::TooLong(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_changed_document_never_panics_and_never_gives_other_values(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let values = samples().remove(3);
        let mut document = to_corim(&values).unwrap();
        let at = at.index(document.len());
        document[at] = to;
        let _ = named_values(&document);
        if let Ok(corim) = Corim::parse(&document) {
            let _ = corim.to_bytes();
        }
        // What explains the values guards them, too: only what both say alike is believed.
        for read in from_corim(&document).unwrap_or_default() {
            prop_assert_eq!(read.registers(), values.registers());
        }
    }
}
