//! Folders, and what is left of interrupted openings.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

struct Case {
    folder: tempfile::TempDir,
    sealed: Sealed,
    model: Model,
}

fn case(sealed: Sealed) -> Case {
    let folder = tempfile::tempdir().unwrap();
    sealed.write(&folder.path().join("sealed"));
    let model = sealed.open(&access(), folder.path().join("sealed").to_str().unwrap()).unwrap();
    Case { folder, sealed, model }
}

impl Case {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn leftover(&self) -> std::path::PathBuf {
        self.path(self.names().iter().find(|name| name.starts_with(".coffer-opening-")).unwrap())
    }
}

#[test]
fn a_folder_opens_to_the_same_files() {
    let case = case(model());
    check(&case.model).unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let to = Destination::New(case.path("out"));
    case.model.unpack(&to, Partial::Remove, &Job { progress: &progress, stop: &stop }).unwrap();
    case.sealed.compare(&case.path("out"));
    let seen = seen.into_inner().unwrap();
    let all = (9 << 20) + 70_000;
    assert_eq!((seen[0], seen.last()), ((0, all), Some(&(all, all))));
    assert!(seen.windows(2).all(|two| two[0].0 <= two[1].0));
    let mode = |name: &str| fs::metadata(case.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("out"), mode("out/b.sh") & 0o100, mode("out/a/weights") & 0o111), (0o700, 0o100, 0));
    assert_eq!(case.names(), ["out", "sealed"]);
    assert_eq!(unpack(&case.model, &case.path("out"), Partial::Remove).unwrap_err().code(), "model.exists");
}

#[test]
fn an_interrupted_opening_leaves_nothing_unless_it_is_to_be_kept() {
    let case = case(model());
    interrupted(&case.model, &case.path("out"), Partial::Remove, 5 << 20);
    assert_eq!(case.names(), ["sealed"]);
    interrupted(&case.model, &case.path("out"), Partial::Keep, 5 << 20);
    let left = case.leftover();
    assert_eq!(fs::metadata(&left).unwrap().permissions().mode() & 0o777, 0o700);
    // The next run takes it up, whatever it says, or removes it.
    unpack(&case.model, &case.path("out"), Partial::Remove).unwrap();
    case.sealed.compare(&case.path("out"));
    assert_eq!(case.names(), ["out", "sealed"]);
}

#[test]
fn kept_plaintext_that_was_changed_is_found_and_opened_anew() {
    let case = case(model());
    interrupted(&case.model, &case.path("out"), Partial::Keep, 5 << 20);
    let kept = case.leftover().join("files/a/weights");
    let mut bytes = fs::read(&kept).unwrap();
    bytes[1000] ^= 1;
    fs::write(&kept, bytes).unwrap();
    unpack(&case.model, &case.path("out"), Partial::Keep).unwrap();
    case.sealed.compare(&case.path("out"));
}

#[test]
fn leftovers_of_another_model_of_others_and_of_living_runs_are_not_taken_up() {
    let case = case(model());
    let other = super::small();
    other.write(&case.path("other"));
    let other_model = other.open(&access(), case.path("other").to_str().unwrap()).unwrap();
    interrupted(&other_model, &case.path("out"), Partial::Keep, 1);
    unpack(&case.model, &case.path("out"), Partial::Keep).unwrap();
    case.sealed.compare(&case.path("out"));
    assert!(!case.path("out/config").exists());
    fs::remove_dir_all(case.path("out")).unwrap();
    interrupted(&case.model, &case.path("out"), Partial::Keep, 1);
    let left = case.leftover();
    let living = fs::OpenOptions::new().write(true).open(left.join("journal")).unwrap();
    living.lock().unwrap();
    assert_eq!(unpack(&case.model, &case.path("out"), Partial::Keep).unwrap_err().code(), "model.busy");
    drop(living);
    fs::set_permissions(&left, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = unpack(&case.model, &case.path("out"), Partial::Keep).unwrap_err();
    assert!(matches!(refused, ModelError::Leftover { .. }), "{refused}");
}

#[test]
fn a_volume_gets_the_models_files_and_holds_no_others() {
    let case = case(super::small());
    let volume = case.path("volume");
    fs::create_dir(&volume).unwrap();
    let into = Destination::Into(volume.clone());
    let run = || with_job(|job| case.model.unpack(&into, Partial::Remove, job));
    run().unwrap();
    // Again, as a container that is started again does.
    fs::write(volume.join("config"), b"changed meanwhile").unwrap();
    fs::write(volume.join("a/planted"), b"").unwrap();
    run().unwrap();
    case.sealed.compare(&volume);
    assert!(!volume.join("a/planted").exists());
    fs::write(volume.join("planted.py"), b"").unwrap();
    let refused = run().unwrap_err();
    assert_eq!(refused.code(), "model.foreign");
    assert!(refused.to_string().contains("planted.py"), "{refused}");
    case.sealed.compare(&volume);
}

#[test]
fn damage_is_refused_by_its_name_and_nothing_is_left() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("stream.corrupt", |bytes| bytes[3 * 4096 + 7] ^= 1),
        ("stream.wrong-key-or-file", |bytes| bytes[60] ^= 1),
        ("stream.truncated", |bytes| bytes.truncate(20_000)),
        ("stream.extended", |bytes| bytes.push(0)),
        ("stream.header", |bytes| bytes[0] = 41),
    ];
    for (code, damage) in damages {
        let case = case(super::small());
        let blob = case.path("sealed").join(case.sealed.stream(&case.model, "a/weights"));
        let mut bytes = fs::read(&blob).unwrap();
        damage(&mut bytes);
        fs::write(&blob, bytes).unwrap();
        assert_eq!(check(&case.model).unwrap_err().code(), code);
        for partial in [Partial::Remove, Partial::Keep] {
            let refused = unpack(&case.model, &case.path("out"), partial).unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
            assert_eq!(case.names(), ["sealed"]);
        }
        fs::remove_file(&blob).unwrap();
        assert_eq!(check(&case.model).unwrap_err().code(), "model.missing");
    }
    let (case, other) = (case(super::small()), super::small());
    fs::write(case.path("sealed").join(ENVELOPE), &other.objects[ENVELOPE]).unwrap();
    let place = case.path("sealed").display().to_string();
    let refuse = |case: &Case| case.sealed.open(&access(), &place).err().unwrap();
    assert_eq!(refuse(&case).code(), "manifest.signature");
    fs::write(case.path("sealed").join(ENVELOPE), &case.sealed.objects[ENVELOPE]).unwrap();
    fs::write(case.path("sealed").join(MANIFEST), &other.objects[MANIFEST]).unwrap();
    assert_eq!(refuse(&case).code(), "manifest.digest");
    fs::remove_file(case.path("sealed").join(MANIFEST)).unwrap();
    assert_eq!(refuse(&case).code(), "model.not-sealed");
}

#[test]
fn readers_give_what_was_sealed_from_anywhere_and_by_several_threads() {
    let case = case(model());
    let content = &case.sealed.plain["a/weights"];
    let reader = case.model.reader("a/weights").unwrap();
    for (offset, length) in [(0, content.len()), (1, 3 << 20), (5 << 20, 70_000), (content.len() - 9, 100)] {
        for threads in 1..4 {
            let mut buffer = vec![0; length];
            let read = fill_parallel(&reader, &mut buffer, offset as u64, threads).unwrap();
            let end = (offset + length).min(content.len());
            assert_eq!(read, end - offset);
            assert!(buffer[..read] == content[offset..end], "{offset} {length} {threads}");
        }
    }
    let mut seeking = SeekReader::from(reader);
    seeking.seek(SeekFrom::End(-1000)).unwrap();
    let mut end = Vec::new();
    seeking.read_to_end(&mut end).unwrap();
    assert!(end == content[content.len() - 1000..]);
    let missing = case.model.reader("a").err().unwrap();
    assert_eq!(missing.code(), "manifest.not-listed");
}

#[test]
fn a_layout_opens_by_its_tag_and_what_is_no_model_is_refused() {
    let sealed = super::small();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |kind: &str| {
        let pack = server::model_pack(&sealed, kind);
        for bytes in sealed.objects.values().chain([&pack]) {
            let digest = coffer_core_digest::Digest::sha256(bytes);
            let path = root.join("blobs/sha256").join(digest.hex());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let digest = coffer_core_digest::Digest::sha256(&pack);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": coffer_core_oci::media::OCI_MANIFEST, "digest": digest, "size": pack.len(),
            "annotations": {"org.opencontainers.image.ref.name": "v1"}}]});
        fs::write(root.join("index.json"), index.to_string()).unwrap();
    };
    write(MODEL_ARTIFACT);
    for place in [format!("oci:{}", root.display()), format!("cc+oci:{}:v1", root.display())] {
        check(&sealed.open(&access(), &place).unwrap()).unwrap();
    }
    let refuse = |place: String| sealed.open(&access(), &place).err().unwrap().code();
    assert_eq!(refuse(format!("oci:{}:v2", root.display())), "source.missing");
    write("application/vnd.other");
    assert_eq!(refuse(format!("oci:{}:v1", root.display())), "source.document");
}
