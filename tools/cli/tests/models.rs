//! `coffer model`: what is sealed opens to the same files, and only what was signed opens.
#![allow(clippy::unwrap_used)]

mod cli;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cli::{Case, Done};
use serde_json::json;

const URI: &str = "kbs:///default/model-key/test";
const WEIGHTS: usize = 3 << 20;

/// A model with keys, sealed at `sealed`.
struct Sealed {
    case: Case,
    told: serde_json::Value,
}

impl Sealed {
    fn new(arguments: &[&str]) -> Self {
        let case = Case::new();
        let weights: Vec<u8> = (0..WEIGHTS).map(|at| (at * at % 251) as u8).collect();
        case.write("model/weights/model.safetensors", &weights);
        case.write("model/config.json", b"{\"hidden_size\":384}");
        case.write("model/empty", b"");
        let run = case.write("model/bin/run", b"#!/bin/sh\n");
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
        case.write("key", &[7; 32]);
        for name in ["signer", "other"] {
            let (private, public) = (case.path(name), case.path(&format!("{name}.pub")));
            case.run(&["image", "keygen", "--private", &private, "--public", &public]).ends_with(0);
        }
        let done = seal(&case, "sealed", arguments);
        done.ends_with(0);
        let told = done.json();
        Self { case, told }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.case.path("sealed")).join(name)
    }

    fn run(&self, command: &str, signer: &str, more: &[&str]) -> Done {
        let (sealed, signer) = (self.case.path("sealed"), self.case.path(signer));
        let key = self.case.path("key");
        let usual = ["--output", "json", "model", command, &sealed, "--signer", &signer, "--key-file", &key];
        self.case.run(&[&usual[..], more].concat())
    }

    /// Both commands refuse with this code, and nothing is left.
    #[track_caller]
    fn refused(&self, code: &str) {
        let out = self.case.path("refused");
        for done in [self.run("verify", "signer.pub", &[]), self.run("open", "signer.pub", &["--out", &out])]
        {
            done.ends_with(1);
            assert!(done.err.contains(&format!("[{code}]")), "{}", done.err);
        }
        assert!(!Path::new(&out).exists());
        let left = fs::read_dir(Path::new(&out).parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
    }

    /// The blob of a file.
    fn blob(&self, file: &str) -> PathBuf {
        let done = self.run("verify", "signer.pub", &[]);
        done.ends_with(0);
        let files = done.json()["files"].as_array().unwrap().clone();
        let found = files.iter().find(|own| own["path"] == file).unwrap()["digest"].clone();
        self.path("blobs").join(found.as_str().unwrap().strip_prefix("sha256:").unwrap())
    }
}

fn seal(case: &Case, out: &str, arguments: &[&str]) -> Done {
    let (model, out) = (case.path("model"), case.path(out));
    let (key, signer) = (case.path("key"), case.path("signer"));
    let usual = ["--output", "json", "model", "seal", &model, "--out", &out, "--key-uri", URI];
    let keys = ["--key-file", &key, "--sign-key", &signer];
    let keys = if arguments.contains(&"--key-out") { &keys[2..] } else { &keys[..] };
    case.run(&[&usual[..], keys, arguments].concat())
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_model_is_sealed_verified_and_opened_to_the_same_files() {
    for purpose in ["model", "dataset"] {
        let sealed = Sealed::new(&["--for", purpose]);
        let told = &sealed.told;
        assert_eq!((&told["files"], &told["key"]), (&json!(4), &json!(URI)));
        assert_eq!(told["size"], json!(WEIGHTS + 19 + 10));
        let done = sealed.run("verify", "signer.pub", &[]);
        done.ends_with(0);
        assert_eq!(
            (done.json()["statement"].clone(), done.json()["key"].clone()),
            (told["statement"].clone(), json!(URI))
        );
        let paths: Vec<_> =
            done.json()["files"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect();
        assert_eq!(paths, ["bin/run", "config.json", "empty", "weights/model.safetensors"]);
        let out = sealed.case.path("open");
        sealed.run("open", "signer.pub", &["--out", &out]).ends_with(0);
        for path in ["bin/run", "config.json", "empty", "weights/model.safetensors"] {
            let (from, to) = (sealed.case.path(&format!("model/{path}")), format!("{out}/{path}"));
            assert!(fs::read(from).unwrap() == fs::read(&to).unwrap(), "{path}");
            let executable = fs::metadata(&to).unwrap().permissions().mode() & 0o100 != 0;
            assert_eq!(executable, path == "bin/run");
        }
        // What is open is its owner's alone.
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o077, 0);
        sealed.run("open", "signer.pub", &["--out", &out]).ends_with(1);
    }
}

#[test]
fn nothing_readable_is_in_a_sealed_folder() {
    let sealed = Sealed::new(&[]);
    let mut found = vec![sealed.path("sealed-stream.json"), sealed.path("manifest.sealed")];
    found.extend(fs::read_dir(sealed.path("blobs")).unwrap().map(|entry| entry.unwrap().path()));
    assert_eq!(found.len(), 6);
    for file in found {
        let bytes = fs::read(&file).unwrap();
        for word in [&b"hidden_size"[..], b"safetensors", b"config", b"/bin/sh"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word), "{}", file.display());
        }
    }
}

#[test]
fn without_the_key_the_signature_is_verified_and_that_is_said() {
    let sealed = Sealed::new(&[]);
    let (folder, signer) = (sealed.case.path("sealed"), sealed.case.path("signer.pub"));
    let done = sealed.case.run(&["model", "verify", &folder, "--signer", &signer]);
    done.ends_with(0);
    assert!(done.out.contains("not looked at") && done.out.contains(URI), "{}", done.out);
    let done = sealed.case.run(&["model", "verify", &folder, "--signer", &sealed.case.path("other.pub")]);
    done.ends_with(1);
    assert!(done.err.contains("[manifest.signature]"), "{}", done.err);
    let (other, both) = (sealed.case.path("other.pub"), ["model", "verify", &folder, "--signer"]);
    sealed.case.run(&[&both[..], &[&other, "--signer", &signer]].concat()).ends_with(0);
    sealed.case.run(&["model", "verify", &folder]).ends_with(2);
}

#[test]
fn what_was_changed_is_refused_and_nothing_is_left() {
    let sealed = Sealed::new(&[]);
    let weights = sealed.blob("weights/model.safetensors");
    let good = fs::read(&weights).unwrap();
    let check = |code: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        change(&weights, damage);
        sealed.refused(code);
        fs::write(&weights, &good).unwrap();
    };
    check("stream.header", &|bytes| bytes[0] ^= 1);
    check("stream.wrong-key-or-file", &|bytes| bytes[5] ^= 1);
    check("stream.corrupt", &|bytes| bytes[2 << 20] ^= 1);
    check("stream.truncated", &|bytes| bytes.truncate(2 << 20));
    check("stream.truncated", &|bytes| bytes.truncate(0));
    check("stream.extended", &|bytes| bytes.push(0));
    check("stream.corrupt", &|bytes| {
        let (one, two) = bytes.split_at_mut(2 << 20);
        one[1 << 20..].swap_with_slice(&mut two[..1 << 20]);
    });
    let config = sealed.blob("config.json");
    fs::copy(&config, &weights).unwrap();
    sealed.refused("stream.truncated");
    fs::remove_file(&weights).unwrap();
    sealed.refused("model.missing");
    fs::write(&weights, &good).unwrap();
    for (file, code) in [("manifest.sealed", "manifest.digest"), ("sealed-stream.json", "manifest.envelope")]
    {
        let (path, kept) = (sealed.path(file), fs::read(sealed.path(file)).unwrap());
        change(&path, |bytes| bytes[0] ^= 1);
        sealed.refused(code);
        fs::remove_file(&path).unwrap();
        sealed.refused("model.not-sealed");
        fs::write(&path, kept).unwrap();
    }
    // What is beside the listed files does not exist.
    fs::write(sealed.path("blobs/more"), b"more").unwrap();
    sealed.run("verify", "signer.pub", &[]).ends_with(0);
}

#[test]
fn parts_of_two_artifacts_do_not_mix() {
    let sealed = Sealed::new(&[]);
    let config = sealed.blob("config.json");
    seal(&sealed.case, "again", &[]).ends_with(0);
    let again = PathBuf::from(sealed.case.path("again"));
    let kept = fs::read(sealed.path("manifest.sealed")).unwrap();
    fs::copy(again.join("manifest.sealed"), sealed.path("manifest.sealed")).unwrap();
    sealed.refused("manifest.digest");
    fs::write(sealed.path("manifest.sealed"), kept).unwrap();
    // The same file, key and signer, and yet another artifact's.
    for blob in fs::read_dir(again.join("blobs")).unwrap().map(|entry| entry.unwrap().path()) {
        if fs::metadata(&blob).unwrap().len() == fs::metadata(&config).unwrap().len() {
            fs::copy(&blob, &config).unwrap();
            sealed.refused("stream.wrong-key-or-file");
        }
    }
}

#[test]
fn another_signer_or_key_opens_nothing() {
    let sealed = Sealed::new(&[]);
    let done = sealed.run("open", "other.pub", &["--out", &sealed.case.path("out")]);
    done.ends_with(1);
    assert!(done.err.contains("[manifest.signature]"), "{}", done.err);
    sealed.case.write("key", &[8; 32]);
    sealed.refused("stream.wrong-key-or-file");
    sealed.case.write("key", &[8; 31]);
    let done = sealed.run("verify", "signer.pub", &[]);
    done.ends_with(1);
    assert!(done.err.contains("32 bytes; found 31"), "{}", done.err);
}

#[test]
fn a_new_key_goes_into_a_file_and_what_cannot_be_sealed_makes_none() {
    let sealed = Sealed::new(&[]);
    let (case, new) = (&sealed.case, sealed.case.path("new-key"));
    fs::set_permissions(case.path("signer"), fs::Permissions::from_mode(0o644)).unwrap();
    let done = seal(case, "fresh", &["--key-out", &new]);
    done.ends_with(1);
    assert!(done.err.contains("chmod 600") && !Path::new(&new).exists(), "{}", done.err);
    fs::set_permissions(case.path("signer"), fs::Permissions::from_mode(0o600)).unwrap();
    let done = seal(case, "sealed", &["--key-out", &new]);
    done.ends_with(1);
    assert!(done.err.contains("[model.exists]") && !Path::new(&new).exists(), "{}", done.err);
    let link = case.path("model/link");
    std::os::unix::fs::symlink("/", &link).unwrap();
    let done = seal(case, "fresh", &["--key-out", &new]);
    done.ends_with(1);
    assert!(done.err.contains("[model.entry]") && !Path::new(&new).exists(), "{}", done.err);
    fs::remove_file(link).unwrap();
    seal(case, "fresh", &["--key-out", &new]).ends_with(0);
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&new).unwrap().len(), 32);
    let (fresh, signer) = (case.path("fresh"), case.path("signer.pub"));
    case.run(&["model", "verify", &fresh, "--signer", &signer, "--key-file", &new]).ends_with(0);
    let done = case.run(&[
        "model",
        "seal",
        &case.path("model"),
        "--out",
        &case.path("x"),
        "--key-uri",
        "https://a/b/c",
        "--key-file",
        &new,
        "--sign-key",
        &case.path("signer"),
    ]);
    done.ends_with(1);
    assert!(done.err.contains("resource address"), "{}", done.err);
}

#[test]
fn a_model_pack_in_a_layout_is_verified_and_opened_from_there() {
    let sealed = Sealed::new(&[]);
    let case = &sealed.case;
    let layout = format!("oci:{}:v1", case.path("layout"));
    let (model, key, signer) = (case.path("model"), case.path("key"), case.path("signer"));
    let usual = ["--output", "json", "model", "seal", &model, "--to", &layout, "--key-uri", URI];
    let done = case.run(&[&usual[..], &["--key-file", &key, "--sign-key", &signer]].concat());
    done.ends_with(0);
    assert_eq!(done.json()["published"], json!(layout));
    let (public, out) = (case.path("signer.pub"), case.path("opened"));
    let keys = ["--signer", &public, "--key-file", &key];
    case.run(&[&["model", "verify", &layout][..], &keys].concat()).ends_with(0);
    case.run(&[&["model", "open", &layout, "--out", &out, "--resume"][..], &keys].concat()).ends_with(0);
    let path = "weights/model.safetensors";
    let opened = fs::read(Path::new(&out).join(path)).unwrap();
    assert!(opened == fs::read(Path::new(&model).join(path)).unwrap());
    let left: Vec<_> = fs::read_dir(Path::new(&out).parent().unwrap()).unwrap().collect();
    assert!(left.into_iter().all(|entry| !entry.unwrap().file_name().to_string_lossy().starts_with('.')));
}
