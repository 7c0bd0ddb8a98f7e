//! Answers to clients with whom no HTTP is spoken yet, or any more: written by hand, and the connection ends with them.

use std::fmt::Write;

use futures_util::FutureExt;
use http_body_util::BodyExt;

use crate::cors;
use crate::error::Error;

/// What goes over the wire for an error.
pub(super) fn last_words(error: Error) -> Vec<u8> {
    let mut response = error.into_response();
    cors::apply(response.headers_mut());
    let (head, body) = response.into_parts();
    // The body of an error is at hand, so nothing is waited for.
    let body = body.collect().now_or_never().and_then(Result::ok).unwrap_or_default().to_bytes();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16());
    for (name, value) in &head.headers {
        if let Ok(value) = value.to_str() {
            // Writing into a `String` cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    let _ = write!(text, "content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [text.as_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_spelt_out() {
        let text = String::from_utf8(last_words(Error::TooManyConnections)).expect("it is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        for line in ["retry-after: 5", "access-control-allow-origin: *", "connection: close"] {
            assert!(head.contains(line), "{head}");
        }
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(body.contains(r#""retry_after_ms":5000"#), "{body}");
    }
}
