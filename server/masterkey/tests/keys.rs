//! Claims about master keys, each shown for each kind: a file, a software TPM, SoftHSM, and the peer of Vault.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coffer_lab_vault_peer::{Fault, Peer};
use coffer_server_masterkey::{
    FileSource, MasterKeySource, TokenSource, TpmSource, TransitSource, create, open,
};
use coffer_server_store::{MasterKey, MasterKeyError};
use coffer_server_vault::Auth;

const KEY: [u8; 32] = [7; 32];
const PIN: &str = "4711";
const CHILD: &str = "COFFER_TEST_TOKENS";

fn found(source: &MasterKeySource, data: &Path) -> Box<dyn MasterKey> {
    open(source, data).unwrap().expect("the key is there")
}

fn refused(opened: Result<Option<Box<dyn MasterKey>>, MasterKeyError>) -> MasterKeyError {
    opened.err().expect("refused")
}

/// What holds of every kind: `source` names no key yet, `other` names another one.
fn check(source: &MasterKeySource, other: &MasterKeySource, data: &Path) {
    assert!(open(source, data).unwrap().is_none(), "a key was made by looking");
    let made = create(source, data).unwrap();
    let wrapped = made.wrap(&KEY).unwrap();
    holds(made.as_ref(), source, &wrapped, data);
    assert!(create(source, data).is_err(), "a key was replaced");
    holds(made.as_ref(), source, &wrapped, data);
    let foreign = create(other, data).unwrap();
    differs(made.as_ref(), foreign.as_ref(), &wrapped);
}

fn holds(made: &dyn MasterKey, source: &MasterKeySource, wrapped: &[u8], data: &Path) {
    let again = found(source, data);
    assert_eq!((again.id(), again.place()), (made.id(), made.place()));
    assert!(again.unwrap(wrapped).unwrap().equals(&KEY));
    assert!(!wrapped.windows(8).any(|bytes| bytes == [7; 8]));
    assert_ne!(made.wrap(&KEY).unwrap(), wrapped);
    for index in (0..wrapped.len()).step_by(5) {
        let mut changed = wrapped.to_vec();
        changed[index] ^= 4;
        for bytes in [&changed[..], &wrapped[..index]] {
            let error = again.unwrap(bytes).err().expect("refused");
            assert!(matches!(error, MasterKeyError::Wrong { .. }), "byte {index}: {error}");
        }
    }
}

fn differs(made: &dyn MasterKey, foreign: &dyn MasterKey, wrapped: &[u8]) {
    assert_ne!(foreign.id(), made.id());
    assert!(matches!(foreign.unwrap(wrapped), Err(MasterKeyError::Wrong { .. })));
}

fn private(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_file_is_made_once_and_opens_only_what_it_closed() {
    let data = tempfile::tempdir().unwrap();
    let other = MasterKeySource::File(FileSource { path: Some("other.key".into()) });
    check(&MasterKeySource::default(), &other, data.path());
    private(data.path(), "short.key", "short");
    let short = MasterKeySource::File(FileSource { path: Some("short.key".into()) });
    assert!(matches!(refused(open(&short, data.path())), MasterKeyError::Refused { .. }));
}

/// A software TPM that ends with the test.
struct Swtpm {
    child: Child,
    folder: tempfile::TempDir,
}

impl Swtpm {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", "dir=.", "--server", "type=unixio,path=data"])
            .args(["--flags", "not-need-init"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: swtpm is not installed");
            return None;
        };
        let swtpm = Self { child, folder };
        let begun = Instant::now();
        while UnixStream::connect(swtpm.socket()).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(swtpm)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn source(&self, blob: &str, pcrs: &[u8]) -> MasterKeySource {
        MasterKeySource::Tpm(TpmSource {
            socket: Some(self.socket()),
            blob: Some(blob.into()),
            pcrs: pcrs.to_vec(),
            device: None,
        })
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_tpm_gives_its_key_back_and_another_one_says_why_not() {
    let (Some(one), Some(other)) = (Swtpm::start(), Swtpm::start()) else { return };
    let data = tempfile::tempdir().unwrap();
    check(&one.source("one", &[]), &one.source("two", &[]), data.path());
    check(&one.source("bound", &[7]), &one.source("bound-too", &[7]), data.path());

    let before = std::fs::read(data.path().join("one")).unwrap();
    let error = refused(open(&other.source("one", &[]), data.path()));
    assert!(matches!(error, MasterKeyError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("another TPM"), "{error}");
    assert_eq!(std::fs::read(data.path().join("one")).unwrap(), before, "the file was changed");

    let error = refused(open(&one.source("bound", &[]), data.path()));
    assert!(error.to_string().contains("sealed to PCRs [7]"), "{error}");
    let mut tpm = coffer_sys_tpm::Tpm::connect_unix(one.socket()).unwrap();
    tpm.pcr_extend(7, &[coffer_core_digest::Digest::sha256(b"other software")]).unwrap();
    drop(tpm);
    let error = refused(open(&one.source("bound", &[7]), data.path()));
    assert!(error.to_string().contains("boot that software again"), "{error}");

    let absent = MasterKeySource::Tpm(TpmSource {
        device: Some("/absent/tpm".into()),
        blob: Some("one".into()),
        ..TpmSource::default()
    });
    assert!(matches!(refused(open(&absent, data.path())), MasterKeyError::Unavailable { .. }));
    private(data.path(), "broken", "CTS1 and nothing");
    assert!(matches!(refused(open(&one.source("broken", &[]), data.path())), MasterKeyError::Refused { .. }));
}

fn module() -> Option<PathBuf> {
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// A module reads the environment of its process, so this test runs itself again in one of its own.
#[test]
fn a_token_keeps_its_key_and_another_one_says_why_not() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return token_claims(Path::new(&folder));
    }
    if module().is_none() {
        println!("skipped: softhsm2 is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tokens")).unwrap();
    let text = format!("directories.tokendir = {}/tokens\nlog.level = ERROR\n", folder.path().display());
    let config = private(folder.path(), "softhsm2.conf", &text);
    for label in ["broker", "other"] {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "08151234"])
            .env("SOFTHSM2_CONF", &config)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_token_keeps_its_key_and_another_one_says_why_not", "--nocapture"])
        .env("SOFTHSM2_CONF", &config)
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

fn token_claims(folder: &Path) {
    let pin_file = private(folder, "pin", PIN);
    let source = |token: &str, key: &str| {
        MasterKeySource::Pkcs11(TokenSource {
            module: module().unwrap(),
            token: Some(token.into()),
            slot: None,
            key: key.into(),
            pin_file: pin_file.clone(),
            method: Default::default(),
        })
    };
    check(&source("broker", "master"), &source("other", "master"), folder);
    check(&source("broker", "id:0a0b"), &source("broker", "id:0a0c"), folder);
    let error = refused(open(&source("absent", "master"), folder));
    assert!(matches!(error, MasterKeyError::Unavailable { .. }), "{error}");
    // A login is the process's; it ended with the last session, so the wrong PIN is seen.
    private(folder, "pin", "wrong");
    let error = refused(open(&source("other", "master"), folder));
    assert!(error.to_string().contains("not tried again"), "{error}");
}

struct Service {
    runtime: tokio::runtime::Runtime,
    peer: Peer,
    folder: tempfile::TempDir,
}

impl Service {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let peer = runtime.block_on(Peer::start());
        Self { runtime, peer, folder: tempfile::tempdir().unwrap() }
    }

    fn source(&self, key: &str) -> TransitSource {
        let token = private(self.folder.path(), "token", &self.peer.root_token());
        TransitSource {
            url: self.peer.url().to_owned(),
            namespace: None,
            mount: "transit".into(),
            key: key.into(),
            auth: Auth::TokenFile(token),
            ca: None,
            client_certificate: None,
            client_key: None,
            timeout: 5,
        }
    }

    fn open(&self, source: TransitSource) -> Result<Option<Box<dyn MasterKey>>, MasterKeyError> {
        open(&MasterKeySource::VaultTransit(source), self.folder.path())
    }
}

#[test]
fn a_service_opens_what_its_key_closed_through_its_rotation() {
    let service = Service::new();
    assert!(service.open(service.source("k")).unwrap().is_none());
    let made = create(&MasterKeySource::VaultTransit(service.source("k")), service.folder.path());
    assert!(made.err().unwrap().to_string().contains("vault write -f transit/keys/k"));
    assert!(service.open(service.source("k")).unwrap().is_none(), "a key was made");

    service.peer.create_key("k");
    service.peer.create_key("other");
    let source = MasterKeySource::VaultTransit(service.source("k"));
    let key = found(&source, service.folder.path());
    let wrapped = key.wrap(&KEY).unwrap();
    let foreign = service.open(service.source("other")).unwrap().unwrap();
    differs(key.as_ref(), foreign.as_ref(), &wrapped);
    holds(key.as_ref(), &source, &wrapped, service.folder.path());
    service.peer.rotate_key("k");
    assert!(key.wrap(&KEY).unwrap().starts_with(b"vault:v2:"));
    assert!(key.unwrap(&wrapped).unwrap().equals(&KEY));
    for bytes in [&b""[..], b"\xff\xfe", b"vault:v9:AAAA"] {
        assert!(matches!(key.unwrap(bytes), Err(MasterKeyError::Wrong { .. })));
    }

    service.peer.delete_key("k");
    let gone = key.wrap(&KEY).unwrap_err();
    assert!(matches!(gone, MasterKeyError::Refused { .. }), "{gone}");
    assert!(service.open(service.source("k")).unwrap().is_none(), "wrapping made a key");
}

#[test]
fn a_service_may_be_asked_from_a_threads_runtime_and_from_many_threads() {
    let service = Service::new();
    service.peer.create_key("k");
    let key: std::sync::Arc<dyn MasterKey> = service.open(service.source("k")).unwrap().unwrap().into();
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    here.block_on(async { assert!(key.unwrap(&key.wrap(&KEY).unwrap()).unwrap().equals(&KEY)) });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let key = key.clone();
            scope.spawn(move || assert!(key.unwrap(&key.wrap(&KEY).unwrap()).unwrap().equals(&KEY)));
        }
    });
}

#[test]
fn a_service_that_is_away_or_refuses_is_told_apart() {
    let service = Service::new();
    service.peer.create_key("k");
    let key = service.open(service.source("k")).unwrap().unwrap();
    let wrapped = key.wrap(&KEY).unwrap();
    service.peer.seal(true);
    let sealed = key.unwrap(&wrapped).err().unwrap();
    assert!(matches!(sealed, MasterKeyError::Unavailable { .. }), "{sealed}");
    assert!(sealed.to_string().contains("unseal"), "{sealed}");
    service.peer.seal(false);
    service.peer.fail_next(3, Fault::Status(500));
    assert!(matches!(key.unwrap(&wrapped), Err(MasterKeyError::Unavailable { .. })));
    assert!(key.unwrap(&wrapped).unwrap().equals(&KEY));

    service.peer.policy("none", &[]);
    let token = service.peer.token(&["none"], Duration::from_secs(3600), Duration::ZERO);
    let source = service.source("k");
    private(service.folder.path(), "token", &token);
    let error = refused(service.open(source.clone()));
    assert!(error.to_string().contains("capabilities = [\"read\"]"), "{error}");
    let away = TransitSource { url: "http://127.0.0.1:1".into(), ..source };
    assert!(matches!(refused(service.open(away)), MasterKeyError::Unavailable { .. }));
    drop(service.runtime);
}
