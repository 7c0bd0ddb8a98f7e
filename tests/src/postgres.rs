//! A private Postgres: initialised in a scratch directory, reachable by a Unix socket only.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use crate::keep::{Kept, Signal};
use crate::paths;
use crate::secrets;
use crate::shim::Shim;
use crate::wait::eventually;

/// Nobody asks for it, but no log may tell it.
pub const PASSWORD: &str = "password_of_the_tests_database";

/// A running Postgres server.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    process: Mutex<Option<Kept>>,
}

/// An empty database on a [`Postgres`].
#[derive(Debug, Clone)]
pub struct Database {
    name: String,
    socket_directory: PathBuf,
}

impl Postgres {
    /// Initialises and starts a server, and waits until it accepts connections.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// [`Postgres::start`] with more settings, each as `name=value`.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_in(settings, Vec::new(), &[]).await
    }

    /// A server under a shim, with write-ahead logs so small that a full disk meets them before long.
    pub async fn start_under(shim: &Shim) -> Self {
        let settings = ["min_wal_size=2MB", "max_wal_size=4MB"];
        Self::start_in(&settings, shim.environment(), &["--wal-segsize=1"]).await
    }

    async fn start_in(
        settings: &[&str],
        environment: Vec<(String, String)>,
        initialisation: &[&str],
    ) -> Self {
        let postgres = Self {
            binaries: binaries(),
            directory: paths::scratch("postgres"),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            environment,
            process: Mutex::new(None),
        };
        postgres.initialise(initialisation);
        postgres.launch();
        postgres.accepts_connections().await;
        postgres
    }

    /// Creates a fresh database.
    pub async fn database(&self) -> Database {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("syncv3_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let administrator = self.administrative().connect().await.unwrap();
        administrator.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { name, socket_directory: self.directory.clone() }
    }

    /// The number of the server's first process, the parent of all others.
    pub fn id(&self) -> u32 {
        self.process.lock().unwrap().as_ref().expect("Postgres is running").id()
    }

    /// Shuts the server down, disconnecting everyone.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap().take().expect("Postgres is running");
        assert!(process.stop(Signal::Int), "Postgres does not shut down");
    }

    /// Starts the server again after [`Postgres::stop`], on the same data.
    pub async fn start_again(&self) {
        self.launch();
        self.accepts_connections().await;
    }

    /// Ends the server and all its processes at once; what it had not written is in its log.
    pub fn kill9(&self) {
        // SIGQUIT is Postgres' own word for it: SIGKILL would leave children that hold the data directory.
        let process = self.process.lock().unwrap().take().expect("Postgres is running");
        assert!(process.stop(Signal::Quit), "Postgres does not end");
    }

    /// Starts the server if it has ended by itself, as a service manager does. Does not wait until it answers.
    pub fn revive(&self) -> Option<ExitStatus> {
        let status = self.process.lock().unwrap().as_mut().and_then(Kept::exited)?;
        self.launch();
        Some(status)
    }

    /// The end of the log, for the report of a failed test.
    pub fn log_tail(&self) -> String {
        format!("--- Postgres' log:\n{}", paths::tail(&self.log(), 40))
    }

    fn initialise(&self, arguments: &[&str]) {
        if let Some((user, group)) = unprivileged() {
            chown(&self.directory, Some(user), Some(group)).unwrap();
        }
        let output = self
            .command("initdb")
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .args(arguments)
            .arg("--pgdata")
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn launch(&self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.directory)
            // The machine does not lose power in these tests, so waiting for the disk would only cost time.
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.process.lock().unwrap() = Some(Kept::spawn(&mut command, Signal::Quit));
    }

    async fn accepts_connections(&self) {
        let database = self.administrative();
        eventually("Postgres to accept connections", async || {
            if let Some(status) = self.process.lock().unwrap().as_mut().and_then(Kept::exited) {
                panic!("Postgres ended with {status}:\n{}", paths::tail(&self.log(), 20));
            }
            database.connect().await.ok()
        })
        .await;
    }

    /// Postgres refuses to run as root, so root drops to an unprivileged user for it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.directory);
        if let Some((user, group)) = unprivileged() {
            command.uid(user).gid(group);
        }
        command
    }

    fn administrative(&self) -> Database {
        Database { name: "postgres".to_owned(), socket_directory: self.directory.clone() }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }
}

impl Database {
    /// Where the server's socket is.
    pub fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }

    /// The same database, reached through a socket in another directory.
    #[must_use]
    pub fn through(&self, socket_directory: &Path) -> Self {
        Self { socket_directory: socket_directory.to_owned(), ..self.clone() }
    }

    /// The libpq connection string, as users write it.
    pub fn connection_string(&self) -> String {
        secrets::register(PASSWORD);
        format!(
            "host={} user=postgres password={PASSWORD} dbname={} sslmode=disable",
            self.socket_directory.display(),
            self.name
        )
    }

    /// A connection for looking into the tables. It lives as long as the runtime of the calling test.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) =
            tokio_postgres::connect(&self.connection_string(), NoTls).await?;
        // The connection ends with an error when a test stops Postgres; the client then reports it where it matters.
        tokio::spawn(async move { connection.await.ok() });
        Ok(client)
    }

    /// The result of a query for one number.
    pub async fn count(&self, query: &str) -> i64 {
        self.connect().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
    }
}

/// The directory of `initdb` and `postgres`: in the search path, or where Debian keeps each version (the newest wins).
fn binaries() -> PathBuf {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    std::env::split_paths(&search_path)
        .chain(versions.into_iter().rev().map(|(_version, directory)| directory))
        .find(|directory| directory.join("initdb").exists() && directory.join("postgres").exists())
        .expect("Postgres is not installed: run tests/setup postgres")
}

/// The user and group that root gives Postgres to; `None` for everybody else, who keep it themselves.
fn unprivileged() -> Option<(u32, u32)> {
    let am_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    am_root.then(|| {
        let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| {
                let fields: Vec<&str> = users
                    .lines()
                    .map(|line| line.split(':').collect::<Vec<_>>())
                    .find(|fields| fields[0] == *name)?;
                Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
            })
            .expect("there is a user `postgres` or `nobody`")
    })
}
