//! The orders of the list, and how they break ties.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::wait::eventually;

use super::{begun, named_rooms, told};

#[tokio::test]
async fn the_room_that_stirred_last_is_first() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["one", "two", "three"]).await;
    let (_, reply) = begun(&alice, json!({"room_list": {}}), 3).await;
    assert_eq!(told(&reply), [&*rooms[2], &rooms[1], &rooms[0]]);
    assert_eq!(reply["room_list"]["p"], json!({"limit": 20, "sort": ["by_recency"]}));

    alice.send(&rooms[0], "it stirs").await;
    // What is no event of the timeline stirs nothing.
    alice.tag(&rooms[1], "m.favourite").await.ok();

    eventually("the new order", async || {
        let reply = alice.v3().ask(json!({"room_list": {}})).await;
        (told(&reply) == [&*rooms[0], &rooms[2], &rooms[1]]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn names_stand_as_people_sort_them_and_equal_ones_by_the_next_order() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let rooms = named_rooms(&alice, &["Zoo", "apfel", "Äther", "bär", "Bär", "apfel"]).await;
    let sorted = async |sort: Value| {
        let (_, reply) = begun(&alice, json!({"room_list": {"p": {"sort": sort}}}), 6).await;
        let place = |room: &str| rooms.iter().position(|other| other == room).unwrap();
        told(&reply).into_iter().map(place).collect::<Vec<_>>()
    };
    let ascending = |one: usize, other: usize| {
        if rooms[one] < rooms[other] { [one, other] } else { [other, one] }
    };

    assert_eq!(sorted(json!(["by_name", "by_recency"])).await, [5, 1, 2, 4, 3, 0]);
    let (apfel, bear) = (ascending(1, 5), ascending(3, 4));
    let by_id = [apfel[0], apfel[1], 2, bear[0], bear[1], 0];
    assert_eq!(sorted(json!(["by_name"])).await, by_id, "the last tie-break is the room ID");
}

#[tokio::test]
async fn counts_come_first_where_they_are_asked_for() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let rooms = named_rooms(&alice, &["quiet", "busy", "loud", "quieter"]).await;
    for room in &rooms {
        bob.join(room).await.ok();
    }
    bob.send(&rooms[1], "one").await;
    bob.send(&rooms[1], "two").await;
    let mention = json!({
        "msgtype": "m.text", "body": "three", "m.mentions": {"user_ids": [alice.user_id]},
    });
    bob.send_event(&rooms[2], "m.room.message", mention).await.ok();

    let sorted = async |sort: Value, expected: [usize; 4]| {
        let expected: Vec<&str> = expected.iter().map(|number| &*rooms[*number]).collect();
        eventually("the order", async || {
            let reply = alice.v3().ask(json!({"room_list": {"p": {"sort": sort}}})).await;
            let unread = |number: usize, key: &str| {
                super::entry(&reply, &rooms[number])[key].as_i64().unwrap_or_default()
            };
            let counted = unread(1, "notification_count") == 2 && unread(2, "highlight_count") == 1;
            (counted && told(&reply) == expected).then_some(())
        })
        .await;
    };
    sorted(json!(["by_notification_count", "by_name"]), [1, 2, 0, 3]).await;
    sorted(json!(["by_highlight_count", "by_name"]), [2, 1, 0, 3]).await;
    sorted(json!(["by_highlight_count", "by_notification_count", "by_name"]), [2, 1, 0, 3]).await;
}

#[tokio::test]
async fn unknown_orders_are_left_out_and_the_reply_says_so() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    named_rooms(&alice, &["one"]).await;
    let (mut session, reply) =
        begun(&alice, json!({"room_list": {"p": {"limit": 5000, "sort": ["by_magic"]}}}), 1).await;
    assert_eq!(reply["room_list"]["p"], json!({"limit": 1000, "sort": ["by_recency"]}));

    let reply = session.ask(json!({"room_list": {"p": {"limit": 4000}}})).await;
    assert_eq!(
        reply["room_list"]["p"],
        json!({"limit": 1000, "sort": ["by_recency"]}),
        "it is said although nothing else is to say"
    );
    assert_eq!(told(&reply), [""; 0]);
    let reply = session.ask(json!({})).await;
    assert!(reply["room_list"].is_null(), "and what sticks is not negotiated again: {reply:#}");
}
