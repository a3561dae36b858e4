//! Claims about CBOR: the examples of RFC 8949, and what is refused.

use proptest::prelude::*;

use super::*;

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn float(number: f64) -> Value {
    Value::Float(number.to_bits())
}

#[test]
fn the_examples_of_the_specification_are_read_and_written_as_it_says() {
    // RFC 8949, appendix A: those that are in deterministic form.
    let examples = [
        ("00", Value::Unsigned(0)),
        ("17", Value::Unsigned(23)),
        ("1818", Value::Unsigned(24)),
        ("1903e8", Value::Unsigned(1000)),
        ("1a000f4240", Value::Unsigned(1_000_000)),
        ("1bffffffffffffffff", Value::Unsigned(u64::MAX)),
        ("3bffffffffffffffff", Value::Negative(u64::MAX)),
        ("20", Value::from(-1)),
        ("3903e7", Value::from(-1000)),
        ("f90000", float(0.0)),
        ("f98000", float(-0.0)),
        ("f93e00", float(1.5)),
        ("f97bff", float(65504.0)),
        ("fa47c35000", float(100_000.0)),
        ("fb7e37e43c8800759c", float(1.0e300)),
        ("f90001", float(5.960_464_477_539_063e-8)),
        ("f90400", float(0.000_061_035_156_25)),
        ("f903ff", float(0.000_060_975_551_605_224_61)),
        ("fb3ff199999999999a", float(1.1)),
        ("f97c00", float(f64::INFINITY)),
        ("f9fc00", float(f64::NEG_INFINITY)),
        ("f97e00", float(f64::NAN)),
        ("f4", Value::from(false)),
        ("f6", NULL),
        ("f0", Value::Simple(16)),
        ("f8ff", Value::Simple(255)),
        ("c074323031332d30332d32315432303a30343a30305a", Value::tag(0, "2013-03-21T20:04:00Z")),
        ("4401020304", Value::Bytes(vec![1, 2, 3, 4])),
        ("62c3bc", Value::from("\u{fc}")),
        ("83010203", Value::Array(vec![1.into(), 2.into(), 3.into()])),
        ("a201020304", Map::new().with(3, 4).with(1, 2).into()),
        ("a0", Map::new().into()),
    ];
    for (text, value) in examples {
        assert_eq!(decode(&bytes(text)), Ok(value.clone()), "{text}");
        assert_eq!(encode(&value), bytes(text), "{text}");
    }
}

#[test]
fn longer_forms_of_the_same_are_read_and_written_in_the_short_one() {
    // Nitro's documents are of indefinite length; other signers write lengths longer than needed.
    for (long, short) in [
        ("1800", "00"),
        ("1b0000000000000001", "01"),
        ("5f42010243030405ff", "450102030405"),
        ("7f657374726561646d696e67ff", "7365737472656d696e67"),
        ("9f0102ff", "820102"),
        ("9fff", "80"),
        ("bf61610161629f0203ffff", "a26161016162820203"),
        ("bfff", "a0"),
        ("a2026161 016162", "a2016162026161"),
        ("fb3ff8000000000000", "f93e00"),
        ("5fff", "40"),
    ] {
        if long.starts_with("7f") {
            assert_eq!(decode(&bytes(long)), Ok(Value::from("streaming")));
            continue;
        }
        assert_eq!(encode(&decode(&bytes(long)).unwrap()), bytes(short), "{long}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused() {
    // RFC 8949, appendix F.
    for text in [
        "",
        "18",
        "1900",
        "1a0000",
        "41",
        "61",
        "5b7fffffffffffffff",
        "81",
        "8200",
        "a1",
        "a100",
        "bf00",
        "9f",
        "c0",
        "f8",
        "5f4100",
        "7f6100",
        "bf0000",
        "d818",
    ] {
        assert!(matches!(decode(&bytes(text)), Err(CborError::Truncated { .. })), "{text}");
    }
    for text in [
        "1c",
        "3d",
        "5e",
        "7f6001",
        "ff",
        "81ff",
        "a1ff",
        "a100ff",
        "bf00ff",
        "1f",
        "df00",
        "f818",
        "fc",
        "5f00ff",
        "5f5f4100ffff",
        "5f6100ff",
        "8200ff",
    ] {
        assert!(
            matches!(decode(&bytes(text)), Err(CborError::Byte { .. })),
            "{text}: {:?}",
            decode(&bytes(text))
        );
    }
    assert_eq!(decode(&bytes("0000")), Err(CborError::Trailing { left: 1 }));
    for text in ["61ff", "62c328", "7f61c361bcff"] {
        assert!(matches!(decode(&bytes(text)), Err(CborError::Utf8 { .. })), "{text}");
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused_however_it_is_written() {
    for text in ["a201000102", "a20a00180a01", "bf616100616101ff", "a24100 00 5f4100ff 01"] {
        let refused = decode(&bytes(text)).expect_err(text);
        assert!(matches!(refused, CborError::Duplicate { .. }), "{text}: {refused}");
    }
    assert_eq!(
        decode(&bytes("a2616100616101")).unwrap_err().to_string(),
        "a CBOR map that ends at byte 7 has a key twice: \"a\""
    );
    assert!(decode(&bytes("a2000020 00")).is_ok());
}

#[test]
fn what_is_too_deep_or_too_much_is_refused_before_it_costs_anything() {
    let nested = |depth: usize, open: u8| [vec![open; depth], vec![0]].concat();
    for open in [0x81, 0xc1] {
        assert!(decode(&nested(MAX_DEPTH, open)).is_ok());
        assert!(matches!(decode(&nested(MAX_DEPTH + 1, open)), Err(CborError::Depth { .. })));
        assert!(matches!(decode(&nested(1 << 20, open)), Err(CborError::Depth { .. })));
    }
    let many =
        |count: usize| [&[0x9a][..], &u32::try_from(count).unwrap().to_be_bytes(), &vec![0; count]].concat();
    assert!(decode(&many(MAX_ITEMS - 1)).is_ok());
    assert_eq!(decode(&many(MAX_ITEMS)), Err(CborError::Items));
    // Lengths that nothing follows.
    for text in ["9bffffffffffffffff", "bb00000000ffffffff", "5bffffffffffffffff", "9b000000ffffffffff00"] {
        assert!(matches!(decode(&bytes(text)), Err(CborError::Truncated { .. })), "{text}");
    }
}

#[test]
fn a_map_finds_its_keys_and_keeps_one_value_for_each() {
    let mut map = Map::new().with("b", 1).with(-1, 2).with(7, 3);
    assert_eq!(map.insert(7, 4), Some(3.into()));
    assert_eq!((map.at(7), map.at(-1), map.named("b")), (Some(&4.into()), Some(&2.into()), Some(&1.into())));
    assert_eq!((map.at(8), map.named("a"), map.len()), (None, None, 3));
    // Length first is the older order; this is the order of the bytes.
    assert_eq!(encode(&map.into()), bytes("a3 0704 2002 616201"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Value::Unsigned),
        any::<u64>().prop_map(Value::Negative),
        any::<Vec<u8>>().prop_map(Value::Bytes),
        any::<String>().prop_map(Value::Text),
        prop_oneof![0..24_u8, 32..=255_u8].prop_map(Value::Simple),
        any::<f64>().prop_map(|number| if number.is_nan() { float(f64::NAN) } else { float(number) }),
        any::<f32>()
            .prop_filter("a number", |number| !number.is_nan())
            .prop_map(|number| float(number.into())),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner.clone()), 0..8).prop_map(|entries| entries
                .into_iter()
                .fold(Map::new(), |map, (k, v)| map.with(k, v))
                .into()),
            (any::<u64>(), inner).prop_map(|(tag, value)| Value::tag(tag, value)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_it_was(value in any_value()) {
        let written = encode(&value);
        prop_assert_eq!(decode(&written), Ok(value));
        for end in 0..written.len() {
            prop_assert!(decode(&written[..end]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_have_one_deterministic_form(bytes in any::<Vec<u8>>()) {
        if let Ok(value) = decode(&bytes) {
            let written = encode(&value);
            prop_assert!(written.len() <= bytes.len());
            prop_assert_eq!(encode(&decode(&written).unwrap()), written);
        }
    }
}

#[test]
fn two_keys_that_are_no_number_are_the_same_key() {
    // A quiet one with a payload, and a negative one.
    for other in ["fa7fc00001", "f9fe00", "fb7ff0000000000001"] {
        let error = decode(&bytes(&format!("a2f97e0000{other}00"))).expect_err(other);
        assert!(matches!(error, CborError::Duplicate { .. }), "{other}: {error}");
        assert_eq!(decode(&bytes(other)).unwrap(), float(f64::NAN), "{other}");
    }
}
