//! The list: which rooms are in it as of a reply, and in which order.

use std::collections::HashSet;

use store::{RoomNid, Section};

use super::{params::Params, spaces::Children};
use crate::{
    account::room_index::{IndexedRoom, RoomIndex, SortBy},
    error::Error,
    v3::view::View,
};

/// The list as of a reply.
pub(super) struct List<'a> {
    pub(super) index: &'a RoomIndex,
    params: &'a Params,
    /// The order that the index has it in.
    order: Vec<SortBy>,
    /// With spaces: their children.
    children: Option<Children>,
    /// Invites of ignored users.
    hidden: HashSet<RoomNid>,
}

impl<'a> List<'a> {
    /// Looks up what the list depends on beside the index.
    pub(super) async fn open(view: &'a View<'_>, params: &'a Params) -> Result<Self, Error> {
        let index = view.index.as_deref();
        let index = index.ok_or_else(|| Error::internal("the room index was asked for"))?;
        let children = match &*params.spaces {
            [] => None,
            spaces => Some(Children::load(view, spaces).await?),
        };
        let hidden = if params.filters.lists_invites() {
            invites_of_ignored(view).await?
        } else {
            HashSet::new()
        };
        Ok(Self { index, params, order: params.sort.in_index(), children, hidden })
    }

    /// The section whose rooms it lists.
    pub(super) fn section(&self) -> Section {
        if self.params.filters.lists_invites() { Section::Invite } else { Section::Join }
    }

    /// A room, if it is in the list.
    pub(super) fn get(&self, room: RoomNid) -> Option<&'a IndexedRoom> {
        self.index.get(room).filter(|room| room.section == self.section() && self.admits(room))
    }

    /// A room, if it is one that the stream follows, or would, had the client got it.
    pub(super) fn followed(&self, room: RoomNid) -> Option<&'a IndexedRoom> {
        if self.params.follows_rooms() { self.get(room) } else { None }
    }

    /// Its length.
    pub(super) fn count(&self) -> usize {
        self.unranked().count()
    }

    /// All of it, in its order.
    pub(super) fn rooms(&self) -> Vec<RoomNid> {
        let mut rooms: Vec<&IndexedRoom> = self.unranked().collect();
        if let (true, Some(children)) = (self.params.sort.by_space_order(), &self.children) {
            rank_ties(&mut rooms, &self.order, self.index, children);
        }
        rooms.into_iter().map(|room| room.room_nid).collect()
    }

    /// All of it, but for the order of spaces.
    fn unranked(&self) -> impl Iterator<Item = &'a IndexedRoom> + '_ {
        let rooms = self.index.in_order(self.section(), &self.order);
        rooms.filter(|room| self.admits(room))
    }

    fn admits(&self, room: &IndexedRoom) -> bool {
        self.children.as_ref().is_none_or(|children| children.contains(&room.room_id))
            && !self.hidden.contains(&room.room_nid)
            && self.params.filters.admit(room)
    }
}

/// Invites are few, so whether there is one to hide is looked up each time.
async fn invites_of_ignored(view: &View<'_>) -> Result<HashSet<RoomNid>, Error> {
    let account = view.account();
    let ignored = account.ignored.get(view.store(), account.account_id).await?;
    if ignored.is_empty() {
        return Ok(HashSet::new());
    }
    let invites = view.store().rooms_in(account.account_id, &[Section::Invite]).await?;
    let hidden = invites.iter().filter(|head| ignored.hides_invite(head, &account.user_id));
    Ok(hidden.map(|head| head.room_nid).collect())
}

/// Puts those that are equal by the orders before into the order of spaces.
fn rank_ties(
    rooms: &mut [&IndexedRoom],
    before: &[SortBy],
    index: &RoomIndex,
    children: &Children,
) {
    let are_equal = |one: &IndexedRoom, other: &IndexedRoom, by: SortBy| match by {
        SortBy::Recency => one.recency == other.recency,
        SortBy::Name => index.are_called_alike(one.room_nid, other.room_nid),
        SortBy::NotificationCount => one.unread.notifications == other.unread.notifications,
        SortBy::HighlightCount => one.unread.highlights == other.unread.highlights,
    };
    let tie = |one: &&IndexedRoom, other: &&IndexedRoom| {
        before.iter().all(|by| are_equal(one, other, *by))
    };
    for tied in rooms.chunk_by_mut(tie) {
        tied.sort_by_cached_key(|room| children.rank(&room.room_id));
    }
}
