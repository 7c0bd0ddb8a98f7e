//! What a stream looks at while it answers: the shared state, the requester, the rooms let in.

use std::sync::Arc;

use store::{Position, Store};

use super::{page_token::PageTokens, rooms::Rooms};
use crate::{account::Account, auth::Requester, error::Error, state::State};

/// A look at the account at one moment.
pub(crate) struct View<'a> {
    /// What everything shares.
    pub(crate) state: &'a Arc<State>,
    /// Who asks.
    pub(crate) requester: &'a Requester,
    /// The rooms that the streams name, all joined.
    pub(crate) rooms: Rooms,
    /// The end of the account stream, taken before the rooms were: they are no older.
    pub(crate) now: Position,
}

impl<'a> View<'a> {
    /// Looks, and refuses if the user is not in one of the rooms.
    pub(crate) async fn open(
        state: &'a Arc<State>,
        requester: &'a Requester,
        room_ids: &[&str],
    ) -> Result<Self, Error> {
        let now = requester.account.pos();
        let rooms = Rooms::admit(state, requester.account.account_id, room_ids).await?;
        Ok(Self { state, requester, rooms, now })
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
}

/// The page tokens of the requester's account.
pub(crate) fn page_tokens<'a>(state: &'a Arc<State>, requester: &Requester) -> PageTokens<'a> {
    let account = &requester.account;
    PageTokens::new(&state.tokens, account.account_id, account.retained_from)
}
