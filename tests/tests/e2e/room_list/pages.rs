//! Pages of the list: pinned, as of the position of the session, and the first page as of now.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::lab::Lab;
use tests::wait::eventually;

use super::{
    arrived, begun, entry, named_room, named_rooms, next_page, notification, removed, texts, told,
};
use crate::quiet::{says_nothing, settled};

#[tokio::test]
async fn pages_stay_as_they_were_while_rooms_stir_are_named_and_come_and_go() {
    let lab = Lab::shared().await;
    for sort in ["by_recency", "by_name"] {
        let alice = lab.user("alice").await;
        let rooms = named_rooms(&alice, &["a", "b", "c", "d", "e"]).await;
        let ask = json!({"room_list": {"p": {"limit": 2, "sort": [sort]}}});
        let (mut session, first) = begun(&alice, ask.clone(), 5).await;
        let in_order: Vec<String> = {
            let all = json!({"room_list": {"p": {"sort": [sort]}}});
            let (_, reply) = begun(&alice, all, 5).await;
            told(&reply).into_iter().map(str::to_owned).collect()
        };
        let third = &in_order[2];

        alice.send(&in_order[4], "it stirs").await;
        alice.set_state(third, "m.room.name", "", json!({"name": "0"})).await.ok();
        let newcomer = named_room(&alice, "aa").await;
        alice.leave(&in_order[3]).await.ok();
        eventually("the changes", async || {
            let reply = session.lose(json!({})).await;
            let first = told(&reply).contains(&newcomer.as_str());
            let page = alice.v3().ask(ask.clone()).await;
            (first && page["room_list"]["count"] == 5).then_some(())
        })
        .await;

        let mut seen: Vec<String> = told(&first).into_iter().map(str::to_owned).collect();
        let mut next = next_page(&first);
        let mut sizes = vec![seen.len()];
        while let Some(token) = next {
            let before = session.next().to_owned();
            let page = session.ask(json!({"room_list": {"p": {"since": token}}})).await;
            assert_ne!(session.next(), before, "it has got rooms that it has to be told of");
            assert_eq!(page["room_list"]["count"], 5);
            for room in page["room_list"]["rooms"].as_array().unwrap() {
                assert_eq!(room["initial"], true);
            }
            if told(&page).contains(&third.as_str()) {
                assert_ne!(entry(&page, third)["name"], "0", "the page is of before the change");
            }
            sizes.push(told(&page).len());
            seen.extend(told(&page).into_iter().map(str::to_owned));
            next = next_page(&page);
        }
        assert_eq!(seen, in_order, "sorted {sort}: {rooms:?}");
        assert_eq!(sizes, [2, 2, 1]);

        // Everything that happened is still due, also in the rooms of the later pages.
        let news = session.ask(json!({})).await;
        assert_eq!(entry(&news, third)["name"], "0");
        assert_eq!(entry(&news, &newcomer)["initial"], true);
        assert_eq!(texts(entry(&news, &in_order[4])), ["it stirs"]);
        assert_eq!(removed(&news), [&in_order[3]]);
        let leave = &entry(&news, &in_order[3])["timeline"];
        assert_eq!(leave[0]["content"]["membership"], "leave", "{leave:#}");
    }
}

#[tokio::test]
async fn a_page_can_be_asked_for_again_and_has_what_the_session_has() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    named_rooms(&alice, &["a", "b", "c"]).await;
    let (session, first) = begun(&alice, json!({"room_list": {"p": {"limit": 1}}}), 3).await;
    let token = next_page(&first).unwrap();
    let once = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
    let twice = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
    assert_eq!(told(&once), told(&twice));
    assert_eq!(once["next"], twice["next"]);
    let longer = session.lose(json!({"room_list": {"p": {"since": token, "limit": 2}}})).await;
    assert_eq!(told(&longer).len(), 2);
    assert_eq!(next_page(&longer), None, "it was the last page");
}

#[tokio::test]
async fn a_room_that_the_user_had_left_before_is_not_on_a_page() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b", "c"]).await;
    let ask = json!({"room_list": {"p": {"limit": 1, "sort": ["by_name"]}}});
    let (mut session, first) = begun(&alice, ask, 3).await;
    let token = next_page(&first).unwrap();
    alice.leave(&rooms[1]).await.ok();
    // The session goes on beyond the leave.
    alice.send(&rooms[0], "after it").await;
    session
        .until("the message", |reply| {
            texts(entry(reply, &rooms[0])).contains(&"after it").then_some(())
        })
        .await;
    let page = session.ask(json!({"room_list": {"p": {"since": token, "limit": 5}}})).await;
    assert_eq!(told(&page), [&rooms[2]]);
    assert_eq!(page["room_list"]["count"], 3);
}

#[tokio::test]
async fn a_session_that_always_asks_for_the_first_page_tracks_it() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b", "c"]).await;
    let body = json!({"room_list": {"p": {"limit": 2, "since": "1"}}});
    let (mut session, first) = begun(&alice, body.clone(), 3).await;
    assert_eq!(told(&first), [&*rooms[2], &rooms[1]]);

    alice.send(&rooms[0], "one").await;
    alice.send(&rooms[2], "two").await;
    alice.send(&rooms[2], "three").await;
    let reply = eventually("the new first page", async || {
        let reply = session.lose(body.clone()).await;
        (texts(entry(&reply, &rooms[2])).contains(&"three")).then_some(reply)
    })
    .await;
    session.absorb(&reply);
    assert_eq!(told(&reply), [&*rooms[2], &rooms[0]]);
    assert_eq!(texts(entry(&reply, &rooms[2])), ["two", "three"], "what is new since it was told");
    assert_eq!(texts(entry(&reply, &rooms[0])), ["one"]);
    assert_eq!(entry(&reply, &rooms[0])["initial"], true, "the session had not got it");
    assert!(entry(&reply, &rooms[2])["initial"].is_null());

    let again = session.ask(body).await;
    assert_eq!(told(&again), [&*rooms[2], &rooms[0]], "it is a page, news or not");
    assert_eq!(texts(entry(&again, &rooms[2])), [""; 0], "nothing is told twice");

    // Without a page the stream goes on from its first reply; what the pages told is not told again.
    alice.send(&rooms[1], "four").await;
    let mut seen = Vec::new();
    session
        .until("the last message", |reply| {
            seen.extend(told(reply).into_iter().map(str::to_owned));
            texts(entry(reply, &rooms[1])).contains(&"four").then_some(())
        })
        .await;
    assert_eq!(seen, [rooms[1].as_str()]);
}

#[tokio::test]
async fn without_rooms_or_with_few_there_is_no_next_page() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let none = alice.v3().ask(json!({"room_list": {}})).await;
    let empty = json!({
        "p": {"limit": 20, "sort": ["by_recency"]},
        "count": 0, "rooms": [], "removed": [], "notifications": [],
    });
    assert_eq!(none["room_list"], empty);

    named_rooms(&alice, &["a", "b"]).await;
    let (_, two) = begun(&alice, json!({"room_list": {"p": {"limit": 2}}}), 2).await;
    assert_eq!(next_page(&two), None);
    let (session, one) = begun(&alice, json!({"room_list": {"p": {"limit": 0}}}), 2).await;
    assert_eq!((told(&one).len(), next_page(&one)), (0, None));
    let room = named_room(&alice, "c").await;
    alice.send(&room, "nobody follows").await;
    let reply = session.request(&json!({})).timeout(1_500).send().await.ok();
    assert!(reply["room_list"].is_null(), "the active set is empty: {reply:#}");
}

/// As the page has it: a client reads pages with the `since` of its last reply, and then goes on from that.
#[tokio::test]
async fn who_reads_pages_with_one_since_goes_on_from_it_with_all_their_rooms() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b", "c", "d", "e"]).await;
    let ask = json!({"room_list": {"p": {"limit": 2, "sort": ["by_name"]}}});
    let (mut session, first) = begun(&alice, ask, 5).await;
    let mut next = next_page(&first);
    let mut pages = Vec::new();
    while let Some(token) = next.filter(|_| pages.len() < 3) {
        let page = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
        pages.extend(told(&page).into_iter().map(str::to_owned));
        next = next_page(&page);
    }
    assert_eq!(pages, rooms[2..]);

    alice.send(&rooms[3], "on the second page").await;
    let reply = session
        .until("what is said in a room of a page", |reply| {
            let room = reply["room_list"]["rooms"]
                .as_array()?
                .iter()
                .find(|room| room["room_id"] == rooms[3].as_str())?;
            texts(room).contains(&"on the second page").then(|| reply.clone())
        })
        .await;
    assert!(entry(&reply, &rooms[3])["initial"].is_null(), "the session has got it: {reply:#}");
}

/// The session may come to be told the same rooms again as when a page was read: that page is of the past.
#[tokio::test]
async fn a_room_of_a_page_that_was_removed_stays_removed() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b"]).await;
    let ask = json!({"room_list": {"p": {"limit": 1, "sort": ["by_name"]}}});
    let (mut session, first) = begun(&alice, ask, 2).await;
    assert_eq!(told(&first), [&rooms[0]]);
    let token = next_page(&first).unwrap();
    let page = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
    assert_eq!(told(&page), [&rooms[1]]);

    alice.leave(&rooms[1]).await.ok();
    session.until("the leave", |reply| (removed(reply) == [&rooms[1]]).then_some(())).await;

    let started = Instant::now();
    let reply = session.request(&json!({})).timeout(1_500).send().await.ok();
    session.absorb(&reply);
    assert_eq!(reply, json!({"next": session.next()}), "it is removed once");
    assert!(started.elapsed() >= Duration::from_millis(1_500), "there is nothing to say");
}

/// At the same position, with the same parameters, and with the same rooms told.
#[tokio::test]
async fn a_list_that_begins_anew_knows_nothing_of_pages_that_were_read_before() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["a", "b"]).await;
    bob.join(&rooms[1]).await.ok();
    alice.send(&rooms[1], "he is here").await;
    arrived(&alice, &rooms[1], "he is here").await;
    let ask = json!({"room_list": {"p": {"limit": 1, "sort": ["by_name"]}}});
    let (session, first) = begun(&alice, ask.clone(), 2).await;
    let token = next_page(&first).unwrap();
    let page = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
    assert_eq!(told(&page), [&rooms[1]]);

    let mut dropped = session.clone();
    dropped.ask(json!({"room_list": null})).await;
    let reply = dropped.ask(ask).await;
    assert_eq!(told(&reply), [&rooms[0]], "the first page anew");
    let mut renewed = session;
    let reply = renewed.ask(json!({"room_list": {"filters": {"is_dm": true}}})).await;
    assert_eq!(removed(&reply).len(), 2, "{reply:#}");
    let reply = renewed.ask(json!({"room_list": {"filters": {}}})).await;
    assert_eq!(told(&reply), [&rooms[0]], "and likewise");

    bob.send(&rooms[1], "news").await;
    for mut session in [dropped, renewed] {
        let reply = session
            .until("the news", |reply| reply["room_list"].is_object().then(|| reply.clone()))
            .await;
        let news = notification(&reply, &rooms[1]);
        assert_eq!(news["initial"], true, "it has not got the room: {reply:#}");
    }
}

/// The page is pinned and shows it all the same; but nothing in the account moves, so that the session comes to the place at
/// which it was before the page, and would get the room of that page once more.
#[tokio::test]
async fn a_room_of_a_page_that_left_the_list_before_is_removed_once() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b"]).await;
    for room in &rooms {
        alice.tag(room, "u.shown").await.ok();
    }
    let ask = json!({"room_list": {
        "p": {"limit": 1, "sort": ["by_name"]}, "filters": {"tags": ["u.shown"]},
    }});
    let (mut session, first) = begun(&alice, ask, 2).await;
    assert_eq!(told(&first), [&rooms[0]]);
    let token = next_page(&first).unwrap();
    alice.untag(&rooms[1], "u.shown").await.ok();
    settled(&mut session).await;
    let page = session.ask(json!({"room_list": {"p": {"since": token}}})).await;
    assert_eq!(told(&page), [&rooms[1]]);

    let gone = session.ask(json!({})).await;
    assert_eq!(removed(&gone), [&rooms[1]]);

    let started = Instant::now();
    let reply = session.request(&json!({})).timeout(1_500).send().await.ok();
    assert!(says_nothing(&reply), "it is removed once: {reply:#}");
    assert!(started.elapsed() >= Duration::from_millis(1_500), "there is nothing to say");
}

/// Its first room was left, so that the session has got none when it reads the page.
#[tokio::test]
async fn a_page_read_by_a_session_that_has_got_no_rooms_is_followed_from_its_since() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["a", "b"]).await;
    bob.join(&rooms[1]).await.ok();
    alice.send(&rooms[1], "he is here").await;
    arrived(&alice, &rooms[1], "he is here").await;
    let ask = json!({"room_list": {"p": {"limit": 1, "sort": ["by_name"]}}});
    let (mut session, first) = begun(&alice, ask, 2).await;
    let token = next_page(&first).unwrap();
    alice.leave(&rooms[0]).await.ok();
    session.until("the leave", |reply| (removed(reply) == [&rooms[0]]).then_some(())).await;
    let page = session.lose(json!({"room_list": {"p": {"since": token}}})).await;
    assert_eq!(told(&page), [&rooms[1]]);

    bob.send(&rooms[1], "news").await;
    let reply =
        session.until("the news", |reply| (!told(reply).is_empty()).then(|| reply.clone())).await;
    let news = entry(&reply, &rooms[1]);
    assert_eq!(texts(news), ["news"]);
    assert!(news["initial"].is_null(), "the session has got it: {reply:#}");
}

/// A first page as of now tells what the stream has yet to reach: a later page must not take it back.
#[tokio::test]
async fn a_later_page_shows_no_less_of_a_room_than_the_first_page_as_of_now_did() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["a", "b"]).await;
    let body = json!({"room_list": {"p": {"limit": 1, "since": "1"}}});
    let (mut session, first) = begun(&alice, body.clone(), 2).await;
    assert_eq!(told(&first), [&rooms[1]]);
    for (room, text) in [(&rooms[0], "one"), (&rooms[1], "two")] {
        alice.send(room, text).await;
        let reply = eventually("it to be first", async || {
            let reply = session.lose(body.clone()).await;
            (told(&reply) == [room] && texts(entry(&reply, room)).contains(&text)).then_some(reply)
        })
        .await;
        session.absorb(&reply);
    }
    let first = session.ask(body).await;
    let token = next_page(&first).unwrap();

    let page = session.lose(json!({"room_list": {"p": {"since": token}}})).await;

    assert_eq!(told(&page), [&rooms[0]]);
    assert_eq!(texts(entry(&page, &rooms[0])), ["one"], "it has got that already");
    settled(&mut session).await;
}
