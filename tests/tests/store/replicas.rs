//! Replicas: who lives, who holds which account, and that nothing is stored of what others have taken over.

use std::time::Duration;

use store::{AccountId, Beat, Error, Membership, Poll, ReplicaId, Store};
use tests::wait::{PATIENCE, eventually};
use tokio::time::timeout;

use crate::database::Fresh;

const LIFETIME: Duration = Duration::from_mins(1);
const NO_TIME: Duration = Duration::ZERO;

async fn join(store: &Store) -> Membership {
    store.join(None, LIFETIME).await.unwrap().0
}

async fn beat(membership: &Membership) -> Beat {
    membership.beat(LIFETIME, 7).await.unwrap().expect("it lives")
}

async fn accounts(store: &Store, users: &[&str]) -> Vec<AccountId> {
    let mut ids = Vec::new();
    for user in users {
        ids.push(store.account(user).await.unwrap().account_id);
    }
    ids
}

fn poll(since: Option<&str>, next_batch: &str) -> Poll {
    Poll {
        asked_since: since.map(str::to_owned),
        next_batch: next_batch.to_owned(),
        ..Poll::default()
    }
}

async fn holder(store: &Store, account: AccountId) -> Option<ReplicaId> {
    store.account_by_id(account).await.unwrap().unwrap().replica
}

#[tokio::test]
async fn an_account_has_one_holder() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let account = accounts(one, &["@a:x"]).await[0];
    assert_eq!(
        one.claim_account(account).await.unwrap(),
        None,
        "who has not joined claims nothing"
    );
    let (first, _second) = (join(one).await, join(two).await);

    assert_eq!(one.claim_account(account).await.unwrap(), Some(first.replica()));
    assert_eq!(two.claim_account(account).await.unwrap(), Some(first.replica()));
    assert_eq!(one.claim_account(account).await.unwrap(), Some(first.replica()));

    one.ingest(account, &poll(None, "s1")).await.unwrap();
    let refused = two.ingest(account, &poll(Some("s1"), "s2")).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    two.forget_upstream_since(account).await.unwrap();
    one.ingest(account, &poll(Some("s1"), "s2")).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_leaves_leaves_nothing_behind() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let ids = accounts(one, &["@a:x", "@b:x", "@c:x"]).await;
    let (first, second) = (join(one).await, join(two).await);
    let claimed = one.claim_vacant(10).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert_eq!(two.vacant_accounts(10).await.unwrap(), 0);
    assert!(two.claim_vacant(10).await.unwrap().is_empty());

    one.release_accounts(&ids[..1]).await.unwrap();
    assert_eq!(two.claim_vacant(10).await.unwrap()[0].account_id, ids[0]);
    one.release_accounts(&ids).await.unwrap();
    assert_eq!(
        holder(one, ids[0]).await,
        Some(second.replica()),
        "what is another's is not given up"
    );

    first.leave().await.unwrap();
    assert_eq!(two.vacant_accounts(10).await.unwrap(), 2);
    assert!(beat(&second).await.others.is_empty());
    assert_eq!(two.claim_vacant(1).await.unwrap().len(), 1, "no more than was asked for");
    assert_eq!(fresh.count("SELECT COUNT(*) FROM replicas").await, 1);
}

#[tokio::test]
async fn a_killed_replica_is_buried_by_whoever_joins() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let account = accounts(one, &["@a:x"]).await[0];
    let first = join(one).await;
    let dead = first.replica();
    one.claim_account(account).await.unwrap();
    let locks = || {
        fresh.count(
            "SELECT COUNT(*) FROM pg_locks
             WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
    };
    assert_eq!(locks().await, 1);

    // Its time is far from up, but its session is over.
    drop(first);
    eventually("the lock of the dead is free", async || (locks().await == 0).then_some(())).await;
    let second = join(two).await;

    assert_eq!(two.claim_account(account).await.unwrap(), Some(second.replica()));
    let late = one.ingest(account, &poll(None, "s1")).await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    two.bury(&[]).await.unwrap();
    let rows = format!("SELECT COUNT(*) FROM replicas WHERE replica_id = {dead}");
    assert_eq!(fresh.count(&rows).await, 0, "nobody has to know of it any more");
}

#[tokio::test]
async fn who_says_nothing_in_time_is_taken_for_dead() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let account = accounts(one, &["@a:x"]).await[0];
    let silent = join(one).await;
    one.claim_account(account).await.unwrap();
    let second = join(two).await;

    // It is there, and in time.
    let seen = beat(&second).await;
    assert_eq!(seen.others.len(), 1);
    assert!(seen.suspects.is_empty());
    two.bury(&[silent.replica()]).await.unwrap();
    assert!(two.claim_vacant(10).await.unwrap().is_empty());

    assert!(silent.beat(NO_TIME, 1).await.unwrap().is_some());
    let seen = beat(&second).await;
    assert!(seen.others.is_empty());
    assert_eq!(seen.suspects, [silent.replica()], "it holds its lock, but said nothing");
    assert!(
        silent.beat(LIFETIME, 1).await.unwrap().is_none(),
        "it is too late, whoever has noticed"
    );
    two.bury(&seen.suspects).await.unwrap();
    assert_eq!(two.claim_vacant(10).await.unwrap().len(), 1);
}

/// As a machine leaves it that loses its power in the middle of storing a poll.
#[tokio::test]
async fn a_row_that_is_locked_holds_nobody_up() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let ids = accounts(one, &["@a:x", "@b:x"]).await;
    let first = join(one).await;
    one.claim_vacant(10).await.unwrap();
    let sql = fresh.sql().await;
    let lock = format!("BEGIN; SELECT 1 FROM accounts WHERE account_id = {} FOR UPDATE", ids[0]);
    sql.batch_execute(&lock).await.unwrap();
    let dead = first.replica();
    drop(first);

    let again = timeout(PATIENCE, one.join(Some(dead), LIFETIME)).await.unwrap();
    let (membership, adopted) = again.unwrap();
    assert_eq!(adopted, ids[1..], "what is locked waits for another time");
    let claimed = timeout(PATIENCE, two.claim_account(ids[0])).await.unwrap();
    assert!(claimed.is_ok());
    sql.batch_execute("ROLLBACK").await.unwrap();
    let late = one.claim_vacant(10).await.unwrap();
    assert_eq!(late.iter().map(|it| it.account_id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(one.held_accounts().await.unwrap().len(), 2);
    drop(membership);
}

#[tokio::test]
async fn an_account_whose_holder_has_left_no_trace_is_vacant_again() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    accounts(store, &["@a:x"]).await;
    let _membership = join(store).await;
    fresh.sql().await.batch_execute("UPDATE accounts SET replica_id = 4711").await.unwrap();
    assert_eq!(store.vacant_accounts(10).await.unwrap(), 0);
    store.vacate_orphans().await.unwrap();
    assert_eq!(store.claim_vacant(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_session_brings_back_what_nobody_took() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let ids = accounts(one, &["@a:x", "@b:x"]).await;
    let (first, _second) = (join(one).await, join(two).await);
    one.claim_vacant(10).await.unwrap();
    let before = first.replica();
    drop(first);
    let gone = async || {
        two.bury(&[before]).await.unwrap();
        (two.vacant_accounts(10).await.unwrap() == 2).then_some(())
    };
    eventually("the dead is buried", gone).await;
    two.claim_account(ids[0]).await.unwrap();

    let (again, adopted) = one.join(Some(before), LIFETIME).await.unwrap();
    assert_ne!(again.replica(), before, "no number is given twice");
    assert_eq!(adopted, ids[1..]);
    assert_eq!(holder(one, ids[1]).await, Some(again.replica()));
}

#[tokio::test]
async fn who_stands_down_stores_nothing() {
    let fresh = Fresh::database().await;
    let store = &fresh.store;
    let account = accounts(store, &["@a:x"]).await[0];
    store.ingest(account, &poll(None, "s1")).await.unwrap();
    let _membership = join(store).await;
    store.claim_account(account).await.unwrap();
    store.stand_down();
    assert_eq!(store.replica(), None);
    let refused = store.ingest(account, &poll(Some("s1"), "s2")).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    assert_eq!(store.claim_account(account).await.unwrap(), None);
    assert!(store.claim_vacant(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_asks_has_heard_everything_that_was_told_before() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let (_first, mut second) = (join(one).await, join(two).await);
    assert!(second.notices_so_far().await.unwrap().is_empty());
    for round in 0..200 {
        let told = [format!("{round} a"), format!("{round} b")];
        one.notify(&told).await.unwrap();
        // At once, and all of it.
        assert_eq!(second.notices_so_far().await.unwrap(), told);
    }
    assert!(second.notices_so_far().await.unwrap().is_empty());
}

#[tokio::test]
async fn everybody_hears_what_is_told() {
    let fresh = Fresh::database().await;
    let (one, two) = (&fresh.store, &fresh.store_of(2));
    let (mut first, mut second) = (join(one).await, join(two).await);
    one.notify(&["hello".to_owned(), "x".repeat(7_999)]).await.unwrap();
    for membership in [&mut first, &mut second] {
        let heard = timeout(PATIENCE, membership.notice()).await.unwrap();
        assert_eq!(heard.as_deref(), Some("hello"));
        let heard = timeout(PATIENCE, membership.notice()).await.unwrap();
        assert_eq!(heard.map(|text| text.len()), Some(7_999));
    }
    fresh
        .sql()
        .await
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await
        .unwrap();
    assert_eq!(timeout(PATIENCE, first.notice()).await.unwrap(), None, "its session is over");
}
