//! The main poll of an account: rooms, account data, presence, device lists, and the inbox of the device that runs it.
//!
//! Asks, has `ingest` read and the store write, and only then tells the account. It must not know who waits. What
//! becomes of a failure is `outcome`'s to say, and of a reply that cannot be read `poison`'s.

use std::time::Duration;

use store::{Poll, Position};
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use crate::{
    account::Failure,
    clock::now_ms,
    error::causes,
    ingest::{self, Asked, PartError},
    json,
    replicas::Notice,
    upstream::{self, AccessToken, Reply, SyncQuery},
};

use super::{
    LONG_POLL, Poller,
    additions::{Additions, Brought},
    large::{Taken, Untaken},
    outcome::{self, Outcome},
    poison::Poison,
    standing::Stream,
};

/// Events a room on the first poll, and after: enough for gaps to be rare.
const FIRST_TIMELINE_LIMIT: u32 = 20;
const TIMELINE_LIMIT: u32 = 100;

/// How often a first poll under way is told of.
const PROGRESS: Duration = Duration::from_mins(1);

impl Poller {
    /// Polls once and stores what came. `tries` counts the failures before this one.
    pub(super) async fn poll_main(&self, token: &AccessToken, tries: u32) -> Outcome {
        // What reads, stores and mends is boxed: a poller waits for upstream nearly all the time, and there is one for each
        // device, so what it waits with has to be small.
        let since = match self.standing.take(Stream::Main) {
            Some(since) => Some(since),
            None => match Box::pin(self.look_main_up(tries)).await {
                Ok(since) => since,
                Err(outcome) => return outcome,
            },
        };
        if let Err(error) = Box::pin(self.inherit_typing()).await {
            return outcome::of_store_failure(&error);
        }
        // Those that wait for their first poll must not hold up those that have had it. Held until the reply is stored: a large
        // one lies in a file so long, and there are to be no more of these than first polls at once.
        // Closed never: the semaphores live as long as the process.
        let is_first = since.is_none();
        let first_polls = &self.state.accounts.first_polls;
        let _first = if is_first { Some(first_polls.acquire().await) } else { None };
        let writes = self.account.writes();
        match self.ask(token, since.clone(), tries).await {
            Some(Ok(reply)) => {
                store::mark::reached("main", "after_reply");
                let stored = self.store_main(token, since.as_deref(), reply, tries > 0);
                let outcome = Box::pin(stored).await;
                if outcome == Outcome::Stored {
                    *self.poison() = Poison::default();
                    self.position_taken();
                    self.refused(None);
                    self.account.cover_rooms(writes);
                    self.device.cover(writes);
                }
                outcome
            }
            Some(Err(error)) if error.is_unreadable() => {
                tracing::warn!(error = %causes(&error), "not a whole sync reply");
                Box::pin(self.unreadable(token, since.as_deref())).await
            }
            Some(Err(error)) => Box::pin(self.main_failed(is_first, &error)).await,
            None => {
                if let Some(since) = since {
                    self.standing.is(Stream::Main, since);
                }
                Outcome::AskAgain
            }
        }
    }

    /// Where the account's stream stands in the store; what to do instead, if it is not this poller's to move on.
    async fn look_main_up(&self, tries: u32) -> Result<Option<String>, Outcome> {
        let store = &self.state.store;
        let account = match store.account_by_id(self.account.account_id).await {
            Ok(Some(account)) => account,
            Ok(None) => return Err(Outcome::Refused),
            Err(error) => return Err(outcome::of_store_failure(&error)),
        };
        // That it is this process', only what claims it may say.
        if account.replica != store.replica() {
            self.account.hear_of_holder(store, account.replica);
            return Err(Outcome::AskAgain);
        }
        // What is stored may be ahead of what this process heard of: a commit whose answer was lost.
        if account.main_device != Some(self.device.device_nid) {
            self.account.set_main_device(account.main_device);
            return Err(Outcome::AskAgain);
        }
        if tries > 0 || self.account.unheard.is_any() || self.device.unheard.is_any() {
            let made_up = Box::pin(self.make_up_for_unheard(account.pos)).await;
            made_up.map_err(|error| outcome::of_store_failure(&error))?;
        }
        if account.pos > self.account.pos() {
            self.account.ignored.forget();
            self.advance(account.pos, true);
        }
        Ok(account.upstream_since)
    }

    /// Does what is done after a poll is stored, where one may be stored up to `pos` without this having been done.
    async fn make_up_for_unheard(&self, pos: Position) -> Result<(), store::Error> {
        // Messages and key counts have no position.
        if let Some(device) = self.state.store.device_by_nid(self.device.device_nid).await? {
            self.hear_of_own(&device);
        }
        if self.account.unheard.is_any() {
            self.leave_upkeep_for_unheard(pos).await?;
            self.gaps.notify_one();
            self.account.unheard.heard();
        }
        Ok(())
    }

    /// Takes over the device's own part as it is stored. The other processes hear of it before they hear of events, whose keys
    /// may be in it.
    pub(super) fn hear_of_own(&self, stored: &store::Device) {
        let had_unheard = self.device.unheard.is_any();
        if had_unheard {
            self.device.follow(stored);
            self.device.unheard.heard();
        } else if !self.device.catch_up(stored.inbox_seq) {
            return;
        }
        let keys = had_unheard.then(|| self.device.key_counts());
        self.tell_own(stored.inbox_seq, keys.as_ref());
    }

    /// Asks upstream; `None` when the question changed before the answer came.
    async fn ask(
        &self,
        token: &AccessToken,
        since: Option<String>,
        tries: u32,
    ) -> Option<Result<Reply, upstream::Error>> {
        let accounts = &self.state.accounts;
        let is_first = since.is_none();
        // Closed never, as above.
        let _permit = accounts.polls.acquire().await;
        if is_first {
            tracing::info!("first poll: this can take minutes for a large account");
            if self.account.first_poll_begins() {
                let account = self.account.account_id.into();
                self.state.tell(Notice::FirstPoll { account, failure: None });
            }
        }
        let mut presence_wish = self.device.presence.watch();
        let mut current_token = self.device.watch_token();
        let mut demand = self.account.watch_demand();
        let presence = self.device.presence.tell();
        let hold = self.while_typing_is_believed(self.hold(LONG_POLL, presence));
        let filter = {
            let poison = self.poison();
            filter(poison.limit(usual_limit(is_first)), poison.rooms())
        };
        let query = SyncQuery {
            since,
            filter,
            timeout: vary(if is_first { Duration::ZERO } else { hold }, tries),
            set_presence: presence.as_str(),
            use_state_after: true,
            on_behalf_of: self.device.on_behalf_of(),
        };
        tokio::select! {
            // The reply first: what has arrived is never thrown away for a change of mind.
            biased;
            answer = patiently(is_first, self.state.upstream.large_sync(token, &query)) => {
                self.device.presence.answered(presence, &answer);
                Some(answer)
            }
            // A poll can be given up at any time: the next one asks from the same since. But a first
            // poll is heavy, and is let finish.
            _ = presence_wish.changed(), if !is_first && Self::yields(hold) => None,
            _ = current_token.changed(), if !is_first => None,
            _ = demand.changed(), if !is_first && Self::yields(hold) => None,
        }
    }

    async fn store_main(
        &self,
        token: &AccessToken,
        since: Option<&str>,
        reply: Reply,
        after_outage: bool,
    ) -> Outcome {
        let received = Instant::now();
        let bytes = reply.len();
        if since.is_none() {
            tracing::info!(bytes, "first poll received");
        }
        let span = tracing::debug_span!("ingest", bytes);
        self.account.unheard.begin();
        self.device.unheard.begin();
        let taken = match reply {
            Reply::Small(reply) => {
                self.take_small(token, since, &reply, after_outage).instrument(span).await
            }
            Reply::Large(reply) => {
                // Boxed, because it is rare, and pollers are many.
                let taken = Box::pin(self.take_large(token, since, reply, after_outage));
                taken.instrument(span).await
            }
        };
        let Taken { poll, brought, stored } = match taken {
            Ok(taken) => taken,
            Err(Untaken::Store(error)) => return outcome::of_store_failure(&error),
            Err(Untaken::Reply(PartError::File(error))) => return outcome::of_file_failure(&error),
            Err(Untaken::Reply(PartError::Reply(error))) => {
                tracing::warn!(error = %causes(&error), bytes, "not a sync reply");
                return self.unreadable(token, since).await;
            }
        };
        self.state.metrics.poll_stored(self.main_kind(), bytes, received.elapsed());
        self.state.metrics.ingested(brought.rooms, brought.events, brought.quarantined);
        if since.is_none() {
            let (rooms, seconds) = (brought.rooms, received.elapsed().as_secs_f32());
            tracing::info!(rooms, seconds, "first poll stored");
        }
        let (pos, inbox_seq) = (stored.pos, stored.inbox_seq);
        let ignored = self.leave_upkeep(&poll, brought.new_rooms, pos).await;
        let (next_batch, own) = (poll.next_batch.clone(), poll.device.clone());
        // A poll that the store says nothing of is pushed all the same: what was kept before it ends there.
        if stored.rooms.is_none() || !poll.is_idle() {
            self.account.tail.push(poll, stored, self.account.is_attended());
        }
        // The messages first, because they may be the keys of the events; and nothing in between, so that who waits gets both.
        if let Some(update) = &own {
            self.advance_own(inbox_seq, update);
        }
        self.advance(pos, ignored);
        if brought.gaps {
            self.gaps.notify_one();
        }
        self.account.unheard.heard();
        self.device.unheard.heard();
        self.standing.is(Stream::Main, next_batch);
        Outcome::Stored
    }

    /// Stores a reply that is in memory.
    async fn take_small(
        &self,
        token: &AccessToken,
        since: Option<&str>,
        reply: &[u8],
        after_outage: bool,
    ) -> Result<Taken, Untaken> {
        let asked = Asked {
            user_id: &self.account.user_id,
            device_nid: self.device.device_nid,
            since,
            received_at: now_ms(),
        };
        let poll = ingest::main_poll(reply, asked).map_err(PartError::Reply)?;
        let additions = self.additions(token, &poll, after_outage).await?;
        Ok(self.store_whole(poll, additions).await?)
    }

    /// Stores a poll in one piece, with what is to be added to it.
    pub(super) async fn store_whole(
        &self,
        mut poll: Poll,
        mut additions: Additions,
    ) -> Result<Taken, store::Error> {
        self.hear_of_typing(&poll.rooms);
        additions.add(&mut poll.rooms);
        let rest = additions.rest();
        poll.rooms.extend(rest.rooms);
        poll.device_lists_changed.extend(rest.device_lists_changed);
        poll.device_lists_left.extend(rest.device_lists_left);
        poll.quarantined.extend(rest.quarantined);
        let stored = self.state.store.ingest(self.account.account_id, &poll).await?;
        let mut brought = Brought::default();
        brought.add(&poll.rooms, poll.quarantined.len());
        Ok(Taken { poll, brought, stored })
    }

    /// A reply that is none, or no whole one. Others may come out better.
    async fn unreadable(&self, token: &AccessToken, since: Option<&str>) -> Outcome {
        self.first_poll_failed(Failure::Unreachable);
        self.spoilt(token, since, usual_limit(since.is_none())).await;
        Outcome::Retry { after: None, at_most: outcome::FIRST_POLL_RETRY }
    }

    async fn main_failed(&self, is_first: bool, error: &upstream::Error) -> Outcome {
        if !is_first && outcome::refuses_since(error) {
            if self.position_refused(error) {
                let account_id = self.account.account_id;
                if let Err(error) = self.state.store.forget_upstream_since(account_id).await {
                    return outcome::of_store_failure(&error);
                }
                self.position_taken();
            }
            return Outcome::Retry { after: None, at_most: outcome::FIRST_POLL_RETRY };
        }
        let outcome = outcome::of_failure(error, is_first);
        if let upstream::Error::Matrix { status: 403, .. } = error {
            self.refused(Some(outcome::failure(error)));
        }
        if is_first && !matches!(outcome, Outcome::Refused | Outcome::Locked) {
            self.first_poll_failed(outcome::failure(error));
        }
        outcome
    }
}

/// Waits for an answer. Of a first poll, which may take long, it says now and then that it goes on.
async fn patiently<T>(is_first: bool, answer: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let mut answer = std::pin::pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = sleep(PROGRESS), if is_first => {
                tracing::info!(seconds = begun.elapsed().as_secs(), "the first poll goes on");
            }
        }
    }
}

/// The filter is sent inline, so that none is created on the user's account. Redundant members are not
/// asked for: Synapse would list the sender of every message in `device_lists.changed`.
fn filter(timeline_limit: u32, without: &[String]) -> String {
    let not_rooms = match without {
        [] => String::new(),
        rooms => format!(r#""not_rooms":{},"#, json::strings(rooms)),
    };
    format!(
        r#"{{"room":{{{not_rooms}"timeline":{{"limit":{timeline_limit},"unread_thread_notifications":true}},"state":{{"lazy_load_members":true}}}}}}"#
    )
}

/// How many events a room to ask for.
fn usual_limit(is_first: bool) -> u32 {
    if is_first { FIRST_TIMELINE_LIMIT } else { TIMELINE_LIMIT }
}

/// Synapse answers a question that it has answered within two minutes from its cache: a try must
/// differ from the one before it.
pub(super) fn vary(hold: Duration, tries: u32) -> Duration {
    hold + Duration::from_millis(u64::from(tries % 50))
}
