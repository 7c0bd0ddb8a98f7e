//! Numbered messages, and what must be true of them at the other end: each arrives once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tests::client::Client;

/// How many have been sent so far.
pub(crate) type Progress = Arc<AtomicUsize>;

/// Sends `count` numbered to-device messages, one after the other.
pub(crate) async fn send_to_device(from: Client, to: Client, count: usize, sent: Progress) {
    for n in 0..count {
        from.send_to_device(&to, "m.test", json!({"n": n})).await.ok();
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `count` numbered messages into a room, one after the other.
pub(crate) async fn send_to_room(from: Client, room_id: String, count: usize, sent: Progress) {
    for n in 0..count {
        from.send(&room_id, &room_text(n)).await;
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The text of the room message with this number.
pub(crate) fn room_text(n: usize) -> String {
    format!("room message {n}")
}

/// Checks that these are the numbers from 0 to `count`, each once, in order, and says where that goes wrong.
#[track_caller]
pub(crate) fn assert_each_once_in_order(who: &str, numbers: &[u64], count: usize) {
    let first_wrong = numbers.iter().zip(0_u64..).position(|(got, expected)| *got != expected);
    if let Some(place) = first_wrong {
        let around = &numbers[place.saturating_sub(3)..numbers.len().min(place + 4)];
        panic!("{who} got {} where {place} was due, in …{around:?}…", numbers[place]);
    }
    assert_eq!(numbers.len(), count, "{who} did not get them all");
}

/// The number in a text of [`room_text`].
pub(crate) fn room_number(text: &str) -> Option<u64> {
    text.strip_prefix("room message ")?.parse().ok()
}
