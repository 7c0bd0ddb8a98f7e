//! This process among those that share the database: it says that it lives, takes over accounts that nobody polls for, and
//! gives some up where others have few.
//!
//! Neighbours: the store decides who lives and who holds an account (its module `replicas`); pollers run while an account's
//! lease is ours. It must not know what a request wants. Losing the database is not losing an account at once: a lease
//! holds until the others could have taken it over, and no longer.

mod duties;
mod ears;
pub(crate) mod elsewhere;
mod hearing;
mod herald;
mod notice;
mod queue;
mod sending;
mod sharing;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use store::{Beat, Membership, ReplicaId};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

pub(crate) use self::{
    duties::Duties,
    hearing::Hearing,
    herald::Herald,
    notice::{Hash, Nid, Notice, Told},
    sending::{Sending, SendsElsewhere},
};
use crate::{account::Lease, error::causes, state::State};

/// How long a replica lives without a word. Others take its accounts over after that.
const LIFETIME: Duration = Duration::from_secs(6);

/// How often it says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// How long the database may take to hear it: there has to be time for another session after that.
const HEARING: Duration = Duration::from_secs(3);

/// How long to wait before the next try to join.
const REJOIN: Duration = Duration::from_millis(500);

/// What this process knows of the others, and whether they take it for alive.
pub(crate) struct Replicas {
    /// How many others there are. Until it is known there may be one.
    others: AtomicUsize,
    /// 0 before it joined for the first time.
    last: AtomicI32,
    /// Until then nobody takes its accounts over; `None` while it has not joined.
    alive_until: watch::Sender<Option<Instant>>,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            others: AtomicUsize::new(1),
            last: AtomicI32::new(0),
            alive_until: watch::Sender::new(None),
        }
    }
}

impl Replicas {
    /// Whether no other replica lives: then there is nobody to tell anything.
    pub(crate) fn alone(&self) -> bool {
        self.others.load(Ordering::Acquire) == 0
    }

    /// Which replica this process was last: it has things to tell also when it polls for nobody any more.
    fn last(&self) -> ReplicaId {
        ReplicaId(self.last.load(Ordering::Acquire))
    }

    /// Another replica lives, or may do so.
    fn met_another(&self) {
        self.others.fetch_max(1, Ordering::AcqRel);
    }

    /// Waits until this process has joined, and is sure that no other polls for its accounts.
    pub(crate) async fn may_poll(&self) {
        let lives = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        // Nobody else has the other side.
        let _ = self.alive_until.subscribe().wait_for(lives).await;
    }

    fn alive_until(&self) -> Option<Instant> {
        *self.alive_until.borrow()
    }

    fn lives_until(&self, until: Option<Instant>) {
        self.alive_until.send_replace(until);
    }
}

/// Why a membership ended.
enum End {
    /// The process is to end.
    ShuttingDown(Membership),
    /// The connection is gone, or does not answer.
    SessionOver,
    /// The others have taken this process for dead.
    TakenForDead,
}

/// Takes part until the process ends.
pub(crate) async fn run(state: Arc<State>) {
    let mut before = None;
    let (telling, serving, looking) = (Arc::clone(&state), Arc::clone(&state), Arc::clone(&state));
    tokio::spawn(async move { herald::run(&telling).await });
    tokio::spawn(async move { duties::run(&serving).await });
    tokio::spawn(async move { elsewhere::keep_looking(&looking).await });
    loop {
        let was_alone = state.replicas.alone();
        state.replicas.met_another();
        let Some(membership) = join(&state, before).await else { return };
        let joined = membership.replica();
        // No number is given twice: one that is left out may be another's, who has come and told something.
        let none_came = before.is_some_and(|before| joined.0 == before.0 + 1);
        before = Some(joined);
        if !(was_alone && none_came) {
            ears::missed(&state);
        }
        herald::announce(&state, joined).await;
        state.hearing.set(true);
        let end = stay(&state, membership).await;
        state.hearing.set(false);
        match end {
            End::ShuttingDown(membership) => {
                lay_down(&state);
                if let Err(error) = membership.leave().await {
                    tracing::warn!(error = %causes(&error), "could not give up the accounts");
                }
                return;
            }
            End::SessionOver => tracing::warn!("the session with the database ended"),
            End::TakenForDead => {
                tracing::warn!("the other replicas have taken this one for dead");
                lay_down(&state);
            }
        }
    }
}

/// Joins, however long that takes; `None` when the process is to end before that.
async fn join(state: &Arc<State>, before: Option<ReplicaId>) -> Option<Membership> {
    let mut shutting_down = state.shutting_down.clone();
    loop {
        let began = Instant::now();
        let expiry = state.replicas.alive_until();
        let joined = tokio::select! {
            joined = timeout(LIFETIME, state.store.join(before, LIFETIME)) => joined,
            _ = shutting_down.wait_for(|down| *down) => return None,
            () = sleep_until(expiry.unwrap_or(began)), if expiry.is_some() => {
                tracing::warn!("the database was away for too long: others may poll by now");
                lay_down(state);
                continue;
            }
        };
        match joined {
            Ok(Ok((membership, adopted))) => {
                state.replicas.lives_until(Some(began + LIFETIME));
                state.replicas.last.store(membership.replica().0, Ordering::Release);
                sharing::keep_only(state, &adopted);
                tracing::debug!(replica = %membership.replica(), adopted = adopted.len(), "joined");
                tokio::spawn(sharing::poll_for(Arc::clone(state), adopted));
                return Some(membership);
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %causes(&error), "cannot join the replicas on this database yet");
                sleep(REJOIN).await;
            }
            Err(_) => tracing::warn!("the database takes too long to let this process join"),
        }
    }
}

/// Says that this process lives, and listens, until one or the other is no longer possible.
async fn stay(state: &Arc<State>, mut membership: Membership) -> End {
    let mut shutting_down = state.shutting_down.clone();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sharing = sharing::Sharing::default();
    loop {
        let happened = tokio::select! {
            biased;
            _ = shutting_down.wait_for(|down| *down) => Happened::ShuttingDown,
            _ = beats.tick() => Happened::Beat,
            asking = state.hearing.asked() => Happened::Asked(asking),
            told = membership.notice() => Happened::Told(told),
        };
        match happened {
            Happened::ShuttingDown => return End::ShuttingDown(membership),
            Happened::Beat => match beat(state, &membership).await {
                Ok(Some(beat)) => sharing.tend(state, beat),
                Ok(None) => return End::TakenForDead,
                Err(SessionOver) => return End::SessionOver,
            },
            Happened::Asked(asking) => {
                let heard = hearing::hear_out(state, &mut membership, asking);
                if !matches!(timeout(HEARING, heard).await, Ok(Ok(()))) {
                    return End::SessionOver;
                }
            }
            Happened::Told(Some(told)) => ears::hear(state, &told),
            Happened::Told(None) => return End::SessionOver,
        }
    }
}

/// What a replica waits for.
enum Happened {
    ShuttingDown,
    Beat,
    /// Requests begin: what was told so far is to be taken in.
    Asked(Vec<oneshot::Sender<()>>),
    Told(Option<String>),
}

/// The session does not answer.
struct SessionOver;

/// Says that this process lives. `None` if nobody believes it any more.
async fn beat(state: &State, membership: &Membership) -> Result<Option<Beat>, SessionOver> {
    let began = Instant::now();
    let ours = i32::try_from(state.accounts.ours().len()).unwrap_or(i32::MAX);
    let beat = timeout(HEARING, membership.beat(LIFETIME, ours)).await;
    let beat = match beat {
        Ok(Ok(beat)) => beat,
        Ok(Err(error)) => {
            tracing::warn!(error = %causes(&error), "could not say that this process lives");
            return Err(SessionOver);
        }
        Err(_) => return Err(SessionOver),
    };
    if let Some(beat) = &beat {
        state.replicas.lives_until(Some(began + LIFETIME));
        state.replicas.others.store(beat.others.len(), Ordering::Release);
    }
    Ok(beat)
}

/// Polls for nobody any more, until it has joined again.
fn lay_down(state: &State) {
    state.replicas.lives_until(None);
    state.store.stand_down();
    for account in state.accounts.ours() {
        account.set_lease(Lease::Vacant);
    }
}
