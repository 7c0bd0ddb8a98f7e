//! Retention: lets go, turn by turn, of what no live session can ask for. What that is, and how it goes, is `store`'s; when, and
//! how fast, is decided here.
//!
//! One account after another has its turn, a few rows at a time with a rest in between. Once a day unused bodies are
//! swept. Each process does this, and the database sees to it that they do not do the same.

use std::{sync::Arc, time::Duration};

use store::{BodySweep, Horizon, Pace};

use crate::{clock::now_ms, error::causes, state::State};

/// How often it is looked whether anything is to be done.
const EVERY: Duration = Duration::from_mins(10);

/// How often an account has its turn, in milliseconds. What one turn promises no longer goes with the next one: until
/// then every process has heard of it (`Accounts::follow_retention`), and every answer from before is finished.
const TURN_MS: i64 = 6 * 60 * 60 * 1000;

/// How often bodies are swept, in milliseconds.
const SWEEP_MS: i64 = 24 * 60 * 60 * 1000;

/// How far our clock may be from the database's, in milliseconds. Where they disagree one is wrong, and what is old by it
/// may be new.
const SKEW_MS: i64 = 5 * 60 * 1000;

/// By how much time may leap from one round to the next, in milliseconds, and how long nothing goes by age after it has: the
/// clocks have jumped together, or nothing ran. Either way those who seem to have been away could not come, and come now.
const LEAP_MS: i64 = 24 * 60 * 60 * 1000;
const GRACE_MS: i64 = 24 * 60 * 60 * 1000;

/// How many events of each room stay, at least: a client that knows nothing is seldom shown more.
const KEPT_EVENTS: i64 = 50;

/// How many accounts are claimed at once.
const ACCOUNTS: i64 = 10;

const PACE: Pace = Pace { rows: 1000, pause: Duration::from_millis(20) };

/// Reading goes in larger steps.
const SWEEP_PACE: Pace = Pace { rows: 10_000, pause: Duration::from_millis(50) };

/// How many bodies are swept together: 40 MiB of memory, if there are so many.
const SWEEP_WINDOW: usize = 8 * 1024 * 1024;

/// Lets go until the process ends. What is under way then is finished by another turn.
pub(crate) async fn run(state: Arc<State>) {
    let mut shutting_down = state.shutting_down.clone();
    let rounds = async {
        loop {
            if let Err(error) = round(&state).await {
                tracing::warn!(error = %causes(&error), "could not let old data go");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = shutting_down.wait_for(|down| *down) => {}
    }
}

async fn round(state: &State) -> Result<(), store::Error> {
    let store = &state.store;
    let now = now_ms();
    let skew = store.clock_skew(now).await?;
    if skew > SKEW_MS {
        tracing::error!(
            seconds = skew / 1000,
            "the clocks of this machine and of the database disagree: nothing goes by age until they agree"
        );
        return Ok(());
    }
    if !store.time_goes_on(now, LEAP_MS, GRACE_MS).await? {
        tracing::warn!("time has leapt: nothing goes by age for a day");
        store.end_future_turns(now, PACE).await?;
        return Ok(());
    }
    let horizon = Horizon {
        now,
        oldest: before(now, state.config.retention),
        live_since: before(now, state.config.session_expiry),
        events: KEPT_EVENTS,
    };
    let mut let_go = Total::default();
    loop {
        // A turn begins when it is claimed, and the account's next one hours after that, however long the round takes: what
        // this one ceases to promise is not to go minutes later.
        let due = store.due_accounts(now_ms(), now - TURN_MS, ACCOUNTS).await?;
        if due.is_empty() {
            break;
        }
        for account in &due {
            let gone = store.retain(account, horizon, PACE).await?;
            let_go.rows += gone.rows;
            let_go.devices += gone.devices.len();
            let_go.accounts += usize::from(gone.account);
            if !gone.devices.is_empty() || gone.account {
                tracing::info!(
                    user_id = %account.user_id,
                    devices = gone.devices.len(),
                    account = gone.account,
                    "removed what nobody has used for longer than the horizon"
                );
            }
            tokio::time::sleep(PACE.pause).await;
        }
    }
    let_go.rows += store.remove_remains(PACE).await?;
    let_go.rows += store.empty_quarantine(horizon.oldest, PACE).await?;
    let_go.log();
    sweep(state, horizon).await
}

/// Once a day, by one process.
async fn sweep(state: &State, horizon: Horizon) -> Result<(), store::Error> {
    let Horizon { now, oldest, .. } = horizon;
    if !state.store.claim_chore("sweep_bodies", now, now - SWEEP_MS).await? {
        return Ok(());
    }
    let sweep = BodySweep { now, oldest, window: SWEEP_WINDOW, pace: SWEEP_PACE };
    let swept = state.store.sweep_bodies(sweep).await?;
    if swept != store::Swept::default() {
        tracing::info!(
            removed = swept.removed,
            marked = swept.marked,
            redactions = swept.redactions,
            "swept unused bodies"
        );
    }
    Ok(())
}

/// What a round let go.
#[derive(Default)]
struct Total {
    rows: u64,
    devices: usize,
    accounts: usize,
}

impl Total {
    fn log(&self) {
        if self.rows > 0 || self.devices > 0 || self.accounts > 0 {
            tracing::info!(
                rows = self.rows,
                devices = self.devices,
                accounts = self.accounts,
                "let old data go"
            );
        }
    }
}

fn before(now: i64, duration: Duration) -> i64 {
    now.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}
