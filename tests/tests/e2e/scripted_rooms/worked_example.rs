//! Fifteen events, of which some change the same piece of state again and again: what is in the timeline, and what beside it.

use serde_json::{Value, json};
use tests::client::SyncRequest;
use tests::matchers::{events, joined, timeline};
use tests::scripted_homeserver::message;

use super::{ROOM, ids, state_event, timeline_of};
use crate::stage::Stage;

/// A, B, C and D are pieces of state; D' and so on replace D.
const FIRST: [&str; 9] = ["A", "B", "C", "D", "1", "2", "3", "D'", "4"];
const THEN: [&str; 5] = ["D''", "5", "B'", "D'''", "D''''"];

/// However the homeserver cuts the stretch into replies, the answers are the same.
#[tokio::test]
async fn d1_16_the_worked_example_comes_out_as_it_should() {
    for cut in [vec![1, 1, 1, 1, 1], vec![5], vec![2, 3], vec![3, 2]] {
        let stage = Stage::set().await;
        let (homeserver, alice) = (&stage.homeserver, &stage.alice);
        homeserver.on_sync(None, &reply("s0", &FIRST));
        let mut chain = alice.v2();
        chain.next().await;
        let nine = chain.since().to_owned();
        let mut rest = &THEN[..];
        for (number, length) in cut.iter().enumerate() {
            let (now, later) = rest.split_at(*length);
            rest = later;
            let (since, next) = (format!("s{number}"), format!("s{}", number + 1));
            homeserver.on_sync(Some(&since), &reply(&next, now));
        }
        chain
            .until("the last change", |reply| {
                ids(&timeline(reply, ROOM)).contains(&"$D''''".to_owned()).then_some(())
            })
            .await;
        let fourteen = chain.since().to_owned();
        homeserver.on_sync(Some(&format!("s{}", cut.len())), &reply("s9", &["6"]));
        chain
            .until("the last message", |reply| joined(reply, ROOM).is_object().then_some(()))
            .await;

        let from_fourteen = five(alice.sync().since(&fourteen)).await;
        assert_eq!(ids(&timeline(&from_fourteen, ROOM)), ["$6"], "cut as {cut:?}");
        assert_eq!(joined(&from_fourteen, ROOM)["timeline"]["limited"], false);
        assert_eq!(state_ids(&from_fourteen, "state"), [""; 0]);

        let from_nine = five(alice.sync().since(&nine)).await;
        let shown = ["$5", "$B'", "$D'''", "$D''''", "$6"];
        assert_eq!(ids(&timeline(&from_nine, ROOM)), shown, "cut as {cut:?}");
        assert_eq!(joined(&from_nine, ROOM)["timeline"]["limited"], true);
        assert_eq!(state_ids(&from_nine, "state"), ["$D''"], "cut as {cut:?}");

        let after = five(alice.sync().since(&nine).query("use_state_after", "true")).await;
        assert_eq!(ids(&timeline(&after, ROOM)), shown);
        assert_eq!(state_ids(&after, "state_after"), ["$B'", "$D''''"], "cut as {cut:?}");

        let anew = five(alice.sync()).await;
        assert_eq!(ids(&timeline(&anew, ROOM)), shown);
        assert_eq!(state_ids(&anew, "state"), ["$A", "$B", "$C", "$D''"], "cut as {cut:?}");
    }
}

async fn five(request: SyncRequest) -> Value {
    request.filter(&json!({"room": {"timeline": {"limit": 5}}})).send().await.ok()
}

fn reply(next_batch: &str, names: &[&str]) -> Value {
    timeline_of(next_batch, &names.iter().map(|name| event(name)).collect::<Vec<_>>())
}

/// Letters are state, of the letter's own type; numbers are messages.
fn event(name: &str) -> Value {
    let event_type = match name.trim_end_matches('\'') {
        "A" => "m.room.create",
        "B" => "m.room.name",
        "C" => "m.room.join_rules",
        "D" => "m.room.topic",
        _ => return message(name),
    };
    state_event(&format!("${name}"), event_type, &json!({"is": name}))
}

fn state_ids(reply: &Value, field: &str) -> Vec<String> {
    let mut found = ids(&events(&joined(reply, ROOM)[field]));
    found.sort_unstable();
    found
}
