//! The demo of `cmd/run -demo`, from where the script has built and installed everything.

use std::process::Stdio;

use tests::paths;
use tests::synapse::Synapse;
use tokio::process::Command;

#[tokio::test]
async fn the_demo_shows_a_first_sync_of_each_stream_and_ends_in_order() {
    let demo = Command::new(Synapse::python())
        .arg(paths::repository().join("cmd/demo.py"))
        .arg("--program")
        .arg(paths::syncv3())
        .arg("-once")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();

    let printed = String::from_utf8_lossy(&demo.stdout);
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.success(), "the demo failed with {}: {said}\n{printed}", demo.status);
    let with_events = ["room", "room_members", "typing", "account_data", "presence", "to_device"];
    let without = ["room_list", "receipts", "invites", "e2ee"];
    for stream in with_events.iter().chain(&without) {
        let heading = format!("first sync of `{stream}`");
        let (_before, part) =
            printed.split_once(&heading).unwrap_or_else(|| panic!("no {heading}: {printed}"));
        let part = part.split("first sync of").next().unwrap_or_default();
        let (_request, reply) =
            part.split_once("200 OK").unwrap_or_else(|| panic!("no reply: {part}"));
        assert!(reply.contains(&format!("\"{stream}\": {{")), "{reply}");
        assert_eq!(
            reply.contains("\"events\": ["),
            with_events.contains(stream) || *stream == "invites",
            "{reply}"
        );
    }
}
