//! Who writes through one replica reads it at the next, in the very next sync.

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{bodies, events, messages, timeline};

use super::{COUNT, replicas};

const ROUNDS: usize = 30;

#[tokio::test]
async fn a_write_at_one_replica_is_in_the_next_sync_at_any() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let replicas = replicas(&lab).await;
    let mut chain = replicas.at(0, &alice).v2();
    chain.next().await;
    for number in 1..COUNT {
        chain = chain.moved_to(&replicas.at(number, &alice));
        chain.next().await;
    }

    let mut failed = Vec::new();
    for round in 0..ROUNDS {
        // Every pair of replicas has its turn, also twice the same.
        let (writer, reader) =
            (replicas.at(round, &alice), replicas.at(round + round / COUNT, &alice));
        let found: Box<dyn Fn(&Value) -> bool> = match round % 3 {
            0 => {
                let text = format!("text {round}");
                writer.send(&room, &text).await;
                let room = room.clone();
                Box::new(move |reply| messages(reply, &room).contains(&text.as_str()))
            }
            1 => {
                writer.set_account_data("org.test", &json!({"round": round})).await.ok();
                let expected = json!({"round": round});
                Box::new(move |reply| {
                    events(&reply["account_data"]).iter().any(|it| it["content"] == expected)
                })
            }
            _ => {
                let topic = format!("topic {round}");
                writer.set_topic(&room, &topic).await;
                let room = room.clone();
                Box::new(move |reply| {
                    timeline(reply, &room).iter().any(|event| event["content"]["topic"] == topic)
                })
            }
        };
        chain = chain.moved_to(&reader);
        let reply = chain.next().await;
        if !found(&reply) {
            failed.push(format!("{round} from {} to {}: {reply}", writer.base(), reader.base()));
        }
    }
    assert!(failed.is_empty(), "{} of {ROUNDS}: {failed:#?}", failed.len());
}

#[tokio::test]
async fn a_v3_session_reads_at_any_replica_what_was_written_at_another() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let replicas = replicas(&lab).await;
    let mut session = replicas.at(0, &alice).v3();
    session.ask(json!({"room": {"room_id": room, "timeline_limit": 10}})).await;

    let mut failed = Vec::new();
    for round in 0..ROUNDS {
        let text = format!("text {round}");
        replicas.at(round, &alice).send(&room, &text).await;
        session.client = replicas.at(round + 1 + round / COUNT, &alice);
        let reply = session.ask(json!({})).await;
        let told = events(&reply["room"]["rooms"][&room]["timeline"]);
        if bodies(&told) != [text] {
            failed.push(format!("{round}: {reply}"));
        }
    }
    assert!(failed.is_empty(), "{} of {ROUNDS}: {failed:#?}", failed.len());
}

/// Only the device that sent an event is told the transaction ID, and upstream tells it nowhere but in that device's polls:
/// here another device runs the main poll.
#[tokio::test]
async fn a_transaction_id_is_told_at_any_replica() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    let replicas = replicas(&lab).await;
    replicas.at(0, &alice).v2().next().await;
    let mut chain = replicas.at(1, &laptop).v2();
    chain.next().await;

    for round in 0..ROUNDS {
        replicas.at(round, &laptop).send(&room, &format!("text {round}")).await;
        chain = chain.moved_to(&replicas.at(round + 1, &laptop));
        let reply = chain.next().await;
        let sent = timeline(&reply, &room);
        let [event] = &sent[..] else { panic!("round {round}: {reply:#}") };
        assert!(event["unsigned"]["transaction_id"].is_string(), "round {round}: {event:#}");
    }
}

/// An ignored user's messages are hidden at every replica as soon as the list says so.
#[tokio::test]
async fn a_list_of_ignored_users_counts_at_every_replica() {
    let lab = Lab::shared().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let replicas = replicas(&lab).await;
    bob.send(&room, "heard").await;
    for number in 0..COUNT {
        let reply = replicas.at(number, &alice).sync().send().await.ok();
        assert_eq!(messages(&reply, &room), ["heard"], "at {number}");
    }

    let list = json!({"ignored_users": {&bob.user_id: {}}});
    for round in 0..COUNT {
        let writer = replicas.at(round, &alice);
        writer.set_account_data("m.ignored_user_list", &list).await.ok();
        for number in 0..COUNT {
            let reply = replicas.at(number, &alice).sync().send().await.ok();
            assert!(messages(&reply, &room).is_empty(), "at {number}: {reply:#}");
        }
        let nobody = json!({"ignored_users": {}});
        writer.set_account_data("m.ignored_user_list", &nobody).await.ok();
        for number in 0..COUNT {
            let reply = replicas.at(number, &alice).sync().send().await.ok();
            assert_eq!(messages(&reply, &room), ["heard"], "at {number}");
        }
    }
}
