//! Which call goes to which backend.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Body as HttpBody, Bytes};
use hyper::{Method, Request, Response, StatusCode};
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};

use super::caller::{self, Peer, Route};
use super::intake::Share;
use super::refusal;
use crate::attestation::{self, AttestationBackend, EvaluateRequest, SetPolicy};
use crate::backend::{AuthContext, BackendError, BoxFuture};
use crate::codec::Codec;
use crate::plugin::{Plugin, PluginCall};
use crate::reference::{self, ReferenceBackend, Registration};
use crate::wire;

/// The backends that answer. A service without one is UNIMPLEMENTED.
#[derive(Clone, Default)]
pub struct Services {
    attestation: Option<Arc<dyn AttestationBackend>>,
    references: Option<Arc<dyn ReferenceBackend>>,
    plugin: Option<Arc<dyn Plugin>>,
}

impl Services {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the attestation service.
    #[must_use]
    pub fn attestation(mut self, backend: Arc<dyn AttestationBackend>) -> Self {
        self.attestation = Some(backend);
        self
    }

    /// With the provider of reference values.
    #[must_use]
    pub fn references(mut self, backend: Arc<dyn ReferenceBackend>) -> Self {
        self.references = Some(backend);
        self
    }

    /// With a plugin, for programs that are one.
    #[must_use]
    pub fn plugin(mut self, plugin: Arc<dyn Plugin>) -> Self {
        self.plugin = Some(plugin);
        self
    }

    /// Answers one request. [`super::serve`] calls it, and so may an HTTP server that shares its port; see
    /// [`super::is_grpc`].
    pub async fn call<B>(&self, request: Request<B>, peer: &Peer, share: &Share) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
    {
        if request.method() != Method::POST || !caller::is_grpc(request.headers()) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let most = share.limits().call;
        let within = match caller::patience(request.headers()) {
            Ok(patience) => patience.map_or(most, |patience| patience.min(most)),
            Err(status) => return status.into_http(),
        };
        let now = Instant::now();
        let deadline = now.checked_add(within).unwrap_or(now);
        match tokio::time::timeout(within, self.answer(request, peer, share, deadline)).await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => status.into_http(),
            Err(_) => {
                let message = format!("the call took longer than {within:?}; try again, or wait longer");
                refusal::status(Code::DeadlineExceeded, "request.deadline", &message).into_http()
            }
        }
    }

    async fn answer<B>(
        &self,
        request: Request<B>,
        peer: &Peer,
        share: &Share,
        deadline: Instant,
    ) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send,
    {
        let (parts, body) = request.into_parts();
        let route = Route::parse(parts.uri.path())?;
        let call = self.find(route.service, route.method).ok_or_else(unknown)?;
        let auth = caller::context(&parts, route.tenant, peer, deadline)?;
        let (bytes, held) = share.read(body).await?;
        let request = Request::from_parts(parts, Full::new(bytes));
        let response = call.run(&auth, request).await;
        // The request's bytes are in memory until here.
        drop(held);
        Ok(response)
    }

    fn find<'a>(&'a self, service: &str, method: &str) -> Option<Call<'a>> {
        let attestation = |call: fn(_) -> Call<'a>| self.attestation.as_deref().map(call);
        let references = |call: fn(_) -> Call<'a>| self.references.as_deref().map(call);
        let plugin = |call: fn(_) -> Call<'a>| self.plugin.as_deref().map(call);
        match (service, method) {
            (wire::attestation::SERVICE, "AttestationEvaluate") => attestation(Call::Evaluate),
            (wire::attestation::SERVICE, "SetAttestationPolicy") => attestation(Call::SetPolicy),
            (wire::attestation::SERVICE, "GetAttestationChallenge") => attestation(Call::Challenge),
            (wire::reference::SERVICE, "QueryReferenceValue") => references(Call::Query),
            (wire::reference::SERVICE, "RegisterReferenceValue") => references(Call::Register),
            (wire::plugin::SERVICE, "Handle") => plugin(Call::Handle),
            (wire::plugin::SERVICE, "ValidateAuth") => plugin(Call::ValidateAuth),
            (wire::plugin::SERVICE, "NeedsEncryption") => plugin(Call::NeedsEncryption),
            _ => None,
        }
    }
}

/// A call that there is, with who answers it.
enum Call<'a> {
    Evaluate(&'a dyn AttestationBackend),
    SetPolicy(&'a dyn AttestationBackend),
    Challenge(&'a dyn AttestationBackend),
    Query(&'a dyn ReferenceBackend),
    Register(&'a dyn ReferenceBackend),
    Handle(&'a dyn Plugin),
    ValidateAuth(&'a dyn Plugin),
    NeedsEncryption(&'a dyn Plugin),
}

impl Call<'_> {
    async fn run(self, auth: &AuthContext, request: Request<Full<Bytes>>) -> Response<Body> {
        match self {
            Self::Evaluate(backend) => {
                unary(request, async |message| {
                    let request = EvaluateRequest::from_wire(message)?;
                    let attestation_token = backend.evaluate(auth, request).await?;
                    Ok(wire::attestation::AttestationResponse { attestation_token })
                })
                .await
            }
            Self::SetPolicy(backend) => {
                unary(request, async |message| {
                    backend.set_policy(auth, SetPolicy::from_wire(message)?).await?;
                    Ok(wire::attestation::SetPolicyResponse {})
                })
                .await
            }
            Self::Challenge(backend) => {
                unary(request, async |message: wire::attestation::ChallengeRequest| {
                    let parameters = attestation::challenge(message.inner)?;
                    let attestation_challenge = backend.challenge(auth, parameters).await?;
                    Ok(wire::attestation::ChallengeResponse { attestation_challenge })
                })
                .await
            }
            Self::Query(backend) => {
                unary(request, async |message: wire::reference::ReferenceValueQueryRequest| {
                    let id = reference::query_id(message.reference_value_id)?;
                    let found = backend.query(auth, id).await?;
                    let reference_value_results = found.map(|value| value.to_string());
                    Ok(wire::reference::ReferenceValueQueryResponse { reference_value_results })
                })
                .await
            }
            Self::Register(backend) => {
                unary(request, async |message: wire::reference::ReferenceValueRegisterRequest| {
                    backend.register(auth, Registration::parse(&message.message)?).await?;
                    Ok(wire::reference::ReferenceValueRegisterResponse {})
                })
                .await
            }
            Self::Handle(plugin) => {
                unary(request, async |message| {
                    Ok(plugin.handle(PluginCall::from_wire(message)).await?.into_wire())
                })
                .await
            }
            Self::ValidateAuth(plugin) => {
                unary(request, async |message| {
                    let requires_admin_auth = plugin.requires_admin(&PluginCall::from_wire(message)).await?;
                    Ok(wire::plugin::ValidateAuthResponse { requires_admin_auth })
                })
                .await
            }
            Self::NeedsEncryption(plugin) => {
                unary(request, async |message| {
                    let call = PluginCall::from_wire(message);
                    let requires_payload_encryption = plugin.needs_encryption(&call).await?;
                    Ok(wire::plugin::NeedsEncryptionResponse { requires_payload_encryption })
                })
                .await
            }
        }
    }
}

fn unknown() -> Status {
    let message = "no such call is served here; compare the service's and the method's name with proto/";
    refusal::status(Code::Unimplemented, "request.route", message)
}

/// A service for one request, as tonic wants to see it.
struct Once<'a, Q, R>(Option<Run<'a, Q, R>>);

type Run<'a, Q, R> = Box<dyn FnOnce(Q) -> BoxFuture<'a, Result<R, BackendError>> + Send + 'a>;

impl<'a, Q: 'a, R: Send + 'a> UnaryService<Q> for Once<'a, Q, R> {
    type Response = R;
    type Future = BoxFuture<'a, Result<tonic::Response<R>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let run = self.0.take().map(|run| run(request.into_inner()));
        Box::pin(async move {
            match run {
                Some(answer) => Ok(tonic::Response::new(answer.await?)),
                None => Err(Status::internal("a request was to be answered twice")),
            }
        })
    }
}

async fn unary<'a, Q, R, F>(
    request: Request<Full<Bytes>>,
    run: impl FnOnce(Q) -> F + Send + 'a,
) -> Response<Body>
where
    Q: Message + Default + 'static,
    R: Message + 'static,
    F: Future<Output = Result<R, BackendError>> + Send + 'a,
{
    let run: Run<'a, Q, R> = Box::new(move |message| Box::pin(run(message)));
    Grpc::new(Codec::<R, Q>::new()).unary(Once(Some(run)), request).await
}
