//! Retention: what no live session can ask for goes, in small steps, beside everything else that happens.
//!
//! An account's history is let go in two phases, so that no reader, in this process or another, meets one that is half
//! gone. First `accounts.retained_from` moves: from then on a since below it is answered as a gap. The rows below it go
//! at the account's next turn, hours later, when nobody reads there any more. Of each room enough stays for a client
//! that knows nothing: see `history`.
//!
//! Several processes may do this at once: an account's turn is claimed in the database, and so are the chores of the
//! whole database. Whoever dies in the middle leaves something that the next turn finishes. All times are milliseconds
//! since the epoch, and come from the caller.

mod accounts;
mod bodies;
mod chores;
mod devices;
mod history;
mod references;
mod sizes;

use std::time::Duration;

use crate::{AccountId, DeviceNid, Error, Position, Store};

pub use self::{
    bodies::{BodySweep, Swept},
    sizes::TableSize,
};

/// How much is done at once, and how long the pause after it is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most rows of one statement.
    pub rows: i64,
    /// Between two statements.
    pub pause: Duration,
}

/// What is old.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// The time of the round.
    pub now: i64,
    /// What came by then is past the horizon.
    pub oldest: i64,
    /// Sessions not used since then are dead.
    pub live_since: i64,
    /// How many events of each room stay all the same, at least.
    pub events: i64,
}

/// An account whose turn it is.
#[derive(Clone, Debug)]
pub struct DueAccount {
    /// Its number.
    pub account_id: AccountId,
    /// The user.
    pub user_id: String,
    /// What was promised before this turn: the history below it goes now.
    pub retained_from: Position,
    pruned_to: Position,
    claimed_at: i64,
    /// It has had no turn before.
    is_first: bool,
}

/// What a turn of an account let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetGo {
    /// Rows of its history, its inboxes and its transaction IDs.
    pub rows: u64,
    /// Devices that had been without a token for longer than the horizon.
    pub devices: Vec<DeviceNid>,
    /// The account itself: it had no device left, and nobody had used it for longer than the horizon.
    pub account: bool,
}

impl Pace {
    async fn rest(&self) {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Whether a statement that touched so many rows may have left some.
    fn is_full(&self, rows: u64) -> bool {
        i64::try_from(rows).unwrap_or(i64::MAX) >= self.rows
    }
}

impl Store {
    /// Gives an account its turn.
    pub async fn retain(
        &self,
        due: &DueAccount,
        horizon: Horizon,
        pace: Pace,
    ) -> Result<LetGo, Error> {
        let mut rows = self.prune_history(due, horizon.events, pace).await?;
        rows += self.expire_inboxes(due.account_id, horizon, pace).await?;
        rows += self.expire_transaction_ids(due.account_id, horizon, pace).await?;
        let devices = self.remove_gone_devices(due.account_id, horizon).await?;
        let account = self.remove_abandoned_account(due, horizon).await?;
        self.promise(due, horizon).await?;
        Ok(LetGo { rows, devices, account })
    }
}
