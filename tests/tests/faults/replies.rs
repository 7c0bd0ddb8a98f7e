//! Replies of the homeserver that are too long for anybody.

use tests::lab::shared_postgres;
use tests::matchers::messages;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{Fault, ScriptedHomeserver, first_sync, messages_in};
use tests::wait::eventually;

const ROOM: &str = "!room:scripted";
const LARGEST: u64 = 16 * 1_024 * 1_024;

/// Hundreds of megabytes come, and are let go as soon as they are too many.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_reply_takes_no_more_memory_than_the_operator_allows() {
    let postgres = shared_postgres().await;
    let homeserver = ScriptedHomeserver::start().await;
    let largest = LARGEST.to_string();
    let flags = ["-max-reply-bytes", largest.as_str()];
    let proxy = Proxy::start_with(&homeserver.url(), &postgres.database().await, &flags).await;
    let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let mut chain = alice.v2();
    chain.next().await;
    homeserver.is_polled_with("s1").await;
    let before = proxy.peak_memory_kib();

    homeserver.next_syncs_fail(2, &Fault::Huge(400 * 1_024 * 1_024));
    // The poll that waits is answered now; the faults are for those after it.
    homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    eventually("the huge replies", async || (homeserver.faults_left() == 0).then_some(())).await;
    homeserver.on_sync(Some("s2"), &messages_in(ROOM, "s3", &["three"]));

    let told =
        |text: &'static str| move |reply: &_| messages(reply, ROOM).contains(&text).then_some(());
    chain.until("the message after them", told("three")).await;
    // A buffer that grows is copied into one of twice its size.
    let most = before + 4 * LARGEST / 1_024;
    let peak = proxy.peak_memory_kib();
    assert!(peak <= most, "{peak} KiB at the most, {before} KiB before");
}
