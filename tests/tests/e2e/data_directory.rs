//! What the program keeps in its data directory is for its own user alone.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::client::Client;
use tests::keep::{Kept, Signal};
use tests::paths;
use tests::wait::eventually;

#[tokio::test]
async fn the_private_postgres_and_the_key_are_for_their_own_users_alone() {
    let (scratch, port) = (paths::scratch("data-directory"), paths::free_port());
    let directory = scratch.join("data");
    let running = serve(&scratch, port).await;

    assert_eq!(mode(&directory.join("secret.key")), 0o600);
    assert_eq!(mode(&directory.join("postgres")), 0o700, "the cluster");
    assert_eq!(mode(&directory.join("postgres.log")), 0o600);
    let options = fs::read_to_string(directory.join("postgres/postmaster.opts")).unwrap();
    assert!(options.contains("\"listen_addresses=\""), "it listens on no port: {options}");
    assert!(options.contains("\"unix_socket_permissions=0700\""), "{options}");
    let access = fs::read_to_string(directory.join("postgres/pg_hba.conf")).unwrap();
    let rules: Vec<&str> = access.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(
        rules.iter().all(|rule| rule.starts_with("local") && rule.contains("peer")),
        "{access}"
    );
    let key = fs::read_to_string(directory.join("secret.key")).unwrap();
    let said = fs::read_to_string(scratch.join("syncv3.log")).unwrap();
    assert!(!said.contains(key.trim()), "the log tells the key");

    assert!(tokio::task::spawn_blocking(move || running.stop(Signal::Term)).await.unwrap());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// What an operator reads at the end must not look like a failure.
#[tokio::test]
async fn it_stops_with_its_postgres_without_a_complaint() {
    let (scratch, port) = (paths::scratch("data-directory"), paths::free_port());
    let running = serve(&scratch, port).await;

    assert!(tokio::task::spawn_blocking(move || running.stop(Signal::Term)).await.unwrap());

    let said = fs::read_to_string(scratch.join("syncv3.log")).unwrap();
    let (_, at_the_end) = said.split_once("stopping: ").unwrap_or_else(|| panic!("{said}"));
    assert!(at_the_end.contains("stopped"), "{said}");
    // The homeserver, which there is not, may just be looked for.
    let complaints = at_the_end
        .lines()
        .filter(|line| !line.contains("homeserver"))
        .find(|line| [" WARN ", " ERROR "].iter().any(|level| line.contains(level)));
    assert_eq!(complaints, None, "{said}");
}

/// A proxy with a private Postgres in `data`, and its log beside that, once it answers.
async fn serve(scratch: &Path, port: u16) -> Kept {
    let log = File::create(scratch.join("syncv3.log")).unwrap();
    let mut command = Command::new(paths::syncv3());
    command
        .args(["-server", "http://127.0.0.1:1", "-port", &format!("127.0.0.1:{port}")])
        .arg("-data-dir")
        .arg(scratch.join("data"))
        .stderr(log);
    let running = Kept::spawn(&mut command, Signal::Term);
    let nobody = Client::anonymous(&format!("http://127.0.0.1:{port}"));
    eventually("the proxy to answer", async || {
        let reply = nobody.get("/_syncv3/ping").try_send().await.ok()?;
        (reply.status == 200).then_some(())
    })
    .await;
    running
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}
