//! What goes wrong with plugins, and what a guest is told of it.

use tonic::Code;

use crate::MAX_MESSAGE;
use crate::channel::CallError;
use crate::endpoint::EndpointError;

/// Why a plugin cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum PluginConfigError {
    /// The name is not one.
    #[error(
        "{found:?} is no plugin's name; expected 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Name {
        /// What was given.
        found: String,
    },
    /// The time is not one.
    #[error("the plugin {plugin} is given {found:?} to answer; expected 1 ms to 60 s")]
    Timeout {
        /// Which plugin.
        plugin: String,
        /// What was given.
        found: std::time::Duration,
    },
    /// The address is not one.
    #[error("the plugin {plugin}: {source}")]
    Endpoint {
        /// Which plugin.
        plugin: String,
        /// Why.
        source: EndpointError,
    },
}

/// Why a plugin gave no answer. What it says of itself is for the log, see [`PluginError::detail`].
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No connection, or it broke.
    #[error("the plugin {plugin} cannot be reached; see that it runs, then try again")]
    Unavailable {
        /// Which plugin.
        plugin: String,
        /// What the connection says.
        detail: String,
    },
    /// No answer in time.
    #[error("the plugin {plugin} did not answer in time; try again")]
    Timeout {
        /// Which plugin.
        plugin: String,
        /// How long it was given.
        detail: String,
    },
    /// The request is too long.
    #[error("the request has more than {MAX_MESSAGE} bytes; send less to a plugin")]
    TooLarge {
        /// Its length.
        found: usize,
    },
    /// The plugin refused by a gRPC status.
    #[error("the plugin {plugin} refused: {code:?}")]
    Refused {
        /// Which plugin.
        plugin: String,
        /// Its status.
        code: Code,
        /// Its message.
        detail: String,
    },
    /// The answer is none.
    #[error("the plugin {plugin} answered what is no answer of its protocol; see the broker's log")]
    Malformed {
        /// Which plugin.
        plugin: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl PluginError {
    /// The stable dotted code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "plugin.unavailable",
            Self::Timeout { .. } => "plugin.timeout",
            Self::TooLarge { .. } => "request.too-large",
            Self::Refused { .. } => "plugin.refused",
            Self::Malformed { .. } => "plugin.malformed",
        }
    }

    /// The HTTP status for the caller.
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::Unavailable { .. } | Self::Timeout { .. } => 503,
            Self::TooLarge { .. } => 413,
            Self::Malformed { .. } => 502,
            Self::Refused { code, .. } => match code {
                Code::InvalidArgument | Code::FailedPrecondition => 400,
                Code::PermissionDenied => 403,
                Code::NotFound => 404,
                Code::AlreadyExists | Code::Aborted => 409,
                Code::ResourceExhausted => 429,
                // UNAUTHENTICATED is between the broker and the plugin; the caller can do nothing about it.
                _ => 502,
            },
        }
    }

    /// For the log only: the plugin's own words, or the connection's.
    pub fn detail(&self) -> &str {
        match self {
            Self::Unavailable { detail, .. }
            | Self::Timeout { detail, .. }
            | Self::Refused { detail, .. }
            | Self::Malformed { detail, .. } => detail,
            Self::TooLarge { .. } => "",
        }
    }

    pub(super) fn of(plugin: &str, error: &CallError) -> Self {
        let (plugin, detail) = (plugin.to_owned(), error.to_string());
        match error {
            CallError::TooLarge { found } => Self::TooLarge { found: *found },
            CallError::Malformed(_) => Self::Malformed { plugin, detail },
            CallError::Status(_) if error.is_transport() => Self::Unavailable { plugin, detail },
            CallError::Status(status) => match status.code() {
                Code::DeadlineExceeded | Code::Cancelled => Self::Timeout { plugin, detail },
                // The reader's own word for an answer that is too long.
                Code::OutOfRange => Self::Malformed { plugin, detail },
                code => Self::Refused { plugin, code, detail },
            },
        }
    }

    pub(super) fn status(plugin: &str, found: i32) -> Self {
        let detail = format!("status_code is 0, 200 to 299 or 400 to 599; found {found}");
        Self::Malformed { plugin: plugin.to_owned(), detail }
    }
}
