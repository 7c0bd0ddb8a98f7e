//! Client libraries that nobody here wrote, unmodified: matrix-nio and matrix-js-sdk.

mod encryption;
mod js_sdk;

use std::process::Stdio;

use serde_json::{Value, json};
use tests::lab::Lab;
use tests::matchers::{joined, messages};
use tests::paths;
use tests::real_client::nio_python;
use tests::synapse::PASSWORD;
use tokio::process::Command;

#[tokio::test]
async fn matrix_nio_logs_in_syncs_sends_and_receives() {
    let lab = Lab::shared().await;
    let bob = lab.user("bob").await;
    let alice = lab.user("alice").await;
    let known = bob.create_room(json!({"preset": "public_chat", "name": "Known before"})).await;
    alice.join(&known).await.ok();
    bob.send(&known, "written before nio came").await;
    let invited =
        bob.create_room(json!({"preset": "private_chat", "invite": [alice.user_id]})).await;
    let mut chain = bob.v2();
    chain.until("the rooms", |reply| joined(reply, &known).is_object().then_some(())).await;

    let nio = Command::new(nio_python())
        .arg(paths::repository().join("tests/clients/nio_client.py"))
        .args([&lab.url(), &alice.user_id, PASSWORD, &known, &invited])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let greeting = chain
        .until("nio's greeting", |reply| {
            messages(reply, &invited).first().map(|&text| text.to_owned())
        })
        .await;
    assert_eq!(greeting, "hello from nio");
    bob.send(&invited, "hello nio").await;

    let output = nio.wait_with_output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "the client failed with {}: {printed}", output.status);
    let report: Value =
        serde_json::from_str(&printed).unwrap_or_else(|_| panic!("not a report: {printed}"));
    assert_eq!(report["user_id"], alice.user_id.as_str());
    assert_eq!(report["errors"], json!([]));
    assert_eq!(report["joined_at_first"], json!([known]));
    assert_eq!(report["invited_at_first"], json!([invited]));
    assert_eq!(report["room_name"], "Known before");
    let members: Vec<&str> =
        report["members"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        members.contains(&bob.user_id.as_str()) && members.contains(&alice.user_id.as_str()),
        "{members:?}"
    );
    let received = report["received"].as_array().unwrap();
    let times = |text: &str| received.iter().filter(|got| *got == text).count();
    assert_eq!(times("written before nio came"), 1, "{received:?}");
    assert_eq!(times("hello from nio"), 1, "{received:?}");
    assert_eq!(times("hello nio"), 1, "{received:?}");
}
