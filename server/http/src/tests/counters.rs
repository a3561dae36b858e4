//! Claims about the counters of volumes.

use coffer_core_protocol::counter::{Counter, MoveCounter};
use reqwest::{Method, Response};
use serde_json::json;

use super::lab::{COMMAND_LINE, Lab, refusal};

const PATH: &str = "/coffer/v1/counter/default/key/1";
const ADMIN: &str = "/coffer/v1/counters/default/key/1";
const KEY: &str = "/coffer/v1/resources/default/key/1";

fn moving(number: u64, mark: &str, new: &str) -> MoveCounter {
    MoveCounter { from: Counter { number, mark: mark.repeat(16) }, mark: new.repeat(16) }
}

async fn advance(lab: &Lab, token: &str, asked: &MoveCounter) -> Response {
    let url = format!("{}{PATH}", lab.url);
    lab.http.post(url).bearer_auth(token).json(asked).send().await.unwrap()
}

async fn counter(lab: &Lab, token: &str) -> Counter {
    let url = format!("{}{PATH}", lab.url);
    let response = lab.http.get(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counter_moves_forward_by_one_from_what_it_is_and_never_back() {
    let mut lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    let token = session.token();
    assert_eq!(counter(&lab, token).await, Counter::default());
    let first = moving(0, "00", "a1");
    for _ in 0..2 {
        // The second time as after a lost reply.
        let moved: Counter = advance(&lab, token, &first).await.json().await.unwrap();
        assert_eq!(moved, Counter { number: 1, mark: "a1".repeat(16) });
    }
    for stale in [moving(0, "00", "b2"), moving(1, "b2", "c3"), moving(2, "a1", "c3"), moving(5, "a1", "c3")]
    {
        assert_eq!(refusal(advance(&lab, token, &stale).await).await.1, "counter.conflict", "{stale:?}");
    }
    assert_eq!(refusal(advance(&lab, token, &moving(1, "a1", "")).await).await.1, "request.malformed");
    assert_eq!(advance(&lab, token, &moving(1, "a1", "b2")).await.status(), 200);
    assert_eq!(counter(&lab, token).await.number, 2);
    let attempt = lab.admin_json(&format!("/coffer/v1/attempts/{}", session.attempt())).await;
    let decisions = attempt["decisions"].as_array().unwrap();
    assert!(decisions.iter().any(|d| d["resource"] == "counter/default/key/1" && d["outcome"] == "counted"));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_have_the_key_sees_or_moves_its_counter() {
    let mut lab = Lab::start(true).await;
    let session = lab.attest(COMMAND_LINE).await;
    lab.admin_ok(Method::DELETE, KEY, "").await;
    let missing = advance(&lab, session.token(), &moving(0, "00", "a1")).await;
    assert_eq!(refusal(missing).await.1, "resource.missing", "nothing is counted without a key");
    lab.admin_ok(Method::PUT, KEY, "a key").await;
    let stranger = advance(&lab, "no-token", &moving(0, "00", "a1")).await;
    assert_eq!(stranger.status(), 401);
    let denying = json!({"rego": "package policy\nimport rego.v1\ndefault allow := false\n"}).to_string();
    lab.admin_ok(Method::PUT, "/coffer/v1/policies/resource", denying).await;
    let denied = advance(&lab, session.token(), &moving(0, "00", "a1")).await;
    let (status, code, _) = refusal(denied).await;
    assert_eq!(status, 403, "{code}");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_sets_a_counter_back_after_a_restore() {
    let mut lab = Lab::start(true).await;
    let body = |number: u64, mark: &str| json!({"number": number, "mark": mark}).to_string();
    lab.admin_ok(Method::DELETE, KEY, "").await;
    let early = lab.admin(Method::PUT, ADMIN, body(1, &"a1".repeat(16))).await;
    assert_eq!(refusal(early).await.1, "resource.missing");
    lab.admin_ok(Method::PUT, KEY, "a key").await;
    let session = lab.attest(COMMAND_LINE).await;
    lab.admin_ok(Method::PUT, ADMIN, body(7, &"a1".repeat(16))).await;
    assert_eq!(counter(&lab, session.token()).await.number, 7);
    lab.admin_ok(Method::PUT, ADMIN, body(3, &"a1".repeat(16))).await;
    assert_eq!(counter(&lab, session.token()).await.number, 3);
    let wrong = lab.admin(Method::PUT, ADMIN, body(3, "zz")).await;
    assert_eq!(refusal(wrong).await.1, "request.malformed");
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_guests_that_move_a_counter_at_once_one_does() {
    let lab = std::sync::Arc::new(Lab::start(true).await);
    let session = lab.attest(COMMAND_LINE).await;
    let mut moving_all = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (lab, token) = (lab.clone(), session.token().to_owned());
        moving_all.spawn(async move {
            let asked = moving(0, "00", &format!("a{number}"));
            advance(&lab, &token, &asked).await.status().as_u16()
        });
    }
    let mut statuses = moving_all.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
}
