//! The v3 stream `invites`: rooms that the user is invited to or has knocked on.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::{content_of, events, find_state};
use tests::session::Session;

use crate::quiet::{settled, waits};

#[tokio::test]
async fn the_first_reply_is_all_invites_and_knocks() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let nothing = bob.v3().ask(json!({"invites": {}})).await;
    assert_eq!(nothing["invites"], json!({"rooms": {}}), "an empty list is a list too");

    let invited = den_with(&alice, &bob).await;
    let knocked = knockable(&alice).await;
    bob.knock(&knocked).await.ok();
    let joined = alice.create_public_room().await;
    bob.join(&joined).await.ok();
    let rejected = den_with(&alice, &bob).await;
    bob.leave(&rejected).await.ok();
    follows(&bob, &[&invited, &knocked]).await;

    let reply = bob.v3().ask(json!({"invites": {}})).await;
    let rooms = reply["invites"]["rooms"].as_object().unwrap();
    assert_eq!(rooms.len(), 2, "{reply:#}");
    assert!(reply["invites"]["left"].is_null(), "{reply:#}");
    assert_eq!(rooms[&invited].as_object().unwrap().len(), 1);
    let stripped = events(&rooms[&invited]["invite_state"]);
    assert_eq!(content_of(&stripped, "m.room.name")["name"], "The den");
    let own = find_state(&stripped, "m.room.member", &bob.user_id).expect("the invite is there");
    assert_eq!(own["content"]["membership"], "invite");
    assert_eq!(rooms[&knocked].as_object().unwrap().len(), 1);
    let stripped = events(&rooms[&knocked]["knock_state"]);
    assert_eq!(content_of(&stripped, "m.room.name")["name"], "Knock first");
}

#[tokio::test]
async fn a_waiting_session_hears_of_invites_and_of_nothing_else() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    let mut session = bob.v3();
    session.ask(json!({"invites": {}})).await;
    settled(&mut session).await;

    let waiting = waits(&session);
    alice.send(&room, "a message wakes nobody who asked for invites alone").await;
    bob.set_account_data("com.example", &json!({"n": 1})).await.ok();
    let other = alice.create_public_room().await;
    bob.join(&other).await.ok();
    alice.starts_typing(&room).await;
    bob.leave(&other).await.ok();
    let den = den_with(&alice, &bob).await;
    let reply = waiting.await.unwrap().ok();
    session.absorb(&reply);
    assert_eq!((rooms(&reply), left(&reply)), (vec![den.as_str()], vec![]));
    assert!(reply["invites"]["left"].is_null(), "an empty part is left out: {reply:#}");

    let waiting = waits(&session);
    alice.send(&room, "nor does this one").await;
    alice.kick(&den, &bob.user_id).await.ok();
    let reply = waiting.await.unwrap().ok();
    assert_eq!((rooms(&reply), left(&reply)), (vec![], vec![den.as_str()]));
    assert!(reply["invites"]["rooms"].is_null(), "an empty part is left out: {reply:#}");
}

#[tokio::test]
async fn an_invite_ends_when_it_is_accepted_rejected_or_withdrawn() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let mut dens = Vec::new();
    for _ in 0..3 {
        dens.push(den_with(&alice, &bob).await);
    }
    follows(&bob, &dens.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut session = bob.v3();
    assert_eq!(rooms(&session.ask(json!({"invites": {}})).await).len(), 3);

    bob.join(&dens[0]).await.ok();
    let accepted = session.ask(json!({})).await;
    assert_eq!((rooms(&accepted), left(&accepted)), (vec![], vec![dens[0].as_str()]));
    bob.leave(&dens[1]).await.ok();
    let rejected = session.ask(json!({})).await;
    assert_eq!((rooms(&rejected), left(&rejected)), (vec![], vec![dens[1].as_str()]));
    alice.kick(&dens[2], &bob.user_id).await.ok();
    let withdrawn = until_left(&mut session, &dens[2]).await;
    assert_eq!((rooms(&withdrawn), left(&withdrawn)), (vec![], vec![dens[2].as_str()]));

    alice.invite(&dens[2], &bob.user_id).await.ok();
    let again = until_told(&mut session, &dens[2]).await;
    assert_eq!(left(&again), [""; 0]);
    // A room that was joined and left is no invite any more, until there is another.
    bob.leave(&dens[0]).await.ok();
    alice.invite(&dens[0], &bob.user_id).await.ok();
    let again = until_told(&mut session, &dens[0]).await;
    assert_eq!(left(&again), [""; 0]);
}

#[tokio::test]
async fn an_invite_that_was_withdrawn_and_made_again_between_two_replies_is_an_invite() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let den = den_with(&alice, &bob).await;
    let other = den_with(&alice, &bob).await;
    follows(&bob, &[&den, &other]).await;
    let mut session = bob.v3();
    session.ask(json!({"invites": {}})).await;
    settled(&mut session).await;

    let mut follower = session.clone();
    alice.kick(&den, &bob.user_id).await.ok();
    until_left(&mut follower, &den).await;
    alice.invite(&den, &bob.user_id).await.ok();
    until_told(&mut follower, &den).await;
    // And one that came and went.
    let brief = den_with(&alice, &bob).await;
    until_told(&mut follower, &brief).await;
    alice.kick(&brief, &bob.user_id).await.ok();
    until_left(&mut follower, &brief).await;

    let reply = session.ask(json!({})).await;
    assert_eq!((rooms(&reply), left(&reply)), (vec![den.as_str()], vec![]), "{reply:#}");
}

#[tokio::test]
async fn a_knock_becomes_an_invite_or_is_taken_back() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let (answered, taken_back) = (knockable(&alice).await, knockable(&alice).await);
    let mut session = bob.v3();
    session.ask(json!({"invites": {}})).await;

    bob.knock(&answered).await.ok();
    bob.knock(&taken_back).await.ok();
    until_told(&mut session.clone(), &answered).await;
    let reply = until_told(&mut session, &taken_back).await;
    assert!(reply["invites"]["rooms"][&taken_back]["knock_state"]["events"].is_array());

    alice.invite(&answered, &bob.user_id).await.ok();
    let reply = until_told(&mut session, &answered).await;
    let room = &reply["invites"]["rooms"][&answered];
    let room = if room["knock_state"].is_null() {
        room.clone()
    } else {
        until_told(&mut session, &answered).await["invites"]["rooms"][&answered].clone()
    };
    assert!(room["invite_state"]["events"].is_array() && room["knock_state"].is_null(), "{room:#}");
    bob.leave(&taken_back).await.ok();
    let reply = session.ask(json!({})).await;
    assert_eq!(left(&reply), [taken_back.as_str()], "{reply:#}");
}

#[tokio::test]
async fn another_device_accepts_and_every_session_hears_of_it() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&bob).await;
    let den = den_with(&alice, &bob).await;
    follows(&bob, &[&den]).await;
    let (mut phone, mut tab, mut on_laptop) = (bob.v3(), bob.v3(), laptop.v3());
    for session in [&mut phone, &mut tab, &mut on_laptop] {
        assert_eq!(rooms(&session.ask(json!({"invites": {}})).await), [den.as_str()]);
    }

    laptop.join(&den).await.ok();

    for session in [&mut phone, &mut tab, &mut on_laptop] {
        let reply = until_left(session, &den).await;
        assert_eq!(rooms(&reply), [""; 0], "{reply:#}");
    }
}

#[tokio::test]
async fn invites_of_users_who_are_ignored_never_come() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let carol = lab.user_on_synapse("carol").await;
    bob.create_public_room().await;
    let mut session = bob.v3();
    session.ask(json!({"invites": {}})).await;
    ignore(&bob, &[&alice]).await;

    let hidden = den_with(&alice, &bob).await;
    let shown = den_with(&carol, &bob).await;
    let reply = until_told(&mut session, &shown).await;
    assert_eq!(rooms(&reply), [shown.as_str()]);
    let fresh = bob.v3().ask(json!({"invites": {}})).await;
    assert_eq!(rooms(&fresh), [shown.as_str()]);

    // What the homeserver withheld is fetched now.
    ignore(&bob, &[]).await;
    let reply = until_told(&mut session, &hidden).await;
    assert_eq!((rooms(&reply), left(&reply)), (vec![hidden.as_str()], vec![]));
}

#[tokio::test]
async fn withheld_invites_come_also_to_who_is_in_no_room() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let carol = lab.user_on_synapse("carol").await;
    let mut session = bob.v3();
    session.ask(json!({"invites": {}})).await;
    ignore(&bob, &[&alice]).await;
    let withheld = den_with(&alice, &bob).await;
    let shown = den_with(&carol, &bob).await;
    assert_eq!(rooms(&until_told(&mut session, &shown).await), [shown.as_str()]);

    ignore(&bob, &[]).await;

    let reply = until_told(&mut session, &withheld).await;
    assert_eq!((rooms(&reply), left(&reply)), (vec![withheld.as_str()], vec![]));
    let fresh = bob.fresh_sync().send().await.ok();
    assert!(fresh["rooms"]["invite"][&withheld].is_object(), "{fresh:#}");
}

#[tokio::test]
async fn invites_of_users_who_are_ignored_from_now_on_are_left_and_come_back() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let carol = lab.user_on_synapse("carol").await;
    let (hers, carols) = (den_with(&alice, &bob).await, den_with(&carol, &bob).await);
    let withdrawn = den_with(&alice, &bob).await;
    follows(&bob, &[&hers, &carols, &withdrawn]).await;
    let mut session = bob.v3();
    assert_eq!(rooms(&session.ask(json!({"invites": {}})).await).len(), 3);
    settled(&mut session).await;

    let waiting = waits(&session);
    ignore(&bob, &[&alice]).await;
    let before = session.clone();
    let reply = waiting.await.unwrap().ok();
    session.absorb(&reply);
    assert_eq!((rooms(&reply), left(&reply)), (vec![], sorted(&[&hers, &withdrawn])));
    let replayed = before.lose(json!({})).await;
    assert_eq!(replayed["invites"], reply["invites"], "the same since, the same answer");

    // Nobody was told of this one any more: it goes without a word.
    alice.kick(&withdrawn, &bob.user_id).await.ok();
    let next = den_with(&carol, &bob).await;
    let reply = until_told(&mut session, &next).await;
    assert_eq!((rooms(&reply), left(&reply)), (vec![next.as_str()], vec![]), "{reply:#}");
    let fresh = bob.v3().ask(json!({"invites": {}})).await;
    assert_eq!(rooms(&fresh), sorted(&[&carols, &next]));

    ignore(&bob, &[]).await;
    let reply = until_told(&mut session, &hers).await;
    assert_eq!((rooms(&reply), left(&reply)), (vec![hers.as_str()], vec![]), "{reply:#}");
    bob.leave(&hers).await.ok();
    let reply = session.ask(json!({})).await;
    assert_eq!(left(&reply), [hers.as_str()], "it was told again, so it can be left again");
}

#[tokio::test]
async fn an_old_since_is_replayed_and_a_dropped_stream_begins_anew() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let first = den_with(&alice, &bob).await;
    follows(&bob, &[&first]).await;
    let mut session = bob.v3();
    session.ask(json!({"invites": {}, "to_device": {}})).await;
    settled(&mut session).await;
    let old = session.clone();
    let second = den_with(&alice, &bob).await;
    let reply = until_told(&mut session, &second).await;

    for _ in 0..2 {
        let replayed = old.lose(json!({})).await;
        assert_eq!(replayed["invites"], reply["invites"]);
    }
    let dropped = session.ask(json!({"invites": null})).await;
    assert!(dropped["invites"].is_null());
    let third = den_with(&alice, &bob).await;
    follows(&bob, &[&third]).await;
    let silent = session.ask(json!({})).await;
    assert!(silent["invites"].is_null(), "{silent:#}");
    let anew = session.ask(json!({"invites": {}})).await;
    assert_eq!(rooms(&anew), sorted(&[&first, &second, &third]), "as in a new session");
}

#[tokio::test]
async fn what_happens_while_the_proxy_is_away_is_told() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user_on_synapse("alice").await, lab.user("bob").await);
    let carol = lab.user_on_synapse("carol").await;
    let (stays, goes) = (den_with(&alice, &bob).await, den_with(&alice, &bob).await);
    let hidden = den_with(&carol, &bob).await;
    follows(&bob, &[&stays, &goes, &hidden]).await;
    ignore(&bob, &[&carol]).await;
    let mut session = bob.v3();
    let first = session.ask(json!({"invites": {}})).await;
    assert_eq!(rooms(&first), sorted(&[&stays, &goes]));

    let comes = lab
        .while_the_proxy_is_down(async {
            alice.kick(&goes, &bob.user_id).await.ok();
            den_with(&alice, &bob).await
        })
        .await;

    let (mut told, mut gone) = (Vec::new(), Vec::new());
    session
        .until("both", |reply| {
            told.extend(rooms(reply).into_iter().map(str::to_owned));
            gone.extend(left(reply).into_iter().map(str::to_owned));
            (!told.is_empty() && !gone.is_empty()).then_some(())
        })
        .await;
    assert_eq!((told, gone), (vec![comes], vec![goes]));
    // The session still knows what it was not told.
    ignore(&bob, &[]).await;
    let reply = until_told(&mut session, &hidden).await;
    assert_eq!((rooms(&reply), left(&reply)), (vec![hidden.as_str()], vec![]));
}

#[tokio::test]
async fn what_is_no_object_is_refused() {
    let lab = Lab::shared().await;
    let bob = lab.user("bob").await;
    for wrong in [json!(true), json!([]), json!("all")] {
        let reply = bob.v3_sync(&json!({"invites": wrong})).send().await;
        reply.refused(400, "M_BAD_JSON");
    }
    let reply = bob.v3().ask(json!({"invites": {"unknown": 5}})).await;
    assert_eq!(reply["invites"], json!({"rooms": {}}), "keys that nobody knows are ignored");
}

/// Rooms that are told, in the order of their IDs.
fn rooms(reply: &Value) -> Vec<&str> {
    let rooms = reply["invites"]["rooms"].as_object().into_iter().flatten();
    let rooms: Vec<&str> = rooms.map(|(room_id, _)| room_id.as_str()).collect();
    sorted(&rooms)
}

/// Rooms that are left, in the order of their IDs.
fn left(reply: &Value) -> Vec<&str> {
    let left = reply["invites"]["left"].as_array().into_iter().flatten();
    let left: Vec<&str> = left.filter_map(Value::as_str).collect();
    sorted(&left)
}

fn sorted<'a, T: AsRef<str> + ?Sized>(room_ids: &[&'a T]) -> Vec<&'a str> {
    let mut room_ids: Vec<&str> = room_ids.iter().map(|&room_id| room_id.as_ref()).collect();
    room_ids.sort_unstable();
    room_ids
}

async fn until_told(session: &mut Session, room_id: &str) -> Value {
    let told = |reply: &Value| rooms(reply).contains(&room_id).then(|| reply.clone());
    session.until("the invite", told).await
}

async fn until_left(session: &mut Session, room_id: &str) -> Value {
    let gone = |reply: &Value| left(reply).contains(&room_id).then(|| reply.clone());
    session.until("the end of the invite", gone).await
}

/// Waits until a session of its own has been told of these rooms.
async fn follows(user: &Client, room_ids: &[&str]) {
    let mut session = user.v3();
    let mut told: Vec<String> = Vec::new();
    let first = session.ask(json!({"invites": {}})).await;
    told.extend(rooms(&first).into_iter().map(str::to_owned));
    let is_in =
        |told: &[String]| room_ids.iter().all(|room_id| told.iter().any(|it| it == room_id));
    if !is_in(&told) {
        session
            .until("the invites", |reply| {
                told.extend(rooms(reply).into_iter().map(str::to_owned));
                is_in(&told).then_some(())
            })
            .await;
    }
}

/// A private room of one, with an invite for another.
async fn den_with(owner: &Client, invited: &Client) -> String {
    let body = json!({"preset": "private_chat", "name": "The den", "invite": [invited.user_id]});
    owner.create_room(body).await
}

async fn knockable(owner: &Client) -> String {
    let rule =
        json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}});
    owner.create_room(json!({"name": "Knock first", "initial_state": [rule]})).await
}

/// Ignores these users, and nobody else.
async fn ignore(client: &Client, users: &[&Client]) {
    let users: serde_json::Map<String, Value> =
        users.iter().map(|user| (user.user_id.clone(), json!({}))).collect();
    client.set_account_data("m.ignored_user_list", &json!({"ignored_users": users})).await.ok();
}
