//! The forms, and that the commented example shows them as they are.

use coffer_server_http::{BrokerConfig, EXAMPLE};

use super::*;

fn table(text: &str) -> Table {
    toml::from_str(text).unwrap()
}

/// Every example in the comments of broker.example.toml: the lines after "as in", "One of", "several replicas".
fn commented(from: &str, until: &str) -> String {
    let (_, rest) = EXAMPLE.split_once(from).unwrap_or_else(|| panic!("the example has no {from:?}"));
    let (block, _) = rest.split_once(until).unwrap();
    block.lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_example_s_own_sections_are_the_defaults() {
    let config = BrokerConfig::from_toml(EXAMPLE).unwrap();
    assert!(matches!(StoreSection::read(&config.store).unwrap(), StoreSection::Embedded));
    assert_eq!(master_key(&config.master_key).unwrap(), MasterKeySource::default());
    assert!(SourceSection::read(&config.sources).unwrap().is_empty());
    assert!(PluginSection::read(&config.plugins).unwrap().is_empty());
    assert!(TelemetrySection::read(&config.telemetry).unwrap().is_none());
}

#[test]
fn what_the_example_s_comments_show_is_accepted() {
    let config = BrokerConfig::from_toml(&commented("# Vaults that", "\nsources = []")).unwrap();
    let sources = SourceSection::read(&config.sources).unwrap();
    let SourceKind::Vault { server, engine } = &sources[0].kind else { panic!("another kind") };
    assert_eq!((server.url.as_str(), engine.mount.as_str()), ("https://vault.example:8200", "secret"));

    let config = BrokerConfig::from_toml(&commented("# Plugins that", "\nplugins = []")).unwrap();
    assert_eq!(PluginSection::read(&config.plugins).unwrap()[0].name, "nebula");

    let store = table(&commented("# Where the rows are", "\n[store]"));
    let StoreSection::Postgres(postgres) = StoreSection::read(&store).unwrap() else { panic!("embedded") };
    assert!(matches!(postgres.tls, coffer_server_postgres::Tls::Require { .. }));

    let mut kinds = 0;
    for line in commented("# What the rows' key", "\n[master_key]").lines() {
        assert!(master_key(&table(line)).is_ok(), "{line}: {:?}", master_key(&table(line)));
        kinds += 1;
    }
    assert_eq!(kinds, 3, "tpm, pkcs11 and vault_transit");

    let (_, endpoint) = EXAMPLE.split_once("as in endpoint = \"http://").unwrap();
    let endpoint = format!("endpoint = \"http://{}\"", endpoint.split('"').next().unwrap());
    assert!(TelemetrySection::read(&table(&endpoint)).unwrap().is_some());
}

#[test]
fn no_section_takes_what_it_does_not_know_or_a_secret_itself() {
    for text in [
        "redis = {}",
        "postgres = {}",
        "postgres = { url = \"u\", password = \"p\" }",
        "postgres = { url = \"u\", password_file = \"/a\", pass_file = \"/b\" }",
        "postgres = { url = \"u\", client_key = \"/a\" }",
        "postgres = { url = \"u\", ca = \"/a\", tls = \"insecure-disable\" }",
        "postgres = { url = \"u\", tls = false }",
        "postgres = { url = \"u\", timeouts = { conect = \"1s\" } }",
    ] {
        let error = StoreSection::read(&table(text)).unwrap_err().to_string();
        assert!(error.contains("[store]"), "{text}: {error}");
    }
    for text in [
        "hsm = {}",
        "tpm = 7",
        "file = {}\ntpm = {}",
        "file = { key = \"00\" }",
        "pkcs11 = { module = \"/m\", token = \"t\", key = \"k\", pin = \"1\" }",
        "vault_transit = { url = \"https://v\", key = \"k\" }",
        "vault_transit = { url = \"https://v\", key = \"k\", token = \"hvs\" }",
        "vault_transit = { url = \"https://v\", key = \"k\", token_file = \"/t\", kubernetes = \"r\" }",
    ] {
        let error = master_key(&table(text)).unwrap_err().to_string();
        assert!(error.contains("[master_key]"), "{text}: {error}");
    }
    for text in [
        "endpoint = \"ftp://x\"",
        "endpoint = \"https://x\"",
        "endpoint = \"http://x\"\nsample = 2.0",
        "token = \"x\"",
    ] {
        assert!(TelemetrySection::read(&table(text)).is_err(), "{text}");
    }
}

#[test]
fn a_source_is_one_thing_for_paths_that_no_other_answers_for() {
    let vault = "vault = { url = \"https://v\", kubernetes = \"broker\", under = \"coffer\" }";
    let one = table(&format!("name = \"a\"\nprefix = \"vault/\"\n{vault}"));
    let read = SourceSection::read(std::slice::from_ref(&one)).unwrap();
    let SourceKind::Vault { engine, .. } = &read[0].kind else { panic!("another kind") };
    assert_eq!(engine.prefix.as_deref(), Some("coffer"));
    assert!(read[0].tenant.is_default() && read[0].keep.is_zero());
    let token = table(
        "name = \"t\"\nprefix = \"hsm/\"\npkcs11 = { module = \"/m\", token = \"t\", pin_file = \"/p\", under = \"c/\" }",
    );
    assert_eq!(SourceSection::read(&[one.clone(), token]).unwrap().len(), 2);
    for text in [
        format!("name = \"a\"\nprefix = \"vault\"\n{vault}"),
        format!("name = \"a\"\nprefix = \"\"\n{vault}"),
        "name = \"a\"\nprefix = \"v/\"".to_owned(),
        format!("name = \"a\"\nprefix = \"v/\"\npkcs11 = {{}}\n{vault}"),
        format!("name = \"a\"\nprefix = \"v/\"\ntenant = \"A B\"\n{vault}"),
        format!("name = \"a\"\nprefix = \"v/\"\ncolour = 1\n{vault}"),
    ] {
        let error = SourceSection::read(&[table(&text)]).unwrap_err().to_string();
        assert!(error.contains("[sources.a]"), "{text}: {error}");
    }
    assert!(SourceSection::read(&[one.clone(), one]).unwrap_err().to_string().contains("same paths"));
}
