//! Opening: migrations, rights, and errors that say what is wrong and show no credentials.
#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use coffer_lab_postgres::{Server, TlsFiles};
use coffer_server_postgres::{
    ClientCertificate, Migrate, Migrated, Password, Postgres, PostgresConfig, PostgresError, Tls,
};
use coffer_server_store::Engine;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

fn over_tcp(server: &Server, schema: &str) -> PostgresConfig {
    let mut config = PostgresConfig::new(server.tcp_url());
    config.password = Some(Password::File(server.password_file()));
    config.schema = schema.into();
    config
}

fn refused(config: &PostgresConfig) -> PostgresError {
    match Postgres::open(config) {
        Err(error) => error,
        Ok(_) => panic!("it was opened"),
    }
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn replicas_that_start_at_once_make_the_schema_once() {
    let Some(server) = Server::shared() else { return };
    let mut config = PostgresConfig::new(server.url());
    config.schema = "at_once".into();
    thread::scope(|scope| {
        let opened: Vec<_> = (0..4).map(|_| scope.spawn(|| Postgres::open(&config).map(drop))).collect();
        let migrated: Vec<_> = (0..2).map(|_| scope.spawn(|| Postgres::migrate(&config))).collect();
        opened.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        for thread in migrated {
            assert_eq!(thread.join().unwrap().unwrap().to, 1);
        }
    });
    assert_eq!(server.sql("SELECT count(*) FROM at_once.migrations").unwrap(), "1");
    assert_eq!(Postgres::migrate(&config).unwrap(), Migrated { from: 1, to: 1 });
}

#[test]
fn a_role_without_the_right_to_make_tables_runs_once_another_has_made_them() {
    let Some(server) = Server::shared() else { return };
    let mut owner = PostgresConfig::new(server.url());
    owner.schema = "apart".into();
    server.sql("CREATE ROLE runner LOGIN").unwrap();
    let mut runner = owner.clone();
    runner.url = server.url().replace("user=coffer", "user=runner");
    assert!(matches!(refused(&runner), PostgresError::NotAllowed { .. }));
    runner.migrate = Migrate::Apart;
    let error = refused(&runner);
    assert!(matches!(error, PostgresError::NotMigrated { found: 0, .. }), "{error}");
    assert_eq!(Postgres::migrate(&owner).unwrap(), Migrated { from: 0, to: 1 });
    assert!(matches!(refused(&runner), PostgresError::NotAllowed { .. }));
    server
        .sql(
            "GRANT USAGE ON SCHEMA apart TO runner; GRANT SELECT ON apart.migrations TO runner; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON apart.rows, apart.outcomes TO runner",
        )
        .unwrap();
    let engine = Postgres::open(&runner).unwrap();
    engine.write(&mut |change| change.put("t", "a", b"b")).unwrap();
}

#[test]
fn a_schema_of_a_newer_program_is_refused() {
    let Some(server) = Server::shared() else { return };
    let mut config = PostgresConfig::new(server.url());
    config.schema = "newer".into();
    let engine = Postgres::open(&config).unwrap();
    server.sql("INSERT INTO newer.migrations (number, name) VALUES (99, 'of the future')").unwrap();
    let error = refused(&config);
    assert!(matches!(error, PostgresError::Newer { found: 99, expected: 1, .. }), "{error}");
    assert!(matches!(Postgres::migrate(&config), Err(PostgresError::Newer { found: 99, .. })));
    engine.check().unwrap();
}

#[test]
fn a_wrong_password_role_or_database_is_named_and_no_credential_is_shown() {
    let Some(server) = Server::shared() else { return };
    let folder = TempDir::new().unwrap();
    let good = over_tcp(&server, "login");
    let engine = Postgres::open(&good).unwrap();
    assert!(!engine.place().contains("coffer@"), "{}", engine.place());
    let password = fs::read_to_string(server.password_file()).unwrap();
    let began = Instant::now();

    let mut wrong = good.clone();
    wrong.password = Some(Password::File(file(folder.path(), "wrong", "hunter2")));
    let error = refused(&wrong);
    assert!(matches!(error, PostgresError::Login { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    wrong.password = None;
    assert!(matches!(refused(&wrong), PostgresError::Login { .. }));

    let mut elsewhere = good.clone();
    elsewhere.url = format!("postgres://coffer@127.0.0.1:{}/nowhere", server.port());
    let error = refused(&elsewhere);
    assert!(matches!(&error, PostgresError::NoDatabase { database, .. } if database == "nowhere"), "{error}");
    assert!(!format!("{error} {error:?}").contains(password.trim()));
    assert!(began.elapsed() < Duration::from_secs(5), "what will not change is not tried again");

    let mut nobody = good;
    nobody.url = "postgres://coffer@127.0.0.1:1/coffer".into();
    nobody.timeouts.retry = Duration::from_millis(300);
    let error = refused(&nobody);
    assert!(matches!(&error, PostgresError::Unreachable { why, .. } if why.contains("refused")), "{error}");
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, alternative: Option<SanType>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.extend(alternative);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[test]
fn tls_wants_the_right_authority_and_the_right_name() {
    let authority = Authority::new("lab CA");
    let here = SanType::IpAddress([127, 0, 0, 1].into());
    let (certificate, key) = authority.issue("postgres", Some(here));
    let Some(server) = Server::start_with_tls(&TlsFiles { certificate, key, client_ca: None }) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let ca_file = file(folder.path(), "ca", &authority.pem);
    let mut config = over_tcp(&server, "coffer");
    config.timeouts.retry = Duration::from_millis(300);

    config.tls = Tls::Require { ca_file, client: None };
    let engine = Postgres::open(&config).unwrap();
    engine.write(&mut |change| change.put("t", "a", b"b")).unwrap();
    let protected = "SELECT bool_and(ssl) AND count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'coffer-broker'";
    assert_eq!(server.sql(protected).unwrap(), "t");

    let mut renamed = config.clone();
    renamed.url = config.url.replace("127.0.0.1", "localhost");
    let error = refused(&renamed);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");

    let foreign = file(folder.path(), "foreign", &Authority::new("another CA").pem);
    let mut strange = config.clone();
    strange.tls = Tls::Require { ca_file: foreign, client: None };
    let error = refused(&strange);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");

    config.tls = Tls::Disable;
    let error = refused(&config);
    assert!(matches!(error, PostgresError::Login { .. }), "pg_hba.conf takes nothing but TLS: {error}");
}

#[test]
fn a_server_without_tls_is_not_spoken_to_in_plain_when_tls_is_required() {
    let Some(server) = Server::shared() else { return };
    let folder = TempDir::new().unwrap();
    let ca_file = file(folder.path(), "ca", &Authority::new("lab CA").pem);
    let mut config = over_tcp(&server, "plain");
    config.tls = Tls::Require { ca_file, client: None };
    let error = refused(&config);
    assert!(matches!(error, PostgresError::Tls { .. }), "{error}");
}

#[test]
fn a_client_certificate_stands_for_a_password() {
    let authority = Authority::new("lab CA");
    let (certificate, key) = authority.issue("postgres", Some(SanType::IpAddress([127, 0, 0, 1].into())));
    let files = TlsFiles { certificate, key, client_ca: Some(authority.pem.clone()) };
    let Some(server) = Server::start_with_tls(&files) else { return };
    let folder = TempDir::new().unwrap();
    let ca_file = file(folder.path(), "ca", &authority.pem);
    let client = |name: &str| {
        let (certificate, key) = authority.issue(name, None);
        ClientCertificate {
            certificate_file: file(folder.path(), &format!("{name}.crt"), &certificate),
            key_file: file(folder.path(), &format!("{name}.key"), &key),
        }
    };
    let mut config = PostgresConfig::new(server.tcp_url());
    config.tls = Tls::Require { ca_file: ca_file.clone(), client: Some(client("coffer")) };
    Postgres::open(&config).unwrap().check().unwrap();
    config.tls = Tls::Require { ca_file, client: Some(client("mallory")) };
    let error = refused(&config);
    assert!(matches!(error, PostgresError::Login { .. }), "{error}");
}
