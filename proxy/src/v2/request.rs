//! The query parameters of `GET /sync`, with the answers that Synapse gives to odd ones.

use std::time::Duration;

use crate::{account::PresenceWish, error::Error};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyncRequest {
    /// `since`; an empty one counts as none.
    pub(super) since: Option<String>,
    /// `timeout`.
    pub(super) timeout: Duration,
    /// `filter`: an ID, or JSON.
    pub(super) filter: Option<String>,
    /// `full_state`.
    pub(super) full_state: bool,
    /// `set_presence`.
    pub(super) set_presence: PresenceWish,
}

impl SyncRequest {
    /// Reads a query string. Unknown parameters are ignored.
    pub(super) fn parse(query: &str) -> Result<Self, Error> {
        let mut request = Self {
            since: None,
            timeout: Duration::ZERO,
            filter: None,
            full_state: false,
            set_presence: PresenceWish::Online,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "since" => {
                    request.since = Some(value.into_owned()).filter(|since| !since.is_empty());
                }
                "timeout" => request.timeout = timeout(&value)?,
                "filter" => request.filter = Some(value.into_owned()),
                "full_state" => request.full_state = boolean("full_state", &value)?,
                "set_presence" => request.set_presence = presence(&value)?,
                "from" => {
                    return Err(Error::UnknownPos(String::from(
                        "'from' is not a valid query parameter. Did you mean 'since'?",
                    )));
                }
                _ => {}
            }
        }
        Ok(request)
    }
}

fn timeout(value: &str) -> Result<Duration, Error> {
    let milliseconds: i64 = value.parse().map_err(|_| {
        Error::InvalidParam(String::from("Query parameter timeout must be an integer"))
    })?;
    let milliseconds = u64::try_from(milliseconds).map_err(|_| {
        Error::InvalidParam(String::from("Query parameter timeout must be a positive integer."))
    })?;
    Ok(Duration::from_millis(milliseconds))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::InvalidParam(format!(
            "Boolean query parameter '{name}' must be one of ['true', 'false']"
        ))),
    }
}

fn presence(value: &str) -> Result<PresenceWish, Error> {
    match value {
        "online" => Ok(PresenceWish::Online),
        "unavailable" => Ok(PresenceWish::Unavailable),
        "offline" => Ok(PresenceWish::Offline),
        _ => Err(Error::InvalidParam(String::from(
            "Query parameter 'set_presence' must be one of ['unavailable', 'offline', 'online']",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_parameters_get_synapse_s_answers() {
        let check = |query: &str, expected: &str| match SyncRequest::parse(query) {
            Err(Error::InvalidParam(text) | Error::UnknownPos(text)) => {
                assert!(text.contains(expected), "{query}: {text}");
            }
            other => panic!("{query}: {other:?}"),
        };
        check("timeout=abc", "must be an integer");
        check("timeout=", "must be an integer");
        check("timeout=1.5", "must be an integer");
        check("timeout=-1", "must be a positive integer");
        check("full_state=1", "full_state");
        check("full_state=TRUE", "full_state");
        check("set_presence=bogus", "set_presence");
        check("from=s1", "since");
    }

    #[test]
    fn parameters_are_read() {
        let request =
            SyncRequest::parse("since=&timeout=30000&filter=%7B%7D&_cacheBuster=1&full_state=true")
                .expect("a good query");
        assert_eq!(request.since, None);
        assert_eq!(request.timeout, Duration::from_secs(30));
        assert_eq!(request.filter.as_deref(), Some("{}"));
        assert!(request.full_state);
        assert_eq!(request.set_presence, PresenceWish::Online);
    }
}
