//! The tokens of `/context`, which are the homeserver's, beside ours.

use serde_json::Value;
use tests::client::{Request, encode};
use tests::lab::Lab;
use tests::matchers::bodies;

#[tokio::test]
async fn b1_6_d5_13_the_tokens_of_context_page_in_both_directions() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let room = alice.create_public_room().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(alice.send(&room, &n.to_string()).await);
    }
    alice.sync().send().await.ok();

    let path = format!("/_matrix/client/v3/rooms/{}/context/{}", encode(&room), encode(&ids[2]));
    let context = alice.get(&path).query("limit", "0").send().await.ok();
    let texts = async |page: Request| -> Vec<String> {
        let page = page.send().await.ok();
        let chunk: Vec<&Value> = page["chunk"].as_array().unwrap().iter().collect();
        bodies(&chunk).into_iter().map(str::to_owned).collect()
    };
    let (start, end) = (context["start"].as_str().unwrap(), context["end"].as_str().unwrap());
    assert_eq!(texts(alice.messages_before(&room, start, 2)).await, ["1", "0"]);
    assert_eq!(texts(alice.messages_after(&room, end, 9)).await, ["3", "4"]);
}
