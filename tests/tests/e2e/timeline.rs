//! Whatever limits a client asks for: its timelines and the pages of `/messages` between them are the whole story, once, in order.

use serde_json::json;
use tests::client::Client;
use tests::history::RoomHistory;
use tests::lab::Lab;
use tests::matchers::{joined, messages};
use tests::random::Random;
use tests::scripted_homeserver::{first_sync, messages_in};

use crate::numbered::{Progress, assert_each_once_in_order, room_number, room_text, send_to_room};
use crate::stage::Stage;

const EVENTS: usize = 200;

#[tokio::test]
async fn d1_5_random_limits_lose_nothing_and_repeat_nothing() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut whole = alice.v2();
    whole.until_reply("the room", |reply| joined(reply, &room).is_object()).await;

    // Three readers with their own limits follow the same 200 messages while they are sent.
    let start = whole.since().to_owned();
    let sending = tokio::spawn(send_to_room(bob, room.clone(), EVENTS, Progress::default()));
    let (one, two, three) = tokio::join!(
        follow(&alice, &room, &start, Random::seeded(1)),
        follow(&alice, &room, &start, Random::seeded(2)),
        follow(&alice, &room, &start, Random::seeded(3)),
    );
    sending.await.unwrap();

    for (seed, history) in [(1, &one), (2, &two), (3, &three)] {
        assert_complete(&format!("the reader with seed {seed}"), history, EVENTS);
    }
    let gaps = one.gaps() + two.gaps() + three.gaps();
    assert!(gaps > 0, "no reader ever met a limited timeline: the test has tested nothing");
}

#[tokio::test]
async fn d1_5_an_initial_sync_of_any_limit_pages_back_to_the_beginning() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    // The proxy hears of the room before the messages, so that they lie in many of its polls.
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    send_to_room(bob, room.clone(), EVENTS, Progress::default()).await;
    let last = room_text(EVENTS - 1);
    chain
        .until_reply("the last message", |reply| messages(reply, &room).contains(&last.as_str()))
        .await;

    // Another device makes its first sync only now; for the proxy that is the same account.
    let laptop = lab.second_device(&alice).await;
    let mut random = Random::seeded(4);
    for _ in 0..8 {
        let limit = random.between(1, 30);
        let filter = json!({"room": {"timeline": {"limit": limit}}});
        let reply = laptop.sync().filter(&filter).send().await.ok();
        let timeline = &joined(&reply, &room)["timeline"];
        assert_eq!(timeline["limited"], true, "with a limit of {limit}");
        let mut history = RoomHistory::of(&room);
        history.begin(&reply);
        assert_eq!(history.len() as u64, limit);
        history
            .page_to_the_beginning(&laptop, timeline["prev_batch"].as_str().unwrap(), &mut random)
            .await;

        assert_complete(&format!("the initial sync with limit {limit}"), &history, EVENTS);
        let first = history.event_ids()[0];
        let path = format!(
            "/_matrix/client/v3/rooms/{}/event/{}",
            tests::client::encode(&room),
            tests::client::encode(first)
        );
        assert_eq!(
            laptop.get(&path).send().await.ok()["type"],
            "m.room.create",
            "the beginning is the beginning of the room"
        );
    }
}

/// What was sent while the proxy was away comes in one reply of the homeserver, which names a place before the first of
/// its messages and one behind the last. A client with a small limit stands between them, at a place for which the
/// homeserver has no name, and pages from there.
#[tokio::test]
async fn d1_5_a_timeline_cut_inside_one_reply_of_the_homeserver_goes_on_exactly_there() {
    const MISSED: usize = 60;
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut chain = alice.v2();
    chain.until_reply("the room", |reply| joined(reply, &room).is_object()).await;
    let start = chain.since().to_owned();
    lab.proxy.stop().await;
    send_to_room(bob, room.clone(), MISSED, Progress::default()).await;
    lab.proxy.start_again().await;
    let last = room_text(MISSED - 1);
    chain
        .until_reply("the last message", |reply| messages(reply, &room).contains(&last.as_str()))
        .await;

    let mut random = Random::seeded(6);
    for limit in [1, 2, 7, 13, 30, 59] {
        let filter = json!({"room": {"timeline": {"limit": limit}}});
        for (request, kind) in
            [(alice.sync().since(&start), "an incremental sync"), (alice.sync(), "an initial sync")]
        {
            let reply = request.filter(&filter).send().await.ok();
            let timeline = &joined(&reply, &room)["timeline"];
            assert_eq!(timeline["limited"], true, "{kind} with a limit of {limit}");
            let mut history = RoomHistory::of(&room);
            history.begin(&reply);
            assert_eq!(history.len(), limit, "{kind} with a limit of {limit}");
            history
                .page_to_the_beginning(
                    &alice,
                    timeline["prev_batch"].as_str().unwrap(),
                    &mut random,
                )
                .await;
            assert_complete(&format!("{kind} with limit {limit}"), &history, MISSED);
        }
    }
}

/// Follows a room with a new random limit for every request, until the last message has come.
async fn follow(client: &Client, room_id: &str, start: &str, mut random: Random) -> RoomHistory {
    let client = client.on_new_connections();
    let mut history = RoomHistory::of(room_id);
    let mut since = start.to_owned();
    let last = room_text(EVENTS - 1);
    // Some rounds look right away, some only after a number of messages, so that timelines of all lengths come up.
    while history.bodies().last() != Some(&last.as_str()) {
        let limit = random.between(1, 30);
        let patient = random.between(1, 40);
        wait_for_messages(&client, room_id, &since, patient).await;
        let filter = json!({"room": {"timeline": {"limit": limit}}});
        let reply = client.sync().since(&since).filter(&filter).timeout(2_000).send().await.ok();
        let room = joined(&reply, room_id);
        let length = room["timeline"]["events"].as_array().map_or(0, Vec::len) as u64;
        assert!(length <= limit, "{length} events came for a limit of {limit}");
        history.absorb(&client, &since, &reply, &mut random).await;
        since = reply["next_batch"].as_str().unwrap().to_owned();
    }
    history
}

/// Waits until so many new messages can be seen from `since`, or the last one of all; looking moves nothing.
async fn wait_for_messages(client: &Client, room_id: &str, since: &str, count: u64) {
    let last = room_text(EVENTS - 1);
    tests::wait::eventually("more messages", async || {
        let filter = json!({"room": {"timeline": {"limit": 50}}});
        let reply = client.fresh_sync().since(since).filter(&filter).send().await.ok();
        let seen = messages(&reply, room_id);
        (seen.len() as u64 >= count || seen.contains(&last.as_str())).then_some(())
    })
    .await;
}

#[track_caller]
fn assert_complete(who: &str, history: &RoomHistory, count: usize) {
    let numbers: Vec<u64> = history.bodies().into_iter().filter_map(room_number).collect();
    assert_each_once_in_order(who, &numbers, count);
    let mut ids = history.event_ids();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{who} saw an event twice");
}

/// `limited` tells the truth about every stretch, whatever the client's limit, and whatever upstream left out.
#[tokio::test]
async fn d1_6_limited_says_whether_events_are_missing() {
    const ROOM: &str = "!room:scripted";
    let mut random = Random::seeded(7);
    let stage = Stage::set().await;
    let (homeserver, alice) = (&stage.homeserver, &stage.alice);
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s0", &["room message 0"]));
    let mut chain = alice.v2();
    chain.next().await;
    // Where the client stood, and how many messages there had been by then.
    let mut stands = vec![(chain.since().to_owned(), 1)];
    let mut count = 1;
    for round in 0..30 {
        let missing = if random.between(0, 3) == 0 { random.between(1, 300) } else { 0 };
        count += usize::try_from(missing).unwrap();
        let first = count;
        count += usize::try_from(random.between(1, 15)).unwrap();
        let texts: Vec<String> = (first..count).map(room_text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut reply = messages_in(ROOM, &format!("s{}", round + 1), &texts);
        reply["rooms"]["join"][ROOM]["timeline"]["limited"] = json!(missing > 0);
        homeserver.on_sync(Some(&format!("s{round}")), &reply);
        let last = room_text(count - 1);
        chain.until_reply("the round", |reply| messages(reply, ROOM).contains(&&*last)).await;
        stands.push((chain.since().to_owned(), count));
    }

    let (mut truths, mut gaps) = (0, 0);
    for (since, known) in &stands {
        for limit in [1, 5, 20, random.between(1, 30), 100] {
            let filter = json!({"room": {"timeline": {"limit": limit}}});
            let reply = alice.sync().since(since).filter(&filter).send().await.ok();
            let told: Vec<u64> =
                messages(&reply, ROOM).into_iter().filter_map(room_number).collect();
            let all: Vec<u64> = (*known as u64..count as u64).collect();
            let limited = joined(&reply, ROOM)["timeline"]["limited"] == true;
            assert_eq!(limited, told != all, "{told:?} of {all:?} with a limit of {limit}");
            assert!(all.ends_with(&told), "{told:?} are not the newest");
            if limited { gaps += 1 } else { truths += 1 }
        }
    }
    assert!(truths > 5 && gaps > 20, "{truths} whole, {gaps} with a gap: nothing is tested");
}
