//! End-to-end encryption between clients: whatever one sends, each other device can read, once, whatever happens in between.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::paths;
use tests::real_client::RealClient;

/// How many one-time keys nio keeps on the server.
const NIO_KEYS: u64 = 50;

#[tokio::test]
async fn nio_with_encryption_reads_every_message_across_restarts_and_on_a_new_device() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = encrypted_room(&bob, &[&alice]).await;
    let stores = paths::scratch("nio-stores");
    let nio = async |user: &Client, device: &str| {
        RealClient::nio(&lab.url(), &user.user_id, device, &stores.join(device)).await
    };

    let (mut a, mut b) = tokio::join!(nio(&alice, "ANIO"), nio(&bob, "BNIO"));
    knows_device(&mut a, &bob, "BNIO").await;
    knows_device(&mut b, &alice, "ANIO").await;
    let mut said = Vec::new();
    say(&mut said, &mut a, &room, "one").await;
    read(&mut b, &room, &said).await;
    say(&mut said, &mut b, &room, "two").await;
    read(&mut a, &room, &said).await;

    // In the middle of a conversation: one is waiting, and the other sends before the proxy is back.
    lab.while_the_proxy_restarts(say(&mut said, &mut a, &room, "three")).await;
    read(&mut b, &room, &said).await;
    say(&mut said, &mut b, &room, "four").await;
    read(&mut a, &room, &said).await;

    // A new device of an account that is synced already: it cannot read what was said before it came.
    let before: Vec<String> = said.iter().map(|(event_id, _body)| event_id.clone()).collect();
    let mut b2 = nio(&bob, "BSECOND").await;
    knows_device(&mut a, &bob, "BSECOND").await;
    knows_device(&mut b, &bob, "BSECOND").await;
    knows_device(&mut b2, &alice, "ANIO").await;
    knows_device(&mut b2, &bob, "BNIO").await;
    let mut said_later = Vec::new();
    for (sender, body) in [(&mut a, "five"), (&mut b, "six"), (&mut b2, "seven")] {
        say(&mut said_later, sender, &room, body).await;
    }
    read(&mut b2, &room, &said_later).await;

    // A key is used up. Homeservers do not wake anyone for that alone; nio hears of it with what comes next, and makes a new one.
    let uploads = state(&mut a).await["uploads"].as_u64().unwrap();
    claim_key(&bob, &alice, "ANIO").await;
    say(&mut said_later, &mut b, &room, "eight").await;
    a.until("a new key in the place of the one used", json!({"do": "state"}), |state| {
        let full = state["key_count"] == NIO_KEYS;
        (full && state["uploads"].as_u64() > Some(uploads)).then_some(())
    })
    .await;

    said.extend(said_later.clone());
    for reader in [&mut a, &mut b] {
        read(reader, &room, &said).await;
    }

    // It is closed, misses something, and goes on from its store.
    a.stop().await;
    let mut missed = Vec::new();
    say(&mut missed, &mut b, &room, "nine").await;
    say(&mut missed, &mut b2, &room, "ten").await;
    let mut a = nio(&alice, "ANIO").await;
    assert_ne!(a.hello["since"], "", "it has kept its sync token");
    read(&mut a, &room, &missed).await;
    say(&mut missed, &mut a, &room, "eleven").await;
    said.extend(missed.clone());
    said_later.extend(missed.clone());
    read(&mut a, &room, &missed).await;
    read(&mut b, &room, &said).await;
    read(&mut b2, &room, &said_later).await;

    for (client, not_readable) in [(&mut a, vec![]), (&mut b, vec![]), (&mut b2, before)] {
        assert_eq!(look_at(client, &room).await["undecryptable"], json!(not_readable));
        assert_eq!(state(client).await["errors"], json!([]));
    }
}

#[tokio::test]
async fn js_sdk_and_nio_read_what_the_other_encrypts() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let room = encrypted_room(&bob, &[&alice]).await;
    let store = paths::scratch("nio-store");
    let (url, alice_id) = (lab.url(), &alice.user_id);
    let (mut js, mut js2, mut nio) = tokio::join!(
        RealClient::js_sdk(&url, alice_id, "JS"),
        RealClient::js_sdk(&url, alice_id, "JSSECOND"),
        RealClient::nio(&url, &bob.user_id, "NIO", &store),
    );
    for device in ["JS", "JSSECOND"] {
        knows_device(&mut nio, &alice, device).await;
    }
    // The SDK asks for the devices of others when it first encrypts for them, and for its own at once.
    knows_device(&mut js, &alice, "JSSECOND").await;
    knows_device(&mut js2, &alice, "JS").await;

    // Each speaks when it has read what came before: the SDK shows its own message where it stood when it was sent.
    let mut said = Vec::new();
    let everyone_reads =
        async |said: &[Said], js: &mut RealClient, js2: &mut RealClient, nio: &mut RealClient| {
            for client in [js, js2, nio] {
                read(client, &room, said).await;
            }
        };
    say(&mut said, &mut js, &room, "one").await;
    everyone_reads(&said, &mut js, &mut js2, &mut nio).await;
    say(&mut said, &mut nio, &room, "two").await;
    everyone_reads(&said, &mut js, &mut js2, &mut nio).await;
    say(&mut said, &mut js2, &room, "three").await;
    everyone_reads(&said, &mut js, &mut js2, &mut nio).await;
    lab.while_the_proxy_restarts(say(&mut said, &mut nio, &room, "four")).await;
    everyone_reads(&said, &mut js, &mut js2, &mut nio).await;
    say(&mut said, &mut js, &room, "five").await;
    everyone_reads(&said, &mut js, &mut js2, &mut nio).await;
    assert_eq!(look_at(&mut nio, &room).await["undecryptable"], json!([]));
    assert_eq!(state(&mut nio).await["errors"], json!([]));
}

/// A message: its event ID and its text.
type Said = (String, String);

/// An encrypted room of the first user's, with the others joined.
async fn encrypted_room(creator: &Client, others: &[&Client]) -> String {
    let encryption = json!({
        "type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    });
    let room =
        creator.create_room(json!({"preset": "public_chat", "initial_state": [encryption]})).await;
    for other in others {
        other.join(&room).await.ok();
    }
    room
}

/// Sends a message, and notes it.
async fn say(said: &mut Vec<Said>, sender: &mut RealClient, room: &str, body: &str) {
    let event_id = sender.tell(json!({"do": "send", "room_id": room, "body": body})).await;
    said.push((event_id.as_str().unwrap().to_owned(), body.to_owned()));
}

/// Waits until the client has read these messages in this order, each once, and nothing else; all of them encrypted.
async fn read(reader: &mut RealClient, room: &str, said: &[Said]) {
    let wanted: Vec<_> =
        said.iter().map(|(event_id, body)| (event_id.as_str(), body.as_str())).collect();
    let command = json!({"do": "room", "room_id": room});
    reader
        .until(&format!("the messages {said:?}"), command, |answer| {
            let messages = answer["messages"].as_array()?;
            assert!(messages.iter().all(|message| message["was_encrypted"] == true), "{answer:#}");
            let read: Vec<_> = messages
                .iter()
                .map(|message| Some((message["event_id"].as_str()?, message["body"].as_str()?)))
                .collect::<Option<_>>()?;
            (read == wanted).then_some(())
        })
        .await;
}

/// Waits until the client knows of a device, as its next message will be readable there.
async fn knows_device(client: &mut RealClient, user: &Client, device_id: &str) {
    let command = json!({"do": "devices", "user_id": user.user_id});
    client
        .until(&format!("the device {device_id}"), command, |devices| {
            devices.as_array()?.contains(&json!(device_id)).then_some(())
        })
        .await;
}

/// Uses up a one-time key of a device.
async fn claim_key(user: &Client, owner: &Client, device_id: &str) {
    let body = json!({"one_time_keys": {&owner.user_id: {device_id: "signed_curve25519"}}});
    let reply = user.post("/_matrix/client/v3/keys/claim").json(&body).send().await.ok();
    assert!(reply["one_time_keys"][&owner.user_id][device_id].is_object(), "{reply}");
}

async fn look_at(client: &mut RealClient, room: &str) -> Value {
    client.tell(json!({"do": "room", "room_id": room})).await
}

async fn state(client: &mut RealClient) -> Value {
    client.tell(json!({"do": "state"})).await
}
