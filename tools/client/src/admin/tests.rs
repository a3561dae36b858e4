//! Paths, queries and headers of calls, against a server that tells what it was asked.
#![allow(clippy::unwrap_used)]

use coffer_core_admin::ResourceTerms;
use coffer_core_secret::SecretBytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

#[test]
fn a_name_cannot_leave_its_segment() {
    assert_eq!(named("attempts", "../../kbs?x#y"), "/attempts/%2E%2E%2F%2E%2E%2Fkbs%3Fx%23y");
}

#[test]
fn a_query_holds_what_is_there_and_no_value_ends_it() {
    assert_eq!(query(&[("a", None)]), "");
    assert_eq!(query(&[("a", Some("x&b=2+".into())), ("c", None)]), "?a=x%26b%3D2%2B");
}

/// Answers each call with the next text, and tells the first line of each.
async fn answering(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut first = String::new();
            stream.read_line(&mut first).await.unwrap();
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.parse().unwrap();
                }
            }
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            asked.push(first.trim().trim_end_matches(" HTTP/1.1").to_string());
        }
        asked
    });
    (url, served)
}

fn client(url: &str, folder: &tempfile::TempDir) -> AdminClient {
    let token = folder.path().join("token");
    std::fs::write(&token, "eyJh.e30.c2ln").unwrap();
    AdminClient::loopback(url, Bearer::File(token)).unwrap()
}

#[tokio::test]
async fn a_tenants_calls_go_to_the_tenant_and_the_clusters_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (url, served) =
        answering(&["", r#"{"path":"a/b/c","version":1}"#, r#"{"tenants":[]}"#, "sealed"]).await;
    let admin = client(&url, &folder).with_tenant(&"team-a".parse().unwrap());
    admin.put_resource("a/b/c", SecretBytes::new(vec![1])).await.unwrap();
    let terms = ResourceTerms {
        expires_at: Some("2030-01-01T00:00:00+02:00".into()),
        release_limit: Some(1),
        if_version: None,
    };
    admin.put_resource_on("a/b/c", SecretBytes::new(vec![1]), &terms).await.unwrap();
    admin.list_tenants().await.unwrap();
    let mut backup = Vec::new();
    assert_eq!(admin.backup(&mut backup).await.unwrap(), 6);
    assert_eq!(backup, b"sealed");
    let expected = [
        "POST /t/team-a/kbs/v0/resource/a/b/c",
        "PUT /t/team-a/coffer/v1/resources/a/b/c?expires_at=2030-01-01T00%3A00%3A00%2B02%3A00&release_limit=1",
        "GET /coffer/v1/tenants",
        "GET /coffer/v1/backup",
    ];
    assert_eq!(served.await.unwrap(), expected);
}

#[tokio::test]
async fn all_pages_are_read_and_a_list_that_does_not_go_on_is_refused() {
    const PAGES: [&str; 2] = [
        r#"{"resources":[{"path":"a/b/c","bytes":1,"version":1,"changed_at":""}],"next":"a/b/c"}"#,
        r#"{"resources":[{"path":"a/b/d","bytes":1,"version":1,"changed_at":""}]}"#,
    ];
    let folder = tempfile::tempdir().unwrap();
    let (url, served) = answering(&PAGES).await;
    assert_eq!(client(&url, &folder).list_resources().await.unwrap().len(), 2);
    let asked = served.await.unwrap();
    assert_eq!(asked[1], "GET /coffer/v1/resources?after=a%2Fb%2Fc&limit=1000");
    let (url, served) = answering(&[PAGES[0], PAGES[0]]).await;
    let error = client(&url, &folder).list_resources().await.unwrap_err();
    assert!(matches!(error, ClientError::Answer { .. }), "{error}");
    served.await.unwrap();
}
