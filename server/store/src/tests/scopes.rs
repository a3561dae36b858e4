//! Named values: whose they are, their order, tags, transactions and revisions.

use super::*;

#[test]
fn a_scope_sees_its_own_values_only() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    for name in ["a", "b", "default-1"] {
        store.create_tenant(&tenant(name), b"{}").unwrap();
    }
    let scopes = [store.cluster(), own(&store), store.tenant(&tenant("a")), store.tenant(&tenant("b"))];
    for (number, scope) in scopes.iter().enumerate() {
        scope.put(Table::NamedValues, "same", number.to_string().as_bytes()).unwrap();
        scope.put(Table::NamedValues, "a/b", b"").unwrap();
    }
    for (number, scope) in scopes.iter().enumerate() {
        assert!(
            scope.get(Table::NamedValues, "same").unwrap().unwrap().equals(number.to_string().as_bytes())
        );
        assert_eq!(scope.count(Table::NamedValues).unwrap(), 2);
        let names: Vec<String> =
            scope.list(Table::NamedValues).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a/b", "same"]);
    }
    assert!(store.tenant(&tenant("a")).delete(Table::NamedValues, "same").unwrap());
    assert!(!store.tenant(&tenant("a")).delete(Table::NamedValues, "same").unwrap());
    assert_eq!(store.tenant(&tenant("b")).count(Table::NamedValues).unwrap(), 2);
    assert_eq!(store.tenant(&tenant("default-1")).count(Table::NamedValues).unwrap(), 0);
    assert!(store.tenant(&tenant("a")).resource("default/key/1").unwrap().is_none());
}

#[test]
fn pages_together_are_the_list() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    let names: Vec<String> = (0..25).map(|number| format!("n{number:02}")).collect();
    for name in &names {
        scope.put(Table::WrappingKeys, name, name.as_bytes()).unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = scope.list_page(Table::WrappingKeys, after.as_deref(), 7).unwrap();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(name, _)| name));
    }
    assert_eq!(seen, names);
}

#[test]
fn names_that_could_be_taken_for_another_row_are_not_stored() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let long = "n".repeat(MAX_NAME + 1);
    for name in ["", "a\0b", long.as_str()] {
        assert!(matches!(own(&store).put(Table::Policies, name, b"v"), Err(StoreError::Name { .. })));
        let stored = own(&store).put_resource(name, NewResource::stored(&secret(b"v"), AT));
        assert!(matches!(stored, Err(ResourceError::Store(StoreError::Name { .. }))));
    }
}

#[test]
fn what_was_withdrawn_is_remembered_by_its_tenant_table_and_name() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let withdrawn = |table, name| own(&store).was_withdrawn(table, name).unwrap();
    own(&store).put(Table::TrustAnchors, "lab", b"a root").unwrap();
    assert!(!withdrawn(Table::TrustAnchors, "lab"));
    assert!(own(&store).withdraw(Table::TrustAnchors, "lab").unwrap());
    assert!(!own(&store).withdraw(Table::TrustAnchors, "never").unwrap());
    assert!(own(&store).get(Table::TrustAnchors, "lab").unwrap().is_none());
    assert!(withdrawn(Table::TrustAnchors, "lab"));
    assert!(!withdrawn(Table::TrustAnchors, "never") && !withdrawn(Table::Policies, "lab"));
    assert!(!store.cluster().was_withdrawn(Table::TrustAnchors, "lab").unwrap());
}

#[test]
fn a_value_is_changed_only_if_it_is_the_one_that_was_read() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    let tag = |name| scope.get_tagged(Table::WrappingKeys, name).unwrap().map(|(_, tag)| tag);
    assert!(scope.put_if_tag(Table::WrappingKeys, "k", None, b"1").unwrap());
    assert!(!scope.put_if_tag(Table::WrappingKeys, "k", None, b"2").unwrap(), "it is there");
    let first = tag("k").unwrap();
    assert!(scope.put_if_tag(Table::WrappingKeys, "k", Some(first), b"2").unwrap());
    assert!(!scope.put_if_tag(Table::WrappingKeys, "k", Some(first), b"3").unwrap(), "it was changed");
    assert!(!scope.put_if_tag(Table::WrappingKeys, "none", Some(first), b"3").unwrap(), "it is not there");
    // A tag is the value's, in every epoch and at its place only.
    let second = tag("k").unwrap();
    scope.rotate_key().unwrap();
    scope.put(Table::WrappingKeys, "k", b"2").unwrap();
    scope.put(Table::WrappingKeys, "l", b"2").unwrap();
    assert_eq!(tag("k"), Some(second));
    assert_ne!(tag("l"), Some(second));
}

#[test]
fn a_transaction_is_kept_whole_or_not_at_all() {
    #[derive(Debug)]
    enum Refused {
        Store(StoreError),
        Full,
    }
    impl From<StoreError> for Refused {
        fn from(error: StoreError) -> Self {
            Self::Store(error)
        }
    }
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    let scope = own(&store);
    let add = |name: &str| {
        scope.transact(|transaction| {
            transaction.put(Table::Sources, name, b"v")?;
            match transaction.count(Table::Sources)? {
                0..=2 => Ok(transaction.list_page(Table::Sources, None, 9)?.len()),
                _ => Err(Refused::Full),
            }
        })
    };
    let before = scope.revision().unwrap();
    assert!(matches!((add("a"), add("b"), add("c")), (Ok(1), Ok(2), Err(Refused::Full))));
    assert_eq!(scope.count(Table::Sources).unwrap(), 2);
    assert_eq!(scope.revision().unwrap(), before + 2, "what was given up raises nothing");
    let gone = store
        .tenant(&tenant("never"))
        .transact(|transaction| transaction.put(Table::Sources, "a", b"v").map_err(Refused::from));
    assert!(matches!(gone, Err(Refused::Store(StoreError::NoSuchTenant(_)))));
}

#[test]
fn changes_that_decisions_rest_on_raise_the_revision_and_no_others() {
    let folder = filled();
    let store = Store::open(folder.path()).unwrap();
    store.create_tenant(&tenant("other"), b"{}").unwrap();
    let scope = own(&store);
    let mut last = scope.revision().unwrap();
    for table in Table::ALL {
        scope.put(table, "n", b"v").unwrap();
        let now = scope.revision().unwrap();
        let rests_nothing = matches!(table, Table::WrappingKeys | Table::Counters);
        assert_eq!(now, if rests_nothing { last } else { last + 1 }, "{table:?}");
        scope.delete(table, "n").unwrap();
        scope.delete(table, "n").unwrap();
        last = scope.revision().unwrap();
        assert_eq!(last, if rests_nothing { now } else { now + 1 }, "{table:?}");
    }
    scope.put_resource("a/b/c", NewResource::stored(&secret(b"v"), AT)).unwrap();
    scope.rotate_key().unwrap();
    assert_eq!(scope.revision().unwrap(), last);
    let all = store.revisions(&[tenant("other"), tenant("never"), tenant("default")]).unwrap();
    assert_eq!(all, [Some(1), None, Some(last)]);
    assert!(store.cluster().revision().unwrap() > 0);
}
