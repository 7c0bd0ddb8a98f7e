//! Upkeep: what polls leave to be done in the background, so that the store says what a fresh initial sync of
//! the homeserver would say.
//!
//! Incremental syncs do not tell what a newly joined room held before ([`joins`]), what users wrote while they
//! were ignored ([`unignored`]), and that a room is gone without a leave ([`vanished`]). Each of these is asked
//! for once, beside the main poll and by the task that runs it; the store remembers how far that has come, so a
//! crash repeats it. What it finds gets a position of the account stream like that of a poll, with the token of
//! the poll before it: the main poll under way goes on undisturbed. A failure is tried again for a while, then
//! at the next occasion.

mod joins;
mod unignored;
mod vanished;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use store::{Poll, Position, RoomUpdate, Section, StateBlock};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Poller, backoff::Backoff};
use crate::{
    account::Bootstrap,
    clock::now_ms,
    error::causes,
    ignored::{self, Ignored},
    ingest::{self, Asked, ReplyError},
    replicas::Notice,
    upstream::{self, AccessToken},
};

/// How often the rooms are compared with upstream's list of them.
const ROOMS_CHECK: Duration = Duration::from_hours(24);

/// And how soon after that failed.
const ROOMS_RETRY: Duration = Duration::from_mins(10);

/// How often a failure is tried again, and the longest wait in between.
const MOST_TRIES: u32 = 8;
const MOST_WAIT: Duration = Duration::from_mins(2);

/// The longest list of room IDs that is asked for at once, in bytes: it goes into a URL.
const MOST_ASKED: usize = 4_000;

/// Synapse goes through all rooms of the account for whichever it is asked for. What a question took it is left
/// alone for so many times as long, while more rooms to ask for gather.
const REST: u32 = 9;

/// How long an initial answer waits for upkeep under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often storing is tried again because a poll came in between.
const MOST_OVERTAKEN: usize = 5;

/// What there is to be done for an account. Lives with the account; losing it loses nothing that the store does
/// not know.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Counts the occasions.
    placed: watch::Sender<u64>,
    /// How many of them have been tended to, with success or without.
    tended: watch::Sender<u64>,
    /// Users who were ignored in any poll since upkeep last looked.
    once_ignored: Mutex<BTreeSet<String>>,
}

impl Orders {
    fn place(&self) {
        self.placed.send_modify(|placed| *placed = placed.wrapping_add(1));
    }

    /// Waits until what was left to be done has been tried: for a bounded time, because upstream may be slow.
    pub(crate) async fn tended(&self) {
        let placed = *self.placed.borrow();
        let mut tended = self.tended.subscribe();
        let _ = timeout(PATIENCE, tended.wait_for(|tended| *tended >= placed)).await;
    }

    fn once_ignored(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.once_ignored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why something could not be done this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("upstream did not answer as needed")]
    Upstream(#[from] upstream::Error),
    #[error("the store failed")]
    Store(#[from] store::Error),
    #[error("not a sync reply")]
    Reply(#[from] ReplyError),
    #[error("polls came in between")]
    Overtaken,
    #[error("there is no token")]
    NoToken,
}

/// Does what there is to be done for the account, as long as the poller's device runs its main poll. Never ends.
pub(super) async fn keep_up(poller: &Poller) {
    let account = &poller.account;
    let mut placed = account.upkeep.placed.subscribe();
    let mut main_device = account.watch_main_device();
    let mut bootstrap = account.watch_bootstrap();
    let mut rooms_check = Instant::now();
    let mut joins = Rest::default();
    loop {
        let is_ready = |bootstrap: &Bootstrap| matches!(bootstrap, Bootstrap::Ready);
        let ready = bootstrap.wait_for(is_ready).await.is_ok();
        let device = poller.device.device_nid;
        let is_main = main_device.wait_for(|main| *main == Some(device)).await.is_ok();
        if !ready || !is_main {
            // The account outlives its pollers.
            return std::future::pending().await;
        }
        placed.mark_unchanged();
        // Boxed: there is seldom anything to do, and the room for it is not held while there is nothing.
        Box::pin(poller.catch_up(&mut joins)).await;
        if Instant::now() >= rooms_check {
            rooms_check = Instant::now() + ROOMS_CHECK;
            if let Err(error) = Box::pin(poller.settle_vanished()).await {
                rooms_check = Instant::now() + ROOMS_RETRY;
                tracing::info!(error = %causes(&error), "could not compare the rooms with upstream's");
            }
        }
        tokio::select! {
            _ = placed.changed() => {}
            _ = main_device.changed() => {}
            () = tokio::time::sleep_until(rooms_check) => {}
            () = tokio::time::sleep_until(joins.until), if joins.interrupts => {}
        }
    }
}

/// When newly joined rooms may be asked for again.
#[derive(Debug)]
struct Rest {
    until: Instant,
    /// There are some to ask for.
    interrupts: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self { until: Instant::now(), interrupts: false }
    }
}

impl Poller {
    /// Looks at a poll that has just been stored for what it leaves to be done; its rooms may be with it, and may be
    /// `new_rooms`. Gives whether the user ignores others than before.
    pub(super) async fn leave_upkeep(&self, poll: &Poll, new_rooms: bool, pos: Position) -> bool {
        let orders = &self.account.upkeep;
        let list = poll.account_data.iter().rfind(|data| data.event_type == ignored::EVENT_TYPE);
        if let Some(list) = list {
            self.account.ignored.forget();
            orders.once_ignored().extend(Ignored::read(&list.event).users().cloned());
        }
        if poll.asked_since.is_none() {
            // It brought everything itself. If this is lost, it is asked for once more.
            if let Err(error) =
                self.state.store.joins_are_settled(self.account.account_id, pos).await
            {
                tracing::warn!(error = %causes(&error), "could not keep that joins are settled");
            }
        }
        if list.is_some() || new_rooms {
            orders.place();
        }
        list.is_some()
    }

    /// The same for polls that may have been stored up to `pos` without anybody having looked at them.
    pub(super) async fn leave_upkeep_for_unheard(&self, pos: Position) -> Result<(), store::Error> {
        let account = &self.account;
        account.ignored.forget();
        // Now, before the next poll may say otherwise: whoever is on this list may have been put there by one of them.
        let ignored = account.ignored.get(&self.state.store, account.account_id).await?;
        account.upkeep.once_ignored().extend(ignored.users().cloned());
        let (account_id, pos) = (account.account_id.into(), pos.into());
        self.state.tell(Notice::Advanced { account: account_id, pos, ignored: true });
        account.upkeep.place();
        Ok(())
    }

    async fn catch_up(&self, joins: &mut Rest) {
        let mut backoff = Backoff::new();
        let orders = &self.account.upkeep;
        loop {
            let placed = *orders.placed.borrow();
            let outcome = async {
                self.settle_unignored().await?;
                self.settle_joins(joins).await
            };
            let outcome = outcome.await;
            orders.tended.send_replace(placed);
            let Err(error) = outcome else { return };
            if backoff.tries() >= MOST_TRIES {
                tracing::warn!(error = %causes(&error), "gave upkeep up for now");
                return;
            }
            tracing::info!(error = %causes(&error), "upkeep is tried again");
            let after = match &error {
                Failure::Upstream(error) => error.retry_after(),
                _ => None,
            };
            tokio::time::sleep(backoff.next(after, MOST_WAIT)).await;
        }
    }

    fn token(&self) -> Result<AccessToken, Failure> {
        self.device.watch_token().borrow().clone().ok_or(Failure::NoToken)
    }

    /// Asks an auxiliary sync, and reads its rooms: nothing else of it counts.
    async fn ask_rooms(&self, filter: &str) -> Result<Vec<RoomUpdate>, Failure> {
        let reply = crate::auxiliary::sync(&self.state, &self.token()?, filter).await?;
        let asked = Asked {
            user_id: &self.account.user_id,
            device_nid: self.device.device_nid,
            since: None,
            received_at: now_ms(),
        };
        Ok(ingest::main_poll(&reply, asked)?.rooms)
    }

    /// Stores rooms at a position of their own, where the stream stood at upstream's `token` when they were put
    /// together; `false` if a poll came in between.
    async fn store_rooms(&self, token: &str, rooms: Vec<RoomUpdate>) -> Result<bool, Failure> {
        let poll = Poll {
            asked_since: Some(token.to_owned()),
            next_batch: token.to_owned(),
            received_at: now_ms(),
            rooms,
            ..Poll::default()
        };
        match self.state.store.ingest(self.account.account_id, &poll).await {
            Ok(stored) => {
                self.advance(stored.pos, false);
                Ok(true)
            }
            Err(store::Error::Fenced { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Upstream's token of the last poll that is stored.
    async fn upstream_token(&self) -> Result<String, Failure> {
        let account = self.state.store.account_by_id(self.account.account_id).await?;
        // A stream that is about to begin anew is the next poll's business.
        account.and_then(|account| account.upstream_since).ok_or(Failure::Overtaken)
    }
}

/// Lists of room IDs short enough to be asked for.
fn short_lists(room_ids: &[String]) -> Vec<&[String]> {
    let mut lists = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (number, room_id) in room_ids.iter().enumerate() {
        if bytes + room_id.len() > MOST_ASKED && number > first {
            lists.push(&room_ids[first..number]);
            (first, bytes) = (number, 0);
        }
        bytes += room_id.len();
    }
    if first < room_ids.len() {
        lists.push(&room_ids[first..]);
    }
    lists
}

/// Whether a poll's room may be newly joined: whether it is, the store knows.
pub(super) fn may_be_new(room: &RoomUpdate) -> bool {
    let (StateBlock::BeforeTimeline(state) | StateBlock::AfterTimeline(state)) = &room.state;
    room.section == Section::Join
        && (room.limited
            || room.joins_anew.is_some()
            || state.iter().any(|event| event.event_type == "m.room.create"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_rooms_are_short() {
        let check = |lengths: &[usize], expected: &[usize]| {
            let room_ids: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            let lists = short_lists(&room_ids);
            assert_eq!(lists.iter().map(|list| list.len()).collect::<Vec<_>>(), expected);
            assert_eq!(lists.concat(), room_ids);
        };
        check(&[], &[]);
        check(&[10], &[1]);
        check(&[MOST_ASKED, 1], &[1, 1]);
        check(&[MOST_ASKED * 2, 1], &[1, 1]);
        check(&[1000, 1000, 1000, 1000, 1000], &[4, 1]);
    }
}
