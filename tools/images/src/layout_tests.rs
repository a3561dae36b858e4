//! Layouts change atomically, heal wrong blobs, and say what is wrong with them.

use std::process::Command;

use super::*;

fn layout() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    (directory, layout)
}

#[test]
fn blob_reads_back_and_a_tag_moves() {
    let (_directory, layout) = layout();
    let (one, two) =
        (layout.put(media::OCI_MANIFEST, b"one").unwrap(), layout.put(media::OCI_MANIFEST, b"two").unwrap());
    layout.tag(&one, "v1").unwrap();
    layout.tag(&two, "v2").unwrap();
    assert!(matches!(layout.find(None), Err(ImageError::NotFound { .. })));
    layout.tag(&two, "v1").unwrap();
    assert_eq!(layout.find(Some("v1")).unwrap().digest, two.digest);
    assert_eq!(layout.find(None).unwrap().digest, two.digest);
    assert_eq!(layout.document(&one.digest).unwrap(), b"one");
    let refusal = layout.find(Some("v3")).unwrap_err().to_string();
    assert!(refusal.contains("there are: v2, v1"), "{refusal}");
}

#[test]
fn what_other_tools_wrote_in_the_index_stays() {
    let (directory, layout) = layout();
    let digest = Digest::sha256(b"");
    let text = format!(
        r#"{{"schemaVersion":2,"x-own":1,"manifests":[{{"mediaType":"m","digest":"{digest}","size":0,"urls":["u"]}}]}}"#
    );
    fs::write(directory.path().join("index.json"), text).unwrap();
    let blob = layout.put(media::OCI_MANIFEST, b"x").unwrap();
    layout.tag(&blob, "new").unwrap();
    let index: Value =
        serde_json::from_slice(&fs::read(directory.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["x-own"], 1);
    assert_eq!(index["manifests"][0]["urls"][0], "u");
    assert_eq!(index["manifests"][1]["digest"], blob.digest.to_string());
}

#[test]
fn blob_with_wrong_content_is_found_out_and_replaced() {
    let (_directory, layout) = layout();
    let blob = layout.put("t", b"right").unwrap();
    fs::write(layout.blob_path(&blob.digest), b"wrong").unwrap();
    assert!(!layout.has(&blob).unwrap());
    assert!(matches!(layout.document(&blob.digest), Err(ImageError::Digest { .. })));
    layout.put("t", b"right").unwrap();
    assert!(layout.has(&blob).unwrap());
}

#[test]
fn unfinished_or_refused_blob_leaves_nothing() {
    let (directory, layout) = layout();
    let mut writer = layout.writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    let mut writer = layout.writer().unwrap();
    writer.write_all(b"other").unwrap();
    assert!(matches!(writer.commit(Some(&Digest::sha256(b"x"))), Err(ImageError::Digest { .. })));
    assert_eq!(fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(directory.path().join(WORK)).unwrap().count(), 1, "only the lock");
}

#[test]
fn leftovers_of_a_killed_program_are_swept_and_those_of_a_living_one_stay() {
    let (directory, layout) = layout();
    let dead = directory.path().join(WORK).join("part-dead");
    fs::write(&dead, b"x").unwrap();
    let living = layout.writer().unwrap();
    Layout::create(directory.path()).unwrap();
    assert!(!dead.exists());
    assert!(living.file.path().exists());
    living.commit(None).unwrap();
}

#[test]
fn writers_at_the_same_time_lose_no_tag() {
    let (_directory, layout) = layout();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let layout = &layout;
            scope.spawn(move || {
                for i in 0..5 {
                    let tag = format!("t{thread}-{i}");
                    let blob = layout.put(media::OCI_MANIFEST, tag.as_bytes()).unwrap();
                    layout.tag(&blob, &tag).unwrap();
                }
            });
        }
    });
    assert_eq!(layout.tags().unwrap().len(), 40);
}

#[test]
fn directory_that_is_no_layout_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Layout::open(directory.path()), Err(ImageError::Layout { .. })));
    fs::write(directory.path().join("letter.txt"), b"mine").unwrap();
    assert!(matches!(Layout::create(directory.path()), Err(ImageError::Layout { .. })));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    fs::write(directory.path().join("oci-layout"), br#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let refusal = Layout::open(directory.path()).unwrap_err().to_string();
    assert!(refusal.contains("expected 1.0.0"), "{refusal}");
}

#[test]
fn full_disk_is_named_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(directory.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        println!("skipped: cannot mount a small tmpfs (needs root)");
        return;
    }
    let layout = Layout::create(directory.path()).unwrap();
    let good = layout.put(media::OCI_MANIFEST, b"good").unwrap();
    layout.tag(&good, "good").unwrap();
    let refusal = layout.put("t", &vec![1; 1 << 20]).unwrap_err();
    let kept = layout.find(Some("good")).unwrap().digest;
    let blobs = fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count();
    Command::new("umount").arg(directory.path()).status().unwrap();
    assert!(matches!(refusal, ImageError::DiskFull { .. }), "{refusal}");
    assert_eq!((kept, blobs), (good.digest, 1));
}
