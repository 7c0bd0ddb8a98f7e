//! A month of traffic, and more: what is stored reaches a size and stays there.
//!
//! Time is simulated. `TEST_MONTH=accounts,days` plays another month than the short one.

use std::collections::BTreeMap;
use std::time::Duration;

use store::{
    AccountData, BodySweep, DeviceNid, Horizon, InboxSeq, Keep, NewSet, Pace, Poll, PresenceUpdate,
    RoomUpdate, Section,
};

use super::{DAY, HOUR, round};
use crate::database::Fresh;
use crate::polls::{Feed, light, member, message, receipt, redaction, room_with, state, to_device};

/// How long history is kept, in days; how many polls a day brings; how many rooms an account has.
const KEPT: i64 = 7;
const POLLS: i64 = 8;
const ROOMS: i64 = 3;
const PACE: Pace = Pace { rows: 500, pause: Duration::ZERO };

/// What stays of a room for as long as the account, however briefly it was in: its ID for ever, the present, and the newest
/// events with the polls that brought them (docs/operations.md). Each user enters one a day and leaves it on the next; in
/// rows, of which the events, but for the member's own, are everybody's.
const KEPT_OF_A_ROOM: &[(&str, i64)] = &[
    ("rooms", 1),
    ("account_rooms", 1),
    ("room_state", 2),
    ("room_updates", 2),
    ("timeline_events", 3),
    ("state_changes", 3),
    ("event_bodies", 3),
];

/// The most bytes that one of these rows takes, its part of the indexes included.
const BYTES_OF_A_ROW: i64 = 1100;

/// Tables of which the month has nothing to say: processes that poll, accounts that are gone, what settles them, and chores
/// of the program.
const EMPTY: &[&str] = &["replicas", "account_remains", "upkeep", "chores"];

/// The size of each table, in rows and in bytes.
type Sizes = BTreeMap<String, (i64, i64)>;

struct User {
    feed: Feed,
    phone: DeviceNid,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a switch for developers, not a setting of the program"
)]
fn accounts_and_days() -> (i64, i64) {
    let Ok(asked) = std::env::var("TEST_MONTH") else { return (3, 35) };
    let (accounts, days) = asked.split_once(',').expect("TEST_MONTH is accounts,days");
    (accounts.parse().unwrap(), days.parse().unwrap())
}

#[tokio::test]
async fn a_month_of_traffic_reaches_a_steady_size() {
    let (accounts, days) = accounts_and_days();
    // By then everything has come that is kept, and the first of it has gone, bodies last.
    let steady = 3 * KEPT;
    assert!(days >= steady + KEPT, "a month has at least {} days", steady + KEPT);
    // A transaction in any database of a server, and an analysis of its own, keep pages of indexes from being used again.
    let fresh = Fresh::on_a_server_of_its_own(&["autovacuum=off"]).await;
    let mut users = Vec::new();
    for number in 0..accounts {
        let feed = Feed::of(&fresh.store, &format!("@user-{number}:x")).await;
        let phone = fresh.store.device(feed.account_id, "PHONE").await.unwrap().device_nid;
        fresh.store.claim_main_poll(feed.account_id, None, phone).await.unwrap();
        users.push(User { feed, phone });
    }
    let mut reached = Sizes::new();
    for day in 1..=days {
        for user in &mut users {
            user.has_a_new_token(day).await;
            user.lives(day).await;
            user.moves(day).await;
            user.has_a_new_session(day).await;
            user.tries_another_device(day).await;
        }
        retention(&fresh, day).await;
        if day == steady {
            reached = sizes(&fresh).await;
        }
    }
    let now = sizes(&fresh).await;
    for (table, (rows, bytes)) in &now {
        let (rows_then, bytes_then) = reached[table];
        assert!(*rows > 0 || EMPTY.contains(&table.as_str()), "nothing ever came to {table}");
        let kept =
            KEPT_OF_A_ROOM.iter().find(|(name, _)| name == table).map_or(0, |(_, rows)| *rows);
        let kept = kept * accounts * (days - steady);
        let most = rows_then + rows_then / 20 + kept;
        assert!(*rows <= most, "{table}: {rows} rows after {rows_then}");
        // A page or two come and go: of the table, of its map of free space, of each index.
        let most = bytes_then + bytes_then / 10 + 10 * 8192 + kept * BYTES_OF_A_ROW;
        assert!(*bytes <= most, "{table}: {bytes} bytes after {bytes_then}");
    }
    let (polls, _) = now["polls"];
    assert!(polls >= accounts * KEPT * POLLS, "the horizon itself is kept: {polls} polls");
}

impl User {
    /// The phone refreshes its token.
    async fn has_a_new_token(&self, day: i64) {
        let (store, account) = (&self.feed.store, self.feed.account_id);
        let hash = format!("{account}-{day}");
        store.put_token(account, self.phone, hash.as_bytes(), b"sealed", day * DAY).await.unwrap();
    }

    /// The user joins a room and leaves that of the day before.
    async fn moves(&mut self, day: i64) {
        let member_of = |day: i64, account: &str, membership: &str| {
            member(&format!("${membership}-{account}-{day}"), "@me:x", membership)
        };
        let account = self.feed.account_id.to_string();
        let create = state(&format!("$create-{day}"), "m.room.create", "");
        let joined = room_with(&room_of(day), vec![create, member_of(day, &account, "join")]);
        let left = RoomUpdate {
            section: Section::Leave,
            ..room_with(&room_of(day - 1), vec![member_of(day - 1, &account, "leave")])
        };
        self.feed.rooms(vec![joined, left]).await;
    }

    /// The phone begins a session, as after its app was started, changes what it asks for, and takes its messages.
    async fn has_a_new_session(&self, day: i64) {
        let (store, account, now) = (&self.feed.store, self.feed.account_id, self.feed.now);
        let made = store.create_session(account, self.phone, b"{}", &[], now, 100).await.unwrap();
        let keep = Keep { turns: 2, bytes: 1 << 20 };
        let mut params_id = made.params_id;
        for turn in 0..3 {
            let params = format!("{{\"turn\":{turn}}}");
            let session = made.session_id;
            let put =
                store.put_session_params(account, session, params_id, params.as_bytes(), keep);
            params_id = put.await.unwrap().unwrap();
            let set_id = format!("{day}-{turn}");
            let set = NewSet { set_id: set_id.as_bytes(), purpose: 0, content: &[0; 400] };
            store.put_session_sets(account, session, &[set], &[], keep).await.unwrap();
        }
        let device = store.device_by_nid(self.phone).await.unwrap().unwrap();
        let (session, acked) = (made.session_id, device.inbox_seq);
        let live_since = now - KEPT * DAY;
        store.acknowledge_session(account, self.phone, session, acked, live_since).await.unwrap();
    }

    /// Somebody logs in with a device that syncs once, and out past the proxy.
    async fn tries_another_device(&self, day: i64) {
        let (store, account) = (&self.feed.store, self.feed.account_id);
        let device = store.device(account, &format!("DAY{day}")).await.unwrap().device_nid;
        let set = NewSet { set_id: b"set", purpose: 0, content: b"rooms" };
        store.create_session(account, device, b"{}", &[set], self.feed.now, 100).await.unwrap();
        let message = to_device(device, &["{}"]);
        store.ingest_light(account, &light(None, "l1", message)).await.unwrap();
    }

    /// A day: messages, state, redactions, receipts, keys and what else there is.
    async fn lives(&mut self, day: i64) {
        for poll in 0..POLLS {
            let number = day * POLLS + poll;
            self.feed.now = day * DAY + poll * HOUR;
            let told = Poll {
                next_batch: format!("s{number:08}"),
                rooms: (0..ROOMS).map(|room| news(room, number)).collect(),
                account_data: vec![AccountData {
                    event_type: "m.direct".into(),
                    event: number.to_string().into(),
                }],
                presence: vec![PresenceUpdate {
                    user_id: format!("@user-{}:x", number % 5),
                    event: number.to_string().into(),
                    last_active_ts: None,
                }],
                device_lists_changed: vec![format!("@user-{}:x", number % 5)],
                device: Some(to_device(self.phone, &[&format!("{{\"n\":{number}}}")])),
                quarantined: vec![("why".to_owned(), "{}".into())],
                ..self.feed.next()
            };
            self.feed.store(&told).await.unwrap();
        }
        // The phone comes every second week and takes what is there; in between its messages wait until they go.
        if day % 14 == 0 {
            let (store, account) = (&self.feed.store, self.feed.account_id);
            let device = store.device_by_nid(self.phone).await.unwrap().unwrap();
            let now = self.feed.now;
            store
                .acknowledge_v2(
                    account,
                    self.phone,
                    InboxSeq(device.inbox_seq.0 - 1),
                    now,
                    now - DAY,
                )
                .await
                .unwrap();
        }
    }
}

fn room_of(day: i64) -> String {
    format!("!day-{day}:x")
}

/// What a poll says of a room. All accounts hear the same of it.
fn news(room: i64, number: i64) -> RoomUpdate {
    let id = |what: &str| format!("${what}-{room}-{number}");
    let user = format!("@user-{}:x", number % 5);
    let mut sent = message(&id("message"));
    sent.transaction_id = Some(id("txn"));
    sent.copies = vec![id("topic")];
    let timeline = vec![
        sent,
        state(&id("topic"), "m.room.topic", ""),
        member(&id("member"), &user, "join"),
        redaction(&id("redaction"), &id("message")),
    ];
    RoomUpdate {
        limited: number % 10 == 0,
        prev_batch: Some(id("prev")),
        receipts: vec![receipt(&user, &id("message"), "")],
        ..room_with(&format!("!room-{room}:x"), timeline)
    }
}

async fn retention(fresh: &Fresh, day: i64) {
    for turn in 1..=2 {
        let now = day * DAY + POLLS * HOUR + turn * HOUR;
        let oldest = now - KEPT * DAY;
        let horizon = Horizon { now, oldest, live_since: oldest, events: 20 };
        // As the program keeps house.
        while fresh.store.remove_expired_sessions(oldest, 10).await.unwrap() >= 10 {}
        fresh.store.remove_superseded_tokens(now - DAY).await.unwrap();
        round(&fresh.store, horizon, PACE).await;
        fresh.store.empty_quarantine(oldest, PACE).await.unwrap();
        if turn == 2 {
            let sweep = BodySweep { now, oldest, window: 4096, pace: PACE };
            fresh.store.sweep_bodies(sweep).await.unwrap();
        }
    }
    // As the server does by itself, more often.
    fresh.sql().await.batch_execute("VACUUM").await.unwrap();
}

async fn sizes(fresh: &Fresh) -> Sizes {
    let mut sizes = Sizes::new();
    for size in fresh.store.table_sizes().await.unwrap() {
        let rows = fresh.count(&format!("SELECT COUNT(*) FROM {}", size.table)).await;
        sizes.insert(size.table, (rows, size.bytes));
    }
    sizes
}
