//! Sticky parameters: what a session has asked for so far, and how a request changes it.
//!
//! A body is a delta, merged per stream and key by key (one level deeper for `p`); a stream sent as
//! `null` is dropped. What sticks is what each stream makes of its merged parameters, so a negotiated
//! value sticks as negotiated, and what is asked for once (`p.since`) does not stick.

use serde_json::{Map, Value};

use super::{
    fields::Fields,
    page_token::PageTokens,
    streams::{STREAMS, Stream, Subscription},
    waiting::Source,
};
use crate::{account::PresenceWish, error::Error};

/// The one key whose value is merged and not replaced.
const PAGINATION: &str = "p";

/// What the parameters of a session may take as they are stored, in bytes: every change of them is kept for a while.
const MOST_BYTES: usize = 256 * 1024;

/// The stream that others can follow.
const ROOM_LIST: &str = "room_list";

/// The sticky parameters of a session: stream by stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Params(Map<String, Value>);

impl Params {
    /// As they were stored.
    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map(Self).map_err(Error::internal)
    }

    /// For storing. Equal parameters give equal bytes.
    pub(crate) fn to_stored(&self) -> Vec<u8> {
        Value::Object(self.0.clone()).to_string().into_bytes()
    }
}

/// A stream that the client wants, as it wants it now.
pub(crate) struct Wanted {
    /// Which.
    pub(crate) stream: &'static dyn Stream,
    /// How.
    pub(crate) subscription: Box<dyn Subscription>,
}

/// All that the client wants now.
#[derive(Default)]
pub(crate) struct Request {
    /// Stream by stream.
    pub(crate) wanted: Vec<Wanted>,
    /// What sticks of it.
    pub(crate) params: Params,
}

impl Request {
    /// Merges a body into the session's parameters and has each stream read its own.
    pub(crate) fn read(
        stored: &Params,
        body: &Map<String, Value>,
        pages: PageTokens<'_>,
    ) -> Result<Self, Error> {
        let mut request = Self::default();
        for stream in STREAMS {
            let name = stream.name();
            let Some(merged) = merge(name, stored.0.get(name), body.get(name))? else { continue };
            let subscription = stream.read(&Fields::new(name, &merged), pages)?;
            let sticky = Value::Object(subscription.sticky());
            request.params.0.insert(name.to_owned(), sticky);
            request.wanted.push(Wanted { stream: *stream, subscription });
        }
        request.has_a_room_list_to_follow()?;
        request.can_be_kept(stored)?;
        Ok(request)
    }

    /// Parameters that have been kept already may stay as they are.
    fn can_be_kept(&self, stored: &Params) -> Result<(), Error> {
        if self.params != *stored && self.params.to_stored().len() > MOST_BYTES {
            return Err(Error::ParamsTooLarge { most: MOST_BYTES });
        }
        Ok(())
    }

    fn has_a_room_list_to_follow(&self) -> Result<(), Error> {
        let listed = self.wanted.iter().any(|wanted| wanted.stream.name() == ROOM_LIST);
        let follower = self.wanted.iter().find(|wanted| wanted.subscription.follows_room_list());
        match follower {
            Some(wanted) if !listed => {
                let name = wanted.stream.name();
                let problem = format!("{name}.room_id: \"room_list\" needs the stream room_list");
                Err(Error::InvalidParam(problem))
            }
            _ => Ok(()),
        }
    }

    /// What the user is to be shown as while the client syncs, if the client says so.
    pub(crate) fn presence(&self) -> Option<PresenceWish> {
        self.wanted.iter().find_map(|wanted| wanted.subscription.presence())
    }

    /// Whether the client asks for a page of any stream.
    pub(crate) fn asks_for_page(&self) -> bool {
        self.wanted.iter().any(|wanted| wanted.subscription.asks_for_page())
    }

    /// The streams to ask when there is news from a source. If one of them tells of the account as well, so do all that
    /// tell of it: its answer would be of a later moment than the others were asked for.
    pub(crate) fn fed_by(&self, source: Source) -> Vec<&Wanted> {
        let fed = |wanted: &&Wanted| wanted.stream.is_fed_by(source);
        let of_account = |wanted: &&Wanted| wanted.stream.is_fed_by(Source::Account);
        let tells_of_account = self.wanted.iter().filter(fed).any(|wanted| of_account(&wanted));
        let due = |wanted: &&Wanted| fed(wanted) || (tells_of_account && of_account(wanted));
        self.wanted.iter().filter(due).collect()
    }
}

/// The parameters of one stream after a delta; `None` if it is not asked for.
fn merge(
    name: &str,
    stored: Option<&Value>,
    delta: Option<&Value>,
) -> Result<Option<Map<String, Value>>, Error> {
    let stored = stored.and_then(Value::as_object);
    let delta = match delta {
        None => return Ok(stored.cloned()),
        Some(Value::Null) => return Ok(None),
        Some(Value::Object(delta)) => delta,
        Some(_) => return Err(Error::BadJson(format!("{name}: must be an object or null"))),
    };
    let mut merged = stored.cloned().unwrap_or_default();
    for (key, value) in delta {
        match (merged.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if key == PAGINATION => {
                old.extend(new.clone());
            }
            _ => {
                merged.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(Some(merged))
}

#[cfg(test)]
mod tests;
