//! Claims about tokens, shown with SoftHSM.
//!
//! A module reads its configuration from the environment of its process, so each test runs itself again in a process of
//! its own, with tokens of its own.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use coffer_server_pkcs11::{Method, Pkcs11Error, PkcsSource, Selector, Token, TokenConfig, WrappingKey};
use coffer_server_source::{Source, SourceError};
use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

const CHILD: &str = "COFFER_TEST_TOKENS";
const PIN: &str = "a pin of 4711";

fn module() -> Option<PathBuf> {
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// Runs a claim in a process of its own, in which `broker` and `other` are tokens.
fn with_tokens(name: &str, claim: impl FnOnce(&Bench)) {
    if let Some(folder) = std::env::var_os(CHILD) {
        return claim(&Bench { folder: folder.into() });
    }
    if module().is_none() {
        println!("skipped: softhsm2 is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let config = folder.path().join("softhsm2.conf");
    let text =
        format!("directories.tokendir = {}\nlog.level = ERROR\nslots.removable = false\n", tokens.display());
    std::fs::write(&config, text).unwrap();
    for label in ["broker", "other"] {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "so-pin-0815"])
            .env("SOFTHSM2_CONF", &config)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("SOFTHSM2_CONF", &config)
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

struct Bench {
    folder: PathBuf,
}

impl Bench {
    fn pin_file(&self, pin: &str, mode: u32) -> PathBuf {
        let path = self.folder.join("pin");
        std::fs::write(&path, pin).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn config(&self, token: &str) -> TokenConfig {
        TokenConfig {
            module: module().unwrap(),
            token: Some(token.to_owned()),
            slot: None,
            pin_file: self.pin_file(&format!("{PIN}\n"), 0o600),
        }
    }

    fn token(&self, label: &str) -> Token {
        Token::open(&self.config(label)).unwrap()
    }

    fn key(&self, token: &Token, label: &str, method: Method) -> WrappingKey {
        WrappingKey::open(token, Selector::parse(label), method).unwrap()
    }

    /// Stores objects as another program does.
    fn store(&self, token: &str, template: &[Attribute]) {
        let module = Pkcs11::new(module().unwrap()).unwrap();
        let slots = module.get_slots_with_initialized_token().unwrap();
        let slot =
            slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label().trim_end() == token);
        let session = module.open_rw_session(slot.unwrap()).unwrap();
        let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
        session.create_object(template).unwrap();
    }
}

fn data(label: &str, value: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Value(value.to_vec()),
    ]
}

#[test]
fn a_key_opens_what_it_wrapped_by_each_method_and_nothing_else() {
    with_tokens("a_key_opens_what_it_wrapped_by_each_method_and_nothing_else", |bench| {
        let (token, other) = (bench.token("broker"), bench.token("other"));
        token.generate_key("master", &[1]).unwrap();
        token.generate_key("second", &[2]).unwrap();
        other.generate_key("master", &[1]).unwrap();
        let value = [7_u8; 32];
        let auto = bench.key(&token, "master", Method::Auto);
        assert_eq!(auto.method(), Method::AesGcm);
        let foreign = [bench.key(&token, "second", Method::Auto), bench.key(&other, "master", Method::Auto)];
        for (method, form) in [(Method::AesGcm, 1), (Method::AesKeyWrap, 2), (Method::AesCbc, 3)] {
            let key = bench.key(&token, "master", method);
            let wrapped = key.wrap(&value, b"place").unwrap();
            assert_eq!(wrapped[0], form);
            assert_ne!(wrapped, key.wrap(&value, b"place").unwrap());
            assert!(!wrapped.windows(8).any(|bytes| bytes == [7; 8]));
            // Whatever method is chosen now, the form says how it was done.
            assert!(auto.unwrap(&wrapped, b"place").unwrap().equals(&value));
            let refused = |key: &WrappingKey, wrapped: &[u8], associated: &[u8]| {
                matches!(key.unwrap(wrapped, associated), Err(Pkcs11Error::DidNotClose { .. }))
            };
            assert!(refused(&auto, &wrapped, b"elsewhere"), "{method:?}");
            assert!(foreign.iter().all(|key| refused(key, &wrapped, b"place")), "{method:?}");
            for index in 0..wrapped.len() {
                let mut changed = wrapped.clone();
                changed[index] ^= 0x40;
                assert!(refused(&auto, &changed, b"place"), "{method:?}, byte {index}");
                assert!(refused(&auto, &wrapped[..index], b"place"), "{method:?}, cut at {index}");
            }
        }
        assert!(auto.unwrap(&auto.wrap(&[], b"").unwrap(), b"").unwrap().expose().is_empty());
        assert!(matches!(auto.wrap(&[0; 65537], b""), Err(Pkcs11Error::TooLong { .. })));
    });
}

#[test]
fn a_key_that_was_made_never_leaves_its_token_and_is_made_once() {
    with_tokens("a_key_that_was_made_never_leaves_its_token_and_is_made_once", |bench| {
        let token = bench.token("broker");
        token.generate_key("master", &[0x0a, 0x0b]).unwrap();
        assert!(matches!(token.read("master"), Err(Pkcs11Error::Sensitive { .. })));
        for (label, id) in [("master", vec![1]), ("else", vec![0x0a, 0x0b])] {
            assert!(matches!(token.generate_key(label, &id), Err(Pkcs11Error::Exists { .. })));
        }
        assert!(bench.key(&token, "id:0a0b", Method::Auto).wrap(b"x", b"").is_ok());
        let absent = WrappingKey::open(&token, Selector::parse("id:0c"), Method::Auto).err().unwrap();
        assert!(matches!(absent, Pkcs11Error::NoKey { .. }), "{absent}");
        assert!(!token.serial().unwrap().is_empty());
    });
}

#[test]
fn a_token_or_module_that_is_not_there_is_said_with_what_there_is() {
    with_tokens("a_token_or_module_that_is_not_there_is_said_with_what_there_is", |bench| {
        let config = bench.config("absent");
        let refused = Token::open(&config).err().unwrap();
        assert!(matches!(refused, Pkcs11Error::NoToken { .. }));
        assert!(refused.to_string().contains("\"broker\" in slot"), "{refused}");
        let both = TokenConfig { slot: Some(1), ..config.clone() };
        assert!(matches!(Token::open(&both), Err(Pkcs11Error::Selection(_))));
        let none = TokenConfig { token: None, ..config.clone() };
        assert!(matches!(Token::open(&none), Err(Pkcs11Error::Selection(_))));
        let module = bench.folder.join("no.so");
        let refused = Token::open(&TokenConfig { module: module.clone(), ..config.clone() }).err().unwrap();
        assert!(matches!(refused, Pkcs11Error::Module { .. }), "{refused}");
        std::fs::write(&module, b"not a library").unwrap();
        let refused = Token::open(&TokenConfig { module, ..config }).err().unwrap();
        assert!(matches!(refused, Pkcs11Error::Module { .. }), "{refused}");
    });
}

#[test]
fn a_wrong_pin_is_tried_once_until_its_file_changes() {
    with_tokens("a_wrong_pin_is_tried_once_until_its_file_changes", |bench| {
        let config = bench.config("broker");
        for (pin, mode) in [("x", 0o604), ("", 0o600), ("\n", 0o600)] {
            bench.pin_file(pin, mode);
            assert!(matches!(Token::open(&config), Err(Pkcs11Error::PinFile { .. })), "{pin:?}");
        }
        bench.pin_file("wrong pin", 0o600);
        let refused = Token::open(&config).err().unwrap();
        assert!(matches!(refused, Pkcs11Error::PinWrong { .. }), "{refused}");
        assert!(!refused.to_string().contains("wrong pin"));

        // An open token that loses its login, while its file holds a wrong PIN.
        bench.pin_file(PIN, 0o600);
        let token = Token::open(&config).unwrap();
        bench.store("broker", &data("d", b"v"));
        let other = Pkcs11::new(module().unwrap()).unwrap();
        other.finalize().unwrap();
        bench.pin_file("wrong pin", 0o600);
        for _ in 0..20 {
            assert!(matches!(token.read("d"), Err(Pkcs11Error::PinWrong { .. })));
        }
        bench.pin_file(PIN, 0o600);
        assert!(token.read("d").unwrap().unwrap().equals(b"v"));
    });
}

#[test]
fn a_token_that_went_away_costs_one_repetition() {
    with_tokens("a_token_that_went_away_costs_one_repetition", |bench| {
        let token = bench.token("broker");
        token.generate_key("master", &[1]).unwrap();
        let key = bench.key(&token, "master", Method::Auto);
        let wrapped = key.wrap(b"value", b"").unwrap();
        for _ in 0..3 {
            // All sessions of the process end, as when a reader's service is started again.
            Pkcs11::new(module().unwrap()).unwrap().finalize().unwrap();
            assert!(key.unwrap(&wrapped, b"").unwrap().equals(b"value"));
        }
    });
}

#[test]
fn many_threads_share_a_token() {
    with_tokens("many_threads_share_a_token", |bench| {
        let token = bench.token("broker");
        token.generate_key("master", &[1]).unwrap();
        let key = bench.key(&token, "master", Method::Auto);
        std::thread::scope(|scope| {
            for thread in 0..16_u8 {
                let key = key.clone();
                scope.spawn(move || {
                    for round in 0..25_u8 {
                        let wrapped = key.wrap(&[thread, round], b"").unwrap();
                        assert!(key.unwrap(&wrapped, b"").unwrap().equals(&[thread, round]));
                    }
                });
            }
        });
    });
}

#[test]
fn a_source_gives_objects_by_label_and_tells_apart_what_failed() {
    with_tokens("a_source_gives_objects_by_label_and_tells_apart_what_failed", |bench| {
        let token = bench.token("broker");
        bench.store("broker", &data("coffer/default/key/1", b"value"));
        bench.store("broker", &data("default/key/2", b"elsewhere"));
        bench.store("broker", &data("coffer/a/b/twice", b"1"));
        bench.store("broker", &data("coffer/a/b/twice", b"2"));
        bench.store("broker", &data("coffer/a/b/long", &vec![0; (1 << 20) + 1]));
        let mut key = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(true),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::Label(b"coffer/a/b/key".to_vec()),
        ];
        key.push(Attribute::Value(vec![9; 32]));
        bench.store("broker", &key);
        token.generate_key("coffer/a/b/inside", &[5]).unwrap();

        let source = PkcsSource::new("hsm", &token, "coffer/");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let get = |path: &str| runtime.block_on(source.get(path));
        assert!(get("default/key/1").unwrap().unwrap().equals(b"value"));
        assert!(get("a/b/key").unwrap().unwrap().equals(&[9; 32]));
        assert!(get("default/key/2").unwrap().is_none());
        assert!(matches!(get("../default/key/2"), Err(SourceError::Path { .. })));
        for path in ["a/b/twice", "a/b/long", "a/b/inside"] {
            assert!(matches!(get(path), Err(SourceError::Refused { .. })), "{path}");
        }
    });
}

#[test]
fn a_selector_is_a_label_unless_it_is_an_id() {
    assert_eq!(Selector::parse("id:0a0b"), Selector::Id(vec![10, 11]));
    for label in ["master", "id:", "id:xyz", "ID:0a", "0a"] {
        assert_eq!(Selector::parse(label), Selector::Label(label.to_owned()));
    }
}
