//! The calls of owners. None is reached but through [`only_admins`], which [`router`] puts before all of them.

mod api;
mod appraisal;
mod collateral;
mod compat;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use coffer_core_admin::PREFIX;
use coffer_core_protocol::error::Code;
use coffer_core_protocol::uri::ResourcePath;
use coffer_core_secret::SecretBytes;

use crate::broker::Broker;
use crate::call::{Answer, bearer, blocking, body};
use crate::reply::Refused;

/// As upstream.
const MAX_RESOURCE: usize = 2 << 20;
/// Reference values with their events, policies, certificates.
pub(crate) const MAX_BODY: usize = 1 << 20;
const MAX_NAME: usize = 128;

pub(crate) fn router(broker: &Broker) -> Router<Broker> {
    let ours = Router::new()
        .route("/info", get(api::info))
        .route("/resources", get(api::resources))
        .route("/attempts", get(api::attempts))
        .route("/attempts/{id}", get(api::attempt))
        .route("/attempts/{id}/evidence", get(api::evidence))
        .route("/attestation-policies", get(appraisal::policies))
        .route(
            "/attestation-policies/{name}",
            get(appraisal::policy).put(appraisal::put_policy).delete(appraisal::remove_policy),
        )
        .route("/named-values", get(appraisal::values))
        .route("/named-values/{name}", put(appraisal::put_value).delete(appraisal::remove_value))
        .route(
            "/platform-policy",
            get(appraisal::platform).put(appraisal::put_platform).delete(appraisal::reset_platform),
        )
        .route(
            "/endorsements/cca",
            get(appraisal::endorsements)
                .put(appraisal::put_endorsements)
                .delete(appraisal::remove_endorsements),
        )
        .route("/collateral", get(collateral::list).post(collateral::import))
        .route("/collateral/fetch", post(collateral::fetch))
        .route("/collateral/bundle", get(collateral::export))
        .route("/collateral/documents/{*key}", delete(collateral::remove))
        .route("/policies", get(api::policies))
        .route("/policies/{name}", get(api::policy).put(api::put_policy))
        .route("/reference-values", get(api::references).post(api::add_reference))
        .route("/reference-values/{id}", delete(api::remove_reference))
        .route("/trust-anchors", get(api::anchors))
        .route("/trust-anchors/{name}", put(api::put_anchor).delete(api::remove_anchor));
    let upstream = Router::new()
        .route("/kbs/v0/resource-policy", post(compat::put_policy).get(compat::policies))
        .route(
            "/kbs/v0/attestation-policy",
            post(compat::put_attestation_policy).get(compat::attestation_policies),
        )
        .route("/kbs/v0/reference-value", post(compat::add_reference).get(compat::references))
        .route("/kbs/v0/reference-value/{id}", get(compat::reference).delete(compat::remove_reference));
    Router::new()
        .nest(PREFIX, ours)
        .merge(upstream)
        .route_layer(middleware::from_fn_with_state(broker.clone(), only_admins))
}

/// The calls that change resources; they share their path with the guests' call.
pub(crate) fn resource_routes(broker: &Broker) -> MethodRouter<Broker> {
    let only_admins = middleware::from_fn_with_state(broker.clone(), only_admins);
    post(put_resource).delete(delete_resource).route_layer(only_admins)
}

/// Lets admins through, and says the same thing to everybody else before anything of the body is read.
async fn only_admins(State(broker): State<Broker>, request: Request, next: Next) -> Response {
    let admin = bearer(request.headers())
        .is_some_and(|token| broker.inner().admins.check(token, broker.inner().now_s()).is_ok());
    match admin {
        true => next.run(request).await,
        false => Refused::plain(Code::AdminUnauthenticated).into_response(),
    }
}

fn path(parts: (String, String, String)) -> Result<ResourcePath, Refused> {
    let path = ResourcePath::new(&parts.0, &parts.1, &parts.2);
    path.map_err(|error| Refused::new(Code::ResourcePath, format!("{error}.")))
}

async fn put_resource(
    State(broker): State<Broker>,
    Path(parts): Path<(String, String, String)>,
    request: Request,
) -> Answer {
    let path = path(parts)?.to_string();
    let value = SecretBytes::copy_of(&body(request, MAX_RESOURCE).await?);
    let at = broker.inner().now().as_second();
    let name = path.clone();
    let store = broker.inner().store.clone();
    let version = blocking(move || store.put_resource(&name, &value, at)).await??;
    tracing::info!(resource = path, version, "resource stored");
    Ok(StatusCode::OK.into_response())
}

async fn delete_resource(
    State(broker): State<Broker>,
    Path(parts): Path<(String, String, String)>,
) -> Answer {
    let path = path(parts)?.to_string();
    let (name, store) = (path.clone(), broker.inner().store.clone());
    match blocking(move || store.delete_resource(&name)).await?? {
        true => {
            tracing::info!(resource = path, "resource removed");
            Ok(StatusCode::OK.into_response())
        }
        false => Err(Refused::plain(Code::ResourceMissing)),
    }
}
