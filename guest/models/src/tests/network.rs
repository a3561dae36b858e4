//! Web servers, object stores and registries.

use super::server::{Manner, Server, registry};
use super::*;

#[test]
fn a_web_servers_model_opens_and_keeps_its_order_of_trust() {
    let sealed = model();
    let server = Server::of(&sealed, |_, _| Manner::Good);
    let opened = sealed.open(&access(), &server.place()).unwrap();
    {
        let seen = server.seen.lock().unwrap();
        let paths: Vec<_> = seen.iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, ["/m/sealed-stream.json", "/m/manifest.sealed"]);
    }
    let folder = tempfile::tempdir().unwrap();
    unpack(&opened, &folder.path().join("out"), Partial::Remove).unwrap();
    sealed.compare(&folder.path().join("out"));
    let other = super::small();
    let before = server.seen.lock().unwrap().len();
    let refused =
        Signed::read(access().store(&Place::parse(&server.place()).unwrap()).unwrap(), &[other.signer]);
    assert_eq!(refused.err().unwrap().code(), "manifest.signature");
    assert_eq!(server.seen.lock().unwrap().len(), before + 1, "only the envelope was asked for");
}

#[test]
fn what_is_cut_delayed_or_refused_for_a_while_is_asked_for_again_from_where_it_ended() {
    let sealed = model();
    let server = Server::of(&sealed, |count, _| match count % 5 {
        1 => Manner::Cut(100_000),
        2 => Manner::Status(503),
        3 => Manner::Status(429),
        _ => Manner::Good,
    });
    let opened = sealed.open(&access(), &server.place()).unwrap();
    check(&opened).unwrap();
    let all: usize = sealed.objects.values().map(Vec::len).sum();
    let sent = *server.sent.lock().unwrap();
    assert!(sent < all as u64 + 200_000, "{sent} bytes were sent of {all}");
    let server = Server::of(&sealed, |count, _| if count == 3 { Manner::Stall } else { Manner::Good });
    check(&sealed.open(&access(), &server.place()).unwrap()).unwrap();
}

#[test]
fn two_hundred_interrupted_openings_go_on_and_never_give_other_content() {
    let sealed = Arc::new(super::small());
    let mut bytes = [0; 400];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    // Files are synced, which a disk does slowly and memory at once.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let cuts = bytes.to_vec();
    let server = Server::of(&sealed, move |count, request| match request.headers.contains_key("range") {
        true if count % 3 == 1 => Manner::Cut(usize::from(cuts[count % cuts.len()]) * 150),
        _ => Manner::Good,
    });
    let opened = sealed.open(&access(), &server.place()).unwrap();
    for byte in &bytes[..200] {
        let out = folder.path().join("out");
        let stop = AtomicBool::new(false);
        let after = u64::from(*byte) * 220;
        let progress = |done: u64, _| stop.store(done > after, Ordering::Relaxed);
        let job = Job { progress: &progress, stop: &stop };
        match opened.unpack(&Destination::New(out.clone()), Partial::Keep, &job) {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_passing(), "{error}");
                loop {
                    match unpack(&opened, &out, Partial::Keep) {
                        Ok(()) => break,
                        Err(error) => assert!(error.is_passing(), "{error}"),
                    }
                }
            }
        }
        sealed.compare(&out);
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn attempts_are_bounded_and_the_last_reason_is_told() {
    let sealed = super::small();
    for (manner, code, requests) in [
        (Manner::Status(500), "source.unreachable", 4),
        (Manner::Status(404), "model.missing", 1),
        (Manner::Status(403), "source.refused", 1),
        (Manner::Status(418), "source.status", 1),
        (Manner::Cut(10), "source.unreachable", 4),
        (Manner::Elsewhere, "source.unreachable", 4),
        (Manner::Whole, "source.no-ranges", 1),
    ] {
        let server = Server::of(&sealed, move |_, request| match request.headers.contains_key("range") {
            true => manner,
            false => Manner::Good,
        });
        let opened = sealed.open(&access(), &server.place()).unwrap();
        let path = "a/weights";
        let stream = opened.store.stream(
            opened.artifact().manifest().file(path).unwrap().digest(),
            opened.artifact().layout(path).unwrap().sealed_size(),
        );
        let before = server.seen.lock().unwrap().len();
        let failed = stream.unwrap().read_at(&mut [0; 1000], 0).unwrap_err();
        let file = opened.artifact().manifest().file(path).unwrap();
        let failed = ModelError::of_read(file, coffer_core_sealed_stream::StreamError::Io(failed));
        assert_eq!(failed.code(), code, "{failed}");
        assert_eq!(server.seen.lock().unwrap().len() - before, requests, "{code}");
    }
    let nobody = sealed.open(&access(), "http://127.0.0.1:9/m").err().unwrap();
    assert_eq!(nobody.code(), "source.unreachable");
}

#[test]
fn a_stream_of_another_length_is_refused_as_cut_or_lengthened() {
    for (code, change) in [
        ("stream.truncated", (|bytes: &mut Vec<u8>| bytes.truncate(30_000)) as fn(&mut Vec<u8>)),
        ("stream.extended", |bytes| bytes.extend([0; 9])),
        ("stream.corrupt", |bytes| bytes[9000] ^= 1),
    ] {
        let mut sealed = super::small();
        let good = Server::of(&sealed, |_, _| Manner::Good);
        let name = sealed.stream(&sealed.open(&access(), &good.place()).unwrap(), "a/weights");
        change(sealed.objects.get_mut(&name).unwrap());
        let server = Server::of(&sealed, |_, _| Manner::Good);
        let refused = check(&sealed.open(&access(), &server.place()).unwrap()).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}

#[test]
fn an_object_store_gets_signed_requests_or_anonymous_ones() {
    let sealed = super::small();
    let objects =
        sealed.objects.iter().map(|(name, bytes)| (format!("/bucket/models/m/{name}"), bytes.clone()));
    let server = Server::new(objects.collect(), |_, _| Manner::Good);
    let find = |keys: bool| {
        let address = format!("http://{}", server.address);
        move |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some(address.clone()),
            "AWS_ACCESS_KEY_ID" if keys => Some("reader".into()),
            "AWS_SECRET_ACCESS_KEY" if keys => Some("secret".into()),
            _ => None,
        }
    };
    for keys in [true, false] {
        let access = Access { s3: S3Access::from_variables(find(keys)), ..access() };
        check(&sealed.open(&access, "s3://bucket/models/m").unwrap()).unwrap();
        let mut seen = server.seen.lock().unwrap();
        for request in seen.drain(..) {
            let authorization = request.headers.get("authorization");
            assert_eq!(authorization.is_some(), keys);
            if let Some(authorization) = authorization {
                assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=reader/"), "{authorization}");
                assert!(!authorization.contains("secret"));
                assert_eq!(request.headers.contains_key("range"), authorization.contains("host;range;"));
            }
        }
    }
}

#[test]
fn a_registry_asks_for_a_token_and_gives_a_model_pack() {
    let sealed = super::small();
    let server = Server::new(registry(&sealed, MODEL_ARTIFACT), |_, request| {
        let authorized = request.headers.get("authorization").is_some_and(|own| own == "Bearer for-readers");
        if request.path.starts_with("/token") || authorized { Manner::Good } else { Manner::Status(401) }
    });
    let place = format!("cc+oci://{}/m:v1", server.address);
    let opened = sealed.open(&access(), &place).unwrap();
    check(&opened).unwrap();
    let folder = tempfile::tempdir().unwrap();
    unpack(&opened, &folder.path().join("out"), Partial::Remove).unwrap();
    sealed.compare(&folder.path().join("out"));
    let tokens =
        server.seen.lock().unwrap().iter().filter(|request| request.path.starts_with("/token")).count();
    assert_eq!(tokens, 1);
    let image = Server::new(registry(&sealed, "application/vnd.other"), |_, _| Manner::Good);
    let refused = sealed.open(&access(), &format!("docker://{}/m:v1", image.address)).err().unwrap();
    assert_eq!(refused.code(), "source.document");
    let absent = sealed.open(&access(), &format!("docker://{}/m:v2", image.address)).err().unwrap();
    assert_eq!(absent.code(), "source.missing");
}

#[test]
fn a_login_goes_to_the_token_service_of_its_registry_and_nowhere_else() {
    let sealed = super::small();
    let server = Server::new(registry(&sealed, MODEL_ARTIFACT), |_, request| {
        let authorization = request.headers.get("authorization").map(String::as_str);
        let token = request.path.starts_with("/token");
        match (token, authorization) {
            (true, Some("Basic dXNlcjpwOnc=")) | (false, Some("Bearer for-readers")) => Manner::Good,
            (true, _) => Manner::Status(403),
            _ => Manner::Status(401),
        }
    });
    let place = format!("docker://{}/m:v1", server.address);
    let with = |name: &str| {
        let file = format!(r#"{{"auths":{{"{name}":{{"auth":"dXNlcjpwOnc="}}}}}}"#);
        Access { logins: Arc::new(Logins::parse(file.as_bytes()).unwrap()), ..access() }
    };
    check(&sealed.open(&with(&server.address), &place).unwrap()).unwrap();
    check(&sealed.open(&with(&format!("{}/m", server.address)), &place).unwrap()).unwrap();
    server.seen.lock().unwrap().clear();
    for other in ["other.example", &format!("{}/other", server.address)] {
        assert_eq!(sealed.open(&with(other), &place).err().unwrap().code(), "source.refused", "{other}");
    }
    let seen = server.seen.lock().unwrap();
    assert!(seen.iter().all(|request| !request.headers.contains_key("authorization")));
}
