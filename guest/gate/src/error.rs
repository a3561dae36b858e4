//! Why the gate is closed.

use coffer_core_channel::Refusal;
use coffer_core_digest::Digest;

/// Why the gate is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The policy allows no container at all.
    #[error("init-data allows no container, and the host asked for {image:?}")]
    Nothing {
        /// What was asked for.
        image: String,
    },
    /// The policy does not name the image.
    #[error("init-data does not name the image {found:?}")]
    Image {
        /// The names that it has.
        expected: Vec<String>,
        /// What was asked for.
        found: String,
    },
    /// Other arguments than the policy allows.
    #[error("the host asked for other arguments than init-data allows for {image:?}")]
    Args {
        /// The image.
        image: String,
        /// What is allowed; `None` is the image's own command.
        expected: Option<Vec<String>>,
        /// What was asked for.
        found: Vec<String>,
    },
    /// Another environment than the policy allows.
    #[error("the host asked for another environment than init-data allows for {image:?}: {difference}")]
    Env {
        /// The image.
        image: String,
        /// Which variable differs, by name: values may be secret.
        difference: String,
    },
    /// Input, which the policy denies.
    #[error("the host wants to send input to {image:?}, and init-data does not allow it")]
    Stdin {
        /// The image.
        image: String,
    },
    /// A terminal, which the policy denies.
    #[error("the host asked for a terminal for {image:?}, and init-data does not allow it")]
    Terminal {
        /// The image.
        image: String,
    },
    /// No signature was found.
    #[error("the image has no signature, and init-data asks for one")]
    Unsigned {
        /// The image that was found.
        manifest: Box<Digest>,
    },
    /// Signed, but by nobody whom the policy names.
    #[error("the image is signed by another key than init-data names")]
    UntrustedKey {
        /// The fingerprints of the keys that are named.
        expected: Vec<String>,
        /// How many signatures were tried.
        found: usize,
    },
    /// A named key signed, but another image.
    #[error("a key that init-data names signed another image than the one that was found")]
    OtherDigest {
        /// The image that the signature covers.
        expected: Box<Digest>,
        /// The image that was found.
        found: Box<Digest>,
    },
    /// A named key signed this image, but under another name.
    #[error("the image is signed under another name than {expected:?}, and init-data pins no digest")]
    OtherName {
        /// The name that was asked for.
        expected: String,
        /// The name in the signature.
        found: String,
    },
    /// A signature that cannot be read.
    #[error("the image's signature cannot be read: {why}")]
    Malformed {
        /// Why.
        why: String,
    },
    /// A key or resource in the policy cannot be used.
    #[error("init-data cannot be used: {why}")]
    Policy {
        /// Why.
        why: String,
    },
    /// Another image than the pinned one.
    #[error("the image is not the one that init-data pins")]
    Digest {
        /// The pinned one.
        expected: Box<Digest>,
        /// The one that was found.
        found: Box<Digest>,
    },
}

impl GateError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Nothing { .. } => "gate.none",
            Self::Image { .. } => "gate.image",
            Self::Args { .. } => "gate.args",
            Self::Env { .. } => "gate.env",
            Self::Stdin { .. } => "gate.stdin",
            Self::Terminal { .. } => "gate.terminal",
            Self::Unsigned { .. } => "image.signature.missing",
            Self::UntrustedKey { .. } => "image.signature.untrusted-key",
            Self::OtherDigest { .. } => "image.signature.digest",
            Self::OtherName { .. } => "image.signature.name",
            Self::Malformed { .. } => "image.signature.malformed",
            Self::Policy { .. } => "gate.policy",
            Self::Digest { .. } => "image.digest",
        }
    }

    /// How far the request came: of several refusals, the furthest says most.
    pub(crate) const fn stage(&self) -> u8 {
        match self {
            Self::Nothing { .. } => 0,
            Self::Image { .. } => 1,
            Self::Args { .. } => 2,
            Self::Env { .. } => 3,
            Self::Terminal { .. } => 4,
            Self::Stdin { .. } => 5,
            Self::Policy { .. } | Self::Unsigned { .. } => 6,
            Self::UntrustedKey { .. } | Self::Malformed { .. } => 7,
            Self::OtherDigest { .. } => 8,
            Self::OtherName { .. } => 9,
            Self::Digest { .. } => 10,
        }
    }

    /// What the host is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (expected, found, remedy) = match self {
            Self::Nothing { image } => (
                None,
                Some(image.clone()),
                "Add the container to init-data (`[[containers]]` in coffer.toml) and measure again.",
            ),
            Self::Image { expected, found } => (
                Some(expected.join(", ")),
                Some(found.clone()),
                "Ask for an image that init-data names, or add it there and measure again.",
            ),
            Self::Args { expected, found, .. } => (
                Some(expected.as_ref().map_or_else(|| "the image's own command".into(), |args| quoted(args))),
                Some(if found.is_empty() { "the image's own command".into() } else { quoted(found) }),
                "Ask for the arguments that init-data allows, or change `args` there and measure again.",
            ),
            Self::Env { .. } => (
                None,
                None,
                "Ask for the environment that init-data allows, in its order, or change `env` there and measure again.",
            ),
            Self::Stdin { .. } => (
                Some("no input".into()),
                Some("input".into()),
                "Run it without input, or allow `stdin` in init-data (`coffer init-data -i`) and measure again.",
            ),
            Self::Terminal { .. } => (
                Some("no terminal".into()),
                Some("a terminal".into()),
                "Run it without a terminal, or allow `terminal` in init-data (`coffer init-data -t`) and measure again.",
            ),
            Self::Unsigned { manifest } => (
                None,
                Some(format!("{manifest} without a signature")),
                "Sign the image (`coffer image sign`) and put the signature beside it.",
            ),
            Self::UntrustedKey { expected, found } => (
                Some(format!("a signature of {}", expected.join(" or "))),
                Some(format!("{found} signature(s) of other keys")),
                "Sign the image with a key that init-data names, or name the other key there if you trust it.",
            ),
            Self::OtherDigest { expected, found } => (
                Some(expected.to_string()),
                Some(found.to_string()),
                "The image was changed or exchanged after it was signed. Fetch the signed one, or sign this one.",
            ),
            Self::OtherName { expected, found } => (
                Some(expected.clone()),
                Some(if found.is_empty() { "no name".into() } else { found.clone() }),
                "Sign the image under the name that is asked for, or pin its digest in init-data.",
            ),
            Self::Malformed { .. } => (None, None, "Sign the image again."),
            Self::Policy { .. } => (None, None, "Correct init-data and measure again."),
            Self::Digest { expected, found } => (
                Some(expected.to_string()),
                Some(found.to_string()),
                "Fetch the pinned image, or pin this one in init-data and measure again.",
            ),
        };
        Refusal {
            code: self.code().into(),
            message: self.to_string(),
            expected,
            found,
            remedy: Some(remedy.into()),
            attempt: None,
        }
    }
}

fn quoted(args: &[String]) -> String {
    format!("{args:?}")
}
