//! The query and the body of a v3 request, read strictly. What the streams' parameters mean is read
//! by the streams, through `params`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::Error;

/// The query parameters that count; all others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// The token of the session. An empty one is none: there is nothing that it could name.
    pub(crate) since: Option<String>,
    timeout: Option<String>,
}

impl Query {
    /// Reads the query part of a URI.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let mut parsed = Self::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "since" if !value.is_empty() => parsed.since = Some(value.into_owned()),
                "timeout" => parsed.timeout = Some(value.into_owned()),
                _ => {}
            }
        }
        parsed
    }

    /// How long the client wants to wait: no longer than `most`, and not at all unless it says so.
    pub(crate) fn timeout(&self, most: Duration) -> Result<Duration, Error> {
        let Some(text) = &self.timeout else { return Ok(Duration::ZERO) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let problem = "timeout: must be a number of milliseconds, 0 or more";
            return Err(Error::InvalidParam(problem.to_owned()));
        }
        // What is all digits and yet no u64 is only too large.
        let milliseconds = text.parse().unwrap_or(u64::MAX);
        Ok(Duration::from_millis(milliseconds).min(most))
    }
}

/// Reads the body: a JSON object, or nothing at all.
pub(crate) fn read_body(body: &[u8]) -> Result<Map<String, Value>, Error> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::BadJson("the body: must be an object".to_owned())),
        Err(error) => Err(Error::NotJson(format!("the body: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let check = |query: &str, since: Option<&str>, timeout: Option<u64>| {
            let query = Query::parse(Some(query));
            assert_eq!(query.since.as_deref(), since, "{query:?}");
            let read = query.timeout(Duration::from_mins(1)).ok();
            assert_eq!(read, timeout.map(Duration::from_millis), "{query:?}");
        };
        check("", None, Some(0));
        check("since=", None, Some(0));
        check("since=v3_a%2Bb&timeout=500", Some("v3_a+b"), Some(500));
        check("timeout=0", None, Some(0));
        check("timeout=60001", None, Some(60_000));
        check("timeout=99999999999999999999999999", None, Some(60_000));
        check("timeout=", None, None);
        check("timeout=abc", None, None);
        check("timeout=-1", None, None);
        check("timeout=%2B1", None, None);
        check("timeout=1.5", None, None);
        check("timeout=1e3", None, None);
        check("other=1&access_token=x", None, Some(0));
    }

    #[test]
    fn bodies() {
        let check = |body: &[u8], expected: &str| {
            let outcome = match read_body(body) {
                Ok(_) => "good",
                Err(Error::NotJson(_)) => "not json",
                Err(Error::BadJson(_)) => "bad json",
                Err(_) => "other",
            };
            assert_eq!(outcome, expected, "{}", String::from_utf8_lossy(body));
        };
        check(b"", "good");
        check(b" \r\n", "good");
        check(b"{}", "good");
        check(b"{\"typing\":{\"room_id\":\"!a:b\"},\"new\":[1]}", "good");
        check(b"[]", "bad json");
        check(b"null", "bad json");
        check(b"5", "bad json");
        check(b"\"{}\"", "bad json");
        check(b"{", "not json");
        check(b"{}{}", "not json");
        check(b"hello", "not json");
        check(b"[1", "not json");
        check(b"{\"a\":\"\xff\"}", "not json");
        check(b"\xef\xbb\xbf{}", "not json");
        let deep = [b"{\"a\":".to_vec(), b"[".repeat(100_000)].concat();
        check(&deep, "not json");
    }
}
