//! What a stream looks at while it answers: the shared state, the requester, the rooms let in, and the one moment that
//! all streams of a reply tell of.

use std::sync::{Arc, OnceLock};

use store::{Position, RoomNid, Store};

use super::{page_token::PageTokens, rooms::Rooms, sets::Sets};
use crate::{
    account::{
        Account,
        room_index::{IndexNeeds, RoomIndex},
    },
    auth::Requester,
    error::Error,
    state::State,
};

/// A look at the account at one moment.
pub(crate) struct View<'a> {
    /// What everything shares.
    pub(crate) state: &'a Arc<State>,
    /// Who asks.
    pub(crate) requester: &'a Requester,
    /// The rooms that the streams name: joined, or left since a stream told of them.
    pub(crate) rooms: Rooms,
    /// The poll up to which every stream tells. Taken before the rooms were: they are no older.
    pub(crate) now: Position,
    /// The rooms of the account in order, as of `now`, where a stream asked for them.
    pub(crate) index: Option<Arc<RoomIndex>>,
    /// The sets that places and pages name.
    pub(crate) sets: &'a Sets,
    /// The active set of `room_list` as of this reply.
    active: OnceLock<Vec<RoomNid>>,
}

/// What of a view has to be at hand before streams are asked.
pub(crate) struct Needs<'a> {
    /// The rooms that streams name.
    pub(crate) room_ids: Vec<&'a str>,
    /// Rooms that streams have told of: they are let in although the user has left them, for one last time.
    pub(crate) told: Vec<RoomNid>,
    /// How much of the room index; `None` if nothing.
    pub(crate) index: Option<IndexNeeds>,
}

impl<'a> View<'a> {
    /// Looks, and refuses if the user is not in one of the rooms.
    pub(crate) async fn open(
        state: &'a Arc<State>,
        requester: &'a Requester,
        sets: &'a Sets,
        needs: Needs<'_>,
    ) -> Result<Self, Error> {
        let account = &requester.account;
        let index = match &needs.index {
            Some(needs) => Some(account.room_index.view(state, account, needs).await?),
            None => None,
        };
        let now = index.as_ref().map_or_else(|| account.pos(), |index| index.as_of);
        let rooms = Rooms::admit(state, account.account_id, &needs.room_ids, &needs.told).await?;
        Ok(Self { state, requester, rooms, now, index, sets, active: OnceLock::new() })
    }

    /// The store.
    pub(crate) fn store(&self) -> &'a Store {
        &self.state.store
    }

    /// The account of whoever asks.
    pub(crate) fn account(&self) -> &'a Account {
        &self.requester.account
    }

    /// The page tokens of the account.
    pub(crate) fn pages(&self) -> PageTokens<'a> {
        page_tokens(self.state, self.requester)
    }

    /// Says which rooms `room_list` follows from this reply on. It is asked before the streams that follow it.
    pub(crate) fn set_active(&self, rooms: Vec<RoomNid>) {
        // It is asked once in each view.
        let _ = self.active.set(rooms);
    }

    /// The rooms that `room_list` follows as of this reply; none where it was not asked for.
    pub(crate) fn active(&self) -> &[RoomNid] {
        self.active.get().map_or(&[], Vec::as_slice)
    }

    /// Refuses a position whose history is no longer held.
    pub(crate) fn retained(&self, since: Position) -> Result<Position, Error> {
        if since < self.account().retained_from() {
            return Err(Error::UnknownSyncSession);
        }
        Ok(since)
    }
}

/// The page tokens of the requester's account.
pub(crate) fn page_tokens<'a>(state: &'a Arc<State>, requester: &Requester) -> PageTokens<'a> {
    let account = &requester.account;
    PageTokens::new(&state.tokens, account.account_id, account.retained_from())
}
