//! What is refused before anything is connected, and what of a configuration is never shown.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn refused(url: &str, change: impl FnOnce(&mut PostgresConfig)) -> PostgresError {
    let mut config = PostgresConfig::new(url);
    change(&mut config);
    match Target::new(&config) {
        Err(error) => error,
        Ok(_) => panic!("{url} was taken"),
    }
}

fn file(folder: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_password_in_the_url_is_refused_and_shown_nowhere() {
    for url in [
        "postgres://role:hunter2@localhost/db",
        "host=localhost user=role password=hunter2",
        "host=localhost user=role password='hunter2",
        "postgres://role:hunter2@localhost:port/db",
        "host=localhost user=role password=a hunter2=b",
    ] {
        let error = refused(url, |_| ());
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(!format!("{:?}", PostgresConfig::new(url)).contains("hunter2"));
    }
    assert!(matches!(refused("postgres://role:hunter2@localhost/db", |_| ()), PostgresError::PasswordInUrl));
}

#[test]
fn without_tls_only_this_machine_is_connected_to() {
    for url in ["postgres://r@localhost/d", "postgres://r@127.0.0.1/d", "host=/run/postgresql user=r"] {
        assert!(Target::new(&PostgresConfig::new(url)).is_ok(), "{url}");
    }
    for url in
        ["postgres://r@db.example/d", "postgres://r@localhost,db.example/d", "user=r hostaddr=10.0.0.1"]
    {
        assert!(matches!(refused(url, |_| ()), PostgresError::PlainNetwork { .. }), "{url}");
        let mut config = PostgresConfig::new(url);
        config.tls = Tls::InsecureDisable;
        assert!(Target::new(&config).is_ok());
    }
    let asked = refused("postgres://r@localhost/d?sslmode=require", |_| ());
    assert!(matches!(asked, PostgresError::Setting { name: "tls", .. }));
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let url = "postgres://r@localhost/d";
    for schema in ["", "Coffer", "1a", "a-b", "a\"b", "pg_x", "a b", &"a".repeat(64)] {
        let error = refused(url, |config| config.schema = schema.into());
        assert!(matches!(error, PostgresError::Setting { name: "schema", .. }), "{schema}");
    }
    let error = refused(url, |config| config.connections = 0);
    assert!(matches!(error, PostgresError::Setting { name: "connections", .. }));
    let error = refused(url, |config| config.timeouts.statement = Duration::ZERO);
    assert!(matches!(error, PostgresError::Setting { name: "timeouts", .. }));
    assert!(matches!(refused("postgres://localhost/d", |_| ()), PostgresError::Setting { name: "url", .. }));
    assert!(matches!(refused("user=r", |_| ()), PostgresError::Setting { name: "url", .. }));
    assert!(matches!(refused("https://localhost", |_| ()), PostgresError::Url));
}

#[test]
fn the_place_names_host_port_and_database_and_no_role() {
    let target = Target::new(&PostgresConfig::new("postgres://role@localhost:5433/rows")).unwrap();
    assert_eq!(target.place, "PostgreSQL database rows at localhost:5433, schema coffer");
}

#[test]
fn a_password_file_is_read_when_it_is_needed_and_refused_where_others_may_read_it() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "password", "hunter2\n", 0o600);
    let mut config = PostgresConfig::new("postgres://r@localhost/d");
    config.password = Some(Password::File(path));
    let target = Target::new(&config).unwrap();
    assert_eq!(target.config().unwrap().get_password(), Some(b"hunter2".as_slice()));
    file(&folder, "password", "changed", 0o640);
    assert_eq!(target.config().unwrap().get_password(), Some(b"changed".as_slice()));
    file(&folder, "password", "changed", 0o644);
    assert!(matches!(target.config(), Err(PostgresError::Exposed { mode: 0o644, .. })));
}

#[test]
fn a_pass_file_gives_the_first_line_that_fits() {
    let folder = TempDir::new().unwrap();
    let lines = "# localhost:5432:d:r:comment\nother:5432:d:r:host\nlocalhost:1:d:r:port\nlocalhost:5432:x:r:base\n\
                 localhost:5432:d:q:role\nshort:line\nlocalhost:*:d:r:a\\:b\\\\c:d\n*:*:*:*:last\n";
    let mut config = PostgresConfig::new("postgres://r@localhost/d");
    config.password = Some(Password::PassFile(file(&folder, "pass", lines, 0o600)));
    let target = Target::new(&config).unwrap();
    assert_eq!(target.config().unwrap().get_password(), Some(b"a:b\\c:d".as_slice()));
    file(&folder, "pass", "other:*:*:*:x\n", 0o600);
    assert!(matches!(target.config(), Err(PostgresError::NoPassword { .. })));
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    let folder = TempDir::new().unwrap();
    let ca_file = file(&folder, "ca", "nothing", 0o644);
    let error =
        refused("postgres://r@db.example/d", |config| config.tls = Tls::Require { ca_file, client: None });
    assert!(matches!(error, PostgresError::TlsFile { .. }));
}
