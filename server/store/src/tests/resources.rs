//! Secrets: versions that never repeat, states, and conditions on storing.

use super::*;

fn put(scope: &Scope, path: &str, bytes: &[u8]) -> u64 {
    scope.put_resource(path, NewResource::stored(&secret(bytes), AT)).unwrap()
}

#[test]
fn versions_count_up_are_kept_in_a_number_and_never_repeat() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    for version in 2..=7 {
        assert_eq!(put(&scope, "default/key/1", version.to_string().as_bytes()), version);
    }
    let value = |version| scope.resource_version("default/key/1", version).unwrap().map(|found| found.value);
    assert!(value(2).is_none() && value(8).is_none());
    assert!(value(3).unwrap().equals(b"3"));
    let newest = scope.resource("default/key/1").unwrap().unwrap();
    assert!(newest.value.equals(b"7"));
    assert_eq!((newest.about.version, newest.about.versions), (7, KEPT_VERSIONS as u64));
    let info = scope.resource_info("default/key/1").unwrap().unwrap();
    let numbers: Vec<u64> = info.versions.iter().map(|known| known.version).collect();
    assert_eq!(numbers, [7, 6, 5, 4, 3]);

    let one = NewResource { keep: 1, ..NewResource::stored(&newest.value, AT) };
    assert_eq!(scope.put_resource("default/key/1", one).unwrap(), 8);
    assert!(value(7).is_none() && value(8).is_some());
    assert!(scope.delete_resource("default/key/1").unwrap());
    assert!(!scope.delete_resource("default/key/1").unwrap());
    assert!(scope.resource("default/key/1").unwrap().is_none());
    assert!(scope.resource_info("default/key/1").unwrap().is_none());
    assert_eq!(scope.resource_count().unwrap(), 0);
    assert_eq!(put(&scope, "default/key/1", b"9"), 9, "a number was given twice");
    assert_eq!(scope.resource_count().unwrap(), 1);
}

#[test]
fn a_value_is_stored_only_over_the_version_that_the_caller_knows() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    let value = secret(b"v");
    let over = |path: &str, version| {
        scope.put_resource(path, NewResource { if_version: Some(version), ..NewResource::stored(&value, AT) })
    };
    assert!(matches!(over("a/b/c", 1), Err(ResourceError::Conflict { expected: 1, found: 0, .. })));
    assert_eq!(over("a/b/c", 0).unwrap(), 1);
    assert!(matches!(over("a/b/c", 0), Err(ResourceError::Conflict { expected: 0, found: 1, .. })));
    assert_eq!(over("a/b/c", 1).unwrap(), 2);
    scope.delete_resource("a/b/c").unwrap();
    assert!(matches!(over("a/b/c", 2), Err(ResourceError::Conflict { expected: 2, found: 0, .. })));
    assert_eq!(over("a/b/c", 0).unwrap(), 3);
}

#[test]
fn a_tenant_has_no_more_secrets_than_it_may() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let value = secret(b"v");
    let put = |path: &str| {
        own(&store).put_resource(path, NewResource { at_most: Some(2), ..NewResource::stored(&value, AT) })
    };
    assert_eq!(put("a/b/1").unwrap(), 1);
    assert!(matches!(put("a/b/2"), Err(ResourceError::TooMany { limit: 2 })));
    assert_eq!(put("a/b/1").unwrap(), 2, "another version is not another secret");
    own(&store).delete_resource("a/b/1").unwrap();
    assert_eq!(put("a/b/2").unwrap(), 1);
}

#[test]
fn states_are_those_of_versions_or_of_all() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    put(&scope, "default/key/1", b"2");
    let revoked = State::Revoked { at: AT, why: "laptop lost".into() };
    let states = || -> Vec<bool> {
        let info = scope.resource_info("default/key/1").unwrap().unwrap();
        info.versions.iter().map(|known| known.state == revoked).collect()
    };
    assert!(scope.set_resource_state("default/key/1", Some(1), revoked.clone()).unwrap());
    assert_eq!(states(), [false, true]);
    assert!(!scope.set_resource_state("default/key/1", Some(9), revoked.clone()).unwrap());
    assert!(!scope.set_resource_state("none", None, revoked.clone()).unwrap());
    assert!(scope.set_resource_state("default/key/1", None, revoked.clone()).unwrap());
    assert_eq!(states(), [true, true]);
    assert_eq!(scope.resource("default/key/1").unwrap().unwrap().about.state, revoked);
    put(&scope, "default/key/1", b"3");
    assert_eq!(states(), [false, true, true], "a new version is a new key");
    assert!(scope.set_resource_state("default/key/1", None, State::Active).unwrap());
    assert_eq!(states(), [false, false, false]);
}

#[test]
fn secrets_are_listed_by_pages_with_what_is_known_of_the_newest_version() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.create_tenant(&tenant("e"), b"{}").unwrap();
    let scope = own(&store);
    let paths: Vec<String> = (0..9).map(|number| format!("a/b/{number}")).collect();
    let value = secret(b"value");
    for path in &paths {
        let new = NewResource {
            expires_at: Some(AT + 1),
            release_limit: Some(7),
            origin: Origin::Generated,
            ..NewResource::stored(&value, AT)
        };
        scope.put_resource(path, new).unwrap();
    }
    scope.delete_resource("a/b/4").unwrap();
    store.tenant(&tenant("e")).put_resource("a/b/x", NewResource::stored(&value, AT)).unwrap();
    let first = scope.resources(None, 5).unwrap();
    let second = scope.resources(Some(&first[4].path), 5).unwrap();
    let seen: Vec<&str> = first.iter().chain(&second).map(|found| found.path.as_str()).collect();
    let expected: Vec<&str> = paths.iter().map(String::as_str).filter(|path| *path != "a/b/4").collect();
    assert_eq!(seen, expected);
    let about = &first[0];
    assert_eq!(
        (about.expires_at, about.release_limit, about.origin),
        (Some(AT + 1), Some(7), Origin::Generated)
    );
    assert_eq!((about.bytes, about.version, about.changed_at, about.versions), (5, 1, AT, 1));
    assert_eq!((about.released, about.state.clone()), (0, State::Active));
    assert!(scope.resources(Some("a/b/8"), 5).unwrap().is_empty());
}

#[test]
fn a_value_that_was_cut_or_lost_is_an_error_and_not_an_empty_one() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let key = "default/default/key/1\u{0}00000000000000000001";
    let sealed = store.inner.read(|view| view.get("resource-values", key)).unwrap().unwrap();
    let with = |value: Option<&[u8]>| {
        crate::inner::write(&*store.inner.engine, |change| match value {
            Some(value) => change.put("resource-values", key, value),
            None => change.discard("resource-values", key),
        })
        .unwrap();
        own(&store).resource("default/key/1").err().map(|error| error.to_string())
    };
    for value in [None, Some(&sealed[..sealed.len() - 1]), Some(b"".as_slice())] {
        assert!(with(value).unwrap().contains("is damaged"));
        let report = store.verify().unwrap();
        assert_eq!(report.named, [("resource-values".to_owned(), key.to_owned())]);
        assert!(!report.is_whole());
    }
    assert!(with(Some(&sealed)).is_none());
    assert!(store.verify().unwrap().is_whole());
}
