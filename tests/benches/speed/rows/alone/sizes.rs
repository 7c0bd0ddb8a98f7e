//! Row 11: what is stored, in bytes, after polls of a homeserver, beside what the size model says.

use std::collections::BTreeMap;

use tests::load::world::{Crowd, World};
use tests::postgres::Database;
use tests::size_model;

use super::bench::Bench;
use crate::row::{Figure, Row};

/// A table with fewer rows has too little to measure.
const ROWS: i64 = 200;

/// Half-empty pages of a small table are no fault.
const MARGIN: f64 = 2.5;

/// Tables with a row or a few for each account, whatever it does.
const OF_ACCOUNTS: [&str; 4] = ["accounts", "devices", "access_tokens", "upkeep"];
const OF_ROOMS: [&str; 2] = ["account_rooms", "room_state"];
const OF_EVENTS: [&str; 3] = ["timeline_events", "room_updates", "polls"];

/// Bytes and rows by table.
type Sizes = BTreeMap<String, (i64, i64)>;

pub(super) async fn measure(bench: &Bench) -> Row {
    let crowd = bench.choose(
        Crowd { accounts: 200, rooms: 200, members: 20, clients: 1, replicas: 1 },
        Crowd { accounts: 24, rooms: 24, members: 12, clients: 1, replicas: 1 },
    );
    let (rate, seconds) = bench.choose((20.0, 60), (20.0, 4));
    let (mut world, _memory) = World::make(&bench.postgres, &crowd).await;
    world.play(rate, seconds).await;
    let database = world.database();
    let sizes = sizes(bench, database, &empty(bench, &world).await).await;
    let body = database.count("SELECT avg(length(body))::BIGINT FROM event_bodies").await;
    let bytes = |tables: &[&str]| -> i64 { tables.iter().map(|table| sizes[*table].0).sum() };
    let figures = vec![
        Figure::new("an account", each(bytes(&OF_ACCOUNTS), sizes["accounts"].1), "B"),
        Figure::new("a room of an account", each(bytes(&OF_ROOMS), sizes["account_rooms"].1), "B"),
        Figure::new("an event told", each(bytes(&OF_EVENTS), sizes["timeline_events"].1), "B"),
        Figure::new(
            "a different event",
            each(sizes["event_bodies"].0, sizes["event_bodies"].1),
            "B",
        ),
    ];
    let (mut tables, mut faults) = (Vec::new(), Vec::new());
    for (table, mut said) in size_model::documented() {
        let (bytes, rows) = sizes[&table];
        if rows < ROWS {
            continue;
        }
        if table == "event_bodies" {
            said += body - size_model::BODY;
        }
        let row = each(bytes, rows);
        tables.push(format!("`{table}` {row:.0} B a row (model: {said})"));
        if row > each(said, 1) * MARGIN {
            faults.push(format!("{table}: {row:.0} bytes a row, and the model says {said}"));
        }
    }
    let Crowd { accounts, rooms, members, .. } = crowd;
    Row {
        number: 11,
        what: "bytes stored",
        to_reach: "as the size model says",
        figures,
        how: format!(
            "{accounts} accounts in {rooms} rooms of {members}, five members told of each, {rate} events a second for {seconds} s, bodies of {body} bytes: {}",
            tables.join(", ")
        ),
        reached: faults.is_empty(),
        fault: (!faults.is_empty()).then(|| faults.join("; ")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "no database here is so large")]
fn each(bytes: i64, rows: i64) -> f64 {
    bytes as f64 / rows.max(1) as f64
}

/// What each table takes beyond what it takes with no row in it.
async fn sizes(bench: &Bench, database: &Database, empty: &Sizes) -> Sizes {
    let mut sizes = tables(bench, database).await;
    for (table, (bytes, _rows)) in &mut sizes {
        *bytes -= empty.get(table).map_or(0, |(bytes, _)| *bytes);
    }
    sizes
}

/// A database that a proxy has made and nobody has used.
async fn empty(bench: &Bench, world: &World) -> Sizes {
    let proxy = bench.proxy(&world.homeserver, &[]).await;
    tables(bench, proxy.database()).await
}

/// Where several insert at once, Postgres makes a table larger by some twenty pages for each that waits. In the small form
/// they would be most of it: there the tables are measured without them.
async fn tables(bench: &Bench, database: &Database) -> Sizes {
    let sql = database.connect().await.unwrap();
    sql.batch_execute(bench.choose("VACUUM ANALYZE", "VACUUM FULL ANALYZE")).await.unwrap();
    let query = "
        SELECT
            c.relname::TEXT AS name,
            pg_total_relation_size(c.oid) AS bytes,
            GREATEST(c.reltuples, 0)::BIGINT AS live_rows
        FROM pg_class c
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::REGNAMESPACE";
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get("name"), (row.get("bytes"), row.get("live_rows")))).collect()
}
