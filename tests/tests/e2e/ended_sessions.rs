//! Sessions that end: through the proxy they are over at once, past it before long.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tests::client::{Client, Reply, Request, encode};
use tests::lab::Lab;
use tests::matchers::{messages, numbers};
use tests::synapse::PASSWORD;
use tests::wait::look_away;
use tokio::task::JoinHandle;

/// How soon a request has to end that need not wait for any poll.
const AT_ONCE: Duration = Duration::from_secs(15);
/// How long a token that was revoked past the proxy may still be good. Some for the machine on top.
const BEFORE_LONG: Duration = Duration::from_secs(33);

#[tokio::test]
async fn a7_a_token_that_was_logged_out_is_refused_at_once() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let waiting = [waits(&alice).await, waits(&laptop).await];

    alice.logout().await.ok();

    alice.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    laptop.sync().send().await.ok();
    let [phones, laptops] = waiting;
    ends_with_401(phones, AT_ONCE).await;
    assert!(!laptops.is_finished(), "the other device goes on");

    laptop.post("/_matrix/client/v3/logout/all").json(&json!({})).send().await.ok();
    laptop.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    ends_with_401(laptops, AT_ONCE).await;
}

#[tokio::test]
async fn a7_a_token_that_was_logged_out_past_the_proxy_is_refused_before_long() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let waiting = [waits(&alice).await, waits(&laptop).await];
    let session = {
        let mut session = alice.v3();
        session.ask(json!({})).await;
        tokio::spawn(session.request(&json!({})).timeout(60_000).send())
    };

    let revoked = Instant::now();
    lab.past_proxy(&alice).logout().await.ok();
    lab.past_proxy(&laptop).logout().await.ok();

    // The phone runs the main poll, the laptop a light one: both hang at the homeserver.
    for request in waiting {
        ends_with_401(request, BEFORE_LONG.saturating_sub(revoked.elapsed())).await;
    }
    let left = BEFORE_LONG.saturating_sub(revoked.elapsed());
    let reply = tokio::time::timeout(left, session).await.expect("the v3 session ends too");
    reply.unwrap().refused(401, "M_UNKNOWN_TOKEN");
    alice.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    laptop.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
}

/// Nobody tells the proxy, and some of these requests never wait: each way to ask hears of it in time.
#[tokio::test]
async fn what_an_administrator_ends_is_refused_before_long_whatever_it_asks_for() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let (laptop, tablet) = (lab.second_device(&alice).await, lab.user("tablet").await);
    let admin = lab.administrator().await;
    let requests =
        [
            waits(&alice).await,
            asks(&alice, |client| async move { client.sync().send().await }),
            asks(&laptop, |client| async move { client.sync().send().await }),
            asks(&tablet, |client| async move {
                client.v3_sync(&json!({"to_device": {}})).send().await
            }),
            waits_in_v3(&tablet).await,
            asks(&laptop, |client| async move {
                client.get("/_matrix/client/v3/pushrules/").send().await
            }),
        ];

    let revoked = Instant::now();
    for device in [&alice, &laptop, &tablet] {
        let (user_id, device_id) = (encode(&device.user_id), encode(&device.device_id));
        let path = format!("/_synapse/admin/v2/users/{user_id}/devices/{device_id}");
        admin.request(Method::DELETE, &path).send().await.ok();
    }

    for request in requests {
        ends_with_401(request, BEFORE_LONG.saturating_sub(revoked.elapsed())).await;
    }
}

#[tokio::test]
async fn b2_a_deleted_device_is_over_when_the_homeserver_says_so() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    alice.sync().send().await.ok();
    let waiting = waits(&laptop).await;
    let path = format!("/_matrix/client/v3/devices/{}", encode(&laptop.device_id));
    let delete = || alice.request(Method::DELETE, &path);

    let challenge = delete().json(&json!({})).send().await.expect_status(401).json;
    laptop.sync().send().await.ok();
    assert!(!waiting.is_finished(), "a challenge ends nothing");

    delete().json(&json!({"auth": auth(&alice, &challenge)})).send().await.ok();
    ends_with_401(waiting, AT_ONCE).await;
    laptop.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    alice.sync().send().await.ok();
    let devices = lab.proxy.database().count("SELECT COUNT(*) FROM devices").await;
    assert_eq!(devices, 1, "nothing of the deleted device is kept");
}

#[tokio::test]
async fn b2_deleted_devices_are_those_that_the_body_lists() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let tablet = lab.second_device(&laptop).await;
    alice.sync().send().await.ok();
    let waiting = [waits(&laptop).await, waits(&tablet).await];

    let body = json!({"devices": [laptop.device_id, tablet.device_id]});
    let deletion = alice.post("/_matrix/client/v3/delete_devices");
    authenticated(&alice, deletion, body).await.ok();

    for request in waiting {
        ends_with_401(request, AT_ONCE).await;
    }
    tablet.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    alice.sync().send().await.ok();
    assert_eq!(lab.proxy.database().count("SELECT COUNT(*) FROM devices").await, 1);
}

/// The device that deletes is not the one that is known: its own token never synced.
#[tokio::test]
async fn b2_a_device_is_deleted_by_one_that_never_synced() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let newcomer = lab.second_device(&alice).await;
    let waiting = waits(&alice).await;

    let body = json!({"devices": [alice.device_id]});
    let deletion = newcomer.post("/_matrix/client/v3/delete_devices");
    authenticated(&newcomer, deletion, body).await.ok();

    ends_with_401(waiting, AT_ONCE).await;
}

/// Whoever cannot be looked up is known here all the same. Who waited with such a token asks about it at once; it is answered
/// with an error of whatever kind, since the store still fails. Of one process: while the store fails, none knows what only
/// others do.
#[tokio::test]
async fn a_store_that_fails_keeps_nobody_signed_in() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    let database = lab.proxy.database().connect().await.unwrap();
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        database.batch_execute(&sql).await.unwrap();
    };
    let mut waiting = Vec::new();
    for device in [&laptop, &alice] {
        // Nothing that happens here is news to it.
        let mut session = device.on_new_connections().v3();
        session.ask(json!({"typing": {"room_id": room}})).await;
        waiting.push(tokio::spawn(session.request(&json!({})).timeout(60_000).send()));
    }
    let [laptops, phones] = <[_; 2]>::try_from(waiting).unwrap();
    let is_over = async |request: JoinHandle<Reply>| {
        let reply = tokio::time::timeout(AT_ONCE, request).await.expect("it goes on");
        assert!([401, 500].contains(&reply.unwrap().status));
    };

    rename("devices", "away").await;
    let path = format!("/_matrix/client/v3/devices/{}", encode(&laptop.device_id));
    authenticated(&alice, alice.request(Method::DELETE, &path), json!({})).await.ok();
    is_over(laptops).await;
    assert!(!phones.is_finished(), "the other device goes on");
    alice.post("/_matrix/client/v3/logout/all").json(&json!({})).send().await.ok();
    is_over(phones).await;

    rename("away", "devices").await;
    for ended in [&alice, &laptop] {
        ended.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    }
}

/// A device with a new token ends itself with the first request that it makes with that.
#[tokio::test]
async fn a_logout_with_a_token_that_is_new_forgets_the_device() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    alice.v3().ask(json!({"to_device": {}})).await;
    let again = lab.log_in_again(&alice).await;
    let devices = async || lab.proxy.database().count("SELECT COUNT(*) FROM devices").await;
    assert_eq!(devices().await, 1);

    again.post("/_matrix/client/v3/logout").json(&json!({})).send().await.ok();

    assert_eq!(devices().await, 0);
}

/// Neither memory nor the store says whose the token is that ends them all: the homeserver does.
#[tokio::test]
async fn a_store_that_fails_keeps_nobody_signed_in_whom_an_unknown_token_ends() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let tablet = lab.second_device(&alice).await;
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    let waiting = tokio::spawn(session.request(&json!({})).timeout(60_000).send());
    let database = lab.proxy.database().connect().await.unwrap();
    for table in ["access_tokens", "devices"] {
        database
            .batch_execute(&format!("ALTER TABLE {table} RENAME TO away_{table}"))
            .await
            .unwrap();
    }

    tablet.post("/_matrix/client/v3/logout/all").json(&json!({})).send().await.ok();

    let reply = tokio::time::timeout(AT_ONCE, waiting).await.expect("it goes on").unwrap();
    assert!([401, 500].contains(&reply.status), "{}", reply.body_text());
}

#[tokio::test]
async fn b2_a_new_password_ends_the_other_sessions_unless_told_otherwise() {
    let lab = Lab::shared().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    alice.sync().send().await.ok();
    let waiting = waits(&laptop).await;
    let change = |logout_devices: Value| {
        let mut body = json!({"new_password": PASSWORD});
        if !logout_devices.is_null() {
            body["logout_devices"] = logout_devices;
        }
        let request = alice.post("/_matrix/client/v3/account/password");
        authenticated(&alice, request, body)
    };

    change(json!(false)).await.ok();
    laptop.sync().send().await.ok();
    assert!(!waiting.is_finished(), "the other session goes on");

    change(Value::Null).await.ok();
    ends_with_401(waiting, AT_ONCE).await;
    laptop.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    alice.sync().send().await.ok();
}

#[tokio::test]
async fn b2_of_a_deactivated_user_nothing_is_kept() {
    let lab = Lab::with_own_proxy().await;
    let alice = lab.user("alice").await;
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    alice.send(&room, "remember me").await;
    let waiting = [waits(&alice).await, waits(&laptop).await];

    let deactivation = alice.post("/_matrix/client/v3/account/deactivate");
    authenticated(&alice, deactivation, json!({"erase": true})).await.ok();

    for request in waiting {
        ends_with_401(request, AT_ONCE).await;
    }
    alice.sync().send().await.refused(401, "M_UNKNOWN_TOKEN");
    for table in ["accounts", "devices", "access_tokens", "timeline_events", "account_rooms"] {
        let left = lab.proxy.database().count(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(left, 0, "{table}");
    }
}

/// The main poll's device is logged out while a message for the other one is on its way: nothing is lost and
/// nothing comes twice when that one takes over.
#[tokio::test]
async fn c1_another_device_takes_over_without_losing_or_doubling_anything() {
    let lab = Lab::shared().await;
    let (alice, bob) = (lab.user("alice").await, lab.user("bob").await);
    let laptop = lab.second_device(&alice).await;
    let room = alice.create_public_room().await;
    bob.join(&room).await.ok();
    alice.sync().send().await.ok();
    // However long the handover takes, no message is beyond the limit.
    let mut chain = laptop.v2().filtered(json!({"room": {"timeline": {"limit": 100}}}));
    chain.next().await;
    let sending = {
        let (bob, laptop, room) = (bob.on_new_connections(), laptop.clone(), room.clone());
        tokio::spawn(async move {
            for n in 0..40 {
                bob.send_to_device(&laptop, "m.test", json!({"n": n})).await.ok();
                bob.send(&room, &n.to_string()).await;
            }
        })
    };
    let (mut texts, mut to_device) = (Vec::new(), Vec::new());
    let mut takes = |reply: &Value| {
        texts.extend(messages(reply, &room).iter().map(|&text| text.to_owned()));
        to_device.extend(numbers(&reply["to_device"]));
        (texts.len(), to_device.len())
    };
    chain.until("the first of them", |reply| (takes(reply) > (0, 0)).then_some(())).await;

    alice.logout().await.ok();

    chain
        .until("all of them", |reply| {
            let (texts, to_device) = takes(reply);
            (texts >= 40 && to_device >= 40).then_some(())
        })
        .await;
    sending.await.unwrap();
    takes(&chain.next().await);
    assert_eq!(to_device, (0..40).collect::<Vec<_>>());
    assert_eq!(texts, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// A loop of requests that wait for a minute. It ends with the first that is not answered with 200.
async fn waits(client: &Client) -> JoinHandle<Reply> {
    let filter = json!({"presence": {"types": []}, "room": {"rooms": []}});
    let mut chain = client.on_new_connections().v2().filtered(filter);
    chain.next().await;
    tokio::spawn(async move {
        loop {
            let reply = chain.request().timeout(60_000).send().await;
            if reply.status != 200 {
                return reply;
            }
            chain.absorb(&reply.json);
        }
    })
}

/// The same with a session of v3.
async fn waits_in_v3(client: &Client) -> JoinHandle<Reply> {
    let mut session = client.on_new_connections().v3();
    session.ask(json!({"to_device": {}})).await;
    tokio::spawn(async move {
        loop {
            let reply = session.request(&json!({})).timeout(60_000).send().await;
            if reply.status != 200 {
                return reply;
            }
            session.absorb(&reply.json);
        }
    })
}

/// A loop of requests that do not wait. It ends with the first that is not answered with 200.
fn asks<F>(client: &Client, ask: impl Fn(Client) -> F + Send + 'static) -> JoinHandle<Reply>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let client = client.on_new_connections();
    tokio::spawn(async move {
        loop {
            let reply = ask(client.clone()).await;
            if reply.status != 200 {
                return reply;
            }
            look_away().await;
        }
    })
}

async fn ends_with_401(request: JoinHandle<Reply>, within: Duration) {
    let reply = tokio::time::timeout(within, request).await;
    reply
        .unwrap_or_else(|_| panic!("it still waits after {within:?}"))
        .unwrap()
        .refused(401, "M_UNKNOWN_TOKEN");
}

/// Sends a request that has to be authenticated by password as well.
async fn authenticated(user: &Client, request: Request, mut body: Value) -> Reply {
    let challenge = request.clone().json(&body).send().await.expect_status(401).json;
    body["auth"] = auth(user, &challenge);
    request.json(&body).send().await
}

fn auth(user: &Client, challenge: &Value) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user.user_id},
        "password": PASSWORD,
        "session": challenge["session"],
    })
}
