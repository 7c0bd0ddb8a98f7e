//! Unix sockets on both sides: clients come through a reverse proxy on the same machine, and the homeserver listens on one, too.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::client::Client;
use tests::forwarder::Forwarder;
use tests::keep::{Kept, Signal};
use tests::lab::shared_postgres;
use tests::matchers::messages;
use tests::paths;
use tests::postgres::Database;
use tests::proxy::SECRET;
use tests::scripted_homeserver::{ScriptedHomeserver, first_sync, messages_in};
use tests::secrets;
use tests::wait::eventually;
use tokio::task::spawn_blocking;

const ROOM: &str = "!room:scripted";

#[tokio::test]
async fn clients_and_the_homeserver_are_reached_over_unix_sockets() {
    let stage = Stage::set().await;
    let alice = &stage.alice;
    stage.homeserver.on_sync(None, &first_sync(&alice.user_id, ROOM, "s1", &["one"]));
    let process = stage.started().await;

    let mut chain = alice.v2();
    assert_eq!(messages(&chain.next().await, ROOM), ["one"]);
    stage.homeserver.on_sync(Some("s1"), &messages_in(ROOM, "s2", &["two"]));
    let reply = chain.until_reply("the second", |reply| !messages(reply, ROOM).is_empty()).await;
    assert_eq!(messages(&reply, ROOM), ["two"]);
    let mode = fs::metadata(&stage.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "who may enter the directory may connect");

    assert!(spawn_blocking(move || process.stop(Signal::Term)).await.unwrap());
    assert!(!stage.socket.exists(), "nobody is to try it");
}

#[tokio::test]
async fn a_socket_is_taken_from_a_process_that_was_killed_and_from_no_other() {
    let stage = Stage::set().await;
    let process = stage.started().await;

    let second = stage.command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let place = stage.socket.display().to_string();
    assert!(said.contains(&format!("cannot listen on `{place}`")), "{said}");
    stage.alice.get("/_syncv3/ping").send().await.ok();

    drop(process);
    assert!(stage.socket.exists(), "a process that was killed has left it");
    let process = stage.started().await;
    drop(process);

    // What is no socket is not ours to remove.
    fs::remove_file(&stage.socket).unwrap();
    fs::write(&stage.socket, "a letter").unwrap();
    let refused = stage.command().output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&stage.socket).unwrap(), "a letter");
}

/// A homeserver behind a socket, and a client of whatever listens on another.
struct Stage {
    homeserver: ScriptedHomeserver,
    /// Where the proxy is to listen.
    socket: PathBuf,
    upstream: PathBuf,
    database: Database,
    alice: Client,
    _wires: [Forwarder; 2],
}

impl Stage {
    async fn set() -> Self {
        let homeserver = ScriptedHomeserver::start().await;
        let directory = paths::scratch("unix-socket");
        let (socket, upstream) = (directory.join("syncv3.sock"), directory.join("homeserver.sock"));
        let to_proxy = Forwarder::to_socket(&socket).await;
        let to_homeserver = Forwarder::from_socket(&upstream, homeserver.port()).await;
        let alice = homeserver.device(&to_proxy.url(), "@alice:scripted", "PHONE");
        let database = shared_postgres().await.database().await;
        let wires = [to_proxy, to_homeserver];
        Self { homeserver, socket, upstream, database, alice, _wires: wires }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(paths::syncv3());
        let path = |path: &Path| path.display().to_string();
        command
            .args(["-server", &path(&self.upstream), "-port", &path(&self.socket)])
            .args(["-db", &self.database.connection_string(), "-secret", SECRET])
            .args(["-data-dir", &path(self.socket.parent().unwrap())]);
        command
    }

    /// A process that answers.
    async fn started(&self) -> Kept {
        let log = secrets::log().unwrap_or_else(|| self.socket.with_extension("log"));
        let process = Kept::spawn(self.command().stderr(File::create(log).unwrap()), Signal::Kill);
        eventually("the proxy to answer", async || {
            let reply = self.alice.get("/_syncv3/ping").try_send().await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
        process
    }
}
