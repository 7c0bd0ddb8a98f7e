//! The query parameters of `GET /sync`, with the answers that Synapse gives to odd ones.
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync_request>
//!
//! Pure: what a filter says is read in `filters`, what a `since` stands for in `sync`.

use std::time::Duration;

use crate::{account::PresenceWish, error::Error};

const UNSTABLE_STATE_AFTER: &str = "org.matrix.msc4222.use_state_after";

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
    /// `use_state_after`, under one of its names.
    pub(super) state_form: StateForm,
    /// `set_presence`.
    pub(super) set_presence: PresenceWish,
}

/// In which form the state of rooms is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StateForm {
    /// `state`: up to the start of the timeline.
    #[default]
    Before,
    /// `state_after`: up to the end of the timeline.
    After,
    /// The same under the name that it had in MSC4222.
    UnstableAfter,
}

impl StateForm {
    /// The member of a room that holds the state.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Before => "state",
            Self::After => "state_after",
            Self::UnstableAfter => "org.matrix.msc4222.state_after",
        }
    }
}

impl SyncRequest {
    /// Reads a query string. Unknown parameters are ignored.
    pub(super) fn parse(query: &str) -> Result<Self, Error> {
        let mut request = Self {
            since: None,
            timeout: Duration::ZERO,
            filter: None,
            full_state: false,
            state_form: StateForm::Before,
            set_presence: PresenceWish::Online,
        };
        let (mut after, mut unstable_after) = (false, false);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "since" => {
                    request.since = Some(value.into_owned()).filter(|since| !since.is_empty());
                }
                "timeout" => request.timeout = timeout(&value)?,
                "filter" => request.filter = Some(value.into_owned()),
                "full_state" => request.full_state = boolean("full_state", &value)?,
                "set_presence" => request.set_presence = presence(&value)?,
                "use_state_after" => after = boolean("use_state_after", &value)?,
                UNSTABLE_STATE_AFTER => unstable_after = boolean(UNSTABLE_STATE_AFTER, &value)?,
                "from" => {
                    return Err(Error::UnknownPos(String::from(
                        "'from' is not a valid query parameter. Did you mean 'since'?",
                    )));
                }
                _ => {}
            }
        }
        // Who asks under the unstable name reads the unstable field only; who knows the stable one and asks
        // for both reads either.
        request.state_form = match (after, unstable_after) {
            (_, true) => StateForm::UnstableAfter,
            (true, false) => StateForm::After,
            (false, false) => StateForm::Before,
        };
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
        check("use_state_after=1", "use_state_after");
        check("org.matrix.msc4222.use_state_after=maybe", "msc4222");
        check("from=s1", "since");
    }

    #[test]
    fn state_after_goes_by_the_name_that_was_asked_for() {
        let check = |query: &str, expected| {
            let request = SyncRequest::parse(query).expect("a good query");
            assert_eq!(request.state_form.key(), expected, "{query}");
        };
        check("", "state");
        check("use_state_after=false", "state");
        check("use_state_after=true", "state_after");
        check("org.matrix.msc4222.use_state_after=true", "org.matrix.msc4222.state_after");
        check(
            "use_state_after=true&org.matrix.msc4222.use_state_after=true",
            "org.matrix.msc4222.state_after",
        );
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
