//! What an answer says: gathered from the store, or from memory where the last polls are there, and not yet written.
//!
//! Neighbours: `sync` decides when, `views` fill the rooms, `write` puts it into JSON.

use std::sync::Arc;

use bytes::Bytes;
use store::{DeviceListChanges, InboxPage, InboxSeq, Position, Section, StoredPresence};

use crate::{
    account::{KeyCounts, KnownMembers, tail::Stretch},
    auth::Requester,
    error::Error,
    filter::{Filter, Seen},
    ignored::Ignored,
    state::State,
    views::{self, LookBack, RoomView, View, Wanted},
};

use super::{request::StateForm, rooms};

/// To-device messages an answer.
pub(super) const INBOX_LIMIT: usize = 100;

/// Everything of an answer but its rooms.
#[derive(Clone, Debug)]
pub(super) struct Top {
    /// The end of the stretch that the answer covers.
    pub(super) pos: Position,
    /// The last to-device message that is in it, or before it.
    pub(super) inbox_seq: InboxSeq,
    pub(super) account_data: Vec<Bytes>,
    pub(super) presence: Vec<StoredPresence>,
    pub(super) inbox: InboxPage,
    /// `None` in an initial answer.
    pub(super) device_lists: Option<DeviceListChanges>,
    pub(super) key_counts: KeyCounts,
}

impl Top {
    /// Whether there is anything in it that a client waits for. Key counts are not: they ride along.
    pub(super) fn has_news(&self) -> bool {
        !self.account_data.is_empty()
            || !self.presence.is_empty()
            || !self.inbox.messages.is_empty()
            || self
                .device_lists
                .as_ref()
                .is_some_and(|lists| !lists.changed.is_empty() || !lists.left.is_empty())
    }
}

/// Where a client stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The account stream; `None` for a client that knows nothing.
    pub(super) since: Option<Position>,
    /// Where it stood, if what happened since is no longer known: it is told everything anew, and what is gone.
    pub(super) lost: Option<Position>,
    /// The inbox: messages up to here are not sent again.
    pub(super) inbox: InboxSeq,
    /// Whether v2 was a session of the device before this request, so that all messages after that are still held. Else other
    /// sessions alone may have acknowledged some, and only the store knows.
    pub(super) inbox_is_held: bool,
}

/// What a client wants to be told of rooms.
#[derive(Clone)]
pub(super) struct Wishes {
    /// Which of them, and what of each.
    pub(super) filter: Arc<Filter>,
    /// How their state is told.
    pub(super) state_form: StateForm,
    /// Lazy loading: members that need not be told again.
    pub(super) known_members: Arc<KnownMembers>,
}

/// Gathers everything but the rooms, up to `pos`; with `full_state` not only what changed. What the polls since brought may
/// be there in `tail`. What asks the store is boxed: mostly there is nothing to ask for, and that has to cost little.
pub(super) async fn top(
    state: &State,
    requester: &Requester,
    standing: Standing,
    filter: &Filter,
    pos: Position,
    full_state: bool,
    tail: Option<&Stretch>,
) -> Result<Top, Error> {
    let account_id = requester.account.account_id;
    let device = &requester.device;
    let unchanged = standing.since.is_some_and(|since| since >= pos);
    // With `full_state` the latest values come whole, as the state of rooms does.
    let values_since = standing.since.filter(|_| !full_state).unwrap_or(Position(0));
    let no_new_values = unchanged && !full_state;
    let account_data = async {
        if no_new_values || !filter.account_data.admits_anything() {
            return Ok(Vec::new());
        }
        match tail {
            Some(tail) => Ok(tail.global_account_data()),
            None => Box::pin(state.store.global_account_data(account_id, values_since, pos)).await,
        }
    };
    let presence = async {
        if no_new_values || !filter.presence.admits_anything() {
            return Ok(Vec::new());
        }
        match tail {
            Some(tail) => Ok(tail.presence()),
            None => Box::pin(state.store.presence(account_id, values_since, pos)).await,
        }
    };
    let device_lists = async {
        match standing.since {
            None if standing.lost.is_some() => {
                let changed = Box::pin(state.store.sharers(account_id)).await?;
                Ok(Some(DeviceListChanges { changed, left: Vec::new() }))
            }
            None => Ok(None),
            Some(_) if unchanged => Ok(Some(DeviceListChanges::default())),
            Some(since) => match tail {
                Some(tail) => Ok(Some(tail.device_list_changes())),
                None => {
                    let changes = state.store.device_list_changes(account_id, since, pos);
                    Box::pin(changes).await.map(Some)
                }
            },
        }
    };
    let inbox = async {
        let end = device.inbox_seq();
        if standing.inbox >= end {
            return Ok(InboxPage::default());
        }
        let in_memory = || device.inbox_tail.after(standing.inbox, end, INBOX_LIMIT);
        if let Some(page) = standing.inbox_is_held.then(in_memory).flatten() {
            return Ok(page);
        }
        if let Some(tail) = tail {
            tail.asks_store();
        }
        let device = device.device_nid;
        Box::pin(state.store.inbox(account_id, device, standing.inbox, INBOX_LIMIT)).await
    };
    let (account_data, presence, device_lists, inbox) =
        tokio::try_join!(account_data, presence, device_lists, inbox)?;
    let inbox_seq = inbox.messages.last().map_or(standing.inbox, |last| last.seq);
    Ok(Top {
        pos,
        inbox_seq,
        account_data: account_data
            .into_iter()
            .filter(|(event_type, _)| filter.account_data.admits_without_sender(event_type))
            .map(|(_, event)| event)
            .collect(),
        presence: presence
            .into_iter()
            .filter(|presence| {
                let sender = Some(presence.user_id.as_str());
                filter.presence.admits(Seen { event_type: "m.presence", sender, has_url: false })
            })
            .collect(),
        inbox,
        device_lists,
        key_counts: device.key_counts(),
    })
}

/// The rooms that changed after `since`, with the position up to which that is.
pub(super) async fn changed_rooms(
    state: &State,
    requester: &Requester,
    since: Position,
    wishes: &Wishes,
    look_back: &LookBack,
    full_state: bool,
    tail: Option<&Stretch>,
) -> Result<(Position, Vec<RoomView>), Error> {
    let filter = &*wishes.filter;
    let account_id = requester.account.account_id;
    let (pos, changed) = match tail {
        Some(tail) => (tail.until(), tail.changed_rooms()),
        None => state.store.changed_rooms(account_id, since).await?,
    };
    if let Some(tail) = tail.filter(|_| !requester.account.ignored.is_known()) {
        tail.asks_store();
    }
    let ignored = ignored(state, requester).await?;
    let changed = rooms::without_ignored(changed, &ignored, &requester.account.user_id);
    let mut wanted = rooms::incremental(changed, since, &filter.room, full_state);
    if full_state {
        add_unchanged(state, requester, since, filter, &mut wanted).await?;
    }
    let views = load(state, requester, wanted, wishes, look_back, pos, tail).await?;
    Ok((pos, views.into_iter().filter(|view| full_state || has_news(view, filter)).collect()))
}

/// With `full_state` every joined room and invite appears, changed or not.
async fn add_unchanged(
    state: &State,
    requester: &Requester,
    since: Position,
    filter: &Filter,
    wanted: &mut Vec<Wanted>,
) -> Result<(), Error> {
    let sections = [Section::Join, Section::Invite, Section::Knock];
    let heads = state.store.rooms_in(requester.account.account_id, &sections).await?;
    let listed: std::collections::HashSet<_> =
        wanted.iter().map(|room| room.head.room_nid).collect();
    let extent = views::Extent::Since { since, cut: None, full_state: true };
    let ignored = ignored(state, requester).await?;
    wanted.extend(
        heads
            .into_iter()
            .filter(|head| !listed.contains(&head.room_nid) && filter.room.admits(&head.room_id))
            .filter(|head| !ignored.hides_invite(head, &requester.account.user_id))
            .map(|head| Wanted { head, extent }),
    );
    Ok(())
}

/// The users whom the requester ignores.
pub(super) async fn ignored(state: &State, requester: &Requester) -> Result<Arc<Ignored>, Error> {
    let account = &requester.account;
    Ok(account.ignored.get(&state.store, account.account_id).await?)
}

/// Loads rooms as a client wants them. All of one answer share a `look_back`.
pub(super) async fn load(
    state: &State,
    requester: &Requester,
    wanted: Vec<Wanted>,
    wishes: &Wishes,
    look_back: &LookBack,
    pos: Position,
    tail: Option<&Stretch>,
) -> Result<Vec<RoomView>, Error> {
    let filter = &*wishes.filter;
    let nobody = KnownMembers::default();
    let ignored = ignored(state, requester).await?;
    let view = View {
        look_back,
        ignored: &ignored,
        timeline: &filter.room.timeline,
        state: &filter.room.state,
        lazy_load_members: filter.room.state.lazy_load_members,
        known_members: if filter.room.state.include_redundant_members {
            &nobody
        } else {
            &wishes.known_members
        },
        state_after: wishes.state_form != StateForm::Before,
        receipts: filter.room.ephemeral.admits_without_sender("m.receipt"),
        tail,
    };
    views::load(state, requester, wanted, &view, pos).await
}

/// Whether anything of a room is left that its client waits for. Counts alone are not: they ride
/// along.
pub(super) fn has_news(view: &RoomView, filter: &Filter) -> bool {
    let room_id = &view.wanted.head.room_id;
    match view.wanted.head.section {
        Section::Invite | Section::Knock => true,
        Section::Leave if !matches!(view.wanted.extent, views::Extent::Since { .. }) => true,
        _ => {
            !view.timeline.events.is_empty()
                || !view.state.is_empty()
                || (view.timeline.limited && view.wanted.head.section == Section::Leave)
                || is_bare_gap(view, filter)
                || (filter.room.account_data.admits_room(room_id)
                    && view.account_data.iter().any(|(event_type, _)| {
                        filter.room.account_data.admits_without_sender(event_type)
                    }))
                || (filter.room.ephemeral.admits_room(room_id)
                    && (!view.receipts.is_empty() || shows_typing(view, filter)))
        }
    }
}

/// Whether events are missing that would have been told, and none that follow are there to say so.
fn is_bare_gap(view: &RoomView, filter: &Filter) -> bool {
    let timeline = &filter.room.timeline;
    view.timeline.limited
        && timeline.timeline_limit() > 0
        && timeline.admits_everything_in(&view.wanted.head.room_id)
}

/// Whether the typing list is told: when it changed, or to a client that knows nothing when somebody
/// types.
pub(super) fn shows_typing(view: &RoomView, filter: &Filter) -> bool {
    let head = &view.wanted.head;
    let Some(typing) = &head.typing else { return false };
    let ephemeral = &filter.room.ephemeral;
    if head.section != Section::Join
        || !ephemeral.admits_without_sender("m.typing")
        || !ephemeral.admits_room(&head.room_id)
    {
        return false;
    }
    match view.wanted.extent {
        views::Extent::Since { since, .. } => head.typing_pos > since,
        views::Extent::Whole { .. } => typing.contains(&b'@'),
    }
}
