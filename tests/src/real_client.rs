//! Client libraries that nobody here wrote, unmodified, and our own reference client; each in a process of its own.
//!
//! The scripts in `tests/clients` log in and sync by themselves; the reference client is given its token. Beyond that they do as they are told: a command is one
//! line of JSON, `{"do": "send", …}`, and so is its answer. A command looks at what the client has heard so far, or does
//! what its user would do. Waiting for what ought to come is done here, with [`RealClient::until`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::paths;
use crate::synapse::PASSWORD;
use crate::wait::{PATIENCE, look_away};

/// What `tests/setup` installs.
const NIO_VERSION: &str = "0.25.2";
const NODE_VERSION: &str = "24.19.0";

/// A running client. It ends with the value.
#[derive(Debug)]
pub struct RealClient {
    name: String,
    process: Child,
    /// `None` once the client has been told to end.
    commands: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    /// What the client said when it had logged in and synced for the first time.
    pub hello: Value,
}

impl RealClient {
    /// matrix-nio with encryption, on the device `device_id`. What it must remember it keeps in `store`: a second client
    /// with the same store goes on where the first one stopped.
    pub async fn nio(url: &str, user_id: &str, device_id: &str, store: &Path) -> Self {
        let mut command = Command::new(nio_python());
        command
            .arg(paths::repository().join("tests/clients/nio_encrypted.py"))
            .args([url, user_id, PASSWORD, device_id])
            .arg(store);
        Self::start(&format!("nio of {user_id} on {device_id}"), command).await
    }

    /// matrix-js-sdk with encryption, on the device `device_id`. It keeps everything in memory.
    pub async fn js_sdk(url: &str, user_id: &str, device_id: &str) -> Self {
        let client = paths::repository().join("tests/clients/js");
        let node = paths::repository().join(format!(".dev/node-{NODE_VERSION}/bin/node"));
        assert!(
            node.exists() && client.join("node_modules/installed").exists(),
            "matrix-js-sdk is not installed: run tests/setup js-sdk"
        );
        let mut command = Command::new(node);
        command.arg(client.join("client.js")).args([url, user_id, PASSWORD, device_id]);
        Self::start(&format!("js-sdk of {user_id} on {device_id}"), command).await
    }

    /// The reference client of sync v3, on the device of `client`, with pages of `limit` rooms. What it must remember it
    /// keeps in the file `store`: a second client with the same file goes on where the first one stopped, or was killed.
    pub async fn reference(client: &Client, limit: u64, store: &Path) -> Self {
        let mut command = Command::new("python3");
        command
            .arg(paths::repository().join("docs/reference-client/client.py"))
            .args(["--url", client.base(), "--token", &client.access_token])
            .args(["--first", &limit.to_string(), "--drive", "--store"])
            .arg(store)
            .env("no_proxy", "*");
        Self::start(&format!("the reference client of {}", client.user_id), command).await
    }

    /// Does a command, and returns its answer.
    pub async fn tell(&mut self, command: Value) -> Value {
        let commands = self.commands.as_mut().expect("nobody has stopped it");
        commands.write_all(format!("{command}\n").as_bytes()).await.unwrap_or_else(|error| {
            panic!("{} does not take {command}: {error}", self.name);
        });
        let answer = self.answer(&command.to_string()).await;
        assert!(
            answer["error"].is_null(),
            "{} cannot do {command}: {}",
            self.name,
            answer["error"]
        );
        answer["ok"].clone()
    }

    /// Does a command that only looks, again and again, until `find` finds something in its answer.
    pub async fn until<T>(
        &mut self,
        what: &str,
        command: Value,
        mut find: impl FnMut(&Value) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.tell(command.clone()).await;
            if let Some(found) = find(&answer) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "gave up waiting for {what}; {} answers {command} with {answer:#}",
                self.name
            );
            look_away().await;
        }
    }

    /// Lets the client end by itself, as if its user closed it.
    pub async fn stop(mut self) {
        drop(self.commands.take());
        let ended = timeout(PATIENCE, self.process.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end", self.name)).unwrap();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    async fn start(name: &str, mut command: Command) -> Self {
        let log = paths::scratch("real-client").join("client.log");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut client =
            Self { name: name.to_owned(), process, commands, answers, log, hello: Value::Null };
        client.hello = client.answer("its start").await["ok"].clone();
        client
    }

    async fn answer(&mut self, to: &str) -> Value {
        let line = timeout(PATIENCE, self.answers.next_line())
            .await
            .unwrap_or_else(|_| panic!("{} does not answer to {to}", self.name))
            .unwrap()
            .unwrap_or_else(|| panic!("{} ended at {to}", self.name));
        serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{} answers to {to} with no JSON: {line}", self.name))
    }
}

impl Drop for RealClient {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of {}:\n{}", self.name, paths::tail(&self.log, 40));
        }
    }
}

/// The Python that matrix-nio is installed for.
pub fn nio_python() -> PathBuf {
    let python = paths::repository().join(format!(".dev/nio-e2e-{NIO_VERSION}/bin/python"));
    assert!(python.exists(), "matrix-nio is not installed: run tests/setup nio");
    python
}
