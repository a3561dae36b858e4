//! A broker and a plugin that answer predictably, certificates, and servers that end with their test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coffer_core_secret::SecretBytes;
use coffer_server_grpc::{
    AttestationBackend, AuthContext, BackendError, BoxFuture, ChallengeParameters, ClientIdentity,
    EvaluateRequest, Kind, Limits, Listener, Plugin, PluginCall, PluginReply, PolicyInfo, ReferenceBackend,
    Registration, Security, Services, SetPolicy, serve,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// Answers with what it was asked, or refuses.
#[derive(Default)]
pub(crate) struct Broker {
    /// Calls that were given up by their callers.
    pub(crate) abandoned: Arc<AtomicUsize>,
}

struct Abandoned(Arc<AtomicUsize>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn admin(auth: &AuthContext) -> Result<(), BackendError> {
    match &auth.bearer {
        Some(token) if token.expose() == "admin" => Ok(()),
        Some(_) => Err(BackendError::new(Kind::Denied, "admin.denied", "the token is not an admin's")),
        None => {
            Err(BackendError::new(Kind::Unauthenticated, "admin.unauthenticated", "send an admin's token"))
        }
    }
}

impl AttestationBackend for Broker {
    fn evaluate<'a>(
        &'a self,
        auth: &'a AuthContext,
        request: EvaluateRequest,
    ) -> BoxFuture<'a, Result<String, BackendError>> {
        Box::pin(async move {
            let tee = request.requests[0].tee.as_str();
            match tee {
                "refused" => {
                    Err(BackendError::new(Kind::Refused, "attestation.refused", "the measurement is unknown"))
                }
                "endless" => {
                    let _guard = Abandoned(self.abandoned.clone());
                    std::future::pending().await
                }
                _ => {
                    let tenant = auth.tenant.as_ref().map_or("none", |tenant| tenant.as_str());
                    let host = auth.host.as_deref().unwrap_or("none");
                    let certified = auth.peer_certificate.is_some();
                    Ok(format!("{tee} {} {tenant} {host} {certified}", request.requests[0].evidence))
                }
            }
        })
    }

    fn set_policy<'a>(
        &'a self,
        auth: &'a AuthContext,
        policy: SetPolicy,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            admin(auth)?;
            assert_eq!(policy.rego, "package p");
            Ok(())
        })
    }

    fn policies<'a>(&'a self, _: &'a AuthContext) -> BoxFuture<'a, Result<Vec<PolicyInfo>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn challenge<'a>(
        &'a self,
        _: &'a AuthContext,
        parameters: ChallengeParameters,
    ) -> BoxFuture<'a, Result<String, BackendError>> {
        Box::pin(async move { Ok(format!("nonce for {}", parameters["tee"])) })
    }
}

impl ReferenceBackend for Broker {
    fn query<'a>(
        &'a self,
        _: &'a AuthContext,
        id: String,
    ) -> BoxFuture<'a, Result<Option<Value>, BackendError>> {
        Box::pin(async move { Ok((id == "known").then(|| serde_json::json!(["a", 1]))) })
    }

    fn register<'a>(
        &'a self,
        auth: &'a AuthContext,
        registration: Registration,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            admin(auth)?;
            assert!(matches!(registration, Registration::Message { .. }));
            Ok(())
        })
    }
}

/// Does what the first segment of the path says.
pub(crate) struct Echo;

impl Plugin for Echo {
    fn handle(&self, call: PluginCall) -> BoxFuture<'_, Result<PluginReply, BackendError>> {
        Box::pin(async move {
            match call.path[0].as_str() {
                "status" => Ok(PluginReply {
                    status: call.path[1].parse().unwrap(),
                    content_type: Some("text/plain".into()),
                    body: SecretBytes::copy_of(b"why"),
                }),
                "endless" => std::future::pending().await,
                "long" => Ok(PluginReply::ok(SecretBytes::new(vec![7; 5 << 20]))),
                "missing" => Err(BackendError::new(Kind::Missing, "x.missing", "its own words")),
                "unknown" => Err(BackendError::new(Kind::Unauthenticated, "x.who", "its own words")),
                _ => {
                    let (method, path, query) = (&call.method, call.path.join(","), &call.query);
                    let text = format!("{method} {path} {query:?} {}", call.body.expose().len());
                    Ok(PluginReply::ok(SecretBytes::new(text.into_bytes())))
                }
            }
        })
    }

    fn requires_admin<'a>(&'a self, call: &'a PluginCall) -> BoxFuture<'a, Result<bool, BackendError>> {
        Box::pin(async move { Ok(call.method == "POST") })
    }

    fn needs_encryption<'a>(&'a self, call: &'a PluginCall) -> BoxFuture<'a, Result<bool, BackendError>> {
        Box::pin(async move { Ok(call.path[0] == "secret") })
    }
}

pub(crate) fn services() -> Services {
    let broker = Arc::new(Broker::default());
    Services::new().attestation(broker.clone()).references(broker)
}

/// A server that ends when it is dropped or stopped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(services: Services, security: Security, limits: Limits) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), services, security, limits).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        services: Services,
        security: Security,
        limits: Limits,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, task) = run(Listener::Tcp(listener), services, security, limits);
        Self { address, stop: Some(stop), task }
    }

    /// Asks for an orderly end and waits for it.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(WITHIN, &mut self.task).await.expect("an end").unwrap();
    }

    pub(crate) fn ask_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn ended(self) {
        tokio::time::timeout(WITHIN, self.task).await.expect("an end").unwrap();
    }
}

pub(crate) fn run(
    listener: Listener,
    services: Services,
    security: Security,
    limits: Limits,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        serve(listener, services, security, limits, shutdown).await.unwrap();
    });
    (stop, task)
}

/// An authority with a server's and a client's certificate.
pub(crate) struct Pki {
    pub(crate) authority_pem: String,
    pub(crate) server: Arc<ServerConfig>,
    client_pem: String,
    client_key_pem: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Some readers take a certificate for self-signed when it is named like its issuer.
        params.distinguished_name.push(DnType::CommonName, "Coffer test authority");
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = leaf("127.0.0.1");
        let (client, client_key) = leaf("broker.example");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![server.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self {
            authority_pem: root.pem(),
            server: Arc::new(config),
            client_pem: client.pem(),
            client_key_pem: client_key.serialize_pem(),
        }
    }

    pub(crate) fn identity(&self) -> ClientIdentity {
        ClientIdentity {
            chain_pem: self.client_pem.clone().into_bytes(),
            key_pem: SecretBytes::copy_of(self.client_key_pem.as_bytes()),
        }
    }
}
