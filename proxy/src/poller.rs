//! Polling upstream: one task a device, as long as there is a token to poll with.
//!
//! One device of an account runs the **main poll** (rooms, account data, presence, device lists, and
//! its own inbox); every other runs a **light poll** for its own inbox and key counts. A poll's reply
//! is stored, and only then is the next one asked for: that is the acknowledgement towards upstream.
//! A task owns its device's place in upstream's stream and nothing else; it speaks to requests only
//! through the `watch`es of [`Account`] and [`Device`]. The rules stand in docs/architecture.md.

mod additions;
mod backoff;
mod gaps;
mod handover;
mod key_changes;
mod large;
mod light;
mod main;
mod outcome;
mod poison;
mod standing;
mod typing;
pub(crate) mod upkeep;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use store::{AccountId, DeviceUpdate, InboxSeq, Position};
use tokio::sync::{Notify, watch};
use tracing::Instrument;

use crate::{
    account::{Account, Bootstrap, Device, Failure, KeyCounts, Lease, PresenceWish},
    auth::{self, Resumed, authenticate_stored},
    capabilities,
    clock::now_ms,
    error::causes,
    metrics::{
        PollerWatch,
        labels::{Activity, Label, PollKind},
    },
    replicas::{Hash, Notice, Told},
    state::State,
    upstream::{self, AccessToken},
};

use self::{
    backoff::Backoff, outcome::Outcome, poison::Poison, standing::Standing, typing::Inherited,
};

/// How long upstream holds an idle poll. Less than its word on a token is trusted: the poll after this one
/// is what tells that a token has died, before any request needs to ask.
const LONG_POLL: Duration = Duration::from_secs(25);

/// How long polls are held that ought to be answered at once, in milliseconds at most: each differs from those
/// before it.
const SHORT_POLLS: u32 = 50;

/// Sees to it that the device has a poller, if this process is the one to poll for its account.
pub(crate) fn ensure(state: &Arc<State>, account: &Arc<Account>, device: &Arc<Device>) {
    if account.lease() != Lease::Ours || !device.claim_poller() {
        return;
    }
    let poller = Poller {
        state: Arc::clone(state),
        account: Arc::clone(account),
        device: Arc::clone(device),
        gaps: Notify::new(),
        poison: Mutex::default(),
        inherited: Mutex::default(),
        standing: Standing::default(),
        refusals: AtomicU32::new(0),
        watch: state.metrics.poller(),
    };
    tokio::spawn(poller.run());
}

/// Polls for every device of these accounts whose token is stored, as before a restart or as another process did. Starts
/// are spread out, so that thousands of accounts do not fall upon upstream at once.
pub(crate) async fn resume(state: &Arc<State>, accounts: &[AccountId]) {
    let mut backoff = Backoff::new();
    let stored = loop {
        match state.store.latest_tokens(accounts).await {
            Ok(stored) => break stored,
            Err(error) => {
                tracing::error!(error = %causes(&error), "cannot resume polling yet");
                tokio::time::sleep(backoff.next(None, outcome::FIRST_POLL_RETRY)).await;
            }
        }
    };
    let total = stored.len();
    for token in stored {
        if *state.shutting_down.borrow() {
            return;
        }
        let resumed = loop {
            match authenticate_stored(state, &token).await {
                Err(error) if error.is_unavailable() => {
                    tokio::time::sleep(backoff.next(None, outcome::FIRST_POLL_RETRY)).await;
                }
                resumed => break resumed,
            }
        };
        match resumed {
            Ok(Resumed::Begun) => tokio::time::sleep(backoff::spread(total)).await,
            Ok(Resumed::Running) => {}
            Ok(Resumed::Unreadable) => tracing::warn!(
                user_id = %token.user_id,
                device_id = %token.device_id,
                "a stored access token does not open with this secret: \
                 its device is polled again when a client comes"
            ),
            Err(error) => tracing::error!(
                error = %causes(&error),
                user_id = %token.user_id,
                "cannot resume polling for an account"
            ),
        }
    }
    if total > 0 {
        tracing::info!(accounts = accounts.len(), devices = total, "resumed polling");
    }
}

/// The right to run a device's one poller, given back when it ends.
struct Place(Arc<Device>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release_poller();
    }
}

/// The poller of one device.
struct Poller {
    state: Arc<State>,
    account: Arc<Account>,
    device: Arc<Device>,
    /// There may be gaps to look through for redactions.
    gaps: Notify,
    /// What was wrong with the main poll's replies lately.
    poison: Mutex<Poison>,
    /// Who typed when the process began; `None` until that is known.
    inherited: Mutex<Option<Inherited>>,
    /// Where its stream stands.
    standing: Standing,
    /// How often upstream has refused its own position since a poll was last stored.
    refusals: AtomicU32,
    /// What it does, for whoever watches.
    watch: PollerWatch,
}

impl Poller {
    /// The poller's own, and nobody else's: never held across an `await`.
    fn poison(&self) -> MutexGuard<'_, Poison> {
        self.poison.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Poller::poison`].
    fn inherited(&self) -> MutexGuard<'_, Option<Inherited>> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[tracing::instrument(
        name = "poller",
        skip_all,
        fields(user_id = %self.account.user_id, device_id = %self.device.device_id)
    )]
    async fn run(self) {
        // Whatever ends the task, a panic included, leaves the place to the next one.
        let place = Place(Arc::clone(&self.device));
        let mut shutting_down = self.state.shutting_down.clone();
        let mut logged_out = self.device.watch_logged_out();
        let mut lease = self.account.watch_lease();
        tokio::select! {
            // What ends it comes first: nothing more is begun once it is over.
            biased;
            _ = shutting_down.wait_for(|down| *down) => {}
            _ = logged_out.wait_for(|gone| *gone) => tracing::info!("the device is logged out"),
            _ = lease.wait_for(|lease| *lease != Lease::Ours) => {
                tracing::debug!("this process polls for the account no longer");
                drop(place);
                // Whoever found the place still taken, because the lease came back at once, has left it at that.
                ensure(&self.state, &self.account, &self.device);
            }
            () = self.poll_forever() => {}
            () = self.look_through_gaps() => {}
            () = upkeep::keep_up(&self) => {}
        }
    }

    async fn poll_forever(&self) {
        let mut backoff = Backoff::new();
        let mut token = self.device.watch_token();
        loop {
            // Here once a poll, so that what is kept for those who are here does not outlast them by much.
            self.account.sweep_tails();
            // A device without a token waits for a client to bring one.
            if token.borrow().is_none() {
                self.watch.does(Activity::WithoutToken);
            }
            let Ok(current) = token.wait_for(Option::is_some).await.map(|token| token.clone())
            else {
                return;
            };
            let Some(current) = current else { continue };
            // Others may have taken this process for dead while it stood still.
            self.state.replicas.may_poll().await;
            if self.rest().await {
                continue;
            }
            capabilities::refresh(&self.state, &current);
            self.watch.polls(self.is_main() && self.main_kind() == PollKind::First);
            let kind = if self.is_main() { "main" } else { "light" };
            let outcome = self.poll(&current, backoff.tries()).await;
            match outcome {
                Outcome::Stored => {
                    store::mark::reached(kind, "before_next_poll");
                    let hash = self.state.sealer.hash(&current);
                    auth::accepted(&self.state, &hash);
                    if self.device.elsewhere.is_vouching_due() {
                        self.state.tell(Notice::Accepted { token: Hash(hash) });
                    }
                    self.watch.succeeded();
                    backoff.reset();
                }
                Outcome::AskAgain => {}
                Outcome::Refused => Box::pin(self.give_up(&current)).await,
                Outcome::Locked => self.lay_down(&current),
                Outcome::TurnedAway => {
                    self.watch.does(Activity::TurnedAway);
                    let wait = backoff.next(Some(outcome::PROBE), outcome::PROBE);
                    wait_for_another(&mut token, wait).await;
                }
                Outcome::Retry { after, at_most } => {
                    self.watch.does(Activity::Failing);
                    wait_for_another(&mut token, backoff.next(after, at_most)).await;
                }
            }
        }
    }

    /// What a main poll counts as now.
    fn main_kind(&self) -> PollKind {
        match *self.account.watch_bootstrap().borrow() {
            Bootstrap::Ready => PollKind::Main,
            Bootstrap::Pending | Bootstrap::Failed(_) => PollKind::First,
        }
    }

    /// Polls once: each poll is a trace of its own.
    async fn poll(&self, token: &AccessToken, tries: u32) -> Outcome {
        let is_main = self.is_main();
        let kind = if is_main { self.main_kind() } else { PollKind::Light };
        let user_id = &self.account.user_id;
        let span = tracing::debug_span!("poll", kind = kind.text(), %user_id);
        // Boxed, because a main poll is much larger than a light one.
        let polled = async {
            if is_main {
                Box::pin(self.poll_main(token, tries)).await
            } else {
                Box::pin(self.poll_light(token, tries)).await
            }
        };
        let outcome = polled.instrument(span).await;
        self.state.metrics.polled(kind, outcome.counted());
        outcome
    }

    /// How long upstream may hold the next poll: not at all while somebody waits for writes that are not
    /// covered yet, or for the device's own part, nor while the presence that it tells is news. Synapse answers a question
    /// that it has answered within two minutes from its cache, so no two such polls ask for quite the same.
    fn hold(&self, long: Duration, presence: PresenceWish) -> Duration {
        let demand = *self.account.watch_demand().borrow();
        let different = if demand > self.covered() {
            demand
        } else if !self.device.is_polled() || self.device.presence.is_news(presence) {
            // The process before this one may have asked, too.
            now_ms().unsigned_abs()
        } else {
            return long;
        };
        Duration::from_millis(different % u64::from(SHORT_POLLS) + 1)
    }

    /// How many of the account's writes its polls cover: where it runs the main poll, in the rooms as well.
    fn covered(&self) -> u64 {
        let own_part = self.device.covered();
        if self.is_main() { own_part.min(self.account.rooms_covered()) } else { own_part }
    }

    /// Whether a poll that upstream may hold for so long is given up for a demand, or for another presence. One that is not
    /// held is let finish, whoever comes meanwhile: those who keep coming would otherwise keep any from being stored.
    fn yields(hold: Duration) -> bool {
        hold > Duration::from_millis(u64::from(SHORT_POLLS))
    }

    /// The stream has grown to `pos`. `ignored`: the user ignores others than before.
    fn advance(&self, pos: Position, ignored: bool) {
        if self.account.advance(pos) {
            let (account, pos) = (self.account.account_id.into(), pos.into());
            self.state.tell(Notice::Advanced { account, pos, ignored });
        }
    }

    /// The device's own part is what a poll has brought.
    fn advance_own(&self, inbox_seq: InboxSeq, update: &DeviceUpdate) {
        let news = self.device.advance(inbox_seq, update);
        if !news.inbox && !news.keys {
            return;
        }
        let keys = news.keys.then(|| self.device.key_counts());
        self.tell_own(inbox_seq, keys.as_ref());
    }

    /// Tells the other processes of the device's own part.
    fn tell_own(&self, inbox_seq: InboxSeq, keys: Option<&KeyCounts>) {
        let (account, device) = (self.account.account_id, self.device.device_nid);
        self.state.tell(Notice::device(account, device, inbox_seq, keys));
    }

    /// A try of a first poll has failed.
    fn first_poll_failed(&self, failure: Failure) {
        let told = Told::of(&failure);
        if self.account.first_poll_failed(failure) {
            let account = self.account.account_id.into();
            self.state.tell(Notice::FirstPoll { account, failure: Some(told) });
        }
    }

    /// Upstream refuses the position that it gave: it was restored from a backup, or is another one. Gives whether to begin
    /// anew without one. Much is lost by that, so it has to refuse twice, whatever else fails in between.
    fn position_refused(&self, error: &upstream::Error) -> bool {
        let again = self.refusals.fetch_add(1, Ordering::Relaxed) > 0;
        if again {
            tracing::warn!(error = %causes(error), "upstream refused its own position: starting anew");
        } else {
            tracing::warn!(error = %causes(error), "upstream refused its own position");
        }
        again
    }

    /// Upstream takes the position that it gave, or is asked without one.
    fn position_taken(&self) {
        self.refusals.store(0, Ordering::Relaxed);
    }

    /// Upstream refuses to sync with the user, or does so no longer.
    fn refused(&self, failure: Option<Failure>) {
        let told = failure.as_ref().map(Told::of);
        if self.account.refused(failure) {
            let account = self.account.account_id.into();
            self.state.tell(Notice::Refusal { account, failure: told });
        }
    }

    fn is_main(&self) -> bool {
        self.account.main_device() == Some(self.device.device_nid)
    }

    /// Rests where nobody is there to poll for; `true` when it did, and it is time to look anew.
    async fn rest(&self) -> bool {
        // Before anything is looked at, so that nobody's coming falls in between.
        let mut candidates = self.account.watch_candidates();
        let mut main_device = self.account.watch_main_device();
        let mut token = self.device.watch_token();
        let config = &self.state.config;
        let account_rests = self.account.idle() >= config.account_idle;
        let device_rests = self.device.idle() >= config.device_idle
            && !self.is_main()
            && !self.main_poll_is_vacant();
        if !account_rests && !device_rests {
            return false;
        }
        tracing::debug!(account_rests, "nobody is there: resting");
        self.watch.does(Activity::Resting);
        tokio::select! {
            _ = candidates.changed() => {}
            _ = main_device.changed() => {}
            _ = token.changed() => {}
        }
        true
    }

    /// Upstream refused the token: the device stops, and another one may run the main poll.
    async fn give_up(&self, token: &AccessToken) {
        self.lay_down(token);
        let hash = self.state.sealer.hash(token);
        if let Err(error) = self.state.store.remove_token(&hash.0).await {
            tracing::warn!(error = %causes(&error), "could not forget a refused token");
        }
    }

    /// The device stops until a client comes with a token that upstream accepts, which may be this one. Those
    /// who wait ask upstream, and pass on what it says.
    fn lay_down(&self, token: &AccessToken) {
        self.device.drop_token(token);
        let hash = self.state.sealer.hash(token);
        self.state.token_cache.refused(&hash);
        auth::refused(&self.state, &self.account, &self.device, &hash);
        if self.is_main() {
            self.account.wake_candidates();
        }
    }
}

/// Waits, unless a client comes with another token: that is worth a try at once.
async fn wait_for_another(token: &mut watch::Receiver<Option<AccessToken>>, at_most: Duration) {
    tokio::select! {
        () = tokio::time::sleep(at_most) => {}
        _ = token.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::{any, check, of};

    #[test]
    fn a_poller_is_small() {
        check("the task of a poller", of(|| any::<Poller>().run()), 4096);
        check("a main poll", of(|| any::<&Poller>().poll_main(any(), any())), 6144);
    }
}
