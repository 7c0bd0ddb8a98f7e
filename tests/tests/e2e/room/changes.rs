//! What is new in rooms that a session has been told of.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{events, find_state, of_type, types};

use super::replica::Replica;
use super::{has_heard, ids, messages, rooms, state, timeline, told, two_in_a_room, until_message};
use crate::numbered::{Progress, room_text, send_to_room};

#[tokio::test]
async fn a_message_comes_alone() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    bob.send(&room, "known").await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room}})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    bob.send(&room, "new").await;
    let reply = waiting.await.unwrap().ok();

    let entry = told(&reply, &room);
    assert_eq!(messages(&reply, &room), ["new"]);
    assert_eq!(entry["timeline"]["limited"], false);
    for absent in ["initial", "state", "ephemeral", "account_data", "summary"] {
        assert!(entry[absent].is_null(), "{absent} in {entry:#}");
    }
    assert!(entry["unread_notifications"]["notification_count"].is_u64());
    session.absorb(&reply);
    let reply = session.ask(json!({})).await;
    assert!(reply["room"].is_null(), "and is not told again: {reply:#}");
}

#[tokio::test]
async fn whatever_is_new_of_a_room_is_told() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let message = alice.send(&room, "read this").await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room}})).await;

    bob.starts_typing(&room).await;
    let edus = ephemeral(&mut session, &room, "m.typing").await;
    assert_eq!(edus["content"]["user_ids"], json!([bob.user_id]));
    bob.read(&room, &message).await.ok();
    let edus = ephemeral(&mut session, &room, "m.receipt").await;
    assert!(edus["content"][&message]["m.read"][&bob.user_id].is_object(), "{edus:#}");
    alice.set_room_account_data(&room, "m.test", &json!({"n": 1})).await.ok();
    let reply = session
        .until("account data", |reply| {
            (!told(reply, &room)["account_data"].is_null()).then(|| reply.clone())
        })
        .await;
    assert_eq!(told(&reply, &room)["account_data"]["events"][0]["content"]["n"], 1);
    assert_eq!(told(&reply, &room)["timeline"]["events"], json!([]), "a timeline is always there");

    let carol = lab.user_on_synapse("carol").await;
    carol.join(&room).await.ok();
    let summary = session
        .until("the summary", |reply| {
            let summary = &told(reply, &room)["summary"];
            (!summary.is_null()).then(|| summary.clone())
        })
        .await;
    assert_eq!(summary["m.joined_member_count"], 3);
}

/// Polls until an ephemeral event of a type comes.
async fn ephemeral(session: &mut tests::session::Session, room: &str, event_type: &str) -> Value {
    session
        .until(event_type, |reply| {
            let edus = events(&told(reply, room)["ephemeral"]);
            of_type(&edus, event_type).first().map(|edu| (*edu).clone())
        })
        .await
}

#[tokio::test]
async fn counts_are_told_when_they_change() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room, "types": ["m.none"]}})).await;

    let message = bob.send(&room, "hello Alice").await;
    session.until("a notification", |reply| (unread(reply, &room) == Some(1)).then_some(())).await;
    alice.read(&room, &message).await.ok();
    session.until("no more", |reply| (unread(reply, &room) == Some(0)).then_some(())).await;
    let root = alice.send(&room, "root").await;
    bob.send_in_thread(&room, &root, "in a thread").await;
    let counts = session
        .until("a thread", |reply| {
            let counts = &told(reply, &room)["unread_thread_notifications"];
            counts.is_object().then(|| counts.clone())
        })
        .await;
    assert_eq!(counts[&root]["notification_count"], 1);
}

fn unread(reply: &Value, room: &str) -> Option<u64> {
    told(reply, room)["unread_notifications"]["notification_count"].as_u64()
}

#[tokio::test]
async fn other_rooms_do_not_wake() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let elsewhere = alice.create_public_room().await;
    bob.join(&elsewhere).await.ok();
    let mut session = alice.v3();
    session.ask(json!({"room": {"room_id": room}})).await;

    let waiting = tokio::spawn(session.request(&json!({})).timeout(30_000).send());
    let last = bob.send(&elsewhere, "not asked for").await;
    has_heard(&alice, &elsewhere, &last).await;
    bob.send(&room, "asked for").await;
    let reply = waiting.await.unwrap().ok();

    assert_eq!((rooms(&reply), messages(&reply, &room)), (vec![&*room], vec!["asked for"]));
    session.absorb(&reply);
    let idle = session.request(&json!({})).timeout(500).send().await.ok();
    assert_eq!(idle, json!({"next": session.next()}), "an idle token stays as it was");
}

#[tokio::test]
async fn a_gap_is_limited_and_brings_the_state_that_changed_in_it() {
    const MISSED: usize = 150;
    let lab = Lab::with_own_proxy().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let carol = lab.user_on_synapse("carol").await;
    let other = alice.create_public_room().await;
    let before = bob.send(&room, "before").await;
    let mut session = alice.v3();
    let params = json!({"room_id": [room, other], "lazy_load_members": false});
    let first = session.ask(json!({"room": params})).await;
    let mut replica = Replica::default();
    replica.absorb(&first, &room);

    lab.proxy.stop().await;
    let on_synapse = lab.past_proxy(&alice);
    on_synapse.set_topic(&room, "in the gap").await;
    carol.join(&room).await.ok();
    send_to_room(bob.clone(), room.clone(), MISSED, Progress::default()).await;
    lab.proxy.start_again().await;
    let last = room_text(MISSED - 1);
    let reply = session
        .until("the messages", |reply| {
            replica.absorb(reply, &room);
            messages(reply, &room).contains(&&*last).then(|| reply.clone())
        })
        .await;

    let entry = told(&reply, &room);
    assert_eq!((&entry["initial"], &entry["timeline"]["limited"]), (&Value::Null, &json!(true)));
    assert_eq!(timeline(&reply, &room).len(), 20);
    let topic = find_state(&state(&reply, &room), "m.room.topic", "").cloned();
    assert_eq!(topic.unwrap()["content"]["topic"], "in the gap");
    assert!(find_state(&state(&reply, &room), "m.room.create", "").is_none(), "no more than that");
    replica.assert_current(&on_synapse, &room).await;
    assert!(told(&reply, &other).is_null(), "nothing happened there");

    // From prev_batch the client finds everything that it missed.
    let mut missing: Vec<String> = Vec::new();
    let mut from = entry["timeline"]["prev_batch"].as_str().unwrap().to_owned();
    while !missing.contains(&before) {
        let page = alice.messages_before(&room, &from, 50).send().await.ok();
        let page_ids = ids(&page["chunk"].as_array().unwrap().iter().collect::<Vec<_>>());
        assert!(!page_ids.is_empty());
        missing.extend(page_ids.into_iter().map(str::to_owned));
        from = page["end"].as_str().unwrap().to_owned();
    }
    let shown = ids(&timeline(&reply, &room));
    assert!(missing.iter().all(|id| !shown.contains(&id.as_str())), "nothing comes twice");
    let between = missing.iter().position(|id| *id == before).unwrap();
    assert_eq!(between + shown.len(), MISSED + 2, "messages, the topic and a member");
}

#[tokio::test]
async fn types_choose_among_state_and_timeline() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    let params = json!({"room_id": room, "types": ["m.room.*", "*.shown"],
        "not_types": ["m.room.mess*", "m.room.member"], "timeline_limit": 2});
    let first = session.ask(json!({"room": params})).await;
    let mut all = types(&state(&first, &room));
    all.extend(types(&timeline(&first, &room)));
    assert!(all.contains(&"m.room.create") && all.contains(&"m.room.power_levels"), "{all:?}");
    assert!(all.iter().all(|it| it.starts_with("m.room.") && *it != "m.room.member"), "{all:?}");

    bob.send(&room, "hidden").await;
    bob.send_event(&room, "org.test.hidden", json!({})).await.ok();
    bob.send_event(&room, "org.test.shown", json!({})).await.ok();
    let reply = session
        .until("what is shown", |reply| {
            let types = types(&timeline(reply, &room));
            assert!(types.iter().all(|it| *it == "org.test.shown"), "{types:?}");
            (!types.is_empty()).then(|| reply.clone())
        })
        .await;
    assert_eq!(told(&reply, &room)["timeline"]["limited"], false);
    alice.set_topic(&room, "shown").await;
    let reply = session.ask(json!({})).await;
    assert_eq!(types(&timeline(&reply, &room)), ["m.room.topic"]);
}

#[tokio::test]
async fn without_a_timeline_state_is_told_as_it_changes() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    let params = json!({"room_id": room, "timeline_limit": 0, "not_types": ["m.room.member"]});
    let first = session.ask(json!({"room": params})).await;
    assert!(timeline(&first, &room).is_empty());
    assert!(find_state(&state(&first, &room), "m.room.create", "").is_some());

    bob.send(&room, "not wanted").await;
    alice.set_topic(&room, "wanted").await;
    let reply = session
        .until("the topic", |reply| {
            assert!(timeline(reply, &room).is_empty());
            (!state(reply, &room).is_empty()).then(|| reply.clone())
        })
        .await;
    assert_eq!(types(&state(&reply, &room)), ["m.room.topic"]);
}

#[tokio::test]
async fn lazily_loaded_members_are_told_once() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let carol = lab.user_on_synapse("carol").await;
    carol.join(&room).await.ok();
    // Beyond five others the summary names not everybody.
    let mut others = Vec::new();
    for n in 0..6 {
        let other = lab.user_on_synapse(&format!("a-{n}")).await;
        other.join(&room).await.ok();
        others.push(other);
    }
    let dave = lab.user_on_synapse("zz-dave").await;
    dave.join(&room).await.ok();
    for n in 0..3 {
        bob.send(&room, &format!("filler {n}")).await;
    }
    let mut session = alice.v3();
    let params = json!({"room_id": room, "timeline_limit": 1});
    let first = session.ask(json!({"room": params})).await;
    let known = members(&first, &room);
    assert!(known.contains(&&*alice.user_id) && known.contains(&&*bob.user_id), "{known:?}");
    let speaker = [&carol, &dave].into_iter().find(|user| !known.contains(&&*user.user_id));
    let speaker = speaker.expect("the summary names five at most");

    bob.send(&room, "known").await;
    let reply = until_message(&mut session, &room, "known").await;
    assert_eq!(members(&reply, &room), [] as [&str; 0]);
    let old = session.clone();
    speaker.send(&room, "new here").await;
    let reply = until_message(&mut session, &room, "new here").await;
    assert_eq!(members(&reply, &room), [&*speaker.user_id]);
    let again = old.lose(json!({})).await;
    assert_eq!(members(&again, &room), [&*speaker.user_id], "a reply that was lost");
    speaker.send(&room, "known by now").await;
    let reply = until_message(&mut session, &room, "known by now").await;
    assert_eq!(members(&reply, &room), [] as [&str; 0]);

    lab.while_the_proxy_restarts(async {}).await;
    speaker.send(&room, "after the restart").await;
    let reply = until_message(&mut session, &room, "after the restart").await;
    assert_eq!(members(&reply, &room), [&*speaker.user_id], "told again");
    assert!(told(&reply, &room)["initial"].is_null());
}

/// The members in the state of a reply.
fn members<'a>(reply: &'a Value, room: &str) -> Vec<&'a str> {
    let members = of_type(&state(reply, room), "m.room.member");
    members.iter().map(|event| event["state_key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_lost_reply_can_be_asked_for_again_and_a_session_survives_a_restart() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let mut session = alice.v3();
    let request = json!({"room": {"room_id": room, "timeline_limit": 7}});
    let first = session.ask(request.clone()).await;
    let old = session.clone();
    bob.send(&room, "one").await;
    let one = until_message(&mut session, &room, "one").await;
    let again = old.lose(json!({})).await;
    assert_eq!(ids(&timeline(&again, &room)), ids(&timeline(&one, &room)));

    lab.proxy.stop().await;
    bob.send(&room, "two").await;
    alice.at(&lab.synapse.url()).set_topic(&room, "three").await;
    lab.proxy.start_again().await;
    let reply = until_message(&mut session, &room, "two").await;
    assert!(told(&reply, &room)["initial"].is_null(), "the session goes on: {reply:#}");
    assert_eq!(messages(&reply, &room), ["two"]);
    let again = old.lose(json!({})).await;
    assert_eq!(messages(&again, &room), ["one", "two"], "from further back it is more");
    let mut replica = Replica::default();
    for reply in [&first, &one, &reply, &session.ask(json!({})).await] {
        replica.absorb(reply, &room);
    }
    assert_eq!(replica.gaps, 0);
}

#[tokio::test]
async fn a_redaction_is_told_and_later_the_pruned_event() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = two_in_a_room(&lab).await;
    let secret = bob.send(&room, "swordfish").await;
    let mut session = alice.v3();
    let first = session.ask(json!({"room": {"room_id": room}})).await;
    assert!(messages(&first, &room).contains(&"swordfish"));

    bob.redact(&room, &secret).await.ok();
    let reply = session
        .until("the redaction", |reply| {
            let found = of_type(&timeline(reply, &room), "m.room.redaction");
            (!found.is_empty()).then(|| reply.clone())
        })
        .await;
    let redaction = timeline(&reply, &room)[0];
    assert_eq!(redaction["content"]["redacts"], secret.as_str());
    let fresh = alice.v3().ask(json!({"room": {"room_id": room}})).await;
    assert!(!fresh.to_string().contains("swordfish"), "{fresh:#}");
    let events = timeline(&fresh, &room);
    let pruned = events.iter().find(|event| event["event_id"] == secret.as_str()).unwrap();
    assert_eq!(pruned["content"], json!({}));
    assert!(pruned["unsigned"]["redacted_because"].is_object());
}
