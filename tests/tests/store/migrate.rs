//! Migrations: once, whoever comes first, and never over a newer database.

use store::Error;
use tokio::time::timeout;

use crate::database::Fresh;
use tests::wait::PATIENCE;

#[tokio::test]
async fn migrating_twice_is_a_no_op() {
    let fresh = Fresh::unmigrated().await;
    let store = &fresh.store;
    assert_eq!(store.schema_version().await.unwrap(), None);
    store.migrate().await.unwrap();
    let version = store.schema_version().await.unwrap();
    assert!(version.is_some());
    let key = store.token_key().await.unwrap();

    store.migrate().await.unwrap();

    assert_eq!(store.schema_version().await.unwrap(), version);
    assert_eq!(store.token_key().await.unwrap(), key);
    let runs = fresh.count("SELECT COUNT(*) FROM refinery_schema_history").await;
    assert_eq!(runs, i64::from(version.unwrap()));
}

#[tokio::test]
async fn several_processes_migrate_at_once() {
    let fresh = Fresh::unmigrated().await;
    let stores: Vec<_> = (0..4).map(|_| fresh.store_of(2)).collect();
    let migrations = futures_util::future::join_all(stores.iter().map(store::Store::migrate));
    for outcome in timeout(PATIENCE, migrations).await.unwrap() {
        outcome.unwrap();
    }
    assert_eq!(fresh.count("SELECT COUNT(*) FROM instance").await, 1);
}

/// The migrations once asked the pool for a second connection while they held the first: with a pool of one they waited
/// for ever.
#[tokio::test]
async fn one_connection_is_enough() {
    let fresh = Fresh::unmigrated().await;
    let store = fresh.store_of(1);
    timeout(PATIENCE, store.migrate()).await.unwrap().unwrap();
    let both = async { tokio::try_join!(store.migrate(), store.migrate()) };
    timeout(PATIENCE, both).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let fresh = Fresh::database().await;
    let supported = fresh.store.schema_version().await.unwrap().unwrap();
    let newer = format!(
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
         VALUES ({}, 'from_the_future', '2099-01-01T00:00:00Z', '1')",
        supported + 1
    );
    fresh.sql().await.batch_execute(&newer).await.unwrap();
    // Refused again and again: the lock is given back.
    for _ in 0..2 {
        let refused = timeout(PATIENCE, fresh.store.migrate()).await.unwrap();
        let Err(Error::UnsupportedSchema { found, supported: known }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((found, known), (supported + 1, supported));
    }
}

#[tokio::test]
async fn a_migration_that_was_edited_is_refused() {
    let fresh = Fresh::database().await;
    let edit = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1";
    fresh.sql().await.batch_execute(edit).await.unwrap();
    assert!(matches!(fresh.store.migrate().await, Err(Error::Migration(_))));
}
