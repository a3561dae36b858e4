//! Objects in one piece: what is read is what was written, and what a store does to them is noticed.

use super::*;

#[tokio::test]
async fn what_is_written_is_read_and_the_store_sees_ciphertext_only() {
    let peer = Peer::good().await;
    for size in [0, 1, 65_480, 65_481, 300_000, 1_000_000] {
        let (target, text) = (format!("/lake/secret%20folder/{size}"), plain(size));
        let headers = [("content-type", "text/secret"), ("x-amz-meta-owner", "secret owner")];
        let written = peer.send("PUT", &target, &headers, text.clone()).await;
        assert_eq!(written.status(), 200, "{size}");
        let read = peer.get(&target).await;
        assert_eq!(tag(&read), tag(&written));
        assert!(tag(&read).ends_with("-c\""), "no client takes it for a digest of the content");
        assert_eq!(read.headers()["content-type"], "text/secret");
        assert_eq!(read.headers()["x-amz-meta-owner"], "secret owner");
        assert_eq!(read.headers()["content-length"], size.to_string().as_str());
        assert!(read.bytes().await.unwrap() == text);
        let head = peer.send("HEAD", &target, &[], Vec::new()).await;
        assert_eq!(head.headers()["content-length"], size.to_string().as_str());
        assert_eq!(head.headers()["x-amz-meta-owner"], "secret owner");
    }
    for (path, _) in peer.store.paths() {
        let object = peer.store.object(&path);
        assert!(path.starts_with("/lake/") && !path.contains("folder"), "{path}");
        assert!(!format!("{:?}", object.headers).contains("secret"));
        assert!(object.bytes.len() < 200_000 || !object.bytes.windows(64).any(|own| own == &plain(64)[..]));
    }
    assert_eq!(*peer.log.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn ranges_are_fetched_and_opened_alone() {
    let peer = Peer::good().await;
    let text = plain(10_000_000);
    peer.put("/lake/a", text.clone()).await;
    let before = peer.store.held.lock().unwrap().sent;
    for (range, expected) in [
        ("bytes=0-0", &text[..1]),
        ("bytes=5000000-5000009", &text[5_000_000..5_000_010]),
        ("bytes=5065530-5065600", &text[5_065_530..5_065_601]),
        ("bytes=-7", &text[9_999_993..]),
        ("bytes=9999990-", &text[9_999_990..]),
    ] {
        let read = peer.send("GET", "/lake/a", &[("range", range)], Vec::new()).await;
        assert_eq!(read.status(), 206);
        assert!(read.headers()["content-range"].to_str().unwrap().ends_with("/10000000"));
        assert!(read.bytes().await.unwrap() == expected, "{range}");
    }
    let sent = peer.store.held.lock().unwrap().sent - before;
    assert!(sent < 6 * 65_536, "{sent} bytes were fetched for a hundred");
    let beyond = peer.send("GET", "/lake/a", &[("range", "bytes=10000000-")], Vec::new()).await;
    assert_eq!(code(&beyond), (416, "objects.range".into()));
}

#[tokio::test]
async fn what_the_store_swaps_cuts_or_changes_is_noticed() {
    let peer = Peer::good().await;
    peer.put("/lake/a", plain(300_000)).await;
    peer.put("/lake/b", plain(300_001)).await;
    let (a, b) = (peer.stored(300_000 + 40 + 5 * 16), peer.stored(300_001 + 40 + 5 * 16));
    let (own, other) = (peer.store.object(&a).bytes, peer.store.object(&b).bytes);
    peer.store.put(&a, &other);
    let swapped = peer.get("/lake/a").await;
    assert_eq!(code(&swapped), (422, "stream.wrong-key-or-file".into()));
    // The client has the beginning, and is told by the end that never comes.
    for bad in [own[..131_072].to_vec(), {
        let mut bad = own.clone();
        bad[200_000] ^= 1;
        bad
    }] {
        peer.store.put(&a, &bad);
        let read = peer.get("/lake/a").await;
        assert_eq!(read.status(), 200);
        assert!(read.bytes().await.is_err());
        assert!(peer.log.lock().unwrap().pop().unwrap().contains("[stream.corrupt]"));
    }
    // Other places of the changed object are as they were; that one is refused before anything is answered.
    let good = peer.send("GET", "/lake/a", &[("range", "bytes=0-99")], Vec::new()).await;
    assert!(good.bytes().await.unwrap() == plain(100));
    let bad = peer.send("GET", "/lake/a", &[("range", "bytes=200000-200001")], Vec::new()).await;
    assert_eq!(bad.status(), 422);
    for length in [0, 30, 65_537] {
        peer.store.put(&a, &own[..length]);
        let read = peer.get("/lake/a").await;
        assert_eq!(code(&read), (422, "stream.size".into()), "{length}");
    }
    // What the client sees names the object; what the host sees does not.
    assert!(peer.log.lock().unwrap().iter().all(|line| !line.contains("lake/a")));
}

#[tokio::test]
async fn an_object_that_is_replaced_is_read_anew() {
    let peer = Peer::good().await;
    for size in [200_000, 100_000, 300_000] {
        let text = plain(size)[7..].to_vec();
        peer.put("/lake/a", text.clone()).await;
        for range in ["bytes=70000-70009", "bytes=90000-90009"] {
            let read = peer.send("GET", "/lake/a", &[("range", range)], Vec::new()).await;
            let from = range[6..11].parse::<usize>().unwrap();
            assert!(read.bytes().await.unwrap() == text[from..from + 10]);
        }
        // Behind the gateway's back, by another one.
        let path = peer.store.paths()[0].0.clone();
        let held = peer.store.object(&path);
        peer.put("/lake/other", plain(70_000)).await;
        peer.store.held.lock().unwrap().objects.insert(path, held);
    }
    assert_eq!(peer.send("DELETE", "/lake/a", &[], Vec::new()).await.status(), 204);
    let gone = peer.send("GET", "/lake/a", &[("range", "bytes=0-1")], Vec::new()).await;
    assert_eq!(code(&gone), (404, "objects.missing".into()));
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_is_asked_again_from_where_it_ended() {
    let peer = Peer::new(|count, method, _| match (method, count % 4) {
        ("GET", 1) => Manner::Cut(100_000),
        ("GET", 2) => Manner::Status(503),
        ("HEAD", 3) => Manner::Status(500),
        _ => Manner::Good,
    })
    .await;
    let text = plain(1_000_000);
    peer.put("/lake/a", text.clone()).await;
    for _ in 0..3 {
        assert!(peer.get("/lake/a").await.bytes().await.unwrap() == text);
    }
    let sent = peer.store.held.lock().unwrap().sent;
    assert!(sent < 3_400_000, "{sent} bytes were sent for three millions");
    let down = Peer::new(|_, _, _| Manner::Status(503)).await;
    assert_eq!(code(&down.get("/lake/a").await), (503, "objects.store-unavailable".into()));
    assert_eq!(down.store.held.lock().unwrap().seen.len(), 4);
    // A long body is the client's to send again, a short one is not.
    let long = down.send("PUT", "/lake/a", &[], plain(1_000_000)).await;
    assert_eq!(code(&long), (503, "objects.store-unavailable".into()));
    assert_eq!(down.store.held.lock().unwrap().seen.len(), 5);
    let once = Peer::new(|count, _, _| if count == 0 { Manner::Status(503) } else { Manner::Good }).await;
    once.put("/lake/a", plain(1000)).await;
    for (status, expected) in
        [(403, "objects.store-refused"), (418, "objects.store-refused"), (302, "objects.store-answer")]
    {
        let other = Peer::new(move |_, _, _| Manner::Status(status)).await;
        assert_eq!(code(&other.get("/lake/a").await).1, expected);
        assert_eq!(other.store.held.lock().unwrap().seen.len(), 1);
    }
}

#[tokio::test]
async fn conditions_are_the_stores_with_our_tags() {
    let peer = Peer::good().await;
    let tag = peer.put("/lake/a", plain(10)).await;
    let with = async |name, tag: &str| peer.send("GET", "/lake/a", &[(name, tag)], Vec::new()).await;
    assert_eq!(with("if-none-match", &tag).await.status(), 304);
    assert_eq!(with("if-match", &tag).await.status(), 200);
    assert_eq!(with("if-none-match", "\"other-c\"").await.status(), 200);
    assert_eq!(code(&with("if-match", "\"other-c\"").await), (412, "objects.precondition".into()));
}

#[tokio::test]
async fn a_copy_is_sealed_for_its_new_name() {
    let peer = Peer::good().await;
    let text = plain(400_000);
    peer.send("PUT", "/lake/a%20b", &[("x-amz-meta-k", "v")], text.clone()).await;
    let copied = peer.send("PUT", "/lake/c", &[("x-amz-copy-source", "lake/a%20b")], Vec::new()).await;
    assert_eq!(copied.status(), 200);
    let read = peer.get("/lake/c").await;
    assert_eq!(read.headers()["x-amz-meta-k"], "v");
    assert!(read.bytes().await.unwrap() == text);
    let none = peer.send("PUT", "/lake/c", &[("x-amz-copy-source", "lake/none")], Vec::new()).await;
    assert_eq!(code(&none), (404, "objects.missing".into()));
}

#[tokio::test]
async fn listings_are_in_the_order_of_plain_names_and_have_plain_sizes() {
    let peer = Peer::good().await;
    let mut names: Vec<String> = (0..23).map(|number| format!("d/x {}/{number:02}", number % 3)).collect();
    names.extend(["d/a&b".into(), "other".into()]);
    for (size, name) in names.iter().enumerate() {
        peer.put(&format!("/lake/{}", name.replace(' ', "%20").replace('&', "%26")), plain(size)).await;
    }
    peer.store.put("/lake/somebody-elses", b"x");
    names.sort();
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let target = format!("/lake?list-type=2&max-keys=4&prefix=d%2F{token}");
        let text = peer.get(&target).await.text().await.unwrap();
        found.extend(all_between(&text, "<Key>", "</Key>"));
        let Some(next) = all_between(&text, "<NextContinuationToken>", "<").pop() else { break };
        token = format!("&continuation-token={next}");
    }
    let inside: Vec<_> = names.iter().filter(|name| name.starts_with("d/")).cloned().collect();
    assert_eq!(found.iter().map(|name| name.replace("&amp;", "&")).collect::<Vec<_>>(), inside);
    let lists = |seen: &[String]| seen.iter().filter(|line| line.contains("list-type")).count();
    assert_eq!(lists(&peer.store.held.lock().unwrap().seen), 5, "pages that follow ask for nothing");
    let text =
        peer.get("/lake?list-type=2&prefix=d%2F&delimiter=%2F&encoding-type=url").await.text().await.unwrap();
    assert_eq!(all_between(&text, "<Prefix>", "<"), ["d/", "d/x%200/", "d/x%201/", "d/x%202/"]);
    assert_eq!(all_between(&text, "<Key>", "<"), ["d/a%26b"]);
    assert_eq!(all_between(&text, "<Size>", "<"), ["23"]);
    let text = peer.get("/lake?prefix=d%2Fx%201&marker=d%2Fx%201%2F10").await.text().await.unwrap();
    assert_eq!(all_between(&text, "<Key>", "<").len(), 4);
    assert!(all_between(&text, "<Key>", "<").iter().all(|name| name.as_str() > "d/x 1/10"));
}

#[tokio::test]
async fn a_listing_that_does_not_end_is_refused() {
    let peer = Peer::new(|_, _, _| Manner::Endless).await;
    let reply = peer.get("/lake?list-type=2").await;
    assert_eq!(code(&reply), (502, "objects.store-answer".into()));
}

#[tokio::test]
async fn several_are_deleted_at_once() {
    let peer = Peer::good().await;
    for name in ["a", "b", "c"] {
        peer.put(&format!("/lake/{name}"), plain(10)).await;
    }
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>c</Key></Object><Object><Key>&#1;</Key></Object></Delete>";
    let reply = peer.send("POST", "/lake?delete", &[], body.into()).await;
    let text = reply.text().await.unwrap();
    assert_eq!(text.matches("<Deleted>").count(), 2, "{text}");
    assert!(text.contains("objects.name"), "{text}");
    assert_eq!(peer.store.paths().len(), 1);
}
