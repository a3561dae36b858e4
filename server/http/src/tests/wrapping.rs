//! Claims about the wrapping calls between tenants: nobody's, another tenant's owner's and another tenant's guest's call
//! reaches no key. The calls come from the two dialects' own tables, and the bodies from a match over their operations
//! without a rest, so that a call without such a test does not compile.

use coffer_server_wrapping::{Permission, Route, hadoop, transit};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Lab, Person, admin_token};
use super::tenants::Two;

const KEY: &str = "lake";
const PLAINTEXT: &str = "dGhlIGRhdGEga2V5IG9mIGI=";

/// What everybody may ask, because nothing of a tenant is in the answer.
const OPEN: [(&str, &str); 9] = [
    ("OPTIONS", "/kms/v1/"),
    ("OPTIONS", "/kms/v1/{_}"),
    ("OPTIONS", "/kms/v1/{_}/{_}"),
    ("OPTIONS", "/kms/v1/{_}/{_}/{_}"),
    ("GET", "/v1/sys/health"),
    ("HEAD", "/v1/sys/health"),
    ("GET", "/v1/auth/token/lookup-self"),
    ("POST", "/v1/auth/token/renew-self"),
    ("PUT", "/v1/auth/token/renew-self"),
];

/// A key of a tenant, and what it wrapped.
struct Key {
    name: String,
    /// As the transit dialect gives it.
    ciphertext: Value,
    /// As Hadoop's gives it.
    encrypted: Value,
}

/// A row of a dialect's table as a whole call about a key.
struct Row {
    method: Method,
    path: String,
    body: String,
    /// What its holder gets.
    served: u16,
}

/// A path of a table with a key's name in it.
fn filled<O>(route: &Route<O>, key: &Key) -> String {
    let mut path = route.pattern.to_owned();
    let version = format!("{}@0", key.name);
    for (pattern, name) in
        [("{mount}", "transit"), ("{name}", &key.name), ("{version}", &version), ("{_}", &key.name)]
    {
        path = path.replace(pattern, name);
    }
    assert!(!path.contains('{'), "{path}");
    match route.query {
        Some((name, value)) => format!("{path}?{name}={value}"),
        None => path,
    }
}

fn body(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

fn of_hadoop(route: &Route<hadoop::Operation>, key: &Key) -> Row {
    use hadoop::Operation;
    let mut path = filled(route, key);
    let (sent, served) = match route.operation {
        Operation::Create => (json!({"name": format!("{}-new", key.name)}), 201),
        Operation::KeysMetadata => {
            path = format!("{path}?key={}", key.name);
            (Value::Null, 200)
        }
        Operation::Decrypt | Operation::Reencrypt => {
            let material = &key.encrypted["encryptedKeyVersion"]["material"];
            (json!({"name": key.name, "iv": key.encrypted["iv"], "material": material}), 200)
        }
        Operation::ReencryptBatch => (json!([key.encrypted]), 200),
        // A wrapping key's material is nobody's.
        Operation::KeyVersion => (Value::Null, 403),
        Operation::Probe
        | Operation::Names
        | Operation::Roll
        | Operation::Delete
        | Operation::Metadata
        | Operation::CurrentVersion
        | Operation::Versions
        | Operation::InvalidateCache
        | Operation::Generate => (Value::Null, 200),
    };
    Row { method: route.method.parse().unwrap(), path, body: body(&sent), served }
}

fn of_transit(route: &Route<transit::Operation>, key: &Key) -> Row {
    use transit::Operation;
    let (sent, served) = match route.operation {
        Operation::Configure => (json!({"min_decryption_version": 1}), 200),
        Operation::Encrypt => (json!({"plaintext": PLAINTEXT}), 200),
        Operation::Decrypt | Operation::Rewrap => (json!({"ciphertext": key.ciphertext}), 200),
        Operation::DataKeyPlaintext | Operation::DataKeyWrapped => (json!({"bits": 256}), 200),
        Operation::Delete => (Value::Null, 204),
        // Tokens are renewed by attesting again.
        Operation::RenewSelf => (Value::Null, 400),
        Operation::Health
        | Operation::LookupSelf
        | Operation::List
        | Operation::Create
        | Operation::Read
        | Operation::Rotate => (Value::Null, 200),
    };
    Row { method: route.method.parse().unwrap(), path: filled(route, key), body: body(&sent), served }
}

/// What a table says of a row.
type Said = (&'static str, &'static str, Permission);

/// Every row of both tables, as a call about this key.
fn rows(key: &Key) -> Vec<(Said, Row)> {
    let hadoop = hadoop::ROUTES
        .iter()
        .map(|route| ((route.method, route.pattern, route.permission), of_hadoop(route, key)));
    let transit = transit::ROUTES
        .iter()
        .map(|route| ((route.method, route.pattern, route.permission), of_transit(route, key)));
    hadoop.chain(transit).collect()
}

async fn json_of(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// Makes a key that both dialects may use, and wraps with it in both.
async fn made(lab: &Lab, owner: &Person, tenant: &str, name: &str) -> Key {
    let call = |method, path: String, body: Value| {
        let path = format!("/t/{tenant}{path}");
        async move { json_of(lab.as_person(owner, method, &path, body.to_string()).await).await }
    };
    let attributes = json!({"insecure_plaintext_over_tls": "true", "deletion_allowed": "true"});
    let create = json!({"name": name, "attributes": attributes});
    call(Method::POST, "/kms/v1/keys".to_owned(), create).await;
    let encrypted = call(Method::GET, format!("/kms/v1/key/{name}/_eek?eek_op=generate"), Value::Null).await;
    let wrapped =
        call(Method::POST, format!("/v1/transit/encrypt/{name}"), json!({"plaintext": PLAINTEXT})).await;
    Key {
        name: name.to_owned(),
        ciphertext: wrapped["data"]["ciphertext"].clone(),
        encrypted: encrypted[0].clone(),
    }
}

/// All that the owner of `b` sees of `b`'s keys: names, versions and options, and what was wrapped before, unwrapped.
async fn seen(two: &Two, key: &Key) -> Vec<Value> {
    let get = |path: String| async move {
        json_of(two.lab.as_person(&two.b, Method::GET, &format!("/t/b{path}"), "").await).await
    };
    let mut all = vec![get("/kms/v1/keys/names".to_owned()).await];
    for name in all[0].as_array().unwrap().clone() {
        let name = name.as_str().unwrap().to_owned();
        all.push(get(format!("/kms/v1/keys/metadata?key={name}")).await);
        all.push(get(format!("/v1/transit/keys/{name}")).await["data"].clone());
    }
    for (said, row) in rows(key) {
        if ["/v1/{mount}/decrypt/{name}", "/kms/v1/keyversion/{version}/_eek"].contains(&said.1)
            && said.2 == Permission::Unwrap
        {
            let response =
                two.lab.as_person(&two.b, row.method, &format!("/t/b{}", row.path), row.body).await;
            let opened = json_of(response).await;
            let plaintext = [&opened["data"]["plaintext"], &opened["material"]];
            all.push(plaintext.into_iter().find(|found| found.is_string()).expect("a plaintext").clone());
        }
    }
    assert!(all.contains(&json!(PLAINTEXT)));
    all
}

/// Two tenants with a key of the same name, and no rate in the way.
async fn with_keys() -> (Two, Key) {
    let two = Two::start().await;
    let rate = json!({"per_second": 100_000, "burst": 100_000});
    let settings = json!({"quotas": {"rates": {"release": {"tenant": rate, "address": rate}}}}).to_string();
    two.lab.admin_ok(Method::PUT, "/coffer/v1/tenants/b/settings", settings).await;
    made(&two.lab, &two.a, "a", KEY).await;
    let key = made(&two.lab, &two.b, "b", KEY).await;
    (two, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wrapping_call_of_a_stranger_reaches_a_tenant_s_keys() {
    let (two, key) = with_keys().await;
    let before = seen(&two, &key).await;
    let (_, guest) = two.lab.token_of(Some("a"), COMMAND_LINE).await;
    let own = two.lab.http.post(format!("{}/t/a/v1/transit/encrypt/{KEY}", two.lab.url)).bearer_auth(&guest);
    let own = own.body(json!({"plaintext": PLAINTEXT}).to_string()).send().await.unwrap();
    assert_eq!(
        own.status(),
        200,
        "the guest may in its own tenant, so it is the tenant that it is refused for"
    );
    let strangers = [
        ("nobody", None),
        ("a's owner", Some(two.a.token())),
        ("the operator", Some(admin_token(&two.lab.admin_key(), json!({})))),
        ("a's guest", Some(guest)),
    ];
    let mut open = Vec::new();
    for (said, row) in rows(&key) {
        if said.2 == Permission::Open {
            open.push((said.0, said.1));
        }
        let joint = if row.path.contains('?') { '&' } else { '?' };
        for (who, token) in &strangers {
            // As everybody presents a token, and as these clients do.
            for place in ["authorization", "x-vault-token", "delegation"] {
                let mut url = format!("{}/t/b{}", two.lab.url, row.path);
                if let ("delegation", Some(token)) = (place, token) {
                    url = format!("{url}{joint}delegation={token}");
                }
                let mut request = two.lab.http.request(row.method.clone(), url);
                match (place, token) {
                    ("authorization", Some(token)) => request = request.bearer_auth(token),
                    ("x-vault-token", Some(token)) => request = request.header(place, token),
                    _ => (),
                }
                let response = request.body(row.body.clone()).send().await.unwrap();
                let status = response.status().as_u16();
                let text = response.text().await.unwrap();
                let at = format!("{} {} by {who} ({place}): {status} {text}", row.method, row.path);
                assert!(!text.contains(PLAINTEXT) && !text.contains("vault:v1:"), "{at}");
                match said.2 {
                    Permission::Open => assert_eq!(status, row.served, "{at}"),
                    // Nobody's body is not read, so that a call with one is refused for its length.
                    _ if row.body.is_empty() => assert_eq!(status, 403, "{at}"),
                    _ => assert!(status == 403 || status == 413, "{at}"),
                }
                assert!(!text.contains("first-admin"), "{at}");
            }
        }
    }
    assert_eq!(open, OPEN, "a call that everybody may make is named here");
    assert_eq!(seen(&two, &key).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_of_the_wrapping_tables_is_served_to_the_keys_owner() {
    let (two, key) = with_keys().await;
    for number in 0..rows(&key).len() {
        let own = made(&two.lab, &two.b, "b", &format!("row-{number}")).await;
        let (_, row) = rows(&own).swap_remove(number);
        let at = format!("/t/b{}", row.path);
        let response = two.lab.as_person(&two.b, row.method.clone(), &at, row.body).await;
        let status = response.status().as_u16();
        assert_eq!(status, row.served, "{} {at}: {}", row.method, response.text().await.unwrap());
    }
}

/// Whether a table has this call, without a query.
fn known(method: &str, path: &str) -> bool {
    let hadoop = hadoop::ROUTES.iter().map(|route| (route.method, route.pattern, route.query));
    let transit = transit::ROUTES.iter().map(|route| (route.method, route.pattern, route.query));
    hadoop.chain(transit).any(|(own, pattern, query)| {
        let (expected, found): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        let same = |(expected, found): (&&str, &&str)| expected.starts_with('{') || expected == found;
        own == method
            && query.is_none()
            && expected.len() == found.len()
            && expected.iter().zip(&found).all(same)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wrapping_call_is_served_that_is_in_no_table() {
    let (two, key) = with_keys().await;
    let before = seen(&two, &key).await;
    let mut paths = std::collections::BTreeSet::new();
    for (_, row) in rows(&key) {
        let path = row.path.split('?').next().unwrap().to_owned();
        paths.insert(format!("{path}/more"));
        paths.insert(path.replacen("v1", "v2", 1));
        paths.insert(path);
    }
    // What the engines that are spoken for have, and this one has not.
    for path in ["export/encryption-key/lake", "backup/lake", "restore/lake", "hmac/lake", "sign/lake"] {
        paths.insert(format!("/v1/transit/{path}"));
    }
    let mut refused = 0_usize;
    for path in &paths {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "LIST"] {
            if known(method, path) {
                continue;
            }
            let at = format!("/t/b{path}");
            let response = two.lab.as_person(&two.b, method.parse().unwrap(), &at, "").await;
            let status = response.status().as_u16();
            assert_eq!(status, 404, "{method} {path}: {}", response.text().await.unwrap());
            refused += 1;
        }
    }
    assert!(refused > rows(&key).len());
    assert_eq!(seen(&two, &key).await, before);
}
