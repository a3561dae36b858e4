//! A web server, an object store and a registry on loopback, which do as badly as they are told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use coffer_core_digest::Digest;
use coffer_core_oci::{Descriptor, Manifest};

use super::Sealed;
use crate::{ENVELOPE, FILE_PATH};

/// What is done with a request, by how many came before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Good,
    /// Sends this many bytes of the body and closes.
    Cut(usize),
    /// Sends half of the body and nothing more.
    Stall,
    /// Another status, and whether to say when to come back.
    Status(u16),
    /// Sends other bytes than were asked for, and says so.
    Elsewhere,
    /// Does not know ranges.
    Whole,
}

pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// The object whose content is where everything else is.
const REDIRECT: &str = "redirect";

type Choose = dyn Fn(usize, &Request) -> Manner + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
    pub(crate) sent: Arc<Mutex<u64>>,
}

impl Server {
    pub(crate) fn new(
        objects: BTreeMap<String, Vec<u8>>,
        manner: impl Fn(usize, &Request) -> Manner + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, sent) = (Arc::default(), Arc::default());
        let own = Self { address, seen: Arc::clone(&seen), sent: Arc::clone(&sent) };
        let (objects, choose): (Arc<_>, Arc<Choose>) = (Arc::new(objects), Arc::new(manner));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (objects, choose) = (Arc::clone(&objects), Arc::clone(&choose));
                let (seen, sent) = (Arc::clone(&seen), Arc::clone(&sent));
                thread::spawn(move || while serve(&stream, &objects, &*choose, &seen, &sent).is_some() {});
            }
        });
        own
    }

    pub(crate) fn of(
        sealed: &Sealed,
        manner: impl Fn(usize, &Request) -> Manner + Send + Sync + 'static,
    ) -> Self {
        let objects = sealed.objects.iter().map(|(name, bytes)| (format!("/m/{name}"), bytes.clone()));
        Self::new(objects.collect(), manner)
    }

    /// Sends everybody there.
    pub(crate) fn redirecting(to: String) -> Self {
        Self::new(BTreeMap::from([(REDIRECT.to_owned(), to.into_bytes())]), |_, _| Manner::Good)
    }

    pub(crate) fn place(&self) -> String {
        format!("http://{}/m", self.address)
    }
}

fn serve(
    stream: &TcpStream,
    objects: &BTreeMap<String, Vec<u8>>,
    choose: &Choose,
    seen: &Mutex<Vec<Request>>,
    sent: &Mutex<u64>,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = lines.next()?.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let request = Request { path, headers };
    let manner = choose(seen.lock().unwrap().len(), &request);
    let found = objects.get(request.path.split('?').next()?);
    let range = request.headers.get("range").and_then(|range| {
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
    });
    seen.lock().unwrap().push(request);
    let mut out = stream;
    let mut reply = |status: u16, more: &str, body: &[u8], length: usize| {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{more}\r\n");
        out.write_all(head.as_bytes()).ok()?;
        out.write_all(body).ok()?;
        *sent.lock().unwrap() += body.len() as u64;
        (body.len() == length).then_some(())
    };
    if let Manner::Status(status) = manner {
        let wait = if status == 429 { "Retry-After: 0\r\n" } else { "" };
        let asked = "Www-Authenticate: Bearer realm=\"http://HOST/token\",service=\"s\"\r\n";
        let asked = asked.replace("HOST", &stream.local_addr().ok()?.to_string());
        return reply(status, if status == 401 { &asked } else { wait }, b"", 0);
    }
    if let Some(to) = objects.get(REDIRECT) {
        return reply(302, &format!("Location: {}\r\n", String::from_utf8_lossy(to)), b"", 0);
    }
    let Some(whole) = found else { return reply(404, "", b"", 0) };
    let (status, more, body) = match range.filter(|_| manner != Manner::Whole) {
        None => (200, String::new(), &whole[..]),
        Some((from, _)) if from >= whole.len() => {
            let more = format!("Content-Range: bytes */{}\r\n", whole.len());
            return reply(416, &more, b"", 0);
        }
        Some((from, to)) => {
            let from = if manner == Manner::Elsewhere { from + 1 } else { from };
            let end = (to + 1).min(whole.len());
            let more = format!("Content-Range: bytes {from}-{}/{}\r\n", end - 1, whole.len());
            (206, more, whole.get(from..end).unwrap_or_default())
        }
    };
    match manner {
        Manner::Cut(after) => reply(status, &more, &body[..after.min(body.len())], body.len()),
        Manner::Stall => {
            reply(status, &more, &body[..body.len() / 2], body.len());
            // Until the other side gives up.
            let _ = lines.next();
            None
        }
        _ => reply(status, &more, body, body.len()),
    }
}

/// A manifest over the objects of a model, as the owner's command writes it.
pub(crate) fn model_pack(sealed: &Sealed, artifact_type: &str) -> Vec<u8> {
    let layer = |(name, bytes): (&String, &Vec<u8>)| {
        let mut layer = Descriptor::of("application/vnd.cncf.model.weight.v1.raw", bytes);
        layer.annotations.insert(FILE_PATH.into(), name.clone());
        layer
    };
    let layers: Vec<_> = sealed.objects.iter().map(layer).collect();
    assert!(layers.iter().any(|layer| layer.annotations[FILE_PATH] == ENVELOPE));
    let mut manifest =
        Manifest::new(Descriptor::of("application/vnd.cncf.model.config.v1+json", b"{}"), layers);
    manifest.artifact_type = Some(artifact_type.into());
    manifest.to_bytes().unwrap()
}

/// The objects of a registry with one artifact.
pub(crate) fn registry(sealed: &Sealed, artifact_type: &str) -> BTreeMap<String, Vec<u8>> {
    let blobs = sealed.objects.values();
    let mut objects: BTreeMap<_, _> =
        blobs.map(|bytes| (format!("/v2/m/blobs/{}", Digest::sha256(bytes)), bytes.clone())).collect();
    objects.insert("/v2/m/manifests/v1".into(), model_pack(sealed, artifact_type));
    objects.insert("/token".into(), br#"{"token":"for-readers"}"#.to_vec());
    objects
}
