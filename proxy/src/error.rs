//! What a request can end in, and the one place that turns it into a status, an errcode and a text.
//!
//! Neighbours: every handler returns [`Error`]; `dispatch` calls [`Error::into_response`], which also logs it, once.
//!
//! Invariant: nothing here invents a 401. A client that hears `M_UNKNOWN_TOKEN` destroys its keys, so those words only
//! ever come from the homeserver; a database or a homeserver that is away is a 5xx.
//!
//! Standard error response: <https://spec.matrix.org/v1.16/client-server-api/#standard-error-response>

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{self, Body, BoxError};
use crate::upstream;

/// What a client is told that it should wait if the homeserver refused without saying for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a client is told that it should wait for a free connection.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a request can end in, other than an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No access token, or none that can be read; the text says which.
    #[error("no usable access token: {0}")]
    MissingToken(&'static str),
    /// The homeserver refused the access token: its own words, which carry `soft_logout`, go back unchanged.
    #[error("the homeserver refused the access token")]
    UnknownToken {
        /// The homeserver's body.
        body: Bytes,
    },
    /// The homeserver refused for a reason that concerns the client (consent, deactivation, …).
    #[error("the homeserver answered {status}")]
    UpstreamAnswer {
        /// The homeserver's status.
        status: u16,
        /// The homeserver's body.
        body: Bytes,
    },
    /// The homeserver is away, or what answers in its place is not one.
    #[error("the homeserver cannot be reached")]
    UpstreamUnreachable(#[source] upstream::Error),
    /// The homeserver is there but too slow.
    #[error("the homeserver did not answer in time")]
    UpstreamTimeout,
    /// The body, or a parameter that ought to be JSON, is not.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The body is JSON of the wrong shape.
    #[error("JSON of the wrong shape: {0}")]
    BadJson(String),
    /// A parameter has a value that it cannot have.
    #[error("invalid parameter: {0}")]
    InvalidParam(String),
    /// A token of a stream that nobody minted, or that belongs to somebody else.
    #[error("unknown position: {0}")]
    UnknownPos(String),
    /// A v3 session that never was, has expired, or belongs to somebody else.
    #[error("unknown sync session")]
    UnknownSyncSession,
    /// The user may not see what they ask for.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The body is larger than the configured limit.
    #[error("request body too large")]
    TooLarge,
    /// The head of the request is larger than the configured limit.
    #[error("request head too large")]
    HeadTooLarge,
    /// The request did not arrive in time.
    #[error("the request took too long to arrive")]
    RequestTimeout,
    /// More connections than the configured limit.
    #[error("too many connections")]
    TooManyConnections,
    /// What a v3 session would keep of its parameters is more than it may.
    #[error("the session's parameters take more than {most} bytes")]
    ParamsTooLarge {
        /// The limit.
        most: usize,
    },
    /// The path is ours, the method is not; `Allow` lists those that are.
    #[error("method not allowed")]
    MethodNotAllowed(&'static str),
    /// No such endpoint, or none that we forward.
    #[error("unrecognized request")]
    Unrecognized,
    /// Too many requests; the homeserver says so, or we.
    #[error("rate limited")]
    LimitExceeded {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The request has been through here before: `-server` leads back to the proxy.
    #[error("request loop: `-server` leads back to this proxy")]
    LoopDetected,
    /// The database is away.
    #[error("the database is unavailable")]
    Unavailable(#[source] BoxError),
    /// The process ends before there is anything to answer from. It, or another one, is there again in a moment.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// A fault of ours. Its text is for our log only.
    #[error("internal error")]
    Internal(#[source] BoxError),
}

impl Error {
    /// A fault of ours.
    pub(crate) fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal(source.into())
    }

    /// Logs the error and turns it into what the client gets to see.
    pub(crate) fn into_response(self) -> Response<Body> {
        self.log();
        let (status, errcode, text) = match self {
            Self::UnknownToken { body } => return json_response(StatusCode::UNAUTHORIZED, body),
            Self::UpstreamAnswer { status, body } => {
                return json_response(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), body);
            }
            Self::LimitExceeded { retry_after } => {
                return limit_exceeded(StatusCode::TOO_MANY_REQUESTS, "Too many requests", retry_after);
            }
            Self::TooManyConnections => {
                return limit_exceeded(StatusCode::SERVICE_UNAVAILABLE, "Too many connections", FULL_RETRY_AFTER);
            }
            Self::MethodNotAllowed(allow) => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Unrecognized request");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                return response;
            }
            Self::MissingToken(text) => (StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", text.into()),
            Self::UpstreamUnreachable(_) => {
                (StatusCode::BAD_GATEWAY, "M_UNKNOWN", "The homeserver cannot be reached".into())
            }
            Self::UpstreamTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", "The homeserver did not answer in time".into())
            }
            Self::NotJson(text) => (StatusCode::BAD_REQUEST, "M_NOT_JSON", text),
            Self::BadJson(text) => (StatusCode::BAD_REQUEST, "M_BAD_JSON", text),
            Self::InvalidParam(text) => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM", text),
            Self::UnknownPos(text) => (StatusCode::BAD_REQUEST, "M_UNKNOWN", text),
            Self::UnknownSyncSession => {
                (StatusCode::BAD_REQUEST, "M_UNKNOWN_SYNC_SESSION", "Session unknown or expired".into())
            }
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, "M_FORBIDDEN", text),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "The request body is too large".into()),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "M_TOO_LARGE",
                "The head of the request is too large".into(),
            ),
            Self::RequestTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "The request did not arrive in time".into())
            }
            Self::ParamsTooLarge { most } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "M_TOO_LARGE",
                format!("The session's parameters take more than {most} bytes"),
            ),
            Self::Unrecognized => (StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "Unrecognized request".into()),
            Self::LoopDetected => (
                StatusCode::LOOP_DETECTED,
                "M_UNKNOWN",
                "This request has been through this proxy before: its -server setting leads back to itself".into(),
            ),
            Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "The database is unavailable, try again later".into())
            }
            Self::ShuttingDown => {
                (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "The proxy is restarting, try again".into())
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error".into()),
        };
        plain(status, errcode, &text)
    }

    /// What metrics call it. Each is a series, so there is one for each variant and no other.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::MissingToken(_) => "missing_token",
            Self::UnknownToken { .. } => "unknown_token",
            Self::UpstreamAnswer { .. } => "upstream_answer",
            Self::UpstreamUnreachable(_) => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::NotJson(_) => "not_json",
            Self::BadJson(_) => "bad_json",
            Self::InvalidParam(_) => "invalid_param",
            Self::UnknownPos(_) => "unknown_pos",
            Self::UnknownSyncSession => "unknown_sync_session",
            Self::Forbidden(_) => "forbidden",
            Self::TooLarge => "too_large",
            Self::ParamsTooLarge { .. } => "params_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::TooManyConnections => "too_many_connections",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::Unrecognized => "unrecognized",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::LoopDetected => "loop_detected",
            Self::Unavailable(_) => "unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Internal(_) => "internal",
        }
    }

    /// The only place where the end of a request is logged: the client's fault for debugging, the homeserver's and ours
    /// for the operator.
    fn log(&self) {
        // Spelt out each time, so that it costs nothing where nobody reads it.
        match self {
            Self::UpstreamUnreachable(_) | Self::UpstreamTimeout | Self::LoopDetected => {
                tracing::warn!(cause = %causes(self), "request failed upstream");
            }
            Self::Unavailable(_) | Self::Internal(_) => {
                tracing::error!(cause = %causes(self), "request failed");
            }
            _ => tracing::debug!(cause = %causes(self), "request refused"),
        }
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        let retry_after = error.retry_after().unwrap_or(DEFAULT_RETRY_AFTER);
        match error {
            upstream::Error::Timeout => Self::UpstreamTimeout,
            upstream::Error::Matrix { status: 401, body, .. } => Self::UnknownToken { body },
            upstream::Error::Matrix { status: 429, .. }
            | upstream::Error::Status { status: 429, .. } => Self::LimitExceeded { retry_after },
            upstream::Error::Matrix { status: status @ 400..500, body, .. } => {
                Self::UpstreamAnswer { status, body }
            }
            upstream::Error::Unsendable { what } => {
                Self::InvalidParam(format!("The {what} is invalid"))
            }
            away => Self::UpstreamUnreachable(away),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        if error.is_unavailable() {
            Self::Unavailable(error.into())
        } else {
            Self::Internal(error.into())
        }
    }
}

/// A JSON response of ours.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, errcode: &str, text: &str) -> Response<Body> {
    json_value(status, &json!({ "errcode": errcode, "error": text }))
}

fn json_value(status: StatusCode, body: &Value) -> Response<Body> {
    json_response(status, body.to_string())
}

fn limit_exceeded(status: StatusCode, text: &str, retry_after: Duration) -> Response<Body> {
    let mut response = json_value(
        status,
        &json!({
            "errcode": "M_LIMIT_EXCEEDED",
            "error": text,
            "retry_after_ms": u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
        }),
    );
    // The header counts in seconds: rounding down would invite the client too early.
    let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

/// An error with what caused it, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
