//! A server on the loopback interface that behaves as the vendors' services do, well or badly; and a clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_server_collateral::{Clock, CollateralService, Period, Proxy, Settings};
use coffer_verify_api::{CollateralKey, PckCa};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use serde_json::json;

pub const FMSPC: [u8; 6] = [0xb0, 0xc0, 0x6f, 0, 0, 0];
pub const NOW: &str = "2026-06-01T00:00:00Z";
pub const WAIT: Duration = Duration::from_secs(20);

/// How the server behaves.
#[derive(Clone, Debug)]
pub enum Manner {
    Well,
    Slow(Duration),
    Busy(StatusCode, Option<&'static str>),
    /// Busy so often, then well.
    BusyFor(usize, &'static str),
    Failing(StatusCode),
    FailingFor(usize),
    Garbage(&'static [u8]),
    /// Says that more comes than does.
    Truncated,
    Endless,
    /// Without the headers that belong to it.
    Bare,
}

pub struct Source {
    pub url: String,
    pub asked: Mutex<Vec<String>>,
    pub manner: Mutex<Manner>,
    /// The end that documents state.
    pub next_update: Mutex<String>,
    pub cache_control: Mutex<Option<&'static str>>,
    authority: Authority,
}

pub struct Authority {
    pub pem: String,
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign, rcgen::KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    pub fn crl(&self, next_update: &str) -> Vec<u8> {
        let at = |text: &str| {
            let at: Timestamp = text.parse().unwrap();
            let civil = at.to_zoned(jiff::tz::TimeZone::UTC);
            rcgen::date_time_ymd(
                civil.year().into(),
                civil.month().unsigned_abs(),
                civil.day().unsigned_abs(),
            )
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: at("2026-01-01T00:00:00Z"),
            next_update: at(next_update),
            crl_number: rcgen::SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

impl Source {
    pub async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            asked: Mutex::default(),
            manner: Mutex::new(Manner::Well),
            next_update: Mutex::new("2026-07-01T00:00:00Z".to_owned()),
            cache_control: Mutex::new(None),
            authority: Authority::new("Intel SGX PCK Platform CA"),
        });
        let router = Router::new().fallback(answer).with_state(source.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        source
    }

    pub fn is(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn ends(&self, at: &str) {
        *self.next_update.lock().unwrap() = at.to_owned();
    }

    pub fn times(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn settings(&self) -> Settings {
        let mut settings =
            Settings { timeout: Period::seconds(5), proxy: Proxy::None, ..Settings::default() };
        settings.intel.pcs.clone_from(&self.url);
        settings.intel.root_crl = format!("{}/root.der", self.url);
        settings.amd.kds.clone_from(&self.url);
        settings.nvidia.rim.clone_from(&self.url);
        settings.nvidia.ocsp = format!("{}/ocsp", self.url);
        settings.hygon.kds.clone_from(&self.url);
        settings
    }
}

async fn answer(State(source): State<Arc<Source>>, request: Request) -> Response {
    let asked = format!("{} {}", request.method(), request.uri());
    let times = {
        let mut all = source.asked.lock().unwrap();
        all.push(asked);
        all.len()
    };
    let manner = source.manner.lock().unwrap().clone();
    let busy = |status: StatusCode, after: Option<&'static str>| {
        let mut response = status.into_response();
        if let Some(after) = after {
            response.headers_mut().insert("retry-after", after.parse().unwrap());
        }
        response
    };
    match manner {
        Manner::Slow(period) => tokio::time::sleep(period).await,
        Manner::Busy(status, after) => return busy(status, after),
        Manner::BusyFor(count, after) if times <= count => {
            return busy(StatusCode::TOO_MANY_REQUESTS, Some(after));
        }
        Manner::Failing(status) => return status.into_response(),
        Manner::FailingFor(count) if times <= count => return StatusCode::BAD_GATEWAY.into_response(),
        Manner::Garbage(bytes) => {
            let chain = source.authority.pem.replace('\n', "%0A");
            return ([("tcb-info-issuer-chain", chain)], bytes).into_response();
        }
        Manner::Truncated => {
            let body = Body::from_stream(futures::stream::iter([
                Ok::<_, std::io::Error>(Bytes::from_static(b"{\"tcbInfo\":")),
                Err(std::io::Error::other("gone")),
            ]));
            return body.into_response();
        }
        Manner::Endless => {
            let chunk = Bytes::from(vec![b' '; 1 << 20]);
            let stream = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            return Body::from_stream(stream).into_response();
        }
        _ => (),
    }
    let (mut headers, body) =
        document(&source, request.uri().path(), request.uri().query().unwrap_or_default());
    if matches!(manner, Manner::Bare) {
        headers.clear();
    }
    if let Some(value) = *source.cache_control.lock().unwrap() {
        headers.insert("cache-control", value.parse().unwrap());
    }
    match body {
        Some(body) => (headers, body).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn document(source: &Source, path: &str, query: &str) -> (HeaderMap, Option<Vec<u8>>) {
    let end = source.next_update.lock().unwrap().clone();
    let chain = source.authority.pem.replace('\n', "%0A").replace(' ', "%20").replace('=', "%3D");
    let mut headers = HeaderMap::new();
    let mut chain = |name: &'static str| headers.insert(name, chain.parse().unwrap());
    let tcb = |id: &str| tcb_info(id, query.trim_start_matches("fmspc="), &end).into_bytes();
    let body = match path {
        "/tdx/certification/v4/tcb" => {
            chain("tcb-info-issuer-chain");
            tcb("TDX")
        }
        "/sgx/certification/v4/tcb" => {
            chain("sgx-tcb-info-issuer-chain");
            tcb("SGX")
        }
        "/tdx/certification/v4/qe/identity" => {
            chain("sgx-enclave-identity-issuer-chain");
            identity("TD_QE", &end).into_bytes()
        }
        "/sgx/certification/v4/qe/identity" => {
            chain("sgx-enclave-identity-issuer-chain");
            identity("QE", &end).into_bytes()
        }
        // As a caching service answers: in hexadecimal digits.
        "/sgx/certification/v4/pckcrl" => {
            chain("sgx-pck-crl-issuer-chain");
            hex::encode(source.authority.crl(&end)).into_bytes()
        }
        "/root.der" | "/vcek/v1/Milan/crl" => source.authority.crl(&end),
        "/vcek/v1/Milan/cert_chain" | "/vlek/v1/Milan/cert_chain" => {
            source.authority.pem.clone().into_bytes()
        }
        "/v1/rim/NV_GPU_DRIVER_GH100_1" => {
            let rim = manifest();
            let body =
                json!({"id": "NV_GPU_DRIVER_GH100_1", "rim": STANDARD.encode(rim), "rim_format": "TCG_RIM"});
            body.to_string().into_bytes()
        }
        "/hsk_cek" if query == "snumber=N1" => vec![7; 2916],
        _ if path.starts_with("/vcek/v1/") => source.authority.der.clone(),
        _ => return (HeaderMap::new(), None),
    };
    (headers, Some(body))
}

pub fn manifest() -> &'static str {
    "<?xml version=\"1.0\"?><SoftwareIdentity name=\"GH100\"></SoftwareIdentity>"
}

pub fn tcb_info(id: &str, fmspc: &str, end: &str) -> String {
    format!(
        "{{\"tcbInfo\":{{\"id\":\"{id}\",\"version\":3,\"fmspc\":\"{fmspc}\",\"nextUpdate\":\"{end}\"}},\"signature\":\"00ff\"}}"
    )
}

pub fn identity(id: &str, end: &str) -> String {
    format!("{{\"enclaveIdentity\":{{\"id\":\"{id}\",\"nextUpdate\":\"{end}\"}},\"signature\":\"00ff\"}}")
}

/// A clock that tests turn.
#[derive(Clone)]
pub struct Turned(Arc<AtomicI64>);

impl Turned {
    pub fn to(text: &str) -> Self {
        Self(Arc::new(AtomicI64::new(text.parse::<Timestamp>().unwrap().as_second())))
    }

    pub fn forward(&self, period: SignedDuration) {
        self.0.fetch_add(period.as_secs(), Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let own = self.0.clone();
        Arc::new(move || Timestamp::from_second(own.load(Ordering::SeqCst)).unwrap())
    }
}

/// A service, its folder, its clock.
pub struct Bench {
    pub service: CollateralService,
    pub folder: tempfile::TempDir,
    pub clock: Turned,
}

impl Bench {
    pub fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Turned::to(NOW);
        let service = CollateralService::open_with_clock(folder.path(), settings, clock.clock()).unwrap();
        Self { service, folder, clock }
    }

    /// Another process with the same folder.
    pub fn reopened(&self, settings: Settings) -> CollateralService {
        CollateralService::open_with_clock(self.folder.path(), settings, self.clock.clock()).unwrap()
    }
}

/// One of each kind that can be asked for by its key.
pub fn keys() -> Vec<CollateralKey> {
    vec![
        CollateralKey::TdxTcbInfo(FMSPC),
        CollateralKey::SgxTcbInfo(FMSPC),
        CollateralKey::TdQeIdentity,
        CollateralKey::SgxQeIdentity,
        CollateralKey::PckCrl(PckCa::Platform),
        CollateralKey::IntelRootCrl,
        CollateralKey::AmdVcek { product: "Milan".into(), chip: vec![0xab; 64], tcb: 0x7308_0000_0000_0103 },
        CollateralKey::AmdVcek { product: "Turin".into(), chip: vec![0xcd; 8], tcb: 0x4700_0000_0403_0201 },
        CollateralKey::AmdVcekChain("Milan".into()),
        CollateralKey::AmdVlekChain("Milan".into()),
        CollateralKey::AmdCrl("Milan".into()),
        CollateralKey::NvidiaRim("NV_GPU_DRIVER_GH100_1".into()),
        CollateralKey::HygonHskCek("N1".into()),
    ]
}

pub fn tdx() -> CollateralKey {
    CollateralKey::TdxTcbInfo(FMSPC)
}
