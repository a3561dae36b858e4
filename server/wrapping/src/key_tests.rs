//! Tests of keys, what they wrap, and their records.

use proptest::prelude::*;

use super::*;
use crate::options::{DataKeyBits, Derivation, MAX_ATTRIBUTES, MAX_TEXT};

const NOW: Moment = Moment(1_700_000_000_123);

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn key() -> WrappingKey {
    WrappingKey::generate(name("lake"), KeyOptions::default(), NOW).unwrap()
}

fn wrap(key: &WrappingKey, version: u32, binding: &Binding<'_>) -> Wrapped {
    key.wrap(Use { id: key.id, version }, binding, b"data key").unwrap()
}

#[test]
fn a_wrapped_key_opens_only_unchanged_and_where_it_was_wrapped() {
    let mut key = key();
    key.rotate(NOW).unwrap();
    let binding = Binding { context: b"c", associated_data: b"a" };
    let wrapped = wrap(&key, 1, &binding);
    assert_eq!(key.unwrap(&wrapped, &binding).unwrap().expose(), b"data key");
    for other in [
        Binding { context: b"", associated_data: b"a" },
        Binding { context: b"c", associated_data: b"" },
        Binding { context: b"ca", associated_data: b"" },
        Binding { context: b"a", associated_data: b"c" },
    ] {
        assert!(matches!(key.unwrap(&wrapped, &other), Err(WrapError::Broken { .. })), "{other:?}");
    }
    let moved = Wrapped { version: 2, ..wrapped.clone() };
    assert!(matches!(key.unwrap(&moved, &binding), Err(WrapError::Broken { version: 2, .. })));
    for index in 0..wrapped.sealed.len() {
        let mut changed = wrapped.clone();
        changed.sealed[index] ^= 1;
        assert!(key.unwrap(&changed, &binding).is_err(), "byte {index}");
        changed.sealed = wrapped.sealed[..index].to_vec();
        assert!(key.unwrap(&changed, &binding).is_err(), "cut at {index}");
    }
    // The same bytes under another name are another key's.
    let mut renamed = WrappingKey::from_bytes(&name("lake"), key.to_bytes().unwrap().expose()).unwrap();
    renamed.name = name("pond");
    assert!(matches!(renamed.unwrap(&wrapped, &binding), Err(WrapError::Broken { .. })));
}

#[test]
fn a_derived_key_needs_its_context_and_has_one_key_for_each() {
    let options = KeyOptions { derivation: Derivation::ByContext, ..KeyOptions::default() };
    let key = WrappingKey::generate(name("d"), options, NOW).unwrap();
    let binding = Binding { context: b"tenant a", associated_data: b"" };
    let wrapped = wrap(&key, 1, &binding);
    assert_eq!(key.unwrap(&wrapped, &binding).unwrap().expose(), b"data key");
    let other = Binding { context: b"tenant b", associated_data: b"" };
    assert!(matches!(key.unwrap(&wrapped, &other), Err(WrapError::Broken { .. })));
    let none = Binding::default();
    assert!(matches!(key.unwrap(&wrapped, &none), Err(WrapError::ContextMissing(_))));
    assert!(matches!(
        key.wrap(Use { id: key.id, version: 1 }, &none, b"x"),
        Err(WrapError::ContextMissing(_))
    ));
}

#[test]
fn bounds_are_held() {
    let key = key();
    let binding = Binding::default();
    let long = vec![0; crate::MAX_PLAINTEXT + 1];
    assert!(matches!(
        key.wrap(Use { id: key.id, version: 1 }, &binding, &long),
        Err(WrapError::TooMuch { .. })
    ));
    assert!(key.wrap(Use { id: key.id, version: 1 }, &binding, &long[1..]).is_ok());
    let long = vec![0; crate::MAX_BINDING + 1];
    let binding = Binding { context: &long, associated_data: b"" };
    let wrapped = Wrapped { version: 1, sealed: vec![1; 64] };
    assert!(matches!(key.unwrap(&wrapped, &binding), Err(WrapError::TooMuch { .. })));
    let options = KeyOptions { description: "d".repeat(MAX_TEXT + 1), ..KeyOptions::default() };
    assert!(WrappingKey::generate(name("x"), options, NOW).is_err());
    let attributes = (0..=MAX_ATTRIBUTES).map(|n| (n.to_string(), String::new())).collect();
    let options = KeyOptions { attributes, ..KeyOptions::default() };
    assert!(WrappingKey::generate(name("x"), options, NOW).is_err());
}

#[test]
fn a_version_is_used_as_its_state_and_the_minimum_allow() {
    let mut key = key();
    let binding = Binding::default();
    let first = wrap(&key, 1, &binding);
    key.rotate(NOW).unwrap();
    assert_eq!(key.wrapping_version(None).unwrap(), 2);
    assert!(matches!(key.wrapping_version(Some(1)), Err(WrapError::TooOld { least: 2, .. })));
    assert!(matches!(key.wrapping_version(Some(3)), Err(WrapError::NoVersion { latest: 2, .. })));
    assert!(key.unwrap(&first, &binding).is_ok());

    key.set_state(1, VersionState::Disabled).unwrap();
    assert!(matches!(key.unwrap(&first, &binding), Err(WrapError::Disabled { version: 1, .. })));
    key.set_state(1, VersionState::Enabled).unwrap();
    assert!(key.unwrap(&first, &binding).is_ok());

    let change = Change { min_encryption_version: Some(1), ..Change::default() };
    key.configure(&change).unwrap();
    assert_eq!(key.wrapping_version(Some(1)).unwrap(), 1);

    let change = Change { min_decryption_version: Some(2), min_encryption_version: Some(2), ..change };
    key.configure(&change).unwrap();
    assert!(matches!(key.unwrap(&first, &binding), Err(WrapError::TooOld { least: 2, .. })));
    key.configure(&Change { min_decryption_version: Some(1), ..Change::default() }).unwrap();

    key.set_state(1, VersionState::Destroyed).unwrap();
    assert!(matches!(key.unwrap(&first, &binding), Err(WrapError::Destroyed { version: 1, .. })));
    assert!(matches!(key.set_state(1, VersionState::Enabled), Err(WrapError::Destroyed { .. })));
    for wrong in [0, 3, u32::MAX] {
        assert!(matches!(key.set_state(wrong, VersionState::Disabled), Err(WrapError::NoVersion { .. })));
    }
}

#[test]
fn a_refused_change_changes_nothing() {
    let mut key = key();
    key.rotate(NOW).unwrap();
    let deletion = Some(Deletion::Allowed);
    for change in [
        Change { min_decryption_version: Some(3), deletion, ..Change::default() },
        Change { min_encryption_version: Some(3), deletion, ..Change::default() },
        Change { min_decryption_version: Some(2), min_encryption_version: Some(1), deletion },
    ] {
        assert!(key.configure(&change).is_err(), "{change:?}");
        assert_eq!((key.min_decryption_version(), key.min_encryption_version()), (1, 0));
        assert_eq!(key.options().deletion, Deletion::Refused);
    }
}

#[test]
fn a_version_wraps_as_often_as_random_nonces_allow() {
    let mut key = key();
    key.versions[0].uses = MAX_USES / 2 - 10;
    assert_eq!(key.advice(), None);
    assert_eq!(key.reserve(1, 10).unwrap(), 10);
    assert_eq!(key.advice(), Some(Advice::Rotate(1)));
    assert_eq!(key.reserve(1, MAX_USES).unwrap(), MAX_USES / 2);
    assert!(matches!(key.reserve(1, 1), Err(WrapError::Spent { version: 1, .. })));
    key.rotate(NOW).unwrap();
    assert_eq!(key.advice(), None);
    assert_eq!(key.reserve(2, 1).unwrap(), 1);
}

#[test]
fn a_use_of_another_key_wraps_nothing() {
    let key = key();
    let foreign = Use { id: [0; 16], version: 1 };
    assert!(matches!(key.wrap(foreign, &Binding::default(), b"x"), Err(WrapError::Contended(_))));
}

#[test]
fn there_is_a_most_of_versions() {
    let mut key = key();
    for _ in 1..MAX_VERSIONS {
        key.rotate(NOW).unwrap();
    }
    assert!(matches!(key.rotate(NOW), Err(WrapError::Versions { .. })));
    let record = key.to_bytes().unwrap();
    assert!(WrappingKey::from_bytes(&name("lake"), record.expose()).is_ok());
}

fn full() -> WrappingKey {
    let options = KeyOptions {
        description: "of the lake".into(),
        attributes: [("owner".to_string(), "hdfs".to_string())].into(),
        data_key_bits: DataKeyBits::Bits128,
        derivation: Derivation::ByContext,
        plaintext_over_tls: PlaintextOverTls::InsecureAllowed,
        deletion: Deletion::Allowed,
    };
    let mut key = WrappingKey::generate(name("lake"), options, NOW).unwrap();
    key.rotate(Moment(NOW.0 + 1)).unwrap();
    key.rotate(Moment(NOW.0 + 2)).unwrap();
    key.set_state(2, VersionState::Destroyed).unwrap();
    key.reserve(3, 77).unwrap();
    key
}

#[test]
fn a_record_is_read_back_whole() {
    let key = full();
    let binding = Binding { context: b"c", associated_data: b"" };
    let wrapped = wrap(&key, 3, &binding);
    let record = key.to_bytes().unwrap();
    let read = WrappingKey::from_bytes(&name("lake"), record.expose()).unwrap();
    assert_eq!(read.options(), key.options());
    assert!(read.versions().eq(key.versions()));
    assert_eq!(read.unwrap(&wrapped, &binding).unwrap().expose(), b"data key");
    assert!(read.to_bytes().unwrap().equals(record.expose()));
}

#[test]
fn the_bytes_of_a_destroyed_version_are_not_in_the_record() {
    let mut key = full();
    let material = *key.versions[0].material.as_ref().unwrap().expose();
    let holds =
        |key: &WrappingKey| key.to_bytes().unwrap().expose().windows(32).any(|window| window == material);
    assert!(holds(&key));
    key.set_state(1, VersionState::Destroyed).unwrap();
    assert!(!holds(&key));
}

#[test]
fn a_record_with_a_defect_is_refused() {
    let record = full().to_bytes().unwrap();
    let record = record.expose().as_slice();
    let why = |bytes: &[u8]| match WrappingKey::from_bytes(&name("lake"), bytes).err() {
        Some(WrapError::Damaged { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    for cut in 0..record.len() {
        why(&record[..cut]);
    }
    assert_eq!(why(&[record, &[0]].concat()), "its keys are cut off");
    assert_eq!(why(&[record, &[0; 32]].concat()), "it has more keys than versions");
    assert_eq!(why(&[&[2], &record[1..]].concat()), "it has a form that this program does not know");
    let edited = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = record.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&record[..at], to.as_bytes(), &record[at + from.len()..]].concat()
    };
    assert_eq!(why(&edited("\"lake\"", "\"pond\"")), "it belongs to another name");
    assert_eq!(why(&edited("destroyed", "enabled  ")), "its header is not valid");
    assert_eq!(why(&edited("\"destroyed\"", "\"enabled\"  ")), "a version has no key");
    assert_eq!(
        why(&edited("min_decryption_version\":1", "min_decryption_version\":0")),
        "its versions are not valid"
    );
    assert_eq!(
        why(&edited("min_decryption_version\":1", "min_decryption_version\":4")),
        "its versions are not valid"
    );
    assert_eq!(why(&edited("\"owner\"", "\"owner ")), "its header is not valid");
    let other = WrappingKey::from_bytes(&name("pond"), record);
    assert!(matches!(other, Err(WrapError::Damaged { why: "it belongs to another name", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_a_record_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = WrappingKey::from_bytes(&name("lake"), &bytes);
    }

    #[test]
    fn any_text_is_opened_by_no_key(
        sealed in proptest::collection::vec(any::<u8>(), 0..200),
        version in any::<u32>(),
    ) {
        let wrapped = Wrapped { version, sealed };
        prop_assert!(key().unwrap(&wrapped, &Binding::default()).is_err());
    }

    #[test]
    fn what_is_wrapped_is_unwrapped(
        plaintext in proptest::collection::vec(any::<u8>(), 0..100),
        context in proptest::collection::vec(any::<u8>(), 0..20),
        associated_data in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let key = key();
        let binding = Binding { context: &context, associated_data: &associated_data };
        let wrapped = key.wrap(Use { id: key.id, version: 1 }, &binding, &plaintext).unwrap();
        prop_assert!(key.unwrap(&wrapped, &binding).unwrap().equals(&plaintext));
    }
}
