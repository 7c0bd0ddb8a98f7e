//! No statement of the store reads its way through a table that grows with the account, or with everybody else's.
//!
//! The server itself explains every statement ([`explained`]) while one account among many ([`crowd`]) does all that an
//! account does. So the plans are those of the statements as they are, with their real parameters, also after Postgres has
//! turned to generic plans.

mod crowd;
pub(crate) mod explained;
pub(crate) mod life;

use std::collections::BTreeSet;

use self::explained::{Explained, Scan};
use tests::wait::eventually;

use crate::database::Fresh;

/// What grows, and which of its columns a scan must be narrowed by: `account_id` alone is a whole account.
const GROWING: &[(&str, &[&str])] = &[
    ("account_data", &["room_nid", "pos"]),
    ("account_rooms", &["room_nid", "section"]),
    ("device_inbox", &["device_nid"]),
    ("device_list_changes", &["pos"]),
    ("event_bodies", &["body_id", "event_id", "redacted_by"]),
    ("event_copies", &["event_id"]),
    ("polls", &["pos"]),
    ("presence", &["pos", "user_id"]),
    ("receipts", &["room_nid"]),
    ("redaction_scans", &["account_id"]),
    ("redactions", &["event_id"]),
    ("room_state", &["room_nid"]),
    ("room_updates", &["pos", "room_nid"]),
    ("rooms", &["room_nid", "room_id"]),
    ("session_params", &["session_id"]),
    ("session_sets", &["session_id"]),
    ("sessions", &["session_id", "device_nid"]),
    ("state_changes", &["room_nid"]),
    ("timeline_events", &["room_nid"]),
    ("transaction_ids", &["device_nid"]),
];

/// Statements that may read all rooms of the account, or all sessions: what is asked is a list of them, or, where Postgres
/// cannot know that few have changed, as good as one.
const LISTS: &[(&str, &str)] = &[
    ("room_heads::joined_rooms", "account_rooms"),
    ("room_heads::rooms_in", "account_rooms"),
    ("room_heads::changed_rooms", "account_rooms"),
    ("room_lists::room_list", "account_rooms"),
    ("room_outlines::room_outlines", "account_rooms"),
    ("admin::session_statuses", "sessions"),
];

/// Statements that may read all that there is of one room, of what is else looked up more narrowly.
const ROOMS: &[(&str, &str)] = &[("history::copies", "event_copies")];

/// Statements that may not even read all that there is of one room.
const NARROW: &[(&str, &str, &str)] =
    &[("selected_state::selected_states", "room_state", "event_type")];

/// Postgres makes five plans with the parameters at hand before it considers a generic one.
const REPEATS: usize = 7;

#[tokio::test]
async fn no_statement_reads_a_growing_table_through() {
    let fresh = Fresh::database().await;
    crowd::moves_in(&fresh.sql().await).await;
    life::begins(&fresh.store).await;
    // As the server does by itself from time to time.
    fresh.sql().await.batch_execute("VACUUM ANALYZE").await.unwrap();
    let explained = Explained::on(&fresh).await;
    // One connection: statements become generic for each connection on its own.
    life::goes_on(&fresh.store_of(1), REPEATS).await;

    let plans = explained.plans().await;
    let statements: BTreeSet<&str> = plans.iter().map(|plan| plan.statement.as_str()).collect();
    for hot in life::HOT {
        assert!(statements.contains(hot), "{hot} was not run, or has lost its name");
    }
    let faults: BTreeSet<String> = plans
        .iter()
        .flat_map(|plan| plan.scans.iter().filter_map(|scan| fault(&plan.statement, scan)))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn nor_is_one_read_through_while_it_is_small() {
    let fresh = Fresh::database().await;
    let store = fresh.store_of(1);
    life::begins(&store).await;
    life::goes_on(&store, REPEATS).await;
    drop(store);
    // What a connection has counted is complete when it has ended.
    let others = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually("the store's connection to end", async || {
        (fresh.count(others).await == 0).then_some(())
    })
    .await;
    for (table, _) in GROWING {
        let scans = format!("FROM pg_stat_user_tables WHERE relname = '{table}'");
        let through = fresh.count(&format!("SELECT seq_scan {scans}")).await;
        assert_eq!(through, 0, "{table} was read through");
    }
    let by_index = "SELECT COUNT(*) FROM pg_stat_user_tables WHERE idx_scan > 0";
    assert!(fresh.count(by_index).await > 10, "the counts are kept");
}

fn fault(statement: &str, scan: &Scan) -> Option<String> {
    let (table, columns) = GROWING.iter().find(|(table, _)| *table == scan.table)?;
    let whole_account =
        LISTS.contains(&(statement, table)) && scan.condition.contains("account_id");
    let whole_room = ROOMS.contains(&(statement, table)) && scan.condition.contains("room_nid");
    let narrowed =
        whole_account || whole_room || columns.iter().any(|column| scan.condition.contains(column));
    let narrower = NARROW
        .iter()
        .filter(|(of, on, _)| *of == statement && on == table)
        .all(|(_, _, column)| scan.condition.contains(column));
    (!(narrowed && narrower)).then(|| {
        format!("{statement}: {} on {table}, narrowed by `{}` only", scan.node, scan.condition)
    })
}
