//! What a configuration names is opened, or refused by its section; and a doctor tells both without changing a thing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use coffer_core_admin::TenantName;
use coffer_lab_vault_peer::Peer;
use coffer_server_http::BrokerConfig;
use coffer_server_setup::{
    Finding, Progress, SetupError, State, assemble, backup, doctor, init, reseal, restore, rotate_master_key,
};
use coffer_server_store::Table;
use toml::Table as Toml;

fn table(text: &str) -> Toml {
    toml::from_str(text).unwrap()
}

fn config(data: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::new(data);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    config.listen = free.local_addr().unwrap();
    config
}

fn find<'a>(all: &'a [Finding], what: &str) -> &'a Finding {
    all.iter().find(|finding| finding.what == what).unwrap_or_else(|| panic!("no {what} in {all:#?}"))
}

#[test]
fn a_wrong_section_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut wrong = [config(&data), config(&data), config(&data), config(&data), config(&data)];
    wrong[0].store = table("sqlite = {}");
    wrong[1].master_key = table("file = { key = \"x\" }");
    wrong[2].sources = vec![table("name = \"v\"\nprefix = \"v/\"")];
    wrong[3].plugins = vec![table("name = \"p\"\nendpoint = \"http://10.0.0.1:1\"")];
    wrong[4].telemetry = table("endpoint = \"nowhere\"");
    for (config, section) in
        wrong.iter().zip(["[store]", "[master_key]", "[sources.v]", "[[plugins]]", "[telemetry]"])
    {
        let error = assemble(config).map(drop).unwrap_err().to_string();
        assert!(error.contains(section), "{error}");
        assert!(!data.exists(), "{section} made {}", data.display());
    }
}

#[test]
fn a_store_whose_master_key_is_gone_gets_no_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("data"));
    config.master_key = table("file = { path = \"elsewhere.key\" }");
    drop(assemble(&config).unwrap());
    let key = config.data_dir.join("elsewhere.key");
    fs::rename(&key, folder.path().join("away")).unwrap();
    assert!(matches!(assemble(&config), Err(SetupError::MasterKeyMissing { .. })));
    assert!(!key.exists());
    fs::rename(folder.path().join("away"), &key).unwrap();
    drop(assemble(&config).unwrap());
}

#[test]
fn values_come_out_of_the_vault_that_the_configuration_names_for_a_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let vault = runtime.block_on(Peer::start());
    vault.policy("reader", &[("secret/data/*", &["read"])]);
    vault.put("", "coffer/db", serde_json::json!({"value": "s3cret"}));
    let token = folder.path().join("token");
    let life = Duration::from_secs(600);
    fs::write(&token, vault.token(&["reader"], life, life)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let mut config = config(&folder.path().join("data"));
    config.sources = vec![table(&format!(
        "name = \"v\"\ntenant = \"team-a\"\nprefix = \"vault/\"\nkeep = \"5s\"\nvault = {{ url = \"{}\", under = \"coffer\", field = \"value\", token_file = {:?} }}",
        vault.url(),
        token
    ))];
    let assembly = assemble(&config).unwrap();
    let route = &assembly.parts.sources[0];
    assert_eq!((route.tenant.as_str(), route.prefix.as_str()), ("team-a", "vault/"));
    let value = runtime.block_on(route.source.get("db")).unwrap().unwrap();
    assert!(value.equals(b"s3cret"));
    assert_eq!(find(&doctor(&config), "source v").state, State::Ok);
    vault.seal(true);
    let all = doctor(&config);
    let sealed = find(&all, "source v");
    assert!(sealed.state == State::Problem && sealed.remedy.is_some(), "{sealed:?}");
}

#[test]
fn a_copy_is_put_back_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (config(&folder.path().join("one")), folder.path().join("copy"));
    let quiet = &mut Progress::silent();
    assert!(matches!(backup(&from, &out, quiet), Err(SetupError::NoStore(_))));
    init(from.clone(), None).unwrap();
    let rows = |config: &BrokerConfig| {
        assemble(config).unwrap().parts.store.cluster().list(Table::Admins).unwrap().len()
    };
    assert_eq!(rows(&from), 1);
    let made = backup(&from, &out, quiet).unwrap();
    assert!(made.rows > 0 && made.bytes == fs::metadata(&out).unwrap().len());
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(backup(&from, &out, quiet), Err(SetupError::Exists(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a part of a copy was left");

    let to = config(&folder.path().join("two"));
    assert!(matches!(restore(&to, &out, quiet), Err(SetupError::OtherMasterKey { .. })));
    fs::create_dir(&to.data_dir).unwrap();
    fs::copy(from.data_dir.join("master.key"), to.data_dir.join("master.key")).unwrap();
    let mut bytes = fs::read(&out).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = folder.path().join("changed");
    fs::write(&changed, &bytes).unwrap();
    assert!(matches!(restore(&to, &changed, quiet), Err(SetupError::Backup(_))));
    fs::write(&changed, &fs::read(&out).unwrap()[..middle]).unwrap();
    assert!(matches!(restore(&to, &changed, quiet), Err(SetupError::Backup(_))));
    assert!(!to.data_dir.join("store.redb").exists(), "a damaged copy touched the folder");
    assert_eq!(restore(&to, &out, quiet).unwrap().rows, made.rows);
    assert_eq!(rows(&to), 1);
    assert!(matches!(restore(&to, &out, quiet), Err(SetupError::Backup(_))), "restored over a store");
}

#[test]
fn after_a_rotation_only_the_new_master_key_opens_and_all_records_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("data"));
    init(config.clone(), None).unwrap();
    let in_place = rotate_master_key(&config, None).unwrap();
    assert!(in_place.from != in_place.to && !in_place.change_configuration);
    let section = folder.path().join("new.toml");
    fs::write(&section, "[master_key]\nfile = { path = \"next.key\" }\n").unwrap();
    let rotated = rotate_master_key(&config, Some(&section)).unwrap();
    assert!(rotated.change_configuration && rotated.from == in_place.to);
    assert!(assemble(&config).map(drop).unwrap_err().to_string().contains(&rotated.to));
    config.master_key = table("file = { path = \"next.key\" }");
    assert!(matches!(rotate_master_key(&config, Some(&section)), Err(SetupError::SameMasterKey(_))));
    let resealed = reseal(&config, None, &mut Progress::silent()).unwrap();
    assert!(resealed.iter().any(|one| one.tenant == Some(TenantName::default()) && one.moved > 0));
    assert!(resealed.iter().all(|one| one.damaged == 0 && one.epoch > 1));
    assert_eq!(find(&doctor(&config), "records").state, State::Ok);
    fs::write(&section, "[master_key]\n").unwrap();
    assert!(rotate_master_key(&config, Some(&section)).is_err());
}

#[test]
fn a_healthy_broker_has_no_problem_and_each_defect_is_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder.path().join("data"));
    init(config.clone(), None).unwrap();
    let before: Vec<_> = names(&config.data_dir);
    let all = doctor(&config);
    assert!(all.iter().all(|finding| finding.state < State::Problem), "{all:#?}");
    assert_eq!(names(&config.data_dir), before, "the doctor changed the folder");

    let problem = |config: &BrokerConfig, what: &str| {
        let all = doctor(config);
        let found = find(&all, what);
        assert_eq!(found.state, State::Problem, "{found:?}");
        assert!(found.remedy.is_some());
    };
    let taken = TcpListener::bind(config.listen).unwrap();
    problem(&config, "port");
    drop(taken);
    let mut other = config.clone();
    other.plugins = vec![table("name = \"p\"\nendpoint = \"unix:/nowhere.sock\"\ntimeout = \"1s\"")];
    problem(&other, "plugin p");
    other = config.clone();
    other.tls.certificate = config.data_dir.join("tls/ca.pem");
    other.tls.key = config.data_dir.join("admin.key");
    problem(&other, "TLS key");
    let key = config.data_dir.join("master.key");
    let content = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    problem(&config, "master key");
    fs::write(&key, [7; 32]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    problem(&config, "store");
    fs::write(&key, content).unwrap();
    let ca = config.data_dir.join("tls/ca.pem");
    fs::write(&ca, "no certificate").unwrap();
    problem(&config, "certificate of the broker's authority");
    assert_eq!(
        find(&doctor(&self::config(&folder.path().join("none"))), "data folder").state,
        State::Problem
    );
    // While a broker has the store, its records are left alone.
    let _serving = assemble(&config).unwrap();
    assert!(find(&doctor(&config), "store").found.contains("serves it now"));
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
