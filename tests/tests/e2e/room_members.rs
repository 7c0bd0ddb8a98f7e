//! The v3 stream `room_members`: sorted, in pages that stay those of the first reply, then as deltas.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{events, numbers};
use tests::wait::eventually;

#[tokio::test]
async fn by_pl_sorts_by_power_and_then_by_name() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;

    let reply = crowd.see_all(json!({"sort": "by_pl"})).await;

    assert_eq!(names(&reply), ["Alice", "Zoe", "anna", "Bert", "carl"]);
    assert_eq!(reply["room_members"]["count"], 5);
    assert_eq!(
        reply["room_members"]["p"],
        json!({"limit": 50, "sort": "by_pl"}),
        "and that is all of them: no `next`"
    );
}

#[tokio::test]
async fn by_name_sorts_by_folded_name_or_user_id() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    // Without a display name it is the user ID without the `@` that counts, and this one begins with a `b`, before "Bert".
    let nameless = lab.user_on_synapse("bea").await;
    nameless.join(&crowd.room).await.ok();
    nameless
        .set_state(
            &crowd.room,
            "m.room.member",
            &nameless.user_id,
            json!({"membership": "join", "displayname": null}),
        )
        .await
        .ok();

    let reply = eventually("six members", async || {
        let reply = crowd
            .alice
            .v3()
            .ask(json!({"room_members": {"room_id": crowd.room, "p": {"sort": "by_name"}}}))
            .await;
        let without_name =
            members(&reply).iter().any(|(id, name)| *id == nameless.user_id && name.is_empty());
        (reply["room_members"]["count"] == 6 && without_name).then_some(reply)
    })
    .await;

    assert_eq!(names(&reply), ["Alice", "anna", "", "Bert", "carl", "Zoe"]);
}

#[tokio::test]
async fn the_pages_stay_those_of_the_first_reply_while_members_join_rename_and_leave() {
    let lab = Lab::shared().await;
    for sort in ["by_pl", "by_name"] {
        let crowd = Crowd::gather(&lab).await;
        let expected = names(&crowd.see_all(json!({"sort": sort})).await).join(" ");
        let mut session = crowd.alice.v3();
        let first = session
            .ask(json!({"room_members": {"room_id": crowd.room, "p": {"sort": sort, "limit": 2}}}))
            .await;
        let mut pages = members(&first);
        let mut next = page_token(&first);
        let mut sizes = vec![pages.len()];

        let newcomer = lab.user_on_synapse("aaron").await;
        newcomer.join(&crowd.room).await.ok();
        crowd.members[3].rename_in(&crowd.room, "Aaaa").await.ok();
        crowd.members[0].leave(&crowd.room).await.ok();
        crowd.changes_have_arrived(&newcomer, "Aaaa").await;

        while let Some(token) = next {
            let page = session.lose(json!({"room_members": {"p": {"since": token}}})).await;
            assert_eq!(page["next"], session.next(), "a page request keeps its since");
            assert_eq!(page["room_members"]["count"], 5, "the count is of the same snapshot");
            sizes.push(members(&page).len());
            pages.extend(members(&page));
            next = page_token(&page);
        }
        let got = pages.iter().map(|(_id, name)| name.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(got, expected, "sorted {sort}");
        assert_eq!(sizes, [2, 2, 1], "sorted {sort}");
    }
}

#[tokio::test]
async fn a_page_can_be_asked_for_again() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    let mut session = crowd.alice.v3();
    let first =
        session.ask(json!({"room_members": {"room_id": crowd.room, "p": {"limit": 2}}})).await;
    let token = page_token(&first).expect("five members are more than one page of two");

    let once = session.lose(json!({"room_members": {"p": {"since": token}}})).await;
    let twice = session.lose(json!({"room_members": {"p": {"since": token}}})).await;

    assert_eq!(members(&once), members(&twice));
}

/// A reader of pages goes on from their `next`, and must neither miss the changes that came while it was reading nor be
/// told of them again.
#[tokio::test]
async fn a_page_moves_the_stream_neither_forwards_nor_back() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    crowd.see_all(json!({})).await;
    let mut session = crowd.alice.v3();
    let first =
        session.ask(json!({"room_members": {"room_id": crowd.room, "p": {"limit": 2}}})).await;
    let token = page_token(&first).expect("five members are more than one page of two");
    crowd.members[3].rename_in(&crowd.room, "Karl").await.ok();
    let change = [(crowd.members[3].user_id.clone(), "Karl".to_owned())];
    eventually("the change", async || {
        (members(&session.lose(json!({})).await) == change).then_some(())
    })
    .await;

    let asks_for_it = json!({"room_members": {"p": {"since": token}}});
    let second_page = session.ask(asks_for_it.clone()).await;
    assert_eq!(names(&second_page), ["anna", "Bert"], "the page is of before the change");
    let first_page = session.ask(json!({"room_members": {"p": {"since": "1"}}})).await;
    assert_eq!(names(&first_page), ["Alice", "Zoe"]);

    let delta = session.ask(json!({})).await;
    assert_eq!(members(&delta), change, "the change is still due");

    session.ask(asks_for_it).await;
    let after = session.ask(json!({})).await;
    assert!(after["room_members"].is_null(), "an old page brings no change back: {after:#}");
}

#[tokio::test]
async fn a_session_that_always_asks_for_the_first_page_tracks_it() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    let first_page = json!({"room_members": {"room_id": crowd.room, "p": {"sort": "by_name", "limit": 2, "since": "1"}}});
    let mut session = crowd.alice.v3();
    assert_eq!(names(&session.ask(first_page.clone()).await), ["Alice", "anna"]);

    crowd.members[3].rename_in(&crowd.room, "Aaaa").await.ok();

    let reply = eventually("the new first page", async || {
        let reply = session.ask(first_page.clone()).await;
        (names(&reply) == ["Aaaa", "Alice"]).then_some(reply)
    })
    .await;
    assert_eq!(reply["room_members"]["count"], 5);
}

#[tokio::test]
async fn without_a_page_later_replies_are_deltas_in_order_of_arrival() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    let mut session = crowd.alice.v3();
    session.ask(json!({"room_members": {"room_id": crowd.room, "p": {"limit": 2}}})).await;

    // None of these is on the first page; a delta is about the whole list.
    let newcomer = lab.user_on_synapse("dora").await;
    newcomer.join(&crowd.room).await.ok();
    newcomer.rename_in(&crowd.room, "Dora").await.ok();
    crowd.members[1].rename_in(&crowd.room, "Bertram").await.ok();

    let mut seen = Vec::new();
    session
        .until("the last rename", |reply| {
            seen.extend(members(reply));
            (seen.last()?.1 == "Bertram").then_some(())
        })
        .await;
    let ids: Vec<&str> = seen.iter().map(|(id, _name)| id.as_str()).collect();
    assert_eq!(ids.first(), Some(&newcomer.user_id.as_str()), "the join came first: {seen:?}");
    assert!(seen.contains(&(newcomer.user_id.clone(), "Dora".to_owned())), "{seen:?}");
    assert!(
        ids.iter().all(|id| *id == newcomer.user_id || *id == crowd.members[1].user_id),
        "nobody else changed: {seen:?}"
    );
}

#[tokio::test]
async fn a_waiting_session_hears_of_a_join_and_of_a_leave_and_how_many_are_left() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    crowd.see_all(json!({})).await;
    let mut session = crowd.alice.v3();
    session.ask(json!({"room_members": {"room_id": crowd.room}})).await;
    let newcomer = lab.user_on_synapse("dora").await;

    for (membership, count) in [("join", 6), ("leave", 5)] {
        match membership {
            "join" => newcomer.join(&crowd.room).await.ok(),
            _ => newcomer.leave(&crowd.room).await.ok(),
        };
        let delta = session
            .until(membership, |reply| {
                events(&reply["room_members"])
                    .iter()
                    .any(|event| {
                        event["state_key"] == newcomer.user_id.as_str()
                            && event["content"]["membership"] == membership
                    })
                    .then(|| reply.clone())
            })
            .await;
        assert_eq!(delta["room_members"]["count"], count, "after the {membership}: {delta:#}");
    }
}

#[tokio::test]
async fn the_memberships_can_be_chosen() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    let (invited, banned) = (lab.user_on_synapse("ivan").await, lab.user_on_synapse("boris").await);
    let on_synapse = lab.past_proxy(&crowd.alice);
    on_synapse.invite(&crowd.room, &invited.user_id).await.ok();
    on_synapse.ban(&crowd.room, &banned.user_id).await.ok();

    for (memberships, expected) in [
        (json!({}), 6),
        (json!({"memberships": ["join", "invite"]}), 6),
        (json!({"memberships": ["join"]}), 5),
        (json!({"memberships": ["ban"]}), 1),
        (json!({"memberships": ["invite", "ban"]}), 2),
    ] {
        let mut stream = memberships.clone();
        stream["room_id"] = json!(crowd.room);
        eventually(&format!("{expected} members with {memberships}"), async || {
            let reply = crowd.alice.v3().ask(json!({"room_members": stream})).await;
            let events = events(&reply["room_members"]).len();
            (reply["room_members"]["count"] == expected && events == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn limits_and_sorts_are_negotiated() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;

    let reply = crowd.see(json!({"limit": 5_000, "sort": "by_shoe_size"})).await;

    assert_eq!(reply["room_members"]["p"]["limit"], 1_000);
    assert_eq!(reply["room_members"]["p"]["sort"], "by_pl");

    // Where nothing has changed in the room, that is all there is to say.
    crowd.see_all(json!({})).await;
    let mut session = crowd.alice.v3();
    session.ask(json!({"room_members": {"room_id": crowd.room}})).await;
    let reply = session.ask(json!({"room_members": {"p": {"limit": 5_000}}})).await;
    assert_eq!(reply["room_members"]["p"], json!({"limit": 1_000, "sort": "by_pl"}), "{reply:#}");
    assert_eq!(reply["room_members"]["events"], json!([]));
}

#[tokio::test]
async fn events_are_member_events_that_name_their_room() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;

    let reply = crowd.see_all(json!({})).await;

    for event in events(&reply["room_members"]) {
        assert_eq!(event["type"], "m.room.member");
        assert_eq!(event["room_id"], crowd.room.as_str(), "no room encloses them: {event:#}");
        for field in ["event_id", "sender", "state_key"] {
            assert!(event[field].is_string(), "no `{field}` in {event:#}");
        }
    }
}

#[tokio::test]
async fn a_room_of_which_only_a_few_members_were_loaded_is_shown_whole() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    // Enough is said by one person that a lazily loaded sync knows her alone.
    for n in 0..25 {
        crowd.members[0].send(&crowd.room, &format!("I have {n} things to say")).await;
    }
    let newcomer = lab.user("newcomer").await;
    newcomer.join(&crowd.room).await.ok();

    let reply = newcomer.v3().ask(json!({"room_members": {"room_id": crowd.room}})).await;

    assert_eq!(reply["room_members"]["count"], 6);
    assert_eq!(events(&reply["room_members"]).len(), 6);
}

/// What a page is asked with sticks, and the page is not touched by it; and the other streams are answered as always.
#[tokio::test]
async fn a_page_is_answered_beside_the_other_streams_and_by_its_own_list() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    crowd.see_all(json!({})).await;
    let bob = lab.user_on_synapse("bob").await;
    let mut session = crowd.alice.v3();
    let first = session
        .ask(json!({"to_device": {}, "room_members": {"room_id": crowd.room, "p": {"limit": 2}}}))
        .await;
    let token = page_token(&first).unwrap();
    bob.send_to_device(&crowd.alice, "m.test", json!({"n": 1})).await.ok();
    eventually("the message", async || {
        (numbers(&session.lose(json!({})).await["to_device"]) == [1]).then_some(())
    })
    .await;

    let page = json!({"room_members": {"p": {"since": token, "sort": "by_name", "limit": 1}}});
    let reply = session.request(&page).timeout(30_000).send().await.ok();
    session.absorb(&reply);

    assert_eq!(numbers(&reply["to_device"]), [1]);
    assert_eq!(names(&reply), ["anna"], "the second page by power begins with her");
    assert_eq!(reply["room_members"]["p"]["sort"], "by_pl", "the order of the list that it is of");
    let reply = session.ask(json!({})).await;
    assert!(reply["to_device"].is_null(), "it has been told, and has moved: {reply:#}");
    assert_eq!(names(&reply), ["Alice"], "the new order begins anew");
    let p = &reply["room_members"]["p"];
    assert_eq!((&p["sort"], &p["limit"]), (&json!("by_name"), &json!(1)));
}

#[tokio::test]
async fn a_first_reply_may_be_asked_for_as_the_first_page() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    crowd.see_all(json!({})).await;
    let mut session = crowd.alice.v3();
    let body = json!({"room_members": {"room_id": crowd.room, "p": {"since": "1", "limit": 3}}});
    assert_eq!(names(&session.ask(body).await), ["Alice", "Zoe", "anna"]);

    let reply = session.ask(json!({})).await;
    assert!(reply["room_members"].is_null(), "it was the first reply: {reply:#}");
    crowd.members[0].rename_in(&crowd.room, "Anna").await.ok();
    let change = session
        .until("the change", |reply| reply["room_members"].is_object().then(|| members(reply)))
        .await;
    assert_eq!(change, [(crowd.members[0].user_id.clone(), "Anna".to_owned())]);
}

#[tokio::test]
async fn another_order_or_other_memberships_begin_anew() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    crowd.see_all(json!({})).await;
    let mut session = crowd.alice.v3();
    session.ask(json!({"room_members": {"room_id": crowd.room}})).await;

    let reply = session.ask(json!({"room_members": {"p": {"sort": "by_name"}}})).await;
    assert_eq!(names(&reply), ["Alice", "anna", "Bert", "carl", "Zoe"]);
    let reply = session.ask(json!({"room_members": {"memberships": ["ban"]}})).await;
    assert_eq!(reply["room_members"]["count"], 0);
    assert_eq!(reply["room_members"]["events"], json!([]));
    // The same ones in other words are the same, and so is another limit.
    session.ask(json!({"room_members": {"memberships": ["join", "invite"]}})).await;
    for same in [json!({"memberships": ["invite", "join", "join"]}), json!({"p": {"limit": 3}})] {
        let reply = session.ask(json!({"room_members": same})).await;
        assert!(reply["room_members"].is_null(), "{reply:#}");
    }
}

#[tokio::test]
async fn new_power_levels_are_seen_on_the_first_page_and_are_no_change_of_members() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    crowd.see_all(json!({})).await;
    let mut session = crowd.alice.v3();
    session.ask(json!({"room_members": {"room_id": crowd.room}})).await;
    let levels = json!({"users": {&crowd.alice.user_id: 100, &crowd.members[3].user_id: 75}});
    crowd.alice.set_state(&crowd.room, "m.room.power_levels", "", levels).await.ok();

    let page = json!({"room_members": {"p": {"since": "1"}}});
    eventually("the new order", async || {
        let reply = session.ask(page.clone()).await;
        (names(&reply) == ["Alice", "carl", "anna", "Bert", "Zoe"]).then_some(())
    })
    .await;
    let reply = session.ask(json!({})).await;
    assert!(reply["room_members"].is_null(), "{reply:#}");
}

#[tokio::test]
async fn whoever_comes_back_begins_anew_and_old_pages_have_ended() {
    let lab = Lab::shared().await;
    let crowd = Crowd::gather(&lab).await;
    let newcomer = lab.user("nina").await;
    newcomer.join(&crowd.room).await.ok();
    let mut session = newcomer.v3();
    let body =
        json!({"room_members": {"room_id": crowd.room, "p": {"limit": 4, "sort": "by_name"}}});
    session
        .until_asking(&body, "all six", |reply| (reply["room_members"]["count"] == 6).then_some(()))
        .await;
    let first = session.lose(json!({"room_members": {"p": {"since": "1"}}})).await;
    let page = json!({"room_members": {"p": {"since": page_token(&first).unwrap()}}});
    session.lose(page.clone()).await;

    newcomer.leave(&crowd.room).await.ok();
    session.request(&json!({})).send().await.refused(403, "M_FORBIDDEN");
    crowd.members[0].leave(&crowd.room).await.ok();
    newcomer.join(&crowd.room).await.ok();

    session.request(&page).send().await.refused(400, "M_INVALID_PARAM");
    let reply = session.ask(json!({})).await;
    assert_eq!(reply["room_members"]["count"], 5, "who left meanwhile is not there: {reply:#}");
    assert_eq!(events(&reply["room_members"]).len(), 4, "a first page");
    assert!(page_token(&reply).is_some());
    let reply = session.ask(json!({})).await;
    assert!(reply["room_members"].is_null(), "{reply:#}");
}

/// A room with five members: Alice, who made it (100); Zoe (50); and anna, Bert and carl, with nothing.
struct Crowd {
    alice: Client,
    members: Vec<Client>,
    room: String,
}

impl Crowd {
    async fn gather(lab: &Lab) -> Self {
        let alice = lab.user("alice").await;
        // In room version 12 the creator's power is infinite and not in the event; 11 says it in numbers.
        let room = alice.create_room(json!({"preset": "public_chat", "room_version": "11"})).await;
        let mut members = Vec::new();
        for (name, displayed) in
            [("anna", "anna"), ("bert", "Bert"), ("zoe", "Zoe"), ("carl", "carl")]
        {
            let member = lab.user_on_synapse(name).await;
            member.join(&room).await.ok();
            member.rename_in(&room, displayed).await.ok();
            members.push(member);
        }
        alice.rename_in(&room, "Alice").await.ok();
        let levels = json!({"users": {&alice.user_id: 100, &members[2].user_id: 50}});
        alice.set_state(&room, "m.room.power_levels", "", levels).await.ok();
        Self { alice, members, room }
    }

    /// The first reply of a new session.
    async fn see(&self, p: Value) -> Value {
        self.alice.v3().ask(json!({"room_members": {"room_id": self.room, "p": p}})).await
    }

    /// The first reply of a new session, once all of the above has reached the proxy.
    async fn see_all(&self, p: Value) -> Value {
        eventually("the whole crowd", async || {
            let reply = self.see(p.clone()).await;
            let mut names = names(&reply);
            names.sort_unstable();
            (names == ["Alice", "Bert", "Zoe", "anna", "carl"]).then_some(reply)
        })
        .await
    }

    /// Waits until the proxy knows of a newcomer and of a new name.
    async fn changes_have_arrived(&self, newcomer: &Client, name: &str) {
        // In one session: with many, that of the test would have to make way.
        let mut probe = self.alice.v3();
        eventually("the changes", async || {
            let page = json!({"room_id": self.room, "p": {"since": "1"}});
            let reply = probe.ask(json!({"room_members": page})).await;
            let members = members(&reply);
            let joined = members.iter().any(|(id, _name)| *id == newcomer.user_id);
            let left = members.iter().all(|(id, _name)| *id != self.members[0].user_id);
            (joined && left && members.iter().any(|(_id, known)| known == name)).then_some(())
        })
        .await;
    }
}

/// User ID and display name of each member event, in the order of the reply.
fn members(reply: &Value) -> Vec<(String, String)> {
    events(&reply["room_members"])
        .iter()
        .map(|event| {
            let name = event["content"]["displayname"].as_str().unwrap_or_default();
            (event["state_key"].as_str().unwrap().to_owned(), name.to_owned())
        })
        .collect()
}

fn names(reply: &Value) -> Vec<&str> {
    events(&reply["room_members"])
        .iter()
        .map(|event| event["content"]["displayname"].as_str().unwrap_or_default())
        .collect()
}

fn page_token(reply: &Value) -> Option<String> {
    reply["room_members"]["p"]["next"].as_str().map(str::to_owned)
}
