//! Which accounts this process polls for: those that nobody else does, and of all of them no more than its share.
//!
//! Replicas do not agree on anything between them. Each looks every second at what is vacant and takes its part of it; one
//! that has more than its share gives a few up and leaves them to those that have less.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use store::{AccountId, Beat, Claimed, Peer, ReplicaId};
use tokio::{task::JoinHandle, time::sleep};

use super::{duties, elsewhere};
use crate::{
    account::{Account, Lease},
    error::causes,
    poller,
    state::State,
};

/// How many accounts are claimed by one statement.
const BATCH: i64 = 200;

/// How many vacant accounts are counted.
const MOST_COUNTED: i64 = 10_000;

/// How many accounts are given up at once: their clients notice a pause of a second.
const MOST_GIVEN_UP: usize = 20;

/// How long the pollers of an account that is given up may take to end.
const ENDING: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(5);

/// After how many beats to look for accounts that are held by nobody there is.
const ORPHANS_EVERY: u32 = 60;

/// The work that a beat leaves to be done.
#[derive(Default)]
pub(super) struct Sharing {
    /// Whom nobody vouched for at the last beat.
    suspects: HashSet<ReplicaId>,
    work: Option<JoinHandle<()>>,
    /// Something failed half-way: what is claimed and what is known here may differ.
    is_torn: Arc<AtomicBool>,
    beats: u32,
}

impl Sharing {
    /// Does in the background what there is to do, unless the last time is not over yet: a beat waits for nothing.
    pub(super) fn tend(&mut self, state: &Arc<State>, beat: Beat) {
        let suspects: HashSet<ReplicaId> = beat.suspects.iter().copied().collect();
        // A replica that lost its session has until the next beat to make a new one.
        let dead: Vec<ReplicaId> = suspects.intersection(&self.suspects).copied().collect();
        self.suspects = suspects;
        if self.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return;
        }
        self.beats = self.beats.wrapping_add(1);
        let look_for_orphans = self.beats.is_multiple_of(ORPHANS_EVERY);
        let (state, is_torn) = (Arc::clone(state), Arc::clone(&self.is_torn));
        self.work = Some(tokio::spawn(async move {
            let shared = async {
                if is_torn.swap(false, Ordering::AcqRel) {
                    repair(&state).await?;
                }
                if look_for_orphans {
                    state.store.vacate_orphans().await?;
                }
                share(&state, &dead, &beat.others).await
            };
            // A process that stops gives everything up.
            let shared = tokio::select! {
                shared = shared => shared,
                () = state.shuts_down() => return,
            };
            if let Err(error) = shared {
                is_torn.store(true, Ordering::Release);
                tracing::warn!(error = %causes(&error), "could not share the accounts with other replicas");
            }
        }));
    }
}

async fn share(
    state: &Arc<State>,
    dead: &[ReplicaId],
    others: &[Peer],
) -> Result<(), store::Error> {
    if !dead.is_empty() {
        tracing::info!(
            replicas = dead.len(),
            "replicas are gone: taking over what they polled for"
        );
        state.store.bury(dead).await?;
    }
    let ours = state.accounts.ours().len();
    let share = fair_share(ours, others);
    if state.replicas.alone() || ours <= share {
        claim(state, others.len() + 1).await?;
    }
    let superfluous = superfluous(ours, share);
    if !state.replicas.alone() && superfluous > 0 {
        give_up(state, superfluous).await?;
    }
    Ok(())
}

/// How many accounts each replica would have if all had as many.
fn fair_share(ours: usize, others: &[Peer]) -> usize {
    let theirs: usize = others.iter().map(|peer| usize::try_from(peer.accounts).unwrap_or(0)).sum();
    (ours + theirs).div_ceil(others.len() + 1)
}

/// How many to give up. A few more than its share do not matter, and moving them would.
fn superfluous(ours: usize, share: usize) -> usize {
    if ours <= share + share / 10 + 1 { 0 } else { (ours - share).min(MOST_GIVEN_UP) }
}

/// Claims this process' part of what is vacant.
async fn claim(state: &Arc<State>, replicas: usize) -> Result<(), store::Error> {
    let vacant = state.store.vacant_accounts(MOST_COUNTED).await?;
    let replicas = i64::try_from(replicas).unwrap_or(i64::MAX);
    let mut left = (vacant + replicas - 1) / replicas;
    while left > 0 {
        let batch = state.store.claim_vacant(left.min(BATCH)).await?;
        if batch.is_empty() {
            break;
        }
        left -= i64::try_from(batch.len()).unwrap_or(left);
        take_up_all(state, &batch).await?;
    }
    Ok(())
}

/// After a failure: what the store says is this process' own, and nobody here knows of, it polls for.
async fn repair(state: &Arc<State>) -> Result<(), store::Error> {
    let held = state.store.held_accounts().await?;
    let is_ours = |account: &Claimed| {
        let known = state.accounts.by_id(account.account_id);
        known.is_some_and(|account| account.lease() == Lease::Ours)
    };
    let unknown: Vec<Claimed> = held.into_iter().filter(|account| !is_ours(account)).collect();
    take_up_all(state, &unknown).await
}

/// Polls for accounts that are this process' own now.
async fn take_up_all(state: &Arc<State>, claimed: &[Claimed]) -> Result<(), store::Error> {
    for account in claimed {
        if let Some(account) = state.accounts.by_id(account.account_id) {
            take_up(state, &account).await?;
        }
    }
    let ids: Vec<AccountId> = claimed.iter().map(|account| account.account_id).collect();
    if !ids.is_empty() {
        tokio::spawn(poll_for(Arc::clone(state), ids));
    }
    Ok(())
}

/// An account that clients here use already is this process' own now. Another process may have moved it on meanwhile.
async fn take_up(state: &State, account: &Arc<Account>) -> Result<(), store::Error> {
    elsewhere::look_up_devices(state, account).await?;
    if let Some(stored) = state.store.account_by_id(account.account_id).await? {
        account.set_main_device(stored.main_device);
        if stored.pos > account.pos() {
            account.ignored.forget();
            account.advance(stored.pos);
        }
        account.hear_of_holder(&state.store, stored.replica);
    }
    // Those that somebody waits for do not wait for their turn.
    for device in account.devices().into_iter().filter(|device| device.idle().is_zero()) {
        duties::poll(state, account, &device);
    }
    Ok(())
}

/// Begins to poll for accounts that this process holds: for those first that somebody here waits for.
pub(super) async fn poll_for(state: Arc<State>, accounts: Vec<AccountId>) {
    let (here, elsewhere): (Vec<AccountId>, Vec<AccountId>) = {
        let ours: HashSet<AccountId> =
            state.accounts.ours().iter().map(|account| account.account_id).collect();
        accounts.into_iter().partition(|account| ours.contains(account))
    };
    for accounts in [here, elsewhere].iter().filter(|accounts| !accounts.is_empty()) {
        tokio::select! {
            () = poller::resume(&state, accounts) => {}
            () = state.shuts_down() => return,
        }
    }
}

/// After joining anew: what this process polled for and did not get back, it polls for no longer.
pub(super) fn keep_only(state: &State, adopted: &[AccountId]) {
    let adopted: HashSet<&AccountId> = adopted.iter().collect();
    for account in state.accounts.all() {
        if adopted.contains(&account.account_id) {
            account.set_lease(Lease::Ours);
        } else if account.lease() == Lease::Ours {
            account.set_lease(Lease::Vacant);
        }
    }
}

/// Gives up accounts, those first that nobody here uses just now. Their pollers end before anybody can claim them.
async fn give_up(state: &State, count: usize) -> Result<(), store::Error> {
    let mut ours = state.accounts.ours();
    ours.sort_by_key(|account| account.is_in_use());
    ours.truncate(count);
    tracing::info!(accounts = ours.len(), "giving accounts up to replicas that have fewer");
    for account in &ours {
        account.set_lease(Lease::Vacant);
    }
    let ended = async {
        while ours.iter().any(|account| account.is_polled_for()) {
            sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(ENDING, ended).await;
    let ids: Vec<AccountId> = ours.iter().map(|account| account.account_id).collect();
    state.store.release_accounts(&ids).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(accounts: &[i32]) -> Vec<Peer> {
        let peer = |(number, accounts): (usize, &i32)| Peer {
            replica: ReplicaId(i32::try_from(number).unwrap_or(0) + 1),
            accounts: *accounts,
        };
        accounts.iter().enumerate().map(peer).collect()
    }

    #[track_caller]
    fn check(ours: usize, others: &[i32], share: usize, given_up: usize) {
        let found = fair_share(ours, &peers(others));
        assert_eq!((found, superfluous(ours, found)), (share, given_up), "{ours} and {others:?}");
    }

    #[test]
    fn shares() {
        check(0, &[], 0, 0);
        check(7, &[], 7, 0);
        check(10, &[0], 5, 5);
        check(100, &[0, 0], 34, MOST_GIVEN_UP);
        check(0, &[100, 0], 34, 0);
        // Nobody gives up what would only come back.
        check(1, &[0], 1, 0);
        check(2, &[1, 1], 2, 0);
        check(55, &[50], 53, 0);
    }
}
