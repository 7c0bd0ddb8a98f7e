//! `syncv3 admin` beside a running proxy: what it lists is true, and what it ends begins anew without loss.

use std::ops::Range;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tests::chain::Chain;
use tests::client::Client;
use tests::keep::{Kept, Signal};
use tests::lab::Lab;
use tests::matchers::{joined, messages, numbers};
use tests::paths;
use tests::scripted_homeserver::first_sync;
use tests::wait::{PATIENCE, eventually};

use crate::stage::Stage;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn a_session_is_listed_with_its_lag_and_ends_when_it_is_dropped() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
    let user = &*alice.user_id;
    let mut reads = alice.v3();
    reads.ask(json!({"to_device": {}})).await;
    let mut sleeps = alice.v3();
    sleeps.ask(json!({"to_device": {}})).await;
    for n in 0..3 {
        bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
    }
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(numbers(&reads.poll().await["to_device"]));
    }
    // Its next request acknowledges them.
    reads.ask(json!({})).await;

    let accounts = lines(&lab.proxy.admin_ok(&["accounts", "-user", user, "-json"]));
    assert_eq!(accounts.len(), 1, "{accounts:?}");
    assert_eq!(accounts[0]["main_device"], alice.device_id);
    assert_eq!((&accounts[0]["devices"], &accounts[0]["joined_rooms"]), (&json!(1), &json!(0)));
    let devices = lines(&lab.proxy.admin_ok(&["devices", user, "--json"]));
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert_eq!((&devices[0]["sessions"], &devices[0]["inbox"]), (&json!(2), &json!(3)));
    let sessions = lines(&lab.proxy.admin_ok(&["sessions", user, &alice.device_id, "--json"]));
    let lags: Vec<&Value> = sessions.iter().map(|session| &session["lag"]).collect();
    assert_eq!(lags, [&json!(0), &json!(3)], "{sessions:?}");
    let table = lab.proxy.admin_ok(&["sessions", user]);
    assert!(table.starts_with("DEVICE") && table.lines().count() == 3, "{table}");

    let number = sessions[1]["session_id"].to_string();
    lab.proxy.admin_ok(&["drop-session", user, &number]);

    sleeps.request(&json!({})).send().await.refused(400, "M_UNKNOWN_SYNC_SESSION");
    reads.ask(json!({})).await;
    let devices = lines(&lab.proxy.admin_ok(&["devices", user, "--json"]));
    assert_eq!((&devices[0]["sessions"], &devices[0]["inbox"]), (&json!(1), &json!(0)));
    let (code, said) = lab.proxy.admin(&["drop-session", user, &number]);
    assert!(code == Some(1) && said.contains("no session"), "{code:?} {said}");
}

#[tokio::test]
async fn nobody_and_nothing_are_named() {
    let Stage { homeserver, proxy, alice } = Stage::set().await;
    homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    alice.v2().next().await;
    let check = |args: &[&str], words: &str| {
        let (code, said) = proxy.admin(args);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!said.contains(&alice.access_token), "{said}");
    };
    for command in ["devices", "sessions", "resync"] {
        check(&[command, "@nobody:scripted"], "no user `@nobody:scripted`");
    }
    check(&["accounts", "--user", "@nobody:scripted"], "no user `@nobody:scripted`");
    check(&["sessions", &alice.user_id, "DESK"], "no device `DESK`");
    check(&["drop-v2", &alice.user_id, "DESK"], "no device `DESK`");
    check(&["drop-v2", &alice.user_id, "PHONE"], "v2 holds nothing back");
    for args in [&["accounts"][..], &["devices", &alice.user_id], &["sessions", &alice.user_id]] {
        for args in [args.to_vec(), [args, &["--json"]].concat()] {
            let said = proxy.admin_ok(&args);
            assert!(!said.contains(&alice.access_token), "{said}");
        }
    }
    let database = proxy.database().connect().await.unwrap();
    let future = "UPDATE refinery_schema_history SET version = 9999 WHERE version = 1";
    database.batch_execute(future).await.unwrap();
    check(&["accounts"], "run a newer syncv3");
}

/// A private Postgres has one owner: whoever looks meanwhile must not start a second server, nor stop the first.
#[tokio::test]
async fn beside_a_running_proxy_its_private_postgres_is_shared() {
    let directory = paths::scratch("private");
    let syncv3 = |args: &[&str]| {
        let mut command = Command::new(paths::syncv3());
        command.args(args).arg("-data-dir").arg(&directory).env_remove("SYNCV3_DB");
        command
    };
    let address = format!("127.0.0.1:{}", paths::free_port());
    let serve = ["-server", "http://127.0.0.1:1", "-port", &address, "-log-level", "error"];
    let proxy = Kept::spawn(&mut syncv3(&serve), Signal::Term);
    let listed = eventually("the proxy's Postgres to have its schema", async || {
        let mut command = syncv3(&["admin", "accounts"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    assert!(listed.starts_with("USER") && listed.lines().count() == 1, "{listed}");
    eventually("the proxy to be ready", async || {
        syncv3(&["ping", "-port", &address]).output().unwrap().status.success().then_some(())
    })
    .await;
    let pid = || std::fs::read_to_string(directory.join("postgres/postmaster.pid")).unwrap();
    let server = pid();

    let output = syncv3(&["admin", "accounts", "--json"]).output().unwrap();

    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(pid(), server, "it is the same server, and it runs on");
    let stopped = tokio::task::spawn_blocking(move || proxy.stop(Signal::Term)).await.unwrap();
    assert!(stopped, "the proxy stops its Postgres and ends");
    let output = syncv3(&["admin", "accounts"]).output().unwrap();
    assert!(output.status.success(), "without a proxy it starts one for itself: {output:?}");
}

/// A v2 client and a v3 session sync on; Bob writes before, meanwhile and after.
#[tokio::test]
async fn a_resync_beside_a_running_proxy_is_a_gap_and_loses_and_doubles_nothing() {
    let lab = Lab::with_own_proxy().await;
    let (alice, bob, room) = lab.two_in_a_room().await;
    let bob = lab.past_proxy(&bob);
    let says = async |numbers: Range<u64>| {
        for n in numbers {
            bob.send(&room, &n.to_string()).await;
            bob.send_to_device(&alice, "m.test", json!({"n": n})).await.ok();
        }
    };
    let mut session = alice.v3();
    session.ask(json!({"to_device": {}})).await;
    let mut watcher = Watcher::of(&alice, &room).await;
    says(0..3).await;
    watcher.until(3).await;
    assert_eq!(watcher.gaps, 0);

    lab.proxy.admin_ok(&["resync", &alice.user_id]);
    says(3..6).await;
    watcher.until(6).await;
    // The news may be faster than the gap.
    watcher.until_gap().await;
    says(6..9).await;
    watcher.until(9).await;

    assert_eq!(watcher.gaps, 1);
    assert_eq!(watcher.to_device, (0..9).collect::<Vec<_>>());
    let first = watcher.shown.first().copied().unwrap();
    assert_eq!(watcher.shown, (first..9).collect::<Vec<_>>(), "in order, and each once");
    assert!(first <= 3, "everything since the resync is shown: {:?}", watcher.shown);
    let mut told = Vec::new();
    session
        .until("all messages", |reply| {
            told.extend(numbers(&reply["to_device"]));
            (told.len() >= 9).then_some(())
        })
        .await;
    told.extend(numbers(&session.ask(json!({})).await["to_device"]));
    assert_eq!(told, (0..9).collect::<Vec<_>>());
}

/// A v2 client that shows one room.
struct Watcher {
    chain: Chain,
    room: String,
    /// The numbers that it shows, since the last gap.
    shown: Vec<u64>,
    to_device: Vec<u64>,
    gaps: usize,
}

impl Watcher {
    async fn of(client: &Client, room: &str) -> Self {
        let mut chain = client.v2();
        chain.next().await;
        let (shown, to_device) = (Vec::new(), Vec::new());
        Self { chain, room: room.to_owned(), shown, to_device, gaps: 0 }
    }

    async fn poll(&mut self) {
        let reply = self.chain.poll().await;
        if joined(&reply, &self.room)["timeline"]["limited"] == true {
            self.shown.clear();
            self.gaps += 1;
        }
        let told = messages(&reply, &self.room);
        self.shown.extend(told.iter().filter_map(|text| text.parse::<u64>().ok()));
        self.to_device.extend(numbers(&reply["to_device"]));
    }

    async fn until_gap(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.gaps == 0 {
            self.poll().await;
            assert!(Instant::now() < deadline, "gave up waiting for a gap");
        }
    }

    /// Polls until so many to-device messages have come, and the last message of the room.
    async fn until(&mut self, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.to_device.len() as u64 != count || self.shown.last() != Some(&(count - 1)) {
            self.poll().await;
            assert!(
                Instant::now() < deadline,
                "gave up waiting for {count}: {:?}, {:?}",
                self.shown,
                self.to_device
            );
        }
    }
}

/// The objects that `--json` prints.
fn lines(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
