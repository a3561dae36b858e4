//! Claims about tenants: none reads, shadows or changes what is another's. The calls come from the route table, so that
//! a call without such a test does not exist.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::lab::{COMMAND_LINE, Lab, Person, SECRET, refusal};
use crate::gate::Needs;
use crate::routes::ROUTES;

/// Two tenants with the same names in them, each with its own owner.
pub(super) struct Two {
    pub(super) lab: Lab,
    pub(super) a: Person,
    pub(super) b: Person,
}

impl Two {
    pub(super) async fn start() -> Self {
        let lab = Lab::start(true).await;
        let (a, b) = (Person::new(), Person::new());
        for (name, person) in [("a", &a), ("b", &b)] {
            lab.make_tenant(name, person).await;
            let put = |path: &str| format!("/t/{name}{path}");
            let secret = format!("the secret of {name}").into_bytes();
            for (method, path, body) in [
                (Method::PUT, "/coffer/v1/resources/default/key/1", secret),
                (Method::PUT, "/coffer/v1/named-values/one", b"[1]".to_vec()),
                (
                    Method::PUT,
                    "/coffer/v1/policies/lab",
                    json!({"preset": "insecure-lab", "paths": ["lab/**"]}).to_string().into_bytes(),
                ),
                (
                    Method::POST,
                    "/coffer/v1/revocations",
                    json!({"kind": "chip", "value": "00ff"}).to_string().into_bytes(),
                ),
            ] {
                let response = lab.as_person(person, method, &put(path), body).await;
                let status = response.status();
                assert!(status.is_success(), "{name} {path}: {status} {}", response.text().await.unwrap());
            }
        }
        Self { lab, a, b }
    }
}

/// A path of the table with names that exist in every tenant of these tests.
fn filled(path: &str) -> String {
    let mut filled = path.to_owned();
    for (pattern, name) in [
        ("{repository}", "default"),
        ("{kind}", "key"),
        ("{tag}", "1"),
        ("{plugin}", "resource"),
        ("{*path}", "default/key/1"),
        ("{*key}", "intel/root-crl"),
        ("{name}", "one"),
        ("{tenant}", "b"),
        ("{id}", "chip-000000000000000000000000"),
    ] {
        filled = filled.replace(pattern, name);
    }
    assert!(!filled.contains('{'), "{path}");
    filled
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// All that the owner of `b` sees of `b`.
async fn seen(two: &Two) -> Vec<Value> {
    let mut all = Vec::new();
    for path in [
        "/coffer/v1/resources",
        "/coffer/v1/named-values",
        "/coffer/v1/policies",
        "/coffer/v1/revocations",
        "/coffer/v1/admins",
        "/coffer/v1/reference-values",
        "/coffer/v1/trust-anchors",
        "/coffer/v1/platform-policy",
        "/coffer/v1/admin-issuers",
        "/coffer/v1/token-issuers",
        "/coffer/v1/attestation-policies",
    ] {
        let response = two.lab.as_person(&two.b, Method::GET, &format!("/t/b{path}"), "").await;
        all.push(serde_json::from_str(&response.text().await.unwrap()).unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_of_one_tenant_s_admin_reaches_another_tenant_or_the_cluster() {
    let two = Two::start().await;
    let before = seen(&two).await;
    let operator = Person::of(two.lab.admin_key());
    for route in ROUTES {
        let Needs::Permission(permission) = route.needs else { continue };
        let path = filled(route.path);
        let tenant_level = permission.level() == coffer_server_identity::Level::Tenant;
        // Another tenant's owner, nobody, and for what is a tenant's the operator too.
        let mut strangers: Vec<(&str, Option<&Person>)> = vec![("a's owner", Some(&two.a)), ("nobody", None)];
        if tenant_level {
            strangers.push(("the operator", Some(&operator)));
        }
        for (who, person) in strangers {
            let path = format!("/t/b{path}");
            let response = match person {
                Some(person) => two.lab.as_person(person, method(route.method), &path, "{}").await,
                None => two
                    .lab
                    .http
                    .request(method(route.method), format!("{}{path}", two.lab.url))
                    .send()
                    .await
                    .unwrap(),
            };
            let (status, code, _) = refusal(response).await;
            assert!(
                (status == 401 && code == "admin.unauthenticated")
                    || (status == 403 && code == "admin.forbidden"),
                "{} {path} by {who}: {status} {code}",
                route.method
            );
        }
    }
    assert_eq!(seen(&two).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_s_calls_of_guests_give_a_token_of_one_tenant_nothing_in_another() {
    let two = Two::start().await;
    let (_, token) = two.lab.token_of(Some("a"), COMMAND_LINE).await;
    for route in ROUTES {
        if route.needs != Needs::Nothing {
            continue;
        }
        let path = format!("/t/b{}", filled(route.path));
        let request = two.lab.http.request(method(route.method), format!("{}{path}", two.lab.url));
        let response: Response = request.bearer_auth(&token).body("{}").send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert!(!text.contains("the secret of b"), "{path}");
        // What is public answers everybody alike; all else refuses.
        let public = [
            "/healthz",
            "/readyz",
            "/openapi.json",
            "/.well-known/jwks.json",
            "/.well-known/openid-configuration",
            "/challenge",
        ];
        match public.iter().any(|end| path.ends_with(end)) {
            true => assert!(status < 500, "{path}: {status}"),
            false => assert!((400..500).contains(&status), "{path}: {status} {text}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_tokens_and_sessions_of_one_tenant_are_none_of_anothers() {
    let two = Two::start().await;
    let (cookie, token) = two.lab.token_of(Some("a"), COMMAND_LINE).await;
    let path = "kbs/v0/resource/default/key/1";
    for prefix in ["t/b/", ""] {
        let url = format!("{}/{prefix}{path}", two.lab.url);
        let by_token = two.lab.http.get(&url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(refusal(by_token).await.1, "token.invalid", "{prefix}");
        let by_cookie = two.lab.http.get(&url).header("cookie", &cookie).send().await.unwrap();
        assert_eq!(refusal(by_cookie).await.1, "challenge.foreign", "{prefix}");
    }
    let own =
        two.lab.http.get(format!("{}/t/a/{path}", two.lab.url)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(own.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_leads_to_its_tenant_and_the_plain_path_to_the_default_one() {
    let two = Two::start().await;
    let settings = json!({"hosts": ["a.example"]}).to_string();
    two.lab.admin_ok(Method::PUT, "/coffer/v1/tenants/a/settings", settings.clone()).await;
    let stolen = two.lab.admin(Method::PUT, "/coffer/v1/tenants/b/settings", settings).await;
    assert_eq!(refusal(stolen).await.1, "resource.conflict");
    let keys = |host: Option<&'static str>| {
        let mut request = two.lab.http.get(format!("{}/.well-known/jwks.json", two.lab.url));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        async { request.send().await.unwrap().text().await.unwrap() }
    };
    let of_path =
        two.lab.http.get(format!("{}/t/a/.well-known/jwks.json", two.lab.url)).send().await.unwrap();
    let of_path = of_path.text().await.unwrap();
    assert_eq!(keys(Some("A.example")).await, of_path);
    assert_ne!(keys(None).await, of_path);
    assert_ne!(keys(Some("b.example")).await, of_path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_removed_is_gone_and_one_of_its_name_begins_with_nothing() {
    let two = Two::start().await;
    two.lab.admin_ok(Method::DELETE, "/coffer/v1/tenants/b", "").await;
    let gone = two.lab.as_person(&two.b, Method::GET, "/t/b/coffer/v1/resources", "").await;
    assert_eq!(refusal(gone).await.1, "tenant.unknown");
    let again = Person::new();
    two.lab.make_tenant("b", &again).await;
    let list = two.lab.as_person(&again, Method::GET, "/t/b/coffer/v1/resources", "").await;
    assert_eq!(list.text().await.unwrap(), r#"{"resources":[]}"#);
    let before = two.lab.as_person(&two.b, Method::GET, "/t/b/coffer/v1/resources", "").await;
    assert_eq!(refusal(before).await.0, 401);
    let kept = two.lab.admin(Method::DELETE, "/coffer/v1/tenants/default", "").await;
    assert_eq!(refusal(kept).await.1, "resource.conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_may_what_they_are_for_and_nobody_locks_the_owner_out() {
    let two = Two::start().await;
    let auditor = Person::new();
    let body =
        |person: &Person, roles: Value| json!({"public_key": person.jwk(), "roles": roles}).to_string();
    let put = |who: &'static str| format!("/t/a/coffer/v1/admins/{who}");
    let added = two.lab.as_person(&two.a, Method::PUT, &put("eve"), body(&auditor, json!(["auditor"]))).await;
    assert!(added.status().is_success());
    let whoami = two.lab.as_person(&auditor, Method::GET, "/t/a/coffer/v1/whoami", "").await;
    let whoami: Value = serde_json::from_str(&whoami.text().await.unwrap()).unwrap();
    assert_eq!((whoami["subject"].as_str(), &whoami["roles"]), (Some("eve"), &json!(["auditor"])));
    let attempts = two.lab.as_person(&auditor, Method::GET, "/t/a/coffer/v1/attempts", "").await;
    assert_eq!(attempts.status(), 200);
    let put_secret = two.lab.as_person(&auditor, Method::PUT, "/t/a/coffer/v1/resources/a/b/c", "x").await;
    assert_eq!(refusal(put_secret).await.1, "admin.forbidden");
    // Security manages admins and makes no owners, nor removes them.
    let security = Person::new();
    two.lab.as_person(&two.a, Method::PUT, &put("sam"), body(&security, json!(["security"]))).await;
    let grabbed =
        two.lab.as_person(&security, Method::PUT, &put("sam"), body(&security, json!(["owner"]))).await;
    assert_eq!(refusal(grabbed).await.1, "admin.forbidden");
    let removed = two.lab.as_person(&security, Method::DELETE, &put("first-admin"), "").await;
    assert_eq!(refusal(removed).await.1, "admin.forbidden");
    let last = two.lab.as_person(&two.a, Method::DELETE, &put("first-admin"), "").await;
    assert_eq!(refusal(last).await.1, "resource.conflict");
    let expired =
        json!({"public_key": auditor.jwk(), "roles": ["auditor"], "expires_at": "2001-01-01T00:00:00Z"});
    two.lab.as_person(&two.a, Method::PUT, &put("eve"), expired.to_string()).await;
    let late = two.lab.as_person(&auditor, Method::GET, "/t/a/coffer/v1/attempts", "").await;
    assert_eq!(refusal(late).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_the_tenant_s_own_and_the_operator_s_to_change() {
    let two = Two::start().await;
    let settings = json!({"quotas": {"resources": 2}}).to_string();
    two.lab.admin_ok(Method::PUT, "/coffer/v1/tenants/a/settings", settings).await;
    let put = |tag: &str| format!("/coffer/v1/resources/default/key/{tag}");
    let second = two.lab.as_person(&two.a, Method::PUT, &format!("/t/a{}", put("2")), "x").await;
    assert!(second.status().is_success());
    let third = two.lab.as_person(&two.a, Method::PUT, &format!("/t/a{}", put("3")), "x").await;
    assert_eq!(refusal(third).await.1, "tenant.quota");
    let again = two.lab.as_person(&two.a, Method::PUT, &format!("/t/a{}", put("2")), "y").await;
    assert!(again.status().is_success());
    let other = two.lab.as_person(&two.b, Method::PUT, &format!("/t/b{}", put("3")), "x").await;
    assert!(other.status().is_success());
    let unknown = json!({"quotas": {"resource": 2}}).to_string();
    let refused = two.lab.admin(Method::PUT, "/coffer/v1/tenants/a/settings", unknown).await;
    assert_eq!(refusal(refused).await.1, "request.malformed");
    let rates = json!({"quotas": {"rates": {"challenge": {"tenant": {"per_second": 1, "burst": 2}, "address": {"per_second": 1, "burst": 2}}}}});
    two.lab.admin_ok(Method::PUT, "/coffer/v1/tenants/a/settings", rates.to_string()).await;
    let mut codes = Vec::new();
    for tenant in ["a", "a", "a", "b"] {
        let body = json!({"version": "0.4.0", "tee": "tpm", "extra-params": ""}).to_string();
        let response = two
            .lab
            .http
            .post(format!("{}/t/{tenant}/kbs/v0/auth", two.lab.url))
            .body(body)
            .send()
            .await
            .unwrap();
        codes.push((response.status().as_u16(), response.headers().contains_key("retry-after")));
    }
    assert_eq!(codes, [(200, false), (200, false), (429, true), (200, false)]);
}

/// What three challenges are answered with, for which a proxy would name these clients.
async fn challenged(lab: &Lab, clients: [&'static str; 3]) -> Vec<u16> {
    let rates = json!({"quotas": {"rates": {"challenge": {"tenant": {"per_second": 100, "burst": 100}, "address": {"per_second": 1, "burst": 1}}}}});
    lab.admin_ok(Method::PUT, "/coffer/v1/tenants/default/settings", rates.to_string()).await;
    let mut all = Vec::new();
    for client in clients {
        let body = json!({"version": "0.4.0", "tee": "tpm", "extra-params": ""}).to_string();
        let request = lab.http.post(format!("{}/kbs/v0/auth", lab.url)).header("x-forwarded-for", client);
        all.push(request.body(body).send().await.unwrap().status().as_u16());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_count_the_client_that_a_trusted_proxy_names_and_nobody_else_s_word() {
    let names = ["203.0.113.1", "203.0.113.2", "198.51.100.1, 203.0.113.1"];
    let trusting = Lab::configured(crate::all_judges(), None, |config| {
        config.trusted_proxies = vec!["127.0.0.0/8".to_owned()].try_into().unwrap();
    });
    assert_eq!(challenged(&trusting.await, names).await, [200, 200, 429]);
    let lab = Lab::bare(crate::all_judges(), None).await;
    assert_eq!(challenged(&lab, names).await, [200, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_guest_gets_the_tenant_s_secret() {
    let two = Two::start().await;
    let (_, token) = two.lab.token_of(Some("a"), COMMAND_LINE).await;
    let url = format!("{}/t/a/kbs/v0/resource/default/key/1", two.lab.url);
    assert_eq!(two.lab.http.get(url).bearer_auth(&token).send().await.unwrap().status(), 200);
    let (_, token) = two.lab.token_of(None, COMMAND_LINE).await;
    let session = two.lab.attest(COMMAND_LINE).await;
    let response = two.lab.resource(session.token(), "default/key/1").await;
    assert!(session.open(&response.bytes().await.unwrap()).unwrap().equals(SECRET));
    assert_ne!(token, session.token());
}
