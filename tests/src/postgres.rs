//! A private Postgres: initialised in a scratch directory, reachable by a Unix socket, and by TLS where a test asks for it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use crate::authority::Certificate;
use crate::keep::{Kept, Signal};
use crate::paths;
use crate::secrets;
use crate::shim::Shim;
use crate::wait::eventually;

/// Nobody asks for it, but no log may tell it.
pub const PASSWORD: &str = "password_of_the_tests_database";

/// The port of a server to which nobody comes over TCP.
const PORT: u16 = 5432;

/// A running Postgres server.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    /// What its socket is named after, and where it listens on loopback if it speaks TLS.
    port: u16,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    process: Mutex<Option<Kept>>,
}

/// An empty database on a [`Postgres`].
#[derive(Debug, Clone)]
pub struct Database {
    name: String,
    socket_directory: PathBuf,
    port: u16,
    /// The rest of the connection string for those who do not come through the socket.
    over_tls: Option<String>,
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

    /// A server that speaks TLS on loopback with this certificate: see [`Database::over_tls`].
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        let mut postgres = Self::prepare(&["listen_addresses=127.0.0.1", "ssl=on"], Vec::new());
        postgres.port = paths::free_port();
        postgres.initialise(&[]);
        for (setting, file) in
            [("ssl_cert_file", &certificate.certificate), ("ssl_key_file", &certificate.key)]
        {
            // It refuses a key that is another user's, or that others may read.
            let own = postgres.directory.join(setting);
            fs::copy(file, &own).unwrap();
            fs::set_permissions(&own, Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = unprivileged() {
                chown(&own, Some(user), Some(group)).unwrap();
            }
            postgres.settings.push(format!("{setting}={}", own.display()));
        }
        postgres.begin().await
    }

    /// A server that is reached on loopback as well, and speaks no TLS there.
    pub async fn start_on_loopback() -> Self {
        let mut postgres = Self::prepare(&["listen_addresses=127.0.0.1"], Vec::new());
        postgres.port = paths::free_port();
        postgres.initialise(&[]);
        postgres.begin().await
    }

    async fn start_in(
        settings: &[&str],
        environment: Vec<(String, String)>,
        initialisation: &[&str],
    ) -> Self {
        let postgres = Self::prepare(settings, environment);
        postgres.initialise(initialisation);
        postgres.begin().await
    }

    fn prepare(settings: &[&str], environment: Vec<(String, String)>) -> Self {
        Self {
            binaries: binaries(),
            directory: paths::scratch("postgres"),
            port: PORT,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            environment,
            process: Mutex::new(None),
        }
    }

    async fn begin(self) -> Self {
        self.launch();
        self.accepts_connections().await;
        self
    }

    /// Creates a fresh database.
    pub async fn database(&self) -> Database {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("syncv3_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        let administrator = self.administrative().connect().await.unwrap();
        administrator.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { name, ..self.administrative() }
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
            .args(["-c", &format!("port={}", self.port)])
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
        Database {
            name: "postgres".to_owned(),
            socket_directory: self.directory.clone(),
            port: self.port,
            over_tls: None,
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }
}

impl Database {
    /// What it is called on its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the server's socket is.
    pub fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }

    /// The same database, reached through a socket in another directory.
    #[must_use]
    pub fn through(&self, socket_directory: &Path) -> Self {
        Self { socket_directory: socket_directory.to_owned(), ..self.clone() }
    }

    /// The same database for those who come over TCP, with `sslmode` and what else of TLS the connection string says: of a
    /// server of [`Postgres::start_with_tls`].
    #[must_use]
    pub fn over_tls(&self, parameters: &str) -> Self {
        Self { over_tls: Some(parameters.to_owned()), ..self.clone() }
    }

    /// The libpq connection string, as users write it.
    pub fn connection_string(&self) -> String {
        match &self.over_tls {
            Some(parameters) => self.string("127.0.0.1", parameters),
            None => self.through_the_socket(),
        }
    }

    fn through_the_socket(&self) -> String {
        self.string(&self.socket_directory.display().to_string(), "sslmode=disable")
    }

    fn string(&self, host: &str, of_tls: &str) -> String {
        secrets::register(PASSWORD);
        let (port, name) = (self.port, &self.name);
        format!("host={host} port={port} user=postgres password={PASSWORD} dbname={name} {of_tls}")
    }

    /// A connection for looking into the tables, through the socket. It lives as long as the runtime of the calling test.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) =
            tokio_postgres::connect(&self.through_the_socket(), NoTls).await?;
        // The connection ends with an error when a test stops Postgres; the client then reports it where it matters.
        tokio::spawn(async move { connection.await.ok() });
        Ok(client)
    }

    /// Keeps a copy of the database as it is now. Nobody may be connected to it.
    pub async fn back_up(&self) {
        let sql = format!("CREATE DATABASE {0}_backup TEMPLATE {0}", self.name);
        self.administrator().await.batch_execute(&sql).await.unwrap();
    }

    /// The database is again as [`Database::back_up`] found it.
    pub async fn restore_backup(&self) {
        let administrator = self.administrator().await;
        let gone = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        administrator.batch_execute(&gone).await.unwrap();
        let restored = format!("ALTER DATABASE {0}_backup RENAME TO {0}", self.name);
        administrator.batch_execute(&restored).await.unwrap();
    }

    async fn administrator(&self) -> Client {
        let beside = Self { name: "postgres".to_owned(), ..self.clone() };
        beside.connect().await.unwrap()
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
