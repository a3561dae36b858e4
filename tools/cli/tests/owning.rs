//! The command against a broker that it started itself: tenants, terms, roles, revocations.
//!
//! The broker is a child on a free port of the loopback interface, with a home of its own. Left out: guests, which
//! `lab/e2e` runs, and what the broker decides, which `server/http` tests.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod cli;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use coffer_core_protocol::jws::SigningKey;
use serde_json::{Value, json};

use crate::cli::{Case, Done};

/// A broker that ends with the test.
struct Serving {
    child: Child,
    case: Case,
    url: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn start() -> Self {
        let case = Case::new();
        let mut child = Command::new(env!("CARGO_BIN_EXE_coffer"))
            .args(["broker", "--listen", "127.0.0.1:0"])
            .env("COFFER_HOME", case.path("home"))
            .env("COFFER_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, case, url }
    }

    /// As the first admin: operator, and owner of the tenant `default`.
    fn run(&self, arguments: &[&str]) -> Done {
        self.case.run(&[&["--broker", self.url.as_str()], arguments].concat())
    }

    /// As an admin of the tenant `team-a`.
    fn as_admin(&self, key: &str, arguments: &[&str]) -> Done {
        self.run(&[&["--admin-key", key, "--tenant", "team-a", "--output", "json"], arguments].concat())
    }

    /// A new admin's private key, and the file with its public part.
    fn keys(&self, name: &str) -> (String, String) {
        let private = self.case.path(name);
        let done = self.run(&["admin", "keygen", "--out", &private]);
        done.ends_with(0);
        (private, self.case.write(&format!("{name}.pub"), done.out.as_bytes()))
    }

    #[track_caller]
    fn json(&self, key: &str, arguments: &[&str]) -> Value {
        let done = self.as_admin(key, arguments);
        done.ends_with(0);
        done.json()
    }

    #[track_caller]
    fn refused(&self, key: &str, arguments: &[&str], code: &str) {
        let done = self.as_admin(key, arguments);
        done.ends_with(1);
        assert!(done.err.contains(code) && done.out.is_empty(), "{}", done.err);
    }
}

const URI: &str = "kbs:///default/database/password";

#[test]
fn owners_and_their_admins_do_in_their_tenant_what_their_roles_allow_and_nobody_else_does() {
    let serving = Serving::start();
    let (owner, owner_public) = serving.keys("owner.pem");
    let made =
        serving.run(&["tenant", "create", "team-a", "--owner-key", &owner_public, "--quota", "resources=2"]);
    made.ends_with(0);
    let tenants = serving.run(&["--output", "json", "tenant", "list"]).json();
    let own = tenants.as_array().unwrap().iter().find(|one| one["name"] == "team-a").unwrap().clone();
    assert_eq!(own["quotas"], json!({"resources": 2}));

    // Terms and versions.
    let value = serving.case.write("value", b"hunter2");
    let put = ["secret", "put", URI, "--file", &value];
    assert_eq!(serving.json(&owner, &[&put[..], &["--once", "--expires-in", "1d"]].concat())["version"], 1);
    serving.refused(&owner, &[&put[..], &["--if-version", "7"]].concat(), "resource.conflict");
    assert_eq!(serving.json(&owner, &[&put[..], &["--if-version", "1"]].concat())["version"], 2);
    let generated = serving.json(&owner, &["secret", "generate", "kbs:///default/key/1", "--bytes", "64"]);
    assert_eq!(generated["version"], 1);
    serving.refused(&owner, &["secret", "generate", "kbs:///default/key/2"], "quota");
    let list = serving.json(&owner, &["secret", "list"]);
    assert_eq!(list[0]["path"], "default/database/password");
    assert_eq!((&list[1]["origin"], &list[1]["bytes"]), (&json!("generated"), &json!(64)));
    let versions = &serving.json(&owner, &["secret", "show", URI])["versions"];
    assert_eq!((&versions[0]["release_limit"], &versions[1]["version"]), (&json!(1), &json!(2)));
    assert!(versions[0]["expires_at"].is_string() && versions[1].get("expires_at").is_none(), "{versions}");

    // Another tenant's admins and the operator see nothing of it.
    assert_eq!(serving.run(&["--output", "json", "secret", "list"]).json(), json!([]));
    let operator = serving.case.path("home/broker/admin.key");
    serving.refused(&operator, &["secret", "list"], "admin.");
    serving.refused(&owner, &["tenant", "list"], "admin.");

    // Roles.
    let (auditor, auditor_public) = serving.keys("auditor.pem");
    let add =
        ["admin", "add", "ana", "--public-key", &auditor_public, "--role", "auditor", "--expires-in", "1y"];
    serving.json(&owner, &add);
    let who = serving.json(&auditor, &["admin", "whoami"]);
    assert_eq!(
        (&who["subject"], &who["roles"], &who["tenant"]),
        (&json!("ana"), &json!(["auditor"]), &json!("team-a"))
    );
    serving.json(&auditor, &["secret", "list"]);
    serving.refused(&auditor, &put, "admin.forbidden");
    serving.refused(&auditor, &["secret", "revoke", URI, "--reason", "x"], "admin.forbidden");
    serving.refused(&auditor, &["revoke", "chip", "42", "--reason", "x"], "admin.forbidden");
    serving.refused(&owner, &["admin", "rm", "first-admin"], "resource.conflict");
    let names = serving.json(&auditor, &["admin", "list"]);
    assert_eq!(names.as_array().unwrap().len(), 2);

    // Revocations.
    serving.json(&owner, &["secret", "revoke", URI, "--version", "1", "--reason", "leaked"]);
    let first = serving.json(&owner, &["secret", "show", URI])["versions"][0].clone();
    assert_eq!((&first["state"], &first["reason"]), (&json!("revoked"), &json!("leaked")));
    serving.json(&owner, &["secret", "restore", URI]);
    let id = serving.json(&owner, &["revoke", "chip", "00FF", "--reason", "returned"])["id"].clone();
    let revoked = serving.json(&auditor, &["revoke", "list"]);
    assert_eq!((&revoked[0]["id"], &revoked[0]["value"]), (&id, &json!("00ff")));
    serving.json(&owner, &["revoke", "undo", id.as_str().unwrap()]);
    assert_eq!(serving.json(&auditor, &["revoke", "list"]), json!([]));
}

#[test]
fn an_operator_backs_up_and_an_owner_sets_policies_signers_issuers_and_keys() {
    let serving = Serving::start();
    let own = |arguments: &[&str]| {
        let done = serving.run(&[&["--output", "json"], arguments].concat());
        done.ends_with(0);
        done.json()
    };
    let rego = serving.case.write("none.rego", b"package policy\nimport rego.v1\n\ndefault allow := false\n");
    own(&["policy", "set", "--name", "payments", "--path", "payments/**", "--tee", "snp", &rego]);
    let unscoped = serving.run(&["policy", "set", "--name", "nothing", &rego]);
    unscoped.ends_with(1);
    let policies = own(&["policy", "list"]);
    assert_eq!(policies["policies"]["payments"]["paths"], json!(["payments/**"]));
    assert_eq!(policies["resource"]["preset"], "default");
    let shown = serving.run(&["policy", "show", "--name", "payments"]);
    assert!(shown.out.contains("payments/** for snp"), "{}", shown.out);
    own(&["policy", "rm", "--name", "payments"]);
    serving.run(&["policy", "rm", "--name", "resource"]).ends_with(1);

    let signer = serving.case.path("signer.pem");
    let jwk = serving.run(&["secret", "keygen", "--out", &signer]);
    let public = serving.case.write("signer.jwk", jwk.out.as_bytes());
    serving.run(&["ref", "signer", "add", "builder", "--public-key", &signer]).ends_with(1);
    own(&["ref", "signer", "add", "builder", "--public-key", &public]);
    own(&["ref", "value", "set", "svn", "3"]);
    own(&["ref", "value", "revoke", "svn", "--reason", "old"]);
    own(&["ref", "value", "expire", "svn", "--at", "2099-01-01T00:00:00Z"]);
    let named = own(&["ref", "value", "list"]);
    let from = &named["provenance"]["svn"];
    assert!(from["revoked_at"].is_string() && from["reason"] == "old", "an end undid a revocation: {named}");
    own(&["ref", "signer", "require", "on"]);
    serving.run(&["ref", "value", "set", "other", "3"]).ends_with(1);
    assert_eq!(own(&["ref", "signer", "list"])["required"], true);

    let issuers = "[[issuers]]\nname = \"company\"\nissuer = \"https://login.example\"\naudiences = [\"coffer\"]\n\
                   roles = [{ claim = \"groups\", value = \"sec\", roles = [\"security\"] }]\n";
    let file = serving.case.write("issuers.toml", issuers.as_bytes());
    own(&["admin", "issuer", "set", &file]);
    assert_eq!(own(&["admin", "issuer", "list"])["issuers"][0]["name"], "company");
    let listed = serving.run(&["admin", "issuer", "list"]);
    assert!(listed.out.contains("groups=sec: security"), "{}", listed.out);
    own(&["admin", "rotate-token-key"]);
    assert!(own(&["admin", "rotate-data-key"])["epoch"].as_u64() > Some(1));

    let status = own(&["cluster", "status"]);
    assert_eq!(status["store"]["reached"], true);
    assert!(own(&["cluster", "data-keys"])["rows_left"].is_u64());
    assert!(serving.run(&["cluster", "data-keys"]).out.contains("are sealed under"));
    let backup = serving.case.path("backup.coffer");
    let length = own(&["cluster", "backup", "--out", &backup])["bytes"].as_u64();
    assert_eq!(length, Some(std::fs::metadata(&backup).unwrap().len()));
    assert!(!std::path::Path::new(&format!("{backup}.partial")).exists());
    serving.run(&["cluster", "backup", "--out", &backup]).ends_with(1);
    serving.run(&["tenant", "rm", "default", "--yes"]).ends_with(1);
    serving.run(&["tenant", "rm", "default"]).ends_with(1);
}

#[test]
fn operators_come_and_go_and_an_issuer_s_token_is_an_admin() {
    let serving = Serving::start();
    let (ben, ben_public) = serving.keys("ben.pem");
    serving.run(&["operator", "add", "ben", "--public-key", &ben_public, "--expires-in", "1y"]).ends_with(0);
    let as_ben =
        |arguments: &[&str]| serving.run(&[&["--admin-key", &ben, "--output", "json"], arguments].concat());
    let listed = as_ben(&["operator", "list"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names.contains(&"ben")), (2, true));
    as_ben(&["secret", "list"]).ends_with(1);
    serving.run(&["operator", "rm", "ben"]).ends_with(0);
    as_ben(&["operator", "list"]).ends_with(1);
    let first = names.into_iter().find(|name| *name != "ben").unwrap();
    serving.run(&["operator", "rm", first]).ends_with(1);

    // An OpenID issuer whose keys stand in the file.
    let key = SigningKey::generate().unwrap();
    let mut public = serde_json::to_value(key.verifying_key()).unwrap();
    public["kid"] = json!("2027-01");
    let keys = json!({"inline": json!({"keys": [public]}).to_string()});
    let header = json!({"typ": "JWT", "kid": "2027-01"}).as_object().unwrap().clone();
    let issuer = json!({"issuers": [{
        "name": "company", "issuer": "https://login.example", "audiences": ["coffer"],
        "roles": [{"claim": "groups", "value": "audit", "roles": ["auditor"]}],
        "keys": keys,
    }]});
    let file = serving.case.write("issuers.json", issuer.to_string().as_bytes());
    serving.run(&["admin", "issuer", "set", &file]).ends_with(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = |audience: &str, groups: &str| {
        let claims = json!({
            "iss": "https://login.example", "aud": audience, "sub": "eve", "iat": now, "exp": now + 600, "groups": [groups],
        });
        serving
            .case
            .write("token", key.sign_compact(&header, claims.to_string().as_bytes()).unwrap().as_bytes())
    };
    let as_eve = |file: &str, arguments: &[&str]| {
        serving.run(&[&["--token-file", file, "--output", "json"], arguments].concat())
    };
    let known = as_eve(&token("coffer", "audit"), &["admin", "whoami"]);
    known.ends_with(0);
    let who = known.json();
    assert_eq!(who["roles"], json!(["auditor"]), "{who}");
    as_eve(&token("coffer", "audit"), &["secret", "list"]).ends_with(0);
    as_eve(&token("coffer", "audit"), &["secret", "generate", "kbs:///default/key/1"]).ends_with(1);
    as_eve(&token("coffer", "others"), &["secret", "list"]).ends_with(1);
    as_eve(&token("elsewhere", "audit"), &["secret", "list"]).ends_with(1);

    // Another verifier's tokens, and a document that is none.
    let verifier = json!({"issuers": [{
        "name": "elsewhere", "issuer": "https://verifier.example",
        "keys": keys,
    }]});
    let file = serving.case.write("verifiers.json", verifier.to_string().as_bytes());
    serving.run(&["admin", "token-issuer", "set", &file]).ends_with(0);
    let listed = serving.run(&["--output", "json", "admin", "token-issuer", "list"]).json();
    assert_eq!(listed["issuers"][0]["name"], "elsewhere");
    let wrong = serving.case.write("wrong.json", b"{\"issuers\": [{\"name\": 1}]}");
    serving.run(&["admin", "token-issuer", "set", &wrong]).ends_with(1);
}

#[test]
fn a_sealed_model_s_key_goes_to_the_broker_and_is_not_replaced_unasked() {
    let serving = Serving::start();
    let (private, public) = (serving.case.path("signer"), serving.case.path("signer.pub"));
    serving.run(&["image", "keygen", "--private", &private, "--public", &public]).ends_with(0);
    serving.case.write("model/config.json", b"{}");
    let (model, uri) = (serving.case.path("model"), "kbs:///default/model-key/one");
    let seal = |out: &str, more: &[&str]| {
        let out = serving.case.path(out);
        let usual =
            ["model", "seal", model.as_str(), "--out", &out, "--key-uri", uri, "--sign-key", &private];
        serving.run(&[&usual[..], more].concat())
    };
    seal("first", &[]).ends_with(0);
    let versions = || {
        let shown = serving.run(&["--output", "json", "secret", "show", uri]);
        shown.ends_with(0);
        shown.json()["versions"].clone()
    };
    assert_eq!((versions().as_array().unwrap().len(), &versions()[0]["bytes"]), (1, &json!(32)));
    let again = seal("second", &[]);
    again.ends_with(1);
    assert!(again.err.contains("--replace-key"), "{}", again.err);
    assert_eq!(versions().as_array().unwrap().len(), 1);
    assert!(!std::path::Path::new(&serving.case.path("second")).exists());
    seal("third", &["--replace-key"]).ends_with(0);
    assert_eq!(versions().as_array().unwrap().len(), 2);
    serving.run(&["model", "verify", &serving.case.path("third"), "--signer", &public]).ends_with(0);
    // A file that is no key, however long.
    let long = serving.case.write("long", &[0; 5000]);
    let refused = seal("fourth", &["--key-file", &long]);
    refused.ends_with(1);
    assert!(refused.err.contains("longer than any key"), "{}", refused.err);
}

#[test]
fn a_key_and_a_token_together_are_refused_before_anything_is_sent() {
    let case = Case::new();
    let file = case.write("x", b"x");
    let broker = ["--broker", "https://127.0.0.1:1", "--broker-ca", &file];
    let done =
        case.run(&[&broker[..], &["--token-file", &file, "--admin-key", &file, "secret", "list"]].concat());
    done.ends_with(1);
    assert!(done.err.contains("give one of"), "{}", done.err);
    case.run(&["--tenant", "Not a tenant", "secret", "list"]).ends_with(2);
}
