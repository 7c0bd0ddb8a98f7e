//! The streams, and what every one of them can do.
//!
//! To add a stream, write its file in `streams/` and give it its line in [`STREAMS`]. A stream
//! gets its own parameters and its own place in the session and nothing of the others'; parameters,
//! sessions, membership, waiting and tokens are taken care of around it.

mod room_members;
mod to_device;
mod typing;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use store::InboxSeq;

use super::{fields::Fields, page_token::PageTokens, view::View, waiting::Source};
use crate::error::Error;

/// Every stream there is.
pub(crate) static STREAMS: &[&dyn Stream] =
    &[&typing::Typing, &to_device::ToDevice, &room_members::RoomMembers];

/// A stream of the API.
pub(crate) trait Stream: Sync {
    /// Its key in requests and replies.
    fn name(&self) -> &'static str;

    /// Its number in tokens. Never given to another stream, never changed.
    fn number(&self) -> u64;

    /// Where its news comes from.
    fn source(&self) -> Source;

    /// Reads its parameters. They are refused here or never.
    fn read(
        &self,
        fields: &Fields<'_>,
        pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error>;

    /// Whether its place survives when the client drops the stream. If not, a client that asks for it
    /// again gets its first reply anew, which is what a client without the earlier replies needs.
    fn outlives_drop(&self) -> bool {
        false
    }

    /// What a client that goes on from `place` has got out of the device's inbox.
    fn acknowledges(&self, _place: &[u8]) -> Option<InboxSeq> {
        None
    }
}

/// A stream with the parameters that a session asks for it with.
pub(crate) trait Subscription: Send + Sync {
    /// The parameters that stick, as negotiated, and under the names that [`Stream::read`] knows.
    fn sticky(&self) -> Map<String, Value>;

    /// The rooms that it names. The user must be in each.
    fn room_ids(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Whether the client asks for one page, which is answered at once.
    fn asks_for_page(&self) -> bool {
        false
    }

    /// What there is to say to a client that has been answered up to `place` (`None`: it has not);
    /// `None` if there is nothing.
    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>>;
}

/// What a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The JSON object.
    pub(crate) json: Vec<u8>,
    /// The place that it brings the client to; `None` leaves it where it was.
    pub(crate) place: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn streams_are_told_apart() {
        let names: HashSet<_> = STREAMS.iter().map(|stream| stream.name()).collect();
        let numbers: HashSet<_> = STREAMS.iter().map(|stream| stream.number()).collect();
        assert_eq!((names.len(), numbers.len()), (STREAMS.len(), STREAMS.len()));
        assert!(!names.contains("next"));
    }
}
