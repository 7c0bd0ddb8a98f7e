//! The program under test: the real `syncv3` binary on a loopback port.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::keep::{Kept, Signal};
use crate::paths;
use crate::postgres::Database;
use crate::secrets;
use crate::wait::{PATIENCE, look_away};

/// What all proxies seal their tokens with.
pub const SECRET: &str = "the secret of the tests' proxies";

/// A proxy in front of some homeserver. Restarting keeps the port, the database and the secret.
#[derive(Debug)]
pub struct Proxy {
    server: String,
    database: Database,
    port: u16,
    directory: PathBuf,
    flags: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    log: PathBuf,
    process: Mutex<Option<Kept>>,
}

impl Proxy {
    /// Starts a proxy for the homeserver at `server` and waits until it accepts connections.
    pub async fn start(server: &str, database: &Database) -> Self {
        Self::start_with(server, database, &[]).await
    }

    /// [`Proxy::start`] with more flags.
    pub async fn start_with(server: &str, database: &Database, flags: &[&str]) -> Self {
        let proxy = Self::prepare(server, database, flags);
        proxy.start_again().await;
        proxy
    }

    /// A proxy that does not run yet.
    pub fn prepare(server: &str, database: &Database, flags: &[&str]) -> Self {
        let directory = paths::scratch("proxy");
        Self {
            server: server.to_owned(),
            database: database.clone(),
            port: paths::free_port(),
            log: secrets::log().unwrap_or_else(|| directory.join("syncv3.log")),
            directory,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            environment: Vec::new(),
            process: Mutex::new(None),
        }
    }

    /// The same, on a machine that trusts the authority of these roots alone.
    #[must_use]
    pub fn on_a_machine_that_trusts(mut self, roots: PathBuf) -> Self {
        self.environment.push(("SSL_CERT_FILE", roots));
        self
    }

    /// The URL that clients use as their homeserver's.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `host:port`, for clients that speak TCP themselves.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where this proxy keeps what it knows.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Ends the process with SIGKILL: it gets no chance to finish anything.
    pub fn kill9(&self) {
        drop(self.process.lock().unwrap().take().expect("the proxy is running"));
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.lock().unwrap().as_ref().expect("the proxy is running").signal(signal);
    }

    /// Asks the process to end, as a service manager does, and checks that it does so in time.
    pub async fn stop(&self) {
        let process = self.process.lock().unwrap().take().expect("the proxy is running");
        // The wait blocks, and the test's own clients may be what the proxy is draining.
        let ended = tokio::task::spawn_blocking(move || process.stop(Signal::Term)).await.unwrap();
        assert!(ended, "the proxy does not end within ten seconds of SIGTERM\n{}", self.log_tail());
    }

    /// Starts the process again after [`Proxy::kill9`] or [`Proxy::stop`]. Returns when it was started, for those who measure.
    pub async fn start_again(&self) -> Instant {
        let started = self.launch();
        // Not written with `eventually`: its closure would keep this out of tasks.
        while TcpStream::connect(self.address()).await.is_err() {
            if let Some(status) = self.process.lock().unwrap().as_mut().and_then(Kept::exited) {
                panic!("the proxy ended with {status}\n{}", self.log_tail());
            }
            assert!(started.elapsed() < PATIENCE, "the proxy does not accept connections");
            look_away().await;
        }
        started
    }

    /// Kills the process and starts it again.
    pub async fn crash_and_restart(&self) {
        self.kill9();
        self.start_again().await;
    }

    /// The most memory that the process has ever held, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// The memory that the process holds now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let id = self.process.lock().unwrap().as_ref().expect("the proxy is running").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("the kernel reports {name}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The log so far, line by line.
    pub fn log_lines(&self) -> Vec<String> {
        self.log_text().lines().map(str::to_owned).collect()
    }

    /// The end of the log, for the report of a failed test.
    pub fn log_tail(&self) -> String {
        format!("--- the proxy's log:\n{}", paths::tail(&self.log, 80))
    }

    /// All that the log says.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn launch(&self) -> Instant {
        secrets::register(SECRET);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(paths::syncv3());
        command
            .args(["-server", &self.server, "-db", &self.database.connection_string()])
            .args(["-port", &self.address(), "-secret", SECRET, "-data-dir"])
            .arg(&self.directory)
            .args(&self.flags)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if !self.flags.iter().any(|flag| flag == "-log-level") {
            command.args(["-log-level", "debug"]);
        }
        for (name, _value) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SYNCV3_") {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        let started = Instant::now();
        *self.process.lock().unwrap() = Some(Kept::spawn(&mut command, Signal::Kill));
        started
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}

/// How soon a cold start must answer its first request.
pub const COLD_START: Duration = Duration::from_secs(1);
