//! Retention: what goes, what stays, and that nobody who may still ask notices.

mod answers;
mod bodies;
mod devices;
mod history;
mod month;
mod size_model;

use std::time::Duration;

use store::{AccountId, DueAccount, Horizon, LetGo, Pace, Store};

use crate::polls::Feed;

/// Small enough that everything takes several steps.
const PACE: Pace = Pace { rows: 7, pause: Duration::ZERO };

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;

/// What came by `oldest` is old; of each room `events` stay.
fn horizon(now: i64, oldest: i64, events: i64) -> Horizon {
    Horizon { now, oldest, live_since: oldest, events }
}

/// Somebody uses the account, for ever: it is not abandoned for having no device.
async fn in_use(feed: &Feed) {
    feed.store.touch_account(feed.account_id, i64::MAX).await.unwrap();
}

/// The turn of one account, whenever it had the last.
async fn due(store: &Store, account_id: AccountId, now: i64) -> DueAccount {
    let due = store.due_accounts(now, i64::MAX, 1000).await.unwrap();
    due.into_iter().find(|due| due.account_id == account_id).unwrap()
}

/// Gives every account its turn.
async fn round(store: &Store, horizon: Horizon, pace: Pace) -> LetGo {
    let mut let_go = LetGo::default();
    for due in store.due_accounts(horizon.now, horizon.now - 1, 1000).await.unwrap() {
        let gone = store.retain(&due, horizon, pace).await.unwrap();
        let_go.rows += gone.rows;
        let_go.devices.extend(gone.devices);
        let_go.account |= gone.account;
    }
    let_go
}
