//! The gate: nothing runs that the owner's policy does not name.
//!
//! What holds (I-4): a container starts only with an [`Authorized`] value, which only the gate makes, and it carries
//! the manifest digest that was pinned or signed. Default deny. Left out: fetching, and the typed sandbox policy for
//! mounts, devices and exec, which the request cannot ask for yet.

mod decide;
mod error;
#[cfg(test)]
mod tests;

use coffer_core_channel::{Input, RunRequest, Winsize};
use coffer_core_digest::Digest;
use coffer_core_initdata::{AllowedContainer, GuestConfig, Permission, Secret};
use coffer_core_protocol::uri::ResourcePath;

pub use error::GateError;

/// The owner's policy, ready to compare requests with.
pub struct Gate {
    allowed: Vec<AllowedContainer>,
}

/// A signature as it was found beside the image. Nothing in it is believed before it is verified.
#[derive(Clone, Debug)]
pub struct FoundSignature {
    /// The simple-signing payload.
    pub payload: Vec<u8>,
    /// The signature over it, in base64.
    pub signature: String,
}

/// The image that was found for a request.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The digest of its manifest, computed over the bytes that will be used.
    pub manifest: Digest,
    /// The signatures found beside it.
    pub signatures: Vec<FoundSignature>,
}

/// A request whose name, arguments, environment, input and terminal the policy allows; the image is still to be checked.
#[derive(Debug)]
pub struct Admitted<'a> {
    request: &'a RunRequest,
    entries: Vec<&'a AllowedContainer>,
}

/// What was checked. Its field is private: only the gate makes one.
#[derive(Debug)]
pub struct Authorized<T>(T);

impl<T> Authorized<T> {
    /// What may be done.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// How the image was pinned, for the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By its digest in init-data.
    Digest,
    /// By a signature of the key with this fingerprint.
    Signature(Digest),
}

/// A container that may run.
#[derive(Clone)]
pub struct Container {
    /// The image's name.
    pub image: String,
    /// The manifest that may run, and no other.
    pub manifest: Digest,
    /// How it was pinned.
    pub pin: Pin,
    /// Arguments instead of the image's; empty means the image's own.
    pub args: Vec<String>,
    /// What is added to the image's environment.
    pub env: Vec<String>,
    /// Whether the host sends input.
    pub input: Input,
    /// The terminal's size, if there is one.
    pub terminal: Option<Winsize>,
    /// The resources that the workload may ask for, and no others.
    pub resources: Vec<ResourcePath>,
    /// The secrets that are put into its environment and files.
    pub secrets: Vec<Secret>,
    /// Whether the workload may have evidence and token.
    pub evidence: Permission,
}

impl std::fmt::Debug for Container {
    /// Without arguments and environment, which may be nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("image", &self.image)
            .field("manifest", &self.manifest)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// The gate that the owner's configuration describes.
    #[must_use]
    pub fn new(config: &GuestConfig) -> Self {
        Self { allowed: config.containers.clone() }
    }

    /// Compares what can be compared before anything is fetched: name, arguments, environment, input, terminal.
    ///
    /// # Errors
    /// Names the field that no entry of the policy allows.
    pub fn admit<'a>(&'a self, request: &'a RunRequest) -> Result<Admitted<'a>, GateError> {
        decide::admit(&self.allowed, request).map(|entries| Admitted { request, entries })
    }

    /// Both steps at once.
    ///
    /// # Errors
    /// As [`Gate::admit`] and [`Admitted::authorize`].
    pub fn authorize(
        &self,
        request: &RunRequest,
        candidate: &Candidate,
    ) -> Result<Authorized<Container>, GateError> {
        self.admit(request)?.authorize(candidate)
    }
}

impl Admitted<'_> {
    /// Compares the image that was found: signed by a named key, or of the pinned digest, or both.
    ///
    /// # Errors
    /// Says which rule the image breaks.
    pub fn authorize(&self, candidate: &Candidate) -> Result<Authorized<Container>, GateError> {
        let (pin, entry) = decide::pinned(&self.entries, candidate)?;
        Ok(Authorized(Container {
            image: self.request.image.clone(),
            manifest: candidate.manifest,
            pin,
            args: self.request.args.clone(),
            env: self.request.env.clone(),
            input: self.request.input,
            terminal: self.request.terminal,
            resources: decide::resources(&entry.resources)?,
            secrets: entry.secrets.clone(),
            evidence: entry.evidence,
        }))
    }
}
