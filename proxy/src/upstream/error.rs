//! What can become of a request to the homeserver.
//!
//! Neighbours: pollers ask the questions (`is_retryable`, `retry_after`, …) and `error` maps the rest to an answer for
//! the client. This module must not decide what anybody does about a failure.

use std::time::Duration;

use bytes::Bytes;

use crate::body::BoxError;
use crate::error::causes;

/// A request to the homeserver that brought no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer: the connection was refused, broken off, or TLS failed.
    #[error("could not talk to the homeserver")]
    Transport(#[source] BoxError),
    /// No answer in time.
    #[error("the homeserver did not answer in time")]
    Timeout,
    /// The homeserver refused, in the shape that Matrix gives to errors.
    #[error("the homeserver answered {status} {errcode}: {error}")]
    Matrix {
        /// HTTP status.
        status: u16,
        /// Matrix error code.
        errcode: String,
        /// Text for humans.
        error: String,
        /// The whole body, for passing on unchanged.
        body: Bytes,
        /// How long the homeserver wants to be left alone.
        retry_after: Option<Duration>,
        /// Whether a refused token only ended its session softly.
        soft_logout: bool,
    },
    /// A refusal that does not come from a Matrix server: most likely from a reverse proxy in between.
    #[error("something in front of the homeserver answered {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Success, but with a body that the endpoint cannot have sent.
    #[error("the homeserver's answer is not what the endpoint answers")]
    InvalidBody,
    /// Success, with a body that begins as JSON and does not end so.
    #[error("the homeserver's answer breaks off")]
    BrokenBody,
    /// Success, with a body that is longer than the operator lets one be.
    #[error("the homeserver's answer is longer than {largest} bytes")]
    TooLarge {
        /// How long it may be.
        largest: usize,
    },
    /// Something of ours or the client's that cannot be put into a request unchanged. It was not sent.
    #[error("the {what} cannot be sent to the homeserver")]
    Unsendable {
        /// What it is.
        what: &'static str,
    },
}

impl Error {
    /// A failure below HTTP.
    pub(crate) fn transport(source: impl Into<BoxError>) -> Self {
        Self::Transport(source.into())
    }

    /// The homeserver's own words, if it has any.
    pub(crate) fn body(&self) -> Option<&Bytes> {
        match self {
            Self::Matrix { body, .. } => Some(body),
            _ => None,
        }
    }

    /// The same failure for another who waited for the same answer.
    pub(crate) fn told_again(&self) -> Self {
        match self {
            Self::Transport(cause) => Self::Transport(causes(&**cause).into()),
            Self::Timeout => Self::Timeout,
            Self::Matrix { status, errcode, error, body, retry_after, soft_logout } => {
                Self::Matrix {
                    status: *status,
                    errcode: errcode.clone(),
                    error: error.clone(),
                    body: body.clone(),
                    retry_after: *retry_after,
                    soft_logout: *soft_logout,
                }
            }
            Self::Status { status, retry_after } => {
                Self::Status { status: *status, retry_after: *retry_after }
            }
            Self::InvalidBody => Self::InvalidBody,
            Self::BrokenBody => Self::BrokenBody,
            Self::TooLarge { largest } => Self::TooLarge { largest: *largest },
            Self::Unsendable { what } => Self::Unsendable { what },
        }
    }

    /// Leaves a secret out of what this says to a log: a homeserver might repeat the token that it refuses. Its body
    /// goes to the token's own client alone, and stays.
    pub(crate) fn without(mut self, secret: &str) -> Self {
        if let Self::Matrix { errcode, error, .. } = &mut self {
            for text in [errcode, error] {
                if text.contains(secret) {
                    *text = text.replace(secret, "…");
                }
            }
        }
        self
    }

    /// The homeserver itself refused the access token. (A 401 from a reverse proxy is not this: a client that is told
    /// so destroys its keys.)
    pub fn is_unknown_token(&self) -> bool {
        matches!(self, Self::Matrix { status: 401, .. })
    }

    /// The token was refused because the account is locked: it may be unlocked again, and nothing may be purged.
    pub fn is_user_locked(&self) -> bool {
        matches!(self, Self::Matrix { status: 401, errcode, .. } if errcode == "M_USER_LOCKED")
    }

    /// The token was refused, but the session lives on and will come back with another token.
    pub fn is_soft_logout(&self) -> bool {
        matches!(self, Self::Matrix { status: 401, soft_logout: true, .. })
    }

    /// The same request may well succeed later. An answer that is not Matrix at all counts, whatever its status: it
    /// comes from a misrouted reverse proxy, as does a Matrix server's word that it does not know the path.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Timeout | Self::Status { .. } => true,
            Self::InvalidBody | Self::BrokenBody | Self::TooLarge { .. } => true,
            Self::Matrix { status, errcode, .. } => {
                *status == 429 || *status >= 500 || (*status == 404 && errcode == "M_UNRECOGNIZED")
            }
            Self::Unsendable { .. } => false,
        }
    }

    /// The answer came and is of no use: a smaller question may have a better one.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Self::BrokenBody | Self::TooLarge { .. })
    }

    /// How long the homeserver asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Matrix { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::Timeout
        } else {
            // A sync's URL is long, and none of a log's business.
            Self::transport(error.without_url())
        }
    }
}
