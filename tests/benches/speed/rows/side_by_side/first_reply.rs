//! Row 6: the first reply of a session of v3, beside Synapse's simplified sliding sync for the same rooms.

use bytes::Bytes;
use serde_json::{Value, json};

use super::flat;
use super::sides::{Side, Sides, in_turn};
use super::times::Times;
use super::wire::{Answer, Wire};
use crate::options::Options;
use crate::row::{Figure, Row};

/// How much faster it is to be, and how much longer the largest account may take than the smallest.
const TO_REACH: f64 = 10.0;
const FLAT: f64 = 1.5;
/// What no machine and no build excuses, with so many milliseconds more.
const STEEP: f64 = 3.0;
const PAUSE: f64 = 5.0;

const SLIDING_SYNC: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
/// Both syncs of the proxy.
pub(crate) const SYNC: &str = "/_matrix/client/v3/sync";
/// How many rooms, and how many events of each.
pub(crate) const ROOMS: usize = 20;

pub(crate) async fn measure(sides: &Sides, options: &Options) -> Row {
    let runs = if options.smoke { 5 } else { 30 };
    let (synapse, proxy) = compare(sides, runs).await;
    let (theirs, ours) = (took(&synapse), took(&proxy));
    let ratio = theirs.median() / ours.median();
    let mut figures = vec![
        Figure::new("Synapse", theirs.median(), "ms"),
        Figure::new("proxy", ours.median(), "ms"),
        Figure::new("ratio", ratio, ""),
        Figure::new("Synapse's p99", theirs.p99(), "ms"),
        Figure::new("proxy's p99", ours.p99(), "ms"),
    ];
    let growth = flat::measure(options).await;
    for (rooms, times) in &growth {
        figures.push(Figure::new(format!("proxy at {rooms} rooms"), times.median(), "ms"));
    }
    let first = growth.first().map_or(0.0, |(_, times)| times.median());
    let last = growth.last().map_or(0.0, |(_, times)| times.median());
    let slope = last / first;
    figures.push(Figure::new("from the first to the last", slope, ""));
    Row {
        number: 6,
        what: "v3 first reply, 20 rooms",
        to_reach: "10 times faster than simplified sliding sync, at most 1.5 times from 100 to 10,000 rooms",
        figures,
        how: format!(
            "{} rooms on Synapse, medians of {runs} in turn, {} bytes and {} of the proxy; the growth with a scripted homeserver",
            sides.town.rooms, synapse[0].length, proxy[0].length
        ),
        reached: ratio >= TO_REACH && slope <= FLAT,
        fault: (last > first * STEEP + PAUSE)
            .then(|| format!("a first reply grows from {first:.1} ms to {last:.1} ms")),
    }
}

/// The list with its rooms, and the inbox.
pub(crate) fn first_request() -> Bytes {
    let list = json!({"p": {"limit": ROOMS}});
    let body = json!({"room_list": list, "room": {"room_id": "room_list"}, "to_device": {}});
    body.to_string().into()
}

pub(crate) fn took(answers: &[Answer]) -> Times {
    Times::of(answers.iter().map(|answer| answer.took))
}

async fn compare(sides: &Sides, runs: usize) -> (Vec<Answer>, Vec<Answer>) {
    let warm = &sides.town.warm;
    let mut synapse = Wire::of(warm, &sides.url(Side::Synapse));
    let mut proxy = Wire::of(warm, &sides.url(Side::Proxy));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    // Once without the clock: a benchmark of replies that are wrong proves nothing.
    let expected = ROOMS.min(sides.town.rooms + 1);
    let answer = synapse.post(SLIDING_SYNC, sliding_request(runs)).await;
    assert_eq!(rooms_in(&answer, "/rooms"), expected, "{}", answer.text());
    let answer = proxy.post(SYNC, first_request()).await;
    assert_eq!(rooms_in(&answer, "/room/rooms"), expected, "{}", answer.text());
    for run in 0..runs {
        for side in in_turn(run) {
            match side {
                Side::Synapse => {
                    theirs.push(synapse.post(SLIDING_SYNC, sliding_request(run)).await);
                }
                Side::Proxy => ours.push(proxy.post(SYNC, first_request()).await),
            }
        }
    }
    (theirs, ours)
}

/// How many rooms an answer tells of.
pub(crate) fn rooms_in(answer: &Answer, at: &str) -> usize {
    let reply: Value = serde_json::from_str(&answer.text()).unwrap();
    reply.pointer(at).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// The same rooms by recency, with as many events and the state that they have, on a connection that Synapse does not know.
fn sliding_request(run: usize) -> Bytes {
    let types = [
        "create",
        "name",
        "topic",
        "avatar",
        "encryption",
        "canonical_alias",
        "join_rules",
        "history_visibility",
        "guest_access",
        "power_levels",
    ];
    let mut state: Vec<[String; 2]> =
        types.iter().map(|what| [format!("m.room.{what}"), String::new()]).collect();
    for member in ["$LAZY", "$ME"] {
        state.push(["m.room.member".to_owned(), member.to_owned()]);
    }
    let list = json!({
        "ranges": [[0, ROOMS - 1]], "timeline_limit": 20, "required_state": state,
    });
    let body = json!({
        "conn_id": format!("run{run}"), "lists": {"all": list},
        "extensions": {"to_device": {"enabled": true}},
    });
    body.to_string().into()
}
