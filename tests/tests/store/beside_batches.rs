//! What goes on beside a large poll that is being stored, which may take minutes: nobody waits for it without need, and it
//! waits for nobody who waits for it.

use std::time::Duration;

use store::{Batch, Batches, Poll, Position, Store};
use tests::wait::{PATIENCE, eventually};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::database::Fresh;
use crate::polls::{Feed, message, room_with};

/// What a client would notice.
const SOON: Duration = Duration::from_millis(800);

/// How many wait for a lock in the database.
const WAITING: &str = "SELECT COUNT(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Rooms that come one by one.
struct Slow {
    left: usize,
    each: Duration,
}

impl Batches for Slow {
    type Error = ();

    async fn next(&mut self) -> Result<Option<Batch>, ()> {
        if self.left == 0 {
            return Ok(None);
        }
        sleep(self.each).await;
        self.left -= 1;
        let room_id = format!("!{}:x", self.left);
        let rooms = vec![room_with(&room_id, vec![message(&format!("${}", self.left))])];
        Ok(Some(Batch { rooms, ..Batch::default() }))
    }

    fn rewind(&mut self) {
        unreachable!("nobody else stores anything here");
    }
}

/// Begins to store a poll that takes a second for each of these rooms, and waits until it has the account's row.
async fn storing(fresh: &Fresh, store: &Store, feed: &Feed, rooms: usize) -> JoinHandle<Position> {
    let (store, account_id, head) = (store.clone(), feed.account_id, feed.next());
    let storing = tokio::spawn(async move {
        let mut rooms = Slow { left: rooms, each: Duration::from_secs(1) };
        let head = Poll { rooms: Vec::new(), ..head };
        store.ingest_in_batches(account_id, &head, &mut rooms).await.unwrap().pos
    });
    eventually("the row to be locked", async || {
        let free = "SELECT COUNT(*) FROM (
                        SELECT 1 FROM accounts FOR NO KEY UPDATE SKIP LOCKED
                    ) AS a";
        (fresh.count(free).await == 0).then_some(())
    })
    .await;
    storing
}

/// Waits until so many wait for a lock in the database.
async fn waiting(fresh: &Fresh, count: i64) {
    eventually("somebody to wait", async || (fresh.count(WAITING).await >= count).then_some(()))
        .await;
}

#[tokio::test]
async fn devices_tokens_and_uses_do_not_wait_for_a_large_poll() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let feed = Feed::of(store, "@alice:x").await;
    let large = storing(&fresh, store, &feed, 5).await;

    let device = timeout(SOON, store.device(feed.account_id, "NEW")).await.unwrap().unwrap();
    let put = store.put_token(feed.account_id, device.device_nid, b"hash", b"sealed", 7);
    timeout(SOON, put).await.unwrap().unwrap();
    let touched = timeout(SOON, store.touch_account(feed.account_id, i64::MAX)).await.unwrap();
    assert!(!touched.unwrap(), "it is noted later");
    assert!(!large.is_finished(), "all that was beside it");

    assert_eq!(large.await.unwrap(), Position(1));
    assert!(store.touch_account(feed.account_id, i64::MAX).await.unwrap());
}

/// The server cannot see that a poll waits for a connection whose user waits for the poll.
#[tokio::test]
async fn who_waits_for_a_large_poll_does_not_keep_it_from_its_end() {
    let fresh = Fresh::database().await;
    let store = fresh.store_of(3);
    let feed = Feed::of(&store, "@alice:x").await;
    let large = storing(&fresh, &store, &feed, 3).await;

    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (store, account_id) = (store.clone(), feed.account_id);
            tokio::spawn(async move { store.forget_upstream_since(account_id).await.unwrap() })
        })
        .collect();
    waiting(&fresh, 1).await;

    assert_eq!(timeout(PATIENCE, large).await.unwrap().unwrap(), Position(1));
    for waiter in waiters {
        waiter.await.unwrap();
    }
}

/// Also those who have something to store for the account itself.
#[tokio::test]
async fn who_waits_to_store_beside_a_large_poll_has_no_connection_meanwhile() {
    let fresh = Fresh::database().await;
    let store = fresh.store_of(4);
    let mut feed = Feed::of(&store, "@alice:x").await;
    feed.rooms(vec![room_with("!known:x", vec![message("$a")])]).await;
    let room = feed.room_nid("!known:x").await;
    let large = storing(&fresh, &store, &feed, 4).await;

    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (store, account_id) = (store.clone(), feed.account_id);
            tokio::spawn(async move {
                store.complete_members(account_id, room, Position(1), &[]).await.unwrap();
            })
        })
        .collect();

    for _ in 0..10 {
        timeout(SOON, store.ping()).await.expect("a connection is free").unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!large.is_finished(), "all that was beside it");
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()), "the row is the poll's");
    assert_eq!(large.await.unwrap(), Position(2));
    for waiter in waiters {
        waiter.await.unwrap();
    }
}

/// Whoever gives up takes along the connection on which its statement waits still.
#[tokio::test]
async fn who_gives_up_waiting_leaves_nobody_else_waiting() {
    let fresh = Fresh::database().await;
    let store = fresh.store_of(3);
    let feed = Feed::of(&store, "@alice:x").await;
    let large = storing(&fresh, &store, &feed, 6).await;
    let (impatient, account_id) = (store.clone(), feed.account_id);
    let impatient = tokio::spawn(async move { impatient.forget_upstream_since(account_id).await });
    waiting(&fresh, 1).await;

    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());

    for _ in 0..3 {
        timeout(SOON, store.ping()).await.expect("a connection is free").unwrap();
    }
    eventually("the server to give up as well", async || {
        (fresh.count(WAITING).await == 0).then_some(())
    })
    .await;
    assert!(!large.is_finished(), "all that was beside it");
    assert_eq!(large.await.unwrap(), Position(1));
}
