//! In builds for tests: what is answered from memory is what would have been answered from the store.
//!
//! Each such answer is gathered from the store as well, and a difference is a panic, which its client sees as a broken
//! connection. Release builds have none of this. What it leaves out: rooms whose timeline was fetched from upstream, which
//! happens once an answer; and what may truly differ between two moments, if it does: see [`Sync::is_overtaken`].

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use store::{InboxPage, InboxSeq, Position};
use tokio::time::sleep;

use super::{
    answer::{INBOX_LIMIT, Standing, Top},
    sync::Sync,
};
use crate::{
    clock::now_ms,
    error::Error,
    views::{LookBack, RoomView},
};

/// Whether answers go unchecked: a test counts what is asked of the store.
static UNCHECKED: AtomicBool = AtomicBool::new(false);

/// How often two answers may differ before it is a fault: what changes while one of them is gathered has changed for both
/// the next time.
const TRIES: u32 = 4;

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers of this process are not checked.
pub fn leave_unchecked() {
    UNCHECKED.store(true, Ordering::Relaxed);
}

impl Sync<'_> {
    /// Compares what was found, in part or all of it `in_memory`, with what the store says.
    pub(super) async fn check(
        &self,
        standing: Standing,
        since: Position,
        pos: Position,
        look_back: &LookBack,
        in_memory: bool,
        found: &(Top, Vec<RoomView>),
    ) -> Result<(), Error> {
        if UNCHECKED.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !found.0.inbox.messages.is_empty() {
            self.check_inbox(standing, &found.0.inbox).await?;
        }
        if !in_memory {
            return Ok(());
        }
        for attempt in 1..=TRIES {
            let stored = self.gather(standing, since, pos, look_back, None).await?;
            if self.is_overtaken(since, pos, &stored) {
                return Ok(());
            }
            let (in_memory, in_store) = comparable(found, &stored);
            if in_memory == in_store {
                return Ok(());
            }
            assert!(
                attempt < TRIES,
                "memory and store differ from {since} to {pos}\n--- memory: {in_memory}\n--- store: {in_store}"
            );
            // A poll may have been stored while that was gathered: then it shows the next time.
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Compares the to-device messages that were found.
    async fn check_inbox(&self, standing: Standing, found: &InboxPage) -> Result<(), Error> {
        let (store, account_id) = (&self.state.store, self.requester.account.account_id);
        let device = &self.requester.device;
        for attempt in 1..=TRIES {
            let stored =
                store.inbox(account_id, device.device_nid, standing.inbox, INBOX_LIMIT).await?;
            // More may have come, which this process hears of later where another one polls; and another request may have
            // acknowledged some.
            let came = !found.more
                && stored.messages.len() > found.messages.len()
                && stored.messages.starts_with(&found.messages);
            let went = device.v2_acked(now_ms()).is_some_and(|acked| acked > standing.inbox);
            let (found, stored) = (format!("{found:?}"), format!("{stored:?}"));
            if came || went || found == stored {
                return Ok(());
            }
            assert!(
                attempt < TRIES,
                "memory and store differ in the inbox\n--- memory: {found}\n--- store: {stored}"
            );
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Whether the store has moved on: polls were stored, or something was pruned, by another process it may be.
    fn is_overtaken(
        &self,
        since: Position,
        pos: Position,
        (top, rooms): &(Top, Vec<RoomView>),
    ) -> bool {
        let tail = &self.requester.account.tail;
        let mut events = rooms.iter().flat_map(|room| &room.timeline.events);
        top.pos != pos
            || tail.stretch(since, pos, self.state.store.prunings()).is_none()
            || events.any(|(event, _)| event.redacted_because.is_some())
    }
}

/// Two answers as texts that are the same if they say the same.
fn comparable(one: &(Top, Vec<RoomView>), other: &(Top, Vec<RoomView>)) -> (String, String) {
    // What one looked for upstream, the other did not look for again.
    let was_fetched = |rooms: &[RoomView], room: &RoomView| {
        let nid = room.wanted.head.room_nid;
        let same = rooms.iter().find(|other| other.wanted.head.room_nid == nid);
        same.is_some_and(|same| same.timeline.upstream_start.is_some())
    };
    let text = |(top, rooms): &(Top, Vec<RoomView>)| {
        let rooms: Vec<RoomView> = rooms
            .iter()
            .filter(|room| !was_fetched(&one.1, room) && !was_fetched(&other.1, room))
            .map(in_order)
            .collect();
        format!("{:#?}\n{rooms:#?}", top_in_order(top))
    };
    (text(one), text(other))
}

/// A room whose lists are in one order, and without what others than polls change at any moment.
fn in_order(room: &RoomView) -> RoomView {
    let mut room = room.clone();
    room.wanted.head.members_complete = false;
    room.wanted.head.forgotten = false;
    room.state.sort_by(|one, other| {
        (&one.event_type, &one.state_key).cmp(&(&other.event_type, &other.state_key))
    });
    room.account_data.sort();
    room.receipts.sort_by_cached_key(|receipt| {
        // Of those that are told as one, the last is told: their order stays.
        (receipt.event_id.clone(), receipt.receipt_type.clone(), receipt.user_id.clone())
    });
    room
}

/// The same for the rest, but for what both find in the same place: the inbox is compared apart, and key counts are not from
/// the store.
fn top_in_order(top: &Top) -> Top {
    let mut top = top.clone();
    top.account_data.sort();
    top.presence.sort_by(|one, other| one.user_id.cmp(&other.user_id));
    if let Some(lists) = &mut top.device_lists {
        lists.changed.sort();
        lists.left.sort();
    }
    // These are compared by themselves, or are in memory in any case.
    top.inbox = InboxPage::default();
    top.inbox_seq = InboxSeq(0);
    top.key_counts.one_time_keys_count.clear();
    top.key_counts.unused_fallback_key_types.clear();
    top
}
