//! Parameters that change in the middle of a session, with news in the same reply.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::session::Session;
use tests::wait::eventually;

use super::{begun, entry, named_rooms, next_page, removed, texts, told};

/// A session of Alice with the first of three rooms, in which there is a message that it has not got.
struct Midst {
    alice: Client,
    rooms: Vec<String>,
    session: Session,
}

impl Midst {
    async fn of(lab: &Lab) -> Self {
        let alice = lab.user("alice").await;
        let rooms = named_rooms(&alice, &["a", "b", "c"]).await;
        let ask = json!({"room_list": {"p": {"limit": 1, "sort": ["by_name"]}}});
        let (mut session, first) = begun(&alice, ask, 3).await;
        assert_eq!(told(&first), [&rooms[0]]);
        // What is still under way of the beginning comes now.
        session.ask(json!({})).await;
        alice.send(&rooms[0], "news").await;
        let midst = Self { alice, rooms, session };
        eventually("the news", async || {
            let reply = midst.session.lose(json!({})).await;
            (texts(entry(&reply, &midst.rooms[0])) == ["news"]).then_some(())
        })
        .await;
        midst
    }

    /// The next reply, and then nothing new.
    async fn changed(&mut self, list: Value) -> Value {
        let reply = self.session.ask(json!({"room_list": list})).await;
        let quiet = self.session.ask(json!({})).await;
        assert!(quiet["room_list"].is_null(), "everything was told: {quiet:#}");
        reply
    }
}

#[tokio::test]
async fn a_longer_page_brings_the_rooms_that_are_missing() {
    let lab = Lab::shared().await;
    let mut midst = Midst::of(&lab).await;
    let reply = midst.changed(json!({"p": {"limit": 2}})).await;
    assert_eq!(told(&reply), [&*midst.rooms[0], &midst.rooms[1]]);
    assert!(next_page(&reply).is_some());
    assert!(entry(&reply, &midst.rooms[0])["initial"].is_null());
    assert_eq!(texts(entry(&reply, &midst.rooms[0])), ["news"]);
    assert_eq!(entry(&reply, &midst.rooms[1])["initial"], true);

    let shorter = midst.changed(json!({"p": {"limit": 1}})).await;
    assert!(shorter["room_list"].is_null(), "a lower limit takes nothing away: {shorter:#}");
}

#[tokio::test]
async fn another_order_brings_its_first_page_and_the_news_of_the_others() {
    let lab = Lab::shared().await;
    let mut midst = Midst::of(&lab).await;
    midst.alice.send(&midst.rooms[2], "c is first").await;
    super::arrived(&midst.alice, &midst.rooms[2], "c is first").await;
    let reply = midst.changed(json!({"p": {"sort": ["by_recency"]}})).await;
    assert_eq!(told(&reply), [&*midst.rooms[2], &midst.rooms[0]]);
    assert_eq!(entry(&reply, &midst.rooms[2])["initial"], true);
    assert_eq!(texts(entry(&reply, &midst.rooms[0])), ["news"]);
    assert_eq!(reply["room_list"]["p"]["sort"], json!(["by_recency"]));
    assert_eq!(removed(&reply), [""; 0]);

    // Both are followed from now on.
    for room in [&midst.rooms[0], &midst.rooms[2]] {
        midst.alice.send(room, "followed").await;
        midst
            .session
            .until("the message", |reply| {
                texts(entry(reply, room)).contains(&"followed").then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn other_filters_remove_what_does_not_match() {
    let lab = Lab::shared().await;
    let mut midst = Midst::of(&lab).await;
    let reply = midst.changed(json!({"filters": {"room_name_like": "b"}})).await;
    assert_eq!((told(&reply), removed(&reply)), (vec![&*midst.rooms[1]], vec![&*midst.rooms[0]]));
    assert_eq!(reply["room_list"]["count"], 1);
    let reply = midst.changed(json!({"filters": {}})).await;
    assert_eq!(told(&reply), [&midst.rooms[0]], "the page of the list without filters");
    assert_eq!(entry(&reply, &midst.rooms[0])["initial"], true, "it had been taken away");
    assert_eq!(reply["room_list"]["count"], 3);
}

#[tokio::test]
async fn other_state_comes_for_every_room_that_is_followed() {
    let lab = Lab::shared().await;
    let mut midst = Midst::of(&lab).await;
    midst.changed(json!({"p": {"limit": 2}})).await;
    let list = json!({"state_events": [["m.room.create", ""]], "lazy_load_members": false});
    let reply = midst.changed(list).await;
    let mut rooms = told(&reply);
    rooms.sort_unstable();
    let mut expected: Vec<&str> = midst.rooms[..2].iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(rooms, expected);
    for room in rooms {
        let entry = entry(&reply, room);
        assert_eq!(entry["state_events"][0]["type"], "m.room.create", "{entry:#}");
        assert!(entry["initial"].is_null());
    }
}

#[tokio::test]
async fn a_list_without_a_page_loses_its_rooms() {
    let lab = Lab::shared().await;
    let mut midst = Midst::of(&lab).await;
    let reply = midst.changed(json!({"p": {"limit": 0}, "filters": {"is_dm": false}})).await;
    assert_eq!((told(&reply).len(), removed(&reply)), (0, vec![&*midst.rooms[0]]));
}

#[tokio::test]
async fn a_stream_that_was_dropped_begins_anew() {
    let lab = Lab::shared().await;
    let mut midst = Midst::of(&lab).await;
    let dropped = midst.session.ask(json!({"room_list": null})).await;
    assert!(dropped["room_list"].is_null());
    let reply = midst.session.ask(json!({"room_list": {"p": {"sort": ["by_name"]}}})).await;
    assert_eq!(told(&reply), midst.rooms);
    assert_eq!(entry(&reply, &midst.rooms[0])["initial"], true);
}
