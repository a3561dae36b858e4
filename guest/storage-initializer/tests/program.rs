//! The built program against the guest's local API and sources on loopback: exit status, last line of the log, files.
#![allow(clippy::unwrap_used)]

mod peers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use peers::{Sealed, Server};
use serde_json::{Value, json};

const KEY_PATH: &str = "/cdh/resource/default/model-key/1";
const POLICY_PATH: &str = "/cdh/resource/default/model-policy/models";

/// A pod: the local API, a web server that is a bucket too, and a folder for models.
struct Pod {
    api: Server,
    web: Server,
    folder: tempfile::TempDir,
}

struct Done {
    code: Option<i32>,
    /// What Kubernetes shows of a container that failed.
    last: String,
    out: String,
}

impl Pod {
    /// `policy` gets the web server's address.
    fn new(sealed: &Sealed, policy: impl FnOnce(&str) -> Value) -> Self {
        let mut objects = BTreeMap::new();
        for (name, bytes) in &sealed.objects {
            objects.insert(format!("/m/{name}"), bytes.clone());
            objects.insert(format!("/bucket/models/m/{name}"), bytes.clone());
        }
        let web = Server::start(objects);
        let resources = BTreeMap::from([
            (KEY_PATH.to_owned(), sealed.key.to_vec()),
            (POLICY_PATH.to_owned(), policy(&web.address).to_string().into_bytes()),
        ]);
        Self { api: Server::start(resources), web, folder: tempfile::tempdir().unwrap() }
    }

    fn usual(sealed: &Sealed) -> Self {
        Self::new(sealed, |address| {
            json!({"version": 1, "models": [
                {"source": format!("http://{address}/m"), "signers": [sealed.signer]},
                {"source": "s3://bucket/models/m", "signers": [sealed.signer]},
            ]})
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-storage-initializer"));
        command.args(arguments).env_clear().env("CDH_ADDR", format!("http://{}", self.api.address));
        command.env("AWS_ENDPOINT_URL", format!("http://{}", self.web.address));
        let done = command.envs(variables.iter().copied()).output().unwrap();
        let log = String::from_utf8(done.stderr).unwrap();
        let last = log.lines().last().unwrap_or_default().to_owned();
        Done { code: done.status.code(), last, out: String::from_utf8(done.stdout).unwrap() }
    }

    /// Fetches from `source`, or the web server.
    fn fetch(&self, source: Option<&str>, to: &Path, variables: &[(&str, &str)]) -> Done {
        let web = format!("cc+http://{}/m", self.web.address);
        self.run(&[source.unwrap_or(&web), to.to_str().unwrap()], variables)
    }
}

#[track_caller]
fn refused(done: &Done, code: &str) {
    assert_eq!(done.code, Some(1), "{}", done.last);
    assert!(done.last.starts_with("coffer-storage-initializer: "), "{}", done.last);
    assert!(done.last.ends_with(&format!("[{code}]")), "{}", done.last);
    assert_eq!(done.out, "");
}

#[test]
fn models_from_the_web_and_from_a_bucket_are_in_their_places() {
    let sealed = Sealed::new(&[("config.json", 300), ("weights/model.bin", 200_000)]);
    let pod = Pod::usual(&sealed);
    let (one, two) = (pod.path("one"), pod.path("two"));
    let web = format!("cc+http://{}/m", pod.web.address);
    let done = pod.run(
        &[&web, one.to_str().unwrap(), "cc+s3://bucket/models/m", two.to_str().unwrap()],
        &[("AWS_ACCESS_KEY_ID", "reader"), ("AWS_SECRET_ACCESS_KEY", "secret")],
    );
    assert_eq!(
        (done.code, done.out.trim()),
        (Some(0), "ready: 2 models are in their places"),
        "{}",
        done.last
    );
    for place in [&one, &two] {
        for (path, content) in &sealed.plain {
            assert!(fs::read(place.join(path)).unwrap() == *content, "{path}");
        }
    }
    let seen = pod.web.seen();
    assert!(
        seen.iter().any(|request| request.contains("Credential=reader/")),
        "the bucket was asked by signature"
    );
    // The same again, as after a restart of the pod: what is there is the model's.
    assert_eq!(pod.fetch(None, &one, &[]).code, Some(0));
}

#[test]
fn what_the_policy_does_not_allow_is_refused() {
    let (sealed, other) = (Sealed::new(&[("a", 9000)]), Sealed::new(&[("a", 9000)]));
    let pod = Pod::usual(&sealed);
    let to = pod.path("models");
    refused(&pod.fetch(Some("s3://bucket/other"), &to, &[]), "kserve.not-allowed");
    let foreign = Pod::new(
        &sealed,
        |address| json!({"version": 1, "models": [{"source": format!("http://{address}/m"), "signers": [other.signer]}]}),
    );
    refused(&foreign.fetch(None, &to, &[]), "manifest.signature");
    let pinned = Pod::new(&sealed, |address| {
        let statement = format!("sha256:{}", "0".repeat(64));
        json!({"version": 1, "models": [
            {"source": format!("http://{address}/m"), "signers": [sealed.signer], "statement": statement}]})
    });
    refused(&pinned.fetch(None, &to, &[]), "kserve.pinned");
    let elsewhere = [("COFFER_MODEL_POLICY", "kbs:///default/model-policy/other")];
    refused(&pod.fetch(None, &to, &elsewhere), "kserve.resource");
    refused(&pod.fetch(None, &to, &[("COFFER_MODEL_POLICY", "nothing")]), "kserve.policy");
    let broken = Pod::new(&sealed, |_| json!({"version": 2, "models": []}));
    refused(&broken.fetch(None, &to, &[]), "kserve.policy");
    assert!(!to.exists(), "nothing was left");
}

#[test]
fn what_is_wrong_with_the_call_or_the_source_is_told_in_the_last_line() {
    let mut sealed = Sealed::new(&[("a", 200_000)]);
    let pod = Pod::usual(&sealed);
    let to = pod.path("models");
    refused(&pod.run(&[], &[]), "kserve.arguments");
    refused(&pod.run(&["http://x/m"], &[]), "kserve.arguments");
    // The key goes over loopback only, and through no proxy of the cluster's.
    refused(&pod.fetch(None, &to, &[("CDH_ADDR", "http://192.0.2.1:8006")]), "source.client");
    let proxy = [
        ("http_proxy", "http://127.0.0.1:9"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("no_proxy", pod.web.host()),
    ];
    assert_eq!(pod.fetch(None, &to, &proxy).code, Some(0));
    fs::write(to.join("foreign"), b"x").unwrap();
    refused(&pod.fetch(None, &to, &[]), "model.foreign");
    let blob = sealed.objects.keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
    sealed.objects.get_mut(&blob).unwrap()[100_000] ^= 1;
    let changed = Pod::usual(&sealed);
    refused(&changed.fetch(None, &changed.path("models"), &[]), "stream.corrupt");
    sealed.objects.remove(&blob);
    let missing = Pod::usual(&sealed);
    refused(&missing.fetch(None, &missing.path("models"), &[]), "model.missing");
    sealed.objects.clear();
    let empty = Pod::usual(&sealed);
    refused(&empty.fetch(None, &empty.path("models"), &[]), "model.not-sealed");
}
