//! Whom a poll is made for, as a homeserver sees clients: their address and the name of their program.
//!
//! Without it a user's list of devices would show this program's address for each of them.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue, USER_AGENT},
};

use crate::peer::Peer;

/// The client that was last seen of a device. Nothing where none has been seen yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnBehalfOf {
    forwarded_for: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl OnBehalfOf {
    /// Whoever made a request. It is remembered for long, so it is a copy: the header's own value is a part of the buffer
    /// that the whole request was read into, and would keep it.
    pub(crate) fn of(headers: &HeaderMap, peer: Peer) -> Self {
        let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
        Self {
            forwarded_for: peer.forwarded_for(headers),
            user_agent: headers.get(USER_AGENT).and_then(copy),
        }
    }

    /// Its address and the name of its program, for another process to poll with.
    pub(crate) fn texts(&self) -> (Option<String>, Option<String>) {
        let text = |value: &Option<HeaderValue>| Some(value.as_ref()?.to_str().ok()?.to_owned());
        (text(&self.forwarded_for), text(&self.user_agent))
    }

    /// What [`OnBehalfOf::texts`] gave in another process.
    pub(crate) fn told(forwarded_for: Option<&str>, user_agent: Option<&str>) -> Self {
        let value = |text: Option<&str>| HeaderValue::from_str(text?).ok();
        Self { forwarded_for: value(forwarded_for), user_agent: value(user_agent) }
    }

    /// The headers that say so to the homeserver.
    pub(super) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let forwarded_for = self.forwarded_for.clone().map(|value| (Peer::FORWARDED_FOR, value));
        let user_agent = self.user_agent.clone().map(|value| (USER_AGENT, value));
        forwarded_for.into_iter().chain(user_agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_as_it_was_seen() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("Element"));
        headers.insert(Peer::FORWARDED_FOR, HeaderValue::from_static("192.0.2.7"));
        let peer = Peer::tcp(([127, 0, 0, 1], 5000).into());
        let told: HeaderMap = OnBehalfOf::of(&headers, peer).headers().collect();
        assert_eq!(told[USER_AGENT], "Element");
        assert_eq!(told[Peer::FORWARDED_FOR], "192.0.2.7, 127.0.0.1");
        assert_eq!(OnBehalfOf::default().headers().count(), 0);
        let client = OnBehalfOf::of(&headers, peer);
        let (address, program) = client.texts();
        assert_eq!(OnBehalfOf::told(address.as_deref(), program.as_deref()), client);
    }
}
