//! The schema can be spread by account, as docs/scaling.md says, and no statement has to change for it.

mod made_anew;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store::{
    AccountData, Horizon, NewSet, Pace, Poll, Position, PresenceUpdate, RoomUpdate, Store,
};
use tokio_postgres::Client;

use self::made_anew::partition;
use crate::database::Fresh;
use crate::plans::explained::{Explained, Plan};
use crate::plans::life::{self, Answers};
use crate::polls::{Feed, message, receipt, room_with, state, to_device};

/// What the life is made of that is played: each statement of it is run at least twice.
const ROUNDS: usize = 2;

/// What runs the migrations keeps a table of its own.
const NOT_OURS: &str = "refinery_schema_history";

#[tokio::test]
async fn the_page_on_scaling_says_of_every_table_what_can_be_done_with_it() {
    let fresh = Fresh::database().await;
    let sql = fresh.sql().await;
    let tables = page::tables();
    let known = indexes(&sql).await;
    let named: BTreeSet<&String> = tables.all().collect();
    assert_eq!(named, known.keys().collect(), "the page, and the schema");
    assert_eq!(tables.all().count(), named.len(), "each stands in one row");

    for table in tables.spread() {
        let primary = known[&table].iter().find(|index| index.is_primary);
        let primary = primary.unwrap_or_else(|| panic!("{table} has no primary key"));
        assert_eq!(primary.first_column, "account_id", "{table}");
    }
    for index in tables.keyed.iter().flat_map(|table| &known[table]) {
        assert_eq!(index.first_column, "account_id", "{}", index.name);
    }
    for table in &tables.shared {
        let columns = format!(
            "SELECT COUNT(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'account_id'"
        );
        assert_eq!(fresh.count(&columns).await, 0, "{table} has an account");
    }
}

#[tokio::test]
async fn in_partitions_an_account_lives_the_same_life() {
    let tables = page::tables();
    let whole = Fresh::database().await;
    let spread = Fresh::on_a_server_of_its_own(&[]).await;
    made_anew::in_partitions(&spread.sql().await, &tables.spread()).await;
    let explained = Explained::on(&spread).await;

    let lived = lives(&whole.store_of(1)).await;
    let lived_in_partitions = lives(&spread.store_of(1)).await;
    assert_eq!(lived.difference(&lived_in_partitions), None);
    let (sql, sql_of_spread) = (whole.sql().await, spread.sql().await);
    for table in tables.all().filter(|table| *table != "instance") {
        let (here, there) = (rows(&sql, table).await, rows(&sql_of_spread, table).await);
        let differs = here.iter().zip(&there).find(|(here, there)| here != there);
        assert!(here.len() == there.len() && differs.is_none(), "{table}: {differs:?}");
        assert!(
            !here.is_empty() || !tables.spread().contains(table),
            "the life left {table} empty"
        );
    }

    let plans = explained.plans().await;
    for hot in life::HOT {
        assert!(plans.iter().any(|plan| plan.statement == *hot), "{hot} was not run");
    }
    let everywhere: BTreeSet<String> = plans
        .iter()
        .filter(|plan| looks_into_several_partitions(plan))
        .map(|plan| plan.statement.clone())
        .collect();
    assert_eq!(everywhere, page::statements(), "the statements by their plans, and by the page");
}

struct Index {
    name: String,
    is_primary: bool,
    first_column: String,
}

/// The indexes of each table.
async fn indexes(sql: &Client) -> BTreeMap<String, Vec<Index>> {
    let found = sql
        .query(
            "SELECT t.relname::TEXT, i.indexrelid::regclass::TEXT, i.indisprimary, a.attname::TEXT
             FROM pg_class t
             JOIN pg_index i ON i.indrelid = t.oid
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
             WHERE t.relkind = 'r' AND t.relnamespace = 'public'::regnamespace AND t.relname <> $1",
            &[&NOT_OURS],
        )
        .await
        .unwrap();
    let mut indexes: BTreeMap<String, Vec<Index>> = BTreeMap::new();
    for row in found {
        let index = Index { name: row.get(1), is_primary: row.get(2), first_column: row.get(3) };
        indexes.entry(row.get(0)).or_default().push(index);
    }
    indexes
}

/// All that stands in a table, but for when a sweep of the bodies came by.
async fn rows(sql: &Client, table: &str) -> Vec<String> {
    let rows = sql
        .query(
            &format!("SELECT (to_jsonb(t) - 'unused_since')::TEXT FROM {table} t ORDER BY 1"),
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Whether a plan has more than one partition of some table.
fn looks_into_several_partitions(plan: &Plan) -> bool {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (table, number) in plan.scans.iter().filter_map(|scan| partition(&scan.table)) {
        seen.entry(table).or_default().insert(number);
    }
    seen.values().any(|numbers| numbers.len() > 1)
}

/// An account's life, with what the rest of it lacks, and another account that comes and goes.
async fn lives(store: &Store) -> Answers {
    life::begins(store).await;
    let answers = life::goes_on(store, ROUNDS).await;
    goes(store).await;
    stays(store).await;
    answers
}

/// Somebody comes, and is gone in the end with everything that was kept.
async fn goes(store: &Store) {
    let mut feed = Feed::of(store, "@bob:x").await;
    has_a_bit_of_everything(&mut feed).await;
    store.remove_account(feed.account_id).await.unwrap();

    let mut feed = Feed::of(store, "@carol:x").await;
    has_a_bit_of_everything(&mut feed).await;
    store.remove_expired_sessions(i64::MAX, 10).await.unwrap();
    let devices = store.device_nids(feed.account_id).await.unwrap();
    store.remove_devices(feed.account_id, &devices).await.unwrap();
    let pace = Pace { rows: 2, pause: Duration::ZERO };
    let mut gone = false;
    for now in [10_000_000_000, 20_000_000_000] {
        let horizon = Horizon { now, oldest: now, live_since: now, events: 1 };
        for due in store.due_accounts(now, now - 1, 10).await.unwrap() {
            if due.account_id == feed.account_id {
                gone = store.retain(&due, horizon, pace).await.unwrap().account;
            }
        }
    }
    assert!(gone, "nobody was left who used the account");
    assert!(store.remove_remains(pace).await.unwrap() > 0);
}

/// What retention has left of nobody else is there of the account that stays.
async fn stays(store: &Store) {
    let mut feed = Feed::of(store, "@alice:x").await;
    has_a_bit_of_everything(&mut feed).await;
    store.inbox_backlog().await.unwrap();
    store.table_sizes().await.unwrap();
}

/// A row in each table that an account can have one in.
async fn has_a_bit_of_everything(feed: &mut Feed) {
    let (store, account) = (feed.store.clone(), feed.account_id);
    let phone = store.device(account, "PHONE").await.unwrap().device_nid;
    store.claim_main_poll(account, None, phone).await.unwrap();
    for turn in 1..=2 {
        let mut sent = message(&format!("$sent-{turn}"));
        sent.transaction_id = Some(turn.to_string());
        sent.copies = vec!["$copied".to_owned()];
        let room = RoomUpdate {
            receipts: vec![receipt("@bob:x", "$sent-1", "")],
            account_data: vec![AccountData { event_type: "m.tag".into(), event: "{}".into() }],
            limited: turn == 2,
            prev_batch: Some("p".to_owned()),
            ..room_with(
                "!shared:x",
                vec![sent, state(&format!("$topic-{turn}"), "m.room.topic", "")],
            )
        };
        let poll = Poll {
            rooms: vec![room],
            presence: vec![PresenceUpdate {
                user_id: "@bob:x".to_owned(),
                event: "{}".into(),
                last_active_ts: None,
            }],
            device_lists_changed: vec!["@bob:x".to_owned()],
            device: Some(to_device(phone, &["1", "2"])),
            ..feed.next()
        };
        feed.store(&poll).await.unwrap();
    }
    // The stream begins anew, without the topic.
    store.forget_upstream_since(account).await.unwrap();
    let anew = RoomUpdate { limited: true, ..room_with("!shared:x", vec![message("$anew")]) };
    let poll = Poll { asked_since: None, rooms: vec![anew], ..feed.next() };
    feed.store(&poll).await.unwrap();
    store.sharers(account).await.unwrap();
    store.rooms_with_typing(account).await.unwrap();
    store.next_batch_after(account, Position(1)).await.unwrap();
    store.forget_room(account, feed.room_nid("!shared:x").await).await.unwrap();
    store.put_transaction_id(account, phone, "$sent-3", "3", 1).await.unwrap();
    store.put_once_ignored(account, &["@mallory:x".to_owned()]).await.unwrap();
    store.joins_are_settled(account, Position(2)).await.unwrap();
    store.upkeep(account).await.unwrap();
    let set = NewSet { set_id: b"set", purpose: 0, content: b"rooms" };
    store.create_session(account, phone, b"{}", &[set], 1, 100).await.unwrap();
}
