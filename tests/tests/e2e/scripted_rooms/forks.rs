//! Forks: the event that comes last in a timeline is not always the one that counts.

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::matchers::{content_of, events, joined, timeline, types};
use tests::scripted_homeserver::{first_sync, message};

use super::{ROOM, state_event, timeline_of};
use crate::stage::Stage;

const STATE_AFTER: &str = "org.matrix.msc4222.state_after";

/// A topic that stood on another branch has won, while the one in the timeline has lost. A homeserver that knows only `state`
/// puts the winner there.
#[tokio::test]
async fn a54_the_state_of_another_branch_comes_beside_the_timeline() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut chain = begin(&stage).await;
    let since = chain.since().to_owned();

    let mut reply = timeline_of("s2", &[topic("loser"), message("hello")]);
    reply["rooms"]["join"][ROOM]["state"]["events"] = json!([topic("winner")]);
    homeserver.on_sync(Some("s1"), &reply);
    let told = chain
        .until("the fork", |reply| joined(reply, ROOM).is_object().then(|| reply.clone()))
        .await;

    for reply in [told, alice.sync().since(&since).send().await.ok()] {
        assert_eq!(types(&timeline(&reply, ROOM)), ["m.room.topic", "m.room.message"]);
        assert_eq!(joined(&reply, ROOM)["timeline"]["limited"], false);
        assert_eq!(topic_in(&reply, "state"), json!("winner"), "{reply:#}");
    }
}

/// A homeserver that tells the state after the timeline says who has won, and so do we, to those who ask in the same way; in the
/// older form the winner comes beside the timeline, as from Synapse.
#[tokio::test]
async fn a16_a54_the_state_after_the_timeline_says_who_has_won() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut chain = begin(&stage).await;
    let since = chain.since().to_owned();

    let mut reply = timeline_of("s2", &[topic("loser"), message("hello")]);
    in_state_after(&mut reply, &topic("winner"));
    homeserver.on_sync(Some("s1"), &reply);
    chain.until("the fork", |reply| joined(reply, ROOM).is_object().then_some(())).await;

    let after = alice.sync().since(&since).query("use_state_after", "true").send().await.ok();
    assert_eq!(topic_in(&after, "state_after"), json!("winner"), "{after:#}");
    let before = alice.sync().since(&since).send().await.ok();
    assert_eq!(topic_in(&before, "state"), json!("winner"), "{before:#}");

    let anew = alice.sync().query("use_state_after", "true").send().await.ok();
    assert_eq!(topic_in(&anew, "state_after"), json!("winner"), "{anew:#}");
}

/// State that went back to what it was, without an event: only a homeserver that tells the state after the timeline can say so.
#[tokio::test]
async fn a54_d5_12_state_that_changed_without_an_event_is_told() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut chain = begin(&stage).await;
    let mut reply = timeline_of("s2", &[topic("new")]);
    in_state_after(&mut reply, &topic("new"));
    homeserver.on_sync(Some("s1"), &reply);
    chain.until("the new topic", |reply| joined(reply, ROOM).is_object().then_some(())).await;
    let since = chain.since().to_owned();

    let mut reply = timeline_of("s3", &[message("something else")]);
    in_state_after(&mut reply, &topic("old"));
    homeserver.on_sync(Some("s2"), &reply);
    let told = chain
        .until("the reset", |reply| joined(reply, ROOM).is_object().then(|| reply.clone()))
        .await;

    assert_eq!(topic_in(&told, "state"), json!("old"), "{told:#}");
    let after = alice.sync().since(&since).query("use_state_after", "true").send().await.ok();
    assert_eq!(topic_in(&after, "state_after"), json!("old"), "{after:#}");
    let limit = json!({"room": {"timeline": {"limit": 1}}});
    let anew = alice.sync().filter(&limit).send().await.ok();
    assert_eq!(topic_in(&anew, "state"), json!("old"), "{anew:#}");
}

/// Content that was emptied replaces what there was.
#[tokio::test]
async fn d5_15_state_that_was_emptied_is_told() {
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    let mut chain = begin(&stage).await;
    let since = chain.since().to_owned();
    let emptied = state_event("$emptied", "m.room.topic", &json!({}));
    homeserver.on_sync(Some("s1"), &timeline_of("s2", &[emptied, message("one"), message("two")]));
    chain.until("the change", |reply| joined(reply, ROOM).is_object().then_some(())).await;

    let limit = json!({"room": {"timeline": {"limit": 1}}});
    for request in [alice.sync().since(&since), alice.sync()] {
        let reply = request.filter(&limit).send().await.ok();
        let state = events(&joined(&reply, ROOM)["state"]);
        assert_eq!(content_of(&state, "m.room.topic"), &json!({}), "{reply:#}");
    }
}

/// Alice's chain in a room with an old topic.
async fn begin(stage: &Stage) -> Chain {
    let mut first = first_sync(&stage.alice.user_id, ROOM, "s1", &["first"]);
    let state = first["rooms"]["join"][ROOM]["state"]["events"].as_array_mut().unwrap();
    state.push(topic("old"));
    stage.homeserver.on_sync(None, &first);
    let mut chain = stage.alice.v2();
    chain.next().await;
    chain
}

fn topic(text: &str) -> Value {
    state_event(&format!("${text}"), "m.room.topic", &json!({"topic": text}))
}

fn topic_in(reply: &Value, field: &str) -> Value {
    content_of(&events(&joined(reply, ROOM)[field]), "m.room.topic")["topic"].clone()
}

/// Tells the state as after the timeline in place of before it.
fn in_state_after(reply: &mut Value, event: &Value) {
    let room = reply["rooms"]["join"][ROOM].as_object_mut().unwrap();
    room.remove("state");
    room.insert(STATE_AFTER.to_owned(), json!({"events": [event]}));
}
