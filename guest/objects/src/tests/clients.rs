//! Who may call, and a client of others that was not changed for this.

use super::*;

#[tokio::test]
async fn clients_without_the_gateways_credentials_are_refused() {
    let peer = Peer::good().await;
    peer.put("/lake/a", plain(10)).await;
    let url = format!("http://{}/lake/a", peer.address);
    let unsigned = peer.client.get(&url).send().await.unwrap();
    assert_eq!(code(&unsigned), (403, "objects.client".into()));
    let wrong = Credentials { secret: SecretBytes::copy_of(b"other"), ..credentials() };
    let signer = Signer::new(wrong, "r".into());
    let request = Signed { method: "GET", path: "/lake/a", query: "" };
    let headers = signer.headers(request, &peer.address, &[], NO_BODY).unwrap();
    let signed = peer.client.get(&url).headers(headers).send().await.unwrap();
    assert_eq!(code(&signed), (403, "objects.client".into()));
    assert_eq!(peer.store.held.lock().unwrap().seen.len(), 1, "the store was not asked");
    let open = Peer::with(|_, _, _| Manner::Good, Clients::InsecureAnyone).await;
    let anyone = open.client.get(format!("http://{}/lake/a", open.address)).send().await.unwrap();
    assert_eq!(code(&anyone), (404, "objects.missing".into()));
}

#[tokio::test]
async fn the_gateway_listens_on_loopback_only() {
    let keys = ObjectKeys::derive(&Key::new([7; 32])).unwrap();
    let log = Arc::new(|_: &str| {});
    let access = S3Access::default();
    let gateway = Gateway::new(keys, access, &[], Retry::default(), Clients::InsecureAnyone, log).unwrap();
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve(listener, Arc::new(gateway)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

/// Amazon's library for Python, as it is: writes, reads, lists, copies, uploads in parts.
#[tokio::test(flavor = "multi_thread")]
async fn boto3_works_unchanged() {
    let there = std::process::Command::new("python3").args(["-c", "import boto3"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: python3 has no boto3");
        return;
    }
    let peer = Peer::good().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/boto3_client.py");
    let endpoint = format!("http://{}", peer.address);
    let ran = tokio::task::spawn_blocking(move || {
        std::process::Command::new("python3")
            .arg(script)
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ACCESS_KEY_ID", "user")
            .env("AWS_SECRET_ACCESS_KEY", "sesame")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/nonexistent")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap()
    });
    let output = ran.await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{:?}", peer.log.lock().unwrap());
    assert!(peer.store.paths().len() > 20);
}
