//! What a stream looks at while it answers: the shared state, the requester, the rooms let in, and the one moment that
//! all streams of a reply tell of.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use store::{Position, RoomChange, RoomHead, RoomNid, Store};
use tokio::sync::SetOnce;

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
    /// The active set of `room_list` as of this reply, once it is known.
    active: SetOnce<Vec<RoomNid>>,
    /// Rooms that a stream has looked up: others that tell of them need not.
    heads: Mutex<HashMap<RoomNid, RoomHead>>,
    /// What `room_list` has found to be changed after a position.
    changes: OnceLock<(Position, Vec<RoomChange>)>,
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
        let (active, heads, changes) = (SetOnce::new(), Mutex::default(), OnceLock::new());
        Ok(Self { state, requester, rooms, now, index, sets, active, heads, changes })
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

    /// Says which rooms `room_list` follows from this reply on. The first word counts; whoever waits for it goes on.
    pub(crate) fn set_active(&self, rooms: Vec<RoomNid>) {
        // Said again by who cannot know whether it was.
        let _ = self.active.set(rooms);
    }

    /// The rooms that `room_list` follows as of this reply, when it has said so; none where it was not asked for.
    pub(crate) async fn active(&self) -> &[RoomNid] {
        self.active.wait().await
    }

    /// Those of these rooms that the account was ever told of, as they stood when a stream first looked them up; in the order
    /// of their numbers.
    pub(crate) async fn heads(&self, rooms: &[RoomNid]) -> Result<Vec<RoomHead>, Error> {
        let known = |room: &RoomNid| self.known_heads().get(room).cloned();
        let (mut heads, mut missing) = (Vec::with_capacity(rooms.len()), Vec::new());
        for room in rooms {
            match known(room) {
                Some(head) => heads.push(head),
                None => missing.push(*room),
            }
        }
        if !missing.is_empty() {
            let found = self.store().room_heads(self.account().account_id, &missing).await?;
            self.known_heads().extend(found.iter().map(|head| (head.room_nid, head.clone())));
            heads.extend(found);
        }
        heads.sort_unstable_by_key(|head| head.room_nid);
        heads.dedup_by_key(|head| head.room_nid);
        Ok(heads)
    }

    fn known_heads(&self) -> MutexGuard<'_, HashMap<RoomNid, RoomHead>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What polls after `since` changed; of all rooms, in the order of their numbers.
    pub(crate) async fn changes(&self, since: Position) -> Result<Vec<RoomChange>, Error> {
        let account_id = self.account().account_id;
        let changes = self.store().room_changes(account_id, since, self.now, None).await?;
        // One stream alone asks for all of them.
        let _ = self.changes.set((since, changes.clone()));
        Ok(changes)
    }

    /// What polls after `since` changed of these rooms, in the order of their numbers.
    pub(crate) async fn changes_of(
        &self,
        since: Position,
        rooms: &BTreeSet<RoomNid>,
    ) -> Result<Vec<RoomChange>, Error> {
        if rooms.is_empty() || since >= self.now {
            return Ok(Vec::new());
        }
        if let Some((_, changes)) = self.changes.get().filter(|(after, _)| *after == since) {
            let of_these = |change: &&RoomChange| rooms.contains(&change.room.head.room_nid);
            return Ok(changes.iter().filter(of_these).cloned().collect());
        }
        let rooms: Vec<RoomNid> = rooms.iter().copied().collect();
        let account_id = self.account().account_id;
        Ok(self.store().room_changes(account_id, since, self.now, Some(&rooms)).await?)
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
