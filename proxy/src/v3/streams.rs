//! The streams, and what every one of them can do.
//!
//! To add a stream, write its file in `streams/` and give it its line in [`STREAMS`]. A stream
//! gets its own parameters and its own place in the session and nothing of the others'; parameters,
//! sessions, membership, waiting and tokens are taken care of around it.

mod account_data;
mod e2ee;
mod followed;
mod invites;
mod presence;
mod receipts;
mod room;
mod room_list;
mod room_members;
mod to_device;
mod typing;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use store::{InboxSeq, Position, RoomNid};

use super::{
    fields::Fields,
    page_token::PageTokens,
    sets::{NewRoomSet, SetId, Sets},
    view::View,
    waiting::Source,
};
use crate::{
    account::{PresenceWish, room_index::IndexNeeds},
    error::Error,
};

/// Every stream there is. They are asked in this order: those that follow `room_list` come after it.
pub(crate) static STREAMS: &[&dyn Stream] = &[
    &room_list::RoomList,
    &room::Room,
    &receipts::Receipts,
    &typing::Typing,
    &to_device::ToDevice,
    &room_members::RoomMembers,
    &invites::Invites,
    &account_data::AccountData,
    &presence::Presence,
    &e2ee::E2ee,
];

/// A stream of the API.
pub(crate) trait Stream: Sync {
    /// Its key in requests and replies.
    fn name(&self) -> &'static str;

    /// Its number in tokens. Never given to another stream, never changed.
    fn number(&self) -> u64;

    /// Whether its news comes from there: for most, from the account stream.
    fn is_fed_by(&self, source: Source) -> bool {
        source == Source::Account
    }

    /// Reads its parameters. They are refused here or never.
    fn read(
        &self,
        fields: &Fields<'_>,
        pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error>;

    /// What is left of a place in it when the client drops the stream; the same again for what is left already. Mostly
    /// nothing: a client that asks for it again gets its first reply anew, which is what a client without the earlier
    /// replies needs.
    fn after_drop(&self, _place: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// The sets that a place in it names.
    fn sets(&self, _place: &[u8]) -> Vec<SetId> {
        Vec::new()
    }

    /// What the rooms of pages are remembered by which are read from a token with this place: a client may go
    /// on from that token as well as from the one of the page's reply.
    fn pages_from(&self, _place: &[u8]) -> Option<SetId> {
        None
    }

    /// The rooms that a client which goes on from `place` was told of. It may name them once more although the user
    /// has left them meanwhile: to be told so.
    fn told(&self, _place: &[u8], _sets: &Sets) -> Result<Vec<RoomNid>, Error> {
        Ok(Vec::new())
    }

    /// The position of the account stream that `place` names, if it names one. Whoever answers must know it.
    fn reaches(&self, _place: &[u8]) -> Option<Position> {
        None
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

    /// What it needs of the room index.
    fn index(&self) -> Option<IndexNeeds> {
        None
    }

    /// The set that the page it asks for is cut from.
    fn page_set(&self) -> Option<SetId> {
        None
    }

    /// What the user is to be shown as while the client syncs.
    fn presence(&self) -> Option<PresenceWish> {
        None
    }

    /// Whether it follows the active set of `room_list`.
    fn follows_room_list(&self) -> bool {
        false
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
    /// The JSON object; `None` if there is nothing to say, and only the place moves on.
    pub(crate) json: Option<Vec<u8>>,
    /// The place that it brings the client to; `None` leaves it where it was.
    pub(crate) place: Option<Vec<u8>>,
    /// What the place, or the token of a page, names. What the session has got of it is not kept again.
    pub(crate) sets: Vec<NewRoomSet>,
}

impl Answer {
    /// Something to say.
    pub(crate) fn says(json: Vec<u8>, place: Option<Vec<u8>>) -> Self {
        Self { json: Some(json), place, sets: Vec::new() }
    }

    /// Nothing to say; but next time it need not be looked for again up to here.
    pub(crate) fn nothing_until(place: Vec<u8>) -> Self {
        Self { json: None, place: Some(place), sets: Vec::new() }
    }
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
