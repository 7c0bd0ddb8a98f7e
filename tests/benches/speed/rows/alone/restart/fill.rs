//! A long history, as polls would have stored it: each account is told of its rooms in turn.

use tests::postgres::Database;

/// Events in a poll.
const EVENTS: i64 = 8;

/// Rows of a poll: itself, its room and its events. Bodies are shared and come on top.
const ROWS_OF_A_POLL: i64 = 2 + EVENTS;

/// Which rooms each account has, in order, and where its history stands.
const PLAN: &str = "
    CREATE TEMPORARY TABLE plan AS
    SELECT
        h.account_id,
        h.room_nid,
        a.pos,
        a.upstream_since,
        row_number() OVER (PARTITION BY h.account_id ORDER BY h.room_nid) - 1 AS place,
        count(*) OVER (PARTITION BY h.account_id) AS rooms
    FROM account_rooms h
    JOIN accounts a ON a.account_id = h.account_id
    WHERE h.section = 0";

/// As many different events of each room as the account with the fewest rooms is told of it.
const BODIES: &str = "
    CREATE TEMPORARY TABLE bodies AS
    WITH written AS (
        SELECT
            r.room_nid,
            n,
            '$history' || lpad(r.room_nid::TEXT, 16, '0') || lpad(n::TEXT, 20, '0') AS event_id
        FROM (SELECT room_nid, min(rooms) AS rooms FROM plan GROUP BY room_nid) r,
            generate_series(0, ($1::BIGINT / r.rooms + 1) * $2::BIGINT - 1) n
    ), told AS (
        SELECT
            w.room_nid,
            w.event_id,
            convert_to(
                '{\"type\":\"m.room.message\",\"event_id\":\"' || w.event_id
                || '\",\"sender\":\"@user000000:load\",\"origin_server_ts\":1700000000000,\"content\":{\"msgtype\":\"m.text\",\"body\":\"'
                || repeat(md5(w.event_id), 12) || '\"}}',
                'UTF8'
            ) AS body
        FROM written w
    )
    SELECT room_nid, event_id, body FROM told";

const INSERT_BODIES: &str = "
    INSERT INTO event_bodies (event_id, body_hash, body, room_nid)
    SELECT event_id, substring(sha256(body) FROM 1 FOR 16), body, room_nid
    FROM bodies
    ORDER BY event_id";

/// The number of each event's body.
const NUMBERS: &str = "
    CREATE TEMPORARY TABLE numbers AS
    SELECT b.room_nid, right(b.event_id, 20)::BIGINT AS number, e.body_id
    FROM bodies b
    JOIN event_bodies e ON e.event_id = b.event_id";

const POLLS: &str = "
    INSERT INTO polls (account_id, pos, next_batch, stored_at)
    SELECT
        p.account_id,
        p.pos + n,
        CASE WHEN n = $1::BIGINT THEN p.upstream_since ELSE 'h' || n END,
        (extract(epoch FROM now()) * 1000)::BIGINT
    FROM plan p, generate_series(1, $1::BIGINT) n
    WHERE p.place = 0
    ORDER BY p.account_id, n";

const ROOM_UPDATES: &str = "
    INSERT INTO room_updates (account_id, pos, room_nid, section, limited, newly_joined, timeline_len, prev_batch)
    SELECT p.account_id, p.pos + n, p.room_nid, 0, FALSE, FALSE, $2::BIGINT::INTEGER, 'h' || n - 1
    FROM plan p, generate_series(1, $1::BIGINT) n
    WHERE (n - 1) % p.rooms = p.place
    ORDER BY p.account_id, n";

const TIMELINE_EVENTS: &str = "
    INSERT INTO timeline_events (account_id, room_nid, pos, ord, body_id, age_ts)
    SELECT p.account_id, p.room_nid, p.pos + n, ord, b.body_id, 1700000000000 + n
    FROM plan p, generate_series(1, $1::BIGINT) n, generate_series(0, $2::BIGINT::INTEGER - 1) ord, numbers b
    WHERE (n - 1) % p.rooms = p.place
        AND b.room_nid = p.room_nid
        AND b.number = (n - 1) / p.rooms * $2::BIGINT + ord
    ORDER BY p.account_id, p.room_nid, n, ord";

const POSITIONS: &str = "
    UPDATE accounts a
    SET pos = a.pos + $1::BIGINT
    FROM plan p
    WHERE p.account_id = a.account_id AND p.place = 0";

/// Gives each account a part of so many rows of history. The proxy is not running. Gives how many there are.
pub(super) async fn fill(database: &Database, rows: i64) -> i64 {
    let sql = database.connect().await.unwrap();
    sql.batch_execute(PLAN).await.unwrap();
    let accounts = database.count("SELECT count(*) FROM accounts").await;
    let polls = rows / accounts / ROWS_OF_A_POLL;
    sql.execute(BODIES, &[&polls, &EVENTS]).await.unwrap();
    sql.execute(INSERT_BODIES, &[]).await.unwrap();
    sql.execute(NUMBERS, &[]).await.unwrap();
    sql.batch_execute("ANALYZE plan, numbers").await.unwrap();
    sql.execute(POLLS, &[&polls]).await.unwrap();
    let parts: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[&polls, &EVENTS];
    let updates = sql.execute(ROOM_UPDATES, parts).await.unwrap();
    assert_eq!(i64::try_from(updates).unwrap(), accounts * polls, "each poll has a room");
    let events = sql.execute(TIMELINE_EVENTS, parts).await.unwrap();
    assert_eq!(i64::try_from(events).unwrap(), accounts * polls * EVENTS, "each event has a body");
    sql.execute(POSITIONS, &[&polls]).await.unwrap();
    sql.batch_execute("ANALYZE; CHECKPOINT").await.unwrap();
    accounts * polls * ROWS_OF_A_POLL
}
