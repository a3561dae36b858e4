//! What an operator does with the program beside serving: each command as it is typed, with its exit code.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use coffer_lab_load::{Admin, Endpoint, Patience, Terms, Tls};
use coffer_lab_postgres::Server;

fn broker(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-broker"));
    command.arg("--data").arg(data).args(["--listen", "127.0.0.1:0", "--output", "json"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COFFER_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
fn run(command: &mut Command, arguments: &[&str]) -> (i32, serde_json::Value, String) {
    let Output { status, stdout, stderr } = command.args(arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), serde_json::from_slice(&stdout).unwrap_or_default(), said)
}

fn done(data: &Path, arguments: &[&str]) -> serde_json::Value {
    let (code, answer, said) = run(&mut broker(data), arguments);
    assert_eq!(code, 0, "{arguments:?}: {said}");
    answer
}

struct Running(Child, String);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(command: &mut Command) -> Running {
    let mut child = command.arg("serve").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));
    let url = url.to_owned();
    Running(child, url)
}

fn admin(running: &Running, data: &Path, key: &Path) -> Admin {
    let tls = Tls::pinned(&std::fs::read_to_string(data.join("tls/ca.pem")).unwrap()).unwrap();
    let endpoint = Endpoint::parse(&running.1).unwrap();
    let key = std::fs::read_to_string(key.join("admin.key")).unwrap();
    Admin::new(&[endpoint], &tls, &key, Patience::default()).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn put(admin: &Admin, path: &str) {
    block_on(admin.put_resource(path, b"secret", Terms::default())).unwrap();
}

fn names(admin: &Admin) -> Vec<String> {
    let list = block_on(admin.get("/coffer/v1/resources")).unwrap();
    list["resources"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_init_made_is_served_copied_and_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let (file, copy) = (folder.path().join("broker.toml"), folder.path().join("copy"));
    let config = ["--config", file.to_str().unwrap()];
    let made = done(&one, &[&config[..], &["init"]].concat());
    assert!(made["admin_key"].is_string() && made["configuration"].is_string() && made["was_there"] == false);
    assert!(!made.to_string().contains("PRIVATE"));
    {
        let running = serve(broker(&one).args(config));
        put(&admin(&running, &one, &one), "default/key/one");
        assert_eq!(run(&mut broker(&one), &["healthcheck"]).0, 0);
        let (code, _, said) = run(&mut broker(&one), &["backup", "--out", copy.to_str().unwrap()]);
        assert_eq!(code, 4, "{said}");
        assert!(said.contains("coffer cluster backup") && !copy.exists(), "{said}");
        let (code, findings, said) = run(&mut broker(&one), &["doctor"]);
        assert_eq!(code, 0, "{findings:#} {said}");
    }
    assert_eq!(run(&mut broker(&one), &["healthcheck"]).0, 1, "nobody serves");
    let copied = done(&one, &["backup", "--out", copy.to_str().unwrap()]);
    assert!(copied["rows"].as_u64() > Some(0));
    // The copy alone is of no use.
    let (code, _, said) = run(&mut broker(&two), &["restore", copy.to_str().unwrap()]);
    assert!(code == 1 && said.contains("master key"), "{said}");
    std::fs::create_dir_all(&two).unwrap();
    std::fs::copy(one.join("master.key"), two.join("master.key")).unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let changed = folder.path().join("changed");
    std::fs::write(&changed, bytes).unwrap();
    let (code, _, said) = run(&mut broker(&two), &["restore", changed.to_str().unwrap()]);
    assert!(code == 1 && said.contains("damaged"), "{said}");
    assert_eq!(done(&two, &["restore", copy.to_str().unwrap()])["rows"], copied["rows"]);
    let running = serve(&mut broker(&two));
    // The admin of the first folder is the admin of the copy.
    assert_eq!(names(&admin(&running, &two, &one)), ["default/key/one"]);
}

#[test]
fn new_keys_leave_everything_readable() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    done(&data, &["init"]);
    put(&admin(&serve(&mut broker(&data)), &data, &data), "default/key/one");
    let before = std::fs::read(data.join("master.key")).unwrap();
    let rotated = done(&data, &["rotate-master-key"]);
    assert_ne!(rotated["from"], rotated["to"]);
    assert_ne!(before, std::fs::read(data.join("master.key")).unwrap());
    assert!(done(&data, &["reseal"]).as_array().unwrap().len() >= 2);
    assert_eq!(names(&admin(&serve(&mut broker(&data)), &data, &data)), ["default/key/one"]);
    std::fs::write(data.join("master.key"), before).unwrap();
    let (code, findings, _) = run(&mut broker(&data), &["doctor"]);
    assert_eq!(code, 3, "{findings:#}");
    assert!(
        findings.as_array().unwrap().iter().any(|one| one["state"] == "problem" && one["what"] == "store")
    );
}

#[test]
fn a_configuration_that_is_none_is_a_finding_and_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"").unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let (code, findings, _) = run(broker(folder.path()).args(config), &["doctor"]);
    assert_eq!((code, &findings[0]["state"]), (3, &"problem".into()));
    let (code, _, said) = run(broker(folder.path()).args(config), &["serve"]);
    assert!(code == 1 && said.contains("lisen"), "{said}");
    let (code, _, said) = run(broker(folder.path()).env("COFFER_BROKER__STORE__SQLITE", "{}"), &["serve"]);
    assert!(code == 1 && said.contains("[store]") && said.contains("sqlite"), "{said}");
    assert_eq!(run(&mut broker(folder.path()), &["frobnicate"]).0, 2);
    assert_eq!(
        run(&mut broker(folder.path()), &["migrate"]).0,
        1,
        "there is no schema in the embedded store"
    );
}

#[test]
fn an_embedded_store_moves_to_postgresql_where_a_second_replica_serves_it_too() {
    let Some(database) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let on_database = |data: &Path| {
        let mut command = broker(data);
        command.env("COFFER_BROKER__STORE__POSTGRES__URL", database.url());
        command
    };
    done(&one, &["init"]);
    put(&admin(&serve(&mut broker(&one)), &one, &one), "default/key/moved");
    let (code, findings, _) = run(&mut on_database(&one), &["doctor"]);
    assert_eq!(code, 3, "a database without a schema is a problem: {findings:#}");
    assert_eq!(run(&mut on_database(&one), &["migrate"]).1["schema_from"], 0);
    let (code, moved, said) = run(&mut on_database(&one), &["migrate", "--from-embedded"]);
    assert!(code == 0 && moved["rows"].as_u64() > Some(0), "{said}");
    let (code, _, said) = run(&mut on_database(&one), &["migrate", "--from-embedded"]);
    assert!(code == 1 && said.contains("not empty"), "{said}");
    // A replica without the master key makes none of its own.
    let (code, _, said) = run(&mut on_database(&two), &["serve"]);
    assert!(code == 1 && said.contains("master key") && !two.join("master.key").exists(), "{said}");
    std::fs::create_dir_all(&two).unwrap();
    std::fs::copy(one.join("master.key"), two.join("master.key")).unwrap();
    let (first, second) = (serve(&mut on_database(&one)), serve(&mut on_database(&two)));
    let authority = |data: &Path| std::fs::read_to_string(data.join("tls/ca.pem")).unwrap();
    assert_eq!(authority(&one), authority(&two), "clients pin one authority");
    let (first, second) = (admin(&first, &one, &one), admin(&second, &two, &one));
    put(&first, "default/key/of-the-first");
    assert_eq!(names(&second), ["default/key/moved", "default/key/of-the-first"]);
    let (code, findings, said) = run(&mut on_database(&two), &["doctor"]);
    assert_eq!(code, 0, "{findings:#} {said}");
    let found = |what: &str| {
        findings.as_array().unwrap().iter().any(|one| one["what"] == what && one["state"] == "ok")
    };
    assert!(found("database") && found("records") && found("latency of the database"), "{findings:#}");
}
