//! The messages that frames carry, as JSON.

use serde::{Deserialize, Serialize};

/// What a stream is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "open", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Open {
    /// Host to guest, once: run this container, and use this stream for its input, output and end.
    Run(RunRequest),
    /// Guest to host: send a blob of the image that is run, by digest. The guest checks what it gets.
    Blob(BlobRequest),
    /// Guest to host, at most once: send the workload's input here, as [`crate::Kind::Stdin`] frames. A stream of its
    /// own, so that a workload that does not read holds back nothing else.
    Input,
}

/// Whether the host will send input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The workload's input is empty.
    #[default]
    Empty,
    /// The host sends input where the guest asks for it.
    Sent,
}

/// What the host asks the guest to run. The gate compares each field with the owner's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The image's name as the user wrote it.
    pub image: String,
    /// Where the guest finds it.
    pub source: ImageSource,
    /// Arguments instead of the image's command; empty means the image's own.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables (`K=V`) added to the image's.
    #[serde(default)]
    pub env: Vec<String>,
    /// Whether the workload gets input.
    #[serde(default)]
    pub input: Input,
    /// Whether the workload gets a terminal, and its size.
    #[serde(default)]
    pub terminal: Option<Winsize>,
    /// The guest's network, if the machine has one.
    #[serde(default)]
    pub network: Option<Network>,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImageSource {
    /// The guest pulls it from a registry.
    Registry {
        /// The reference, as in `registry:5000/repo:tag`.
        reference: String,
        /// Plain HTTP instead of HTTPS. The image's digest and signature are checked all the same.
        #[serde(default)]
        plain_http: bool,
    },
    /// The host serves its blobs by digest over this channel, and sealed blocks as disks.
    Host {
        /// The manifest's digest.
        manifest: String,
        /// The manifest digests of signature artifacts, if the host knows any.
        #[serde(default)]
        signatures: Vec<String>,
        /// Blobs that are attached as virtio disks: digest and the disk's serial number.
        #[serde(default)]
        disks: Vec<(String, String)>,
    },
}

/// A static address for the guest's first network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The address with its prefix length, as in `10.0.2.15/24`.
    pub address: String,
    /// The default gateway.
    pub gateway: String,
    /// The name server.
    pub dns: String,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winsize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A blob that the guest asks the host for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRequest {
    /// Its digest.
    pub digest: String,
}

/// The host's answer, before the blob's data frames.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobReply {
    /// The blob follows; this many bytes.
    Size(u64),
    /// The host has no such blob.
    Missing,
}

/// A step of the start, for the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The step's name: `boot`, `init-data`, `attestation`, `key`, `image`, `gate`, `workload`.
    pub step: String,
    /// What was done, for a person. Public: it passes through the host.
    pub detail: String,
    /// Microseconds since the guest's kernel started.
    pub at_us: u64,
}

/// Why the guest will not run the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable and documented: `image.signature.untrusted-key`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What was expected, if it can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found, if it can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The broker's name for the attempt, for `coffer explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

/// The serial number of the disk on which a guest may put what outlasts nothing: its container's writable layer.
pub const SCRATCH_SERIAL: &str = "coffer-scratch";

/// The serial number of the disk by which a host attaches a volume of init-data: `vol-` and its name.
#[must_use]
pub fn volume_serial(name: &str) -> String {
    format!("vol-{name}")
}
