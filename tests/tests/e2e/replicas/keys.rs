//! Key counts, at each replica as they are.

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;

use super::{COUNT, replicas};

#[tokio::test]
async fn uploaded_and_claimed_keys_are_counted_at_every_replica() {
    let lab = Lab::shared().await;
    let replicas = replicas(&lab).await;
    let (alice, bob, _room) = lab.two_in_a_room().await;
    let laptop = lab.second_device(&alice).await;
    // The phone runs the main poll, the laptop a light one.
    for (number, device) in [&alice, &laptop].into_iter().enumerate() {
        replicas.at(number, device).v2().next().await;
    }
    let mut uploaded = 0;
    for round in 0..6 {
        for device in [&alice, &laptop] {
            let keys = one_time_keys(round);
            replicas.at(round, device).upload_keys(&keys).await.ok();
        }
        uploaded += 1;
        for number in 0..COUNT {
            for device in [&alice, &laptop] {
                let client = replicas.at(round + number, device);
                assert_eq!(v2_count(&client).await, json!(uploaded), "round {round}, at {number}");
                assert_eq!(v3_count(&client).await, json!(uploaded), "round {round}, at {number}");
            }
        }
    }

    let claim = |device: &Client| json!({"one_time_keys": {&alice.user_id: {&device.device_id: "signed_curve25519"}}});
    for device in [&alice, &laptop] {
        let claimer = replicas.at(2, &bob);
        let path = "/_matrix/client/v3/keys/claim";
        claimer.post(path).json(&claim(device)).send().await.ok();
        for number in 0..COUNT {
            let client = replicas.at(number, device);
            assert_eq!(v2_count(&client).await, json!(uploaded - 1), "at {number}");
        }
    }
}

async fn v2_count(client: &Client) -> Value {
    let reply = client.sync().send().await.ok();
    reply["device_one_time_keys_count"]["signed_curve25519"].clone()
}

async fn v3_count(client: &Client) -> Value {
    let reply = client.v3().ask(json!({"e2ee": {}})).await;
    reply["e2ee"]["device_one_time_keys_count"]["signed_curve25519"].clone()
}

/// One key, another for each number.
fn one_time_keys(number: usize) -> Value {
    let key = json!({"key": "A".repeat(43), "signatures": {}});
    json!({"one_time_keys": {(format!("signed_curve25519:{number:04}")): key}})
}
