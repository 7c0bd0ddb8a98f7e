//! The tail of an account's stream: what its latest polls brought, for those who wait for it.
//!
//! Written by the poller, after the commit and before anybody is woken; so who is woken finds in memory what the store would
//! say. It holds little, for seconds, and only while a client is there: whatever it lacks the store has, and losing it loses
//! nothing. What can be read from it, and what that is equal to, is `stretch`'s. It must not know who asks.
//!
//! A poll that redacts, or tells what is redacted, is not kept, nor is anything before it. A redaction that another account's
//! poll brought ([`store::Store::prunings`]) makes all that was kept before it useless.

mod inbox;
mod stretch;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use store::{
    Event, Ingested, Poll, Position, RoomNid, RoomUpdate, StateBlock, StoredRoom, Summary,
};
use tokio::time::Instant;

pub(crate) use self::{
    inbox::InboxTail,
    stretch::{Asker, Stretch},
};

/// How long a poll is kept: long enough for a client to take an answer and come back for the next.
pub(crate) const KEEP: Duration = Duration::from_secs(10);

/// How many polls are kept.
const MOST_POLLS: usize = 16;

/// How many bytes are kept, about.
const MOST_BYTES: usize = 256 * 1024;

/// The latest polls of an account.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Option<Box<Polls>>>);

#[derive(Debug, Default)]
struct Polls {
    /// One after the other: there is no position between them that is not among them.
    kept: VecDeque<Arc<KeptPoll>>,
    bytes: usize,
}

/// A poll and what the store made of it.
#[derive(Debug)]
struct KeptPoll {
    pos: Position,
    poll: Poll,
    rooms: HashMap<RoomNid, KeptRoom>,
    /// [`Ingested::prunings`].
    prunings: u64,
    bytes: usize,
    at: Instant,
}

#[derive(Debug)]
struct KeptRoom {
    /// Its place in [`Poll::rooms`].
    number: usize,
    stored: StoredRoom,
}

impl KeptPoll {
    /// `None` if the store did not tell enough.
    fn new(mut poll: Poll, stored: Ingested) -> Option<Self> {
        let numbers: HashMap<String, usize> =
            poll.rooms.iter().enumerate().map(|(n, room)| (room.room_id.clone(), n)).collect();
        let mut rooms = HashMap::with_capacity(numbers.len());
        for room in stored.rooms? {
            let number = *numbers.get(&room.head.room_id)?;
            rooms.insert(room.head.room_nid, KeptRoom { number, stored: room });
        }
        if rooms.len() != poll.rooms.len() {
            return None;
        }
        // What nobody reads from here.
        poll.quarantined = Vec::new();
        if let Some(device) = &mut poll.device {
            device.to_device = Vec::new();
        }
        for room in &mut poll.rooms {
            room.state = StateBlock::BeforeTimeline(Vec::new());
            room.summary = Summary::default();
            room.stripped_state = None;
        }
        let heads = rooms.values().map(|room| {
            let head = &room.stored.head;
            let parts = [&head.stripped_state, &head.thread_counts, &head.heroes, &head.typing];
            parts.into_iter().flatten().map(bytes::Bytes::len).sum::<usize>()
        });
        let bytes = size(&poll) + heads.sum::<usize>();
        let (pos, prunings, at) = (stored.pos, stored.prunings, Instant::now());
        Some(Self { pos, poll, rooms, prunings, bytes, at })
    }

    fn room(&self, nid: RoomNid) -> Option<(&RoomUpdate, &StoredRoom)> {
        let kept = self.rooms.get(&nid)?;
        Some((self.poll.rooms.get(kept.number)?, &kept.stored))
    }
}

impl Tail {
    /// A poll that has a position of its own is stored. It is kept if somebody `is_there` who may ask for it.
    pub(crate) fn push(&self, poll: Poll, stored: Ingested, is_there: bool) {
        let kept = if is_there { KeptPoll::new(poll, stored) } else { None };
        let mut tail = self.lock();
        let Some(kept) = kept.filter(|kept| kept.bytes <= MOST_BYTES) else {
            *tail = None;
            return;
        };
        let polls = tail.get_or_insert_default();
        if polls.kept.back().is_some_and(|last| last.pos.0 + 1 != kept.pos.0) {
            **polls = Polls::default();
        }
        polls.bytes += kept.bytes;
        polls.kept.push_back(Arc::new(kept));
        while polls.kept.len() > MOST_POLLS || polls.bytes > MOST_BYTES {
            let Some(oldest) = polls.kept.pop_front() else { break };
            polls.bytes -= oldest.bytes;
        }
    }

    /// What the polls after `since` and up to `until` brought, if all of it is here and none of it was pruned meanwhile:
    /// `prunings` is the store's count.
    pub(crate) fn stretch(
        &self,
        since: Position,
        until: Position,
        prunings: u64,
    ) -> Option<Stretch> {
        let tail = self.lock();
        let kept = &tail.as_ref()?.kept;
        let first = kept.front()?.pos;
        // Positions follow each other, so that they say where a poll is.
        let begin = usize::try_from(since.0.checked_add(1)?.checked_sub(first.0)?).ok()?;
        let end = usize::try_from(until.0.checked_add(1)?.checked_sub(first.0)?).ok()?;
        if begin >= end || end > kept.len() {
            return None;
        }
        let polls: Vec<_> = kept.range(begin..end).map(Arc::clone).collect();
        let is_good = |poll: &Arc<KeptPoll>| poll.prunings == prunings && poll.at.elapsed() < KEEP;
        polls.iter().all(is_good).then(|| Stretch::new(since, polls))
    }

    /// Drops what is too old to be asked for.
    pub(crate) fn sweep(&self) {
        let mut tail = self.lock();
        let is_fresh =
            |polls: &Polls| polls.kept.back().is_some_and(|newest| newest.at.elapsed() < KEEP);
        tail.take_if(|polls| !is_fresh(polls));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Polls>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how many bytes a poll takes.
fn size(poll: &Poll) -> usize {
    /// What each piece takes beside its own bytes.
    const PIECE: usize = 256;
    let event = |event: &Event| {
        let unsigned = event.unsigned.as_ref().map_or(0, bytes::Bytes::len);
        PIECE + event.body.len() + 2 * unsigned
    };
    let rooms = poll.rooms.iter().map(|room| {
        let events: usize = room.timeline.iter().map(event).sum();
        let receipts: usize = room.receipts.iter().map(|receipt| PIECE + receipt.data.len()).sum();
        let data: usize = room.account_data.iter().map(|data| PIECE + data.event.len()).sum();
        let typing = room.typing.as_ref().map_or(0, bytes::Bytes::len);
        let threads = room.counts.as_ref().and_then(|counts| counts.threads.as_ref());
        let threads = threads.map_or(0, bytes::Bytes::len);
        4 * PIECE + events + receipts + data + typing + threads
    });
    let data = poll.account_data.iter().map(|data| PIECE + data.event.len());
    let presence = poll.presence.iter().map(|presence| PIECE + presence.event.len());
    let users = poll.device_lists_changed.iter().chain(&poll.device_lists_left).map(|_| PIECE);
    PIECE + rooms.chain(data).chain(presence).chain(users).sum::<usize>()
}

#[cfg(test)]
mod tests;
