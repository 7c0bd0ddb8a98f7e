//! The main poll of an account.

use std::time::Duration;

use store::{RoomUpdate, Section};

use crate::{
    account::Failure,
    clock::now_ms,
    error::causes,
    ingest::{self, Asked},
    upstream::{self, AccessToken, SyncQuery},
};

use super::{
    LONG_POLL, Poller,
    outcome::{self, Outcome},
};

/// Events a room on the first poll, and after: enough for gaps to be rare.
const FIRST_TIMELINE_LIMIT: u32 = 20;
const TIMELINE_LIMIT: u32 = 100;

impl Poller {
    /// Polls once and stores what came. `tries` counts the failures before this one.
    pub(super) async fn poll_main(&self, token: &AccessToken, tries: u32) -> Outcome {
        let account = match self.state.store.account_by_id(self.account.account_id).await {
            Ok(Some(account)) => account,
            Ok(None) => return Outcome::Refused,
            Err(error) => return outcome::of_store_failure(&error),
        };
        // What is stored may be ahead of what this process heard of: a commit whose answer was lost.
        if account.main_device != Some(self.device.device_nid) {
            self.account.set_main_device(account.main_device);
            return Outcome::AskAgain;
        }
        if account.pos > self.account.pos() {
            self.account.ignored.forget();
            self.account.advance(account.pos);
        }
        let since = account.upstream_since;
        let writes = self.account.writes();
        match self.ask(token, since.clone(), tries).await {
            Some(Ok(reply)) => {
                let outcome = self.store_main(since.as_deref(), &reply, tries > 0).await;
                if outcome == Outcome::Stored {
                    self.device.cover(writes);
                }
                outcome
            }
            Some(Err(error)) => self.main_failed(since.is_none(), tries, &error).await,
            None => Outcome::AskAgain,
        }
    }

    /// Asks upstream; `None` when the question changed before the answer came.
    async fn ask(
        &self,
        token: &AccessToken,
        since: Option<String>,
        tries: u32,
    ) -> Option<Result<bytes::Bytes, upstream::Error>> {
        let accounts = &self.state.accounts;
        let is_first = since.is_none();
        // Closed never: the semaphores live as long as the process.
        // Those that wait for their first poll must not hold up those that have had it.
        let _first = if is_first { Some(accounts.first_polls.acquire().await) } else { None };
        let _permit = accounts.polls.acquire().await;
        if is_first {
            tracing::info!("first poll: this can take minutes for a large account");
            self.account.first_poll_begins();
        }
        let mut presence_wish = self.device.watch_presence();
        let mut current_token = self.device.watch_token();
        let mut demand = self.account.watch_demand();
        let limit = if is_first { FIRST_TIMELINE_LIMIT } else { TIMELINE_LIMIT };
        let query = SyncQuery {
            since,
            filter: filter(limit),
            timeout: vary(if is_first { Duration::ZERO } else { self.hold(LONG_POLL) }, tries),
            set_presence: self.device.tell_presence().as_str(),
            use_state_after: true,
        };
        tokio::select! {
            // The reply first: what has arrived is never thrown away for a change of mind.
            biased;
            answer = self.state.upstream.sync(token, &query) => Some(answer),
            // A poll can be given up at any time: the next one asks from the same since. But a first
            // poll is heavy, and is let finish.
            _ = presence_wish.changed(), if !is_first => None,
            _ = current_token.changed(), if !is_first => None,
            _ = demand.changed(), if !is_first => None,
        }
    }

    async fn store_main(&self, since: Option<&str>, reply: &[u8], after_outage: bool) -> Outcome {
        let asked = Asked {
            user_id: &self.account.user_id,
            device_nid: self.device.device_nid,
            since,
            received_at: now_ms(),
        };
        let mut poll = match ingest::main_poll(reply, asked) {
            Ok(poll) => poll,
            Err(error) => {
                tracing::warn!(error = %causes(&error), bytes = reply.len(), "not a sync reply");
                self.account.first_poll_failed(Failure::Unreachable);
                return Outcome::Retry { after: None, at_most: outcome::RETRY };
            }
        };
        if since.is_none() {
            tracing::info!(rooms = poll.rooms.len(), bytes = reply.len(), "first poll received");
            if let Err(error) = self.add_vanished_rooms(&mut poll).await {
                return outcome::of_store_failure(&error);
            }
        }
        if after_outage && let Err(error) = self.end_typing(&mut poll).await {
            return outcome::of_store_failure(&error);
        }
        let stored = match self.state.store.ingest(self.account.account_id, &poll).await {
            Ok(stored) => stored,
            Err(error) => return outcome::of_store_failure(&error),
        };
        if let Some(update) = &poll.device {
            self.device.advance(stored.inbox_seq, update);
        }
        self.leave_upkeep(&poll, stored.pos).await;
        self.account.advance(stored.pos);
        if poll.rooms.iter().any(|room| room.limited) {
            self.gaps.notify_one();
        }
        Outcome::Stored
    }

    async fn main_failed(&self, is_first: bool, tries: u32, error: &upstream::Error) -> Outcome {
        // Upstream was restored from a backup, or is another server: begin again without a since. Much
        // is lost by that, so it has to refuse twice.
        if !is_first && tries > 0 && outcome::refuses_since(error) {
            tracing::warn!(error = %causes(error), "upstream refused its own position: starting anew");
            return match self.state.store.forget_upstream_since(self.account.account_id).await {
                Ok(()) => Outcome::Retry { after: None, at_most: outcome::RETRY },
                Err(error) => outcome::of_store_failure(&error),
            };
        }
        let outcome = outcome::of_failure(error, is_first);
        if is_first && !matches!(outcome, Outcome::Refused | Outcome::Locked) {
            self.account.first_poll_failed(outcome::failure(error));
        }
        outcome
    }

    /// After a poll without a since: rooms that the store has and upstream no longer lists have been
    /// left meanwhile.
    async fn add_vanished_rooms(&self, poll: &mut store::Poll) -> Result<(), store::Error> {
        let known = self
            .state
            .store
            .rooms_in(self.account.account_id, &[Section::Join, Section::Invite, Section::Knock])
            .await?;
        let listed: std::collections::HashSet<String> =
            poll.rooms.iter().map(|room| room.room_id.clone()).collect();
        for room in known.into_iter().filter(|room| !listed.contains(&room.room_id)) {
            tracing::info!(room_id = %room.room_id, "the room is no longer listed: taken as left");
            poll.rooms.push(RoomUpdate {
                limited: true,
                ..RoomUpdate::empty(room.room_id, Section::Leave)
            });
        }
        Ok(())
    }

    /// A homeserver that was restarted has forgotten who typed, and never says that they stopped. After
    /// it was away, only those type of whom it says so.
    async fn end_typing(&self, poll: &mut store::Poll) -> Result<(), store::Error> {
        let typing = self.state.store.rooms_with_typing(self.account.account_id).await?;
        for room_id in typing {
            let told = poll.rooms.iter_mut().find(|room| room.room_id == room_id);
            let nobody = Some(bytes::Bytes::from_static(br#"{"user_ids":[]}"#));
            match told {
                Some(room) if room.section == Section::Join => {
                    room.typing = room.typing.take().or(nobody);
                }
                Some(_) => {}
                None => poll.rooms.push(RoomUpdate {
                    typing: nobody,
                    ..RoomUpdate::empty(room_id, Section::Join)
                }),
            }
        }
        Ok(())
    }
}

/// The filter is sent inline, so that none is created on the user's account. Redundant members are not
/// asked for: Synapse would list the sender of every message in `device_lists.changed`.
fn filter(timeline_limit: u32) -> String {
    format!(
        r#"{{"room":{{"timeline":{{"limit":{timeline_limit},"unread_thread_notifications":true}},"state":{{"lazy_load_members":true}}}}}}"#
    )
}

/// Synapse answers a question that it has answered within two minutes from its cache: a try must
/// differ from the one before it.
fn vary(hold: Duration, tries: u32) -> Duration {
    hold + Duration::from_millis(u64::from(tries % 50))
}
