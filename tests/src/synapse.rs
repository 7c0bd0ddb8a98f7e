//! A real Synapse on loopback, with its data in SQLite, or in Postgres for those who measure. `tests/setup synapse`
//! installs it.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use ring::hmac;
use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::keep::{Kept, Signal};
use crate::paths;
use crate::postgres::{self, Database};
use crate::secrets;
use crate::wait::{PATIENCE, eventually_within};

/// The version that the tests are written for.
const VERSION: &str = "1.163.2";
/// The server name: the part of user IDs after the colon.
pub const SERVER_NAME: &str = "test.local";
const DATABASE: &str = "homeserver.db";
const BACKUP: &str = "homeserver.db.backup";
const SHARED_SECRET: &str = "only for tests";
/// The access token of the application service, whose users' names begin with `_bridge_`.
pub const APPLICATION_SERVICE_TOKEN: &str = "a_bridge_to_somewhere";
/// The password of every user.
pub const PASSWORD: &str = "correct horse";

/// A running Synapse. Stopping and starting keeps the port and the data.
#[derive(Debug)]
pub struct Synapse {
    port: u16,
    directory: PathBuf,
    /// Where its data is; `None`: in a file of SQLite.
    database: Option<Database>,
    process: Mutex<Option<Kept>>,
}

impl Synapse {
    /// Starts a Synapse with an empty database and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a Synapse as an operator who looks after its speed runs it, with its data in an empty database of Postgres and
    /// with larger caches, and waits until it answers.
    pub async fn start_on(database: &Database) -> Self {
        Self::start_with(Some(database.clone())).await
    }

    async fn start_with(database: Option<Database>) -> Self {
        let synapse = Self {
            port: paths::free_port(),
            directory: paths::scratch("synapse"),
            database,
            process: Mutex::new(None),
        };
        synapse.configure();
        secrets::register(PASSWORD);
        secrets::register(APPLICATION_SERVICE_TOKEN);
        synapse.start_again().await;
        synapse
    }

    /// The URL of the client API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port of the client API.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Shuts the server down.
    pub async fn stop(&self) {
        let process = self.process.lock().unwrap().take().expect("Synapse is running");
        tokio::task::spawn_blocking(move || process.stop(Signal::Term)).await.unwrap();
    }

    /// Starts the server again after [`Synapse::stop`].
    pub async fn start_again(&self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(Self::python());
        command
            .args(["-m", "synapse.app.homeserver", "-c"])
            .arg(self.directory.join("homeserver.yaml"))
            .current_dir(&self.directory)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.process.lock().unwrap() = Some(Kept::spawn(&mut command, Signal::Kill));
        let nobody = Client::anonymous(&self.url());
        // It makes its tables first, which takes a while on a busy machine.
        eventually_within(3 * PATIENCE, "Synapse to answer", async || {
            if let Some(status) = self.process.lock().unwrap().as_mut().and_then(Kept::exited) {
                panic!("Synapse ended with {status}\n{}", self.log_tail());
            }
            let reply = nobody.get("/_matrix/client/versions").try_send().await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// Keeps a copy of the database, as a backup does. For a server that is stopped, with its data in SQLite.
    pub fn back_up(&self) {
        fs::copy(self.directory.join(DATABASE), self.directory.join(BACKUP)).unwrap();
    }

    /// Puts the copy in the place of the database. For a server that is stopped, with its data in SQLite.
    pub fn restore_backup(&self) {
        for journal in ["-wal", "-shm"] {
            fs::remove_file(self.directory.join(format!("{DATABASE}{journal}"))).ok();
        }
        fs::copy(self.directory.join(BACKUP), self.directory.join(DATABASE)).unwrap();
    }

    /// Registers a user through the shared-secret admin API.
    pub async fn register(&self, localpart: &str) {
        self.register_as(localpart, false).await;
    }

    /// [`Synapse::register`] for a user who may administrate the server.
    pub async fn register_administrator(&self, localpart: &str) {
        self.register_as(localpart, true).await;
    }

    async fn register_as(&self, localpart: &str, admin: bool) {
        const PATH: &str = "/_synapse/admin/v1/register";
        let nobody = Client::anonymous(&self.url());
        let nonce = nobody.get(PATH).send().await.ok()["nonce"].as_str().unwrap().to_owned();
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SHARED_SECRET.as_bytes());
        let role = if admin { "admin" } else { "notadmin" };
        let fields = [nonce.as_str(), localpart, PASSWORD, role].join("\0");
        let mac = hmac::sign(&key, fields.as_bytes()).as_ref().iter().fold(
            String::new(),
            |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            },
        );
        let body = json!({"nonce": nonce, "username": localpart, "password": PASSWORD, "admin": admin, "mac": mac});
        let _registered: Reply = nobody.post(PATH).json(&body).send().await.expect_status(200);
    }

    /// The end of the log, for the report of a failed test.
    pub fn log_tail(&self) -> String {
        format!("--- Synapse's log:\n{}", paths::tail(&self.log(), 40))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("synapse.log")
    }

    /// The Python that Synapse is installed for.
    pub fn python() -> PathBuf {
        let python = paths::repository().join(format!(".dev/synapse-{VERSION}/bin/python"));
        assert!(python.exists(), "Synapse is not installed: run tests/setup synapse");
        python
    }

    fn configure(&self) {
        let write = |name: &str, text: String| fs::write(self.directory.join(name), text).unwrap();
        // A key that signs nothing anyone would trust: federation is off.
        write(
            "signing.key",
            "ed25519 a_test AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n".to_owned(),
        );
        write(
            "log.yaml",
            "version: 1\nhandlers: {console: {class: logging.StreamHandler}}\nroot: {level: WARNING, handlers: [console]}\n"
                .to_owned(),
        );
        let bridge = json!({
            "id": "bridge", "url": null, "as_token": APPLICATION_SERVICE_TOKEN, "hs_token": "of no use",
            "sender_localpart": "_bridge_bot", "rate_limited": false,
            "namespaces": {"users": [{"exclusive": true, "regex": "@_bridge_.*"}], "aliases": [], "rooms": []},
        });
        write("bridge.yaml", bridge.to_string());
        let unlimited = json!({"per_second": 1_000_000, "burst_count": 1_000_000});
        // JSON is YAML, so nothing needs quoting rules.
        let mut settings = json!({
            "server_name": SERVER_NAME,
            "report_stats": false,
            "suppress_key_server_warning": true,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "signing_key_path": self.directory.join("signing.key"),
            "log_config": self.directory.join("log.yaml"),
            "media_store_path": self.directory.join("media"),
            "pid_file": self.directory.join("synapse.pid"),
            "registration_shared_secret": SHARED_SECRET,
            "macaroon_secret_key": SHARED_SECRET,
            "form_secret": SHARED_SECRET,
            "public_baseurl": self.url(),
            "bcrypt_rounds": 4,
            "url_preview_enabled": false,
            "allow_guest_access": true,
            "app_service_config_files": [self.directory.join("bridge.yaml")],
            "presence": {"enabled": true},
            "database": self.database_settings(),
            "listeners": [{
                "port": self.port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false, "x_forwarded": true,
                "resources": [{"names": ["client"], "compress": false}],
            }],
            "experimental_features": {
                "msc4222_enabled": std::env::var_os("TEST_SYNAPSE_STATE_AFTER").is_some(),
            },
        });
        for limit in [
            "rc_message",
            "rc_registration",
            "rc_joins_per_room",
            "rc_room_creation",
            "rc_key_requests",
            "rc_third_party_invite",
        ] {
            settings[limit] = unlimited.clone();
        }
        settings["rc_admin_redaction"] = unlimited.clone();
        settings["rc_login"] =
            json!({"address": unlimited, "account": unlimited, "failed_attempts": unlimited});
        settings["rc_joins"] = json!({"local": unlimited, "remote": unlimited});
        settings["rc_invites"] =
            json!({"per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited});
        settings["rc_presence"] = json!({"per_user": unlimited});
        settings["rc_media_create"] = unlimited;
        if self.database.is_some() {
            // All else about caches is as it comes: 10,000 events, and what was answered kept for two minutes.
            settings["caches"] = json!({"global_factor": 2.0});
        }
        write("homeserver.yaml", settings.to_string());
    }

    fn database_settings(&self) -> Value {
        let Some(database) = &self.database else {
            return json!({"name": "sqlite3", "args": {"database": self.directory.join(DATABASE)}});
        };
        json!({"name": "psycopg2", "args": {
            "user": "postgres", "password": postgres::PASSWORD, "dbname": database.name(),
            "host": database.socket_directory(), "cp_min": 5, "cp_max": 10,
        }})
    }
}
