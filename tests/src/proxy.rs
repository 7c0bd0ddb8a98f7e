//! The program under test: the real `syncv3` binary on a loopback port.
//!
//! With `TEST_REPLICAS=3` set, a proxy is three processes on one database, with a [`RoundRobin`] in front that gives each
//! connection to the next: no client can tell, so every test holds then as well.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::keep::{Kept, Signal};
use crate::paths;
use crate::postgres::Database;
use crate::round_robin::RoundRobin;
use crate::secrets;
use crate::shim::Shim;
use crate::wait::{PATIENCE, eventually, look_away};

/// What all proxies seal their tokens with.
pub const SECRET: &str = "the secret of the tests' proxies";

/// A proxy in front of some homeserver. Restarting keeps the port, the database and the secret.
#[derive(Debug)]
pub struct Proxy {
    server: String,
    database: Database,
    port: u16,
    /// Where each process listens.
    ports: Vec<u16>,
    directory: PathBuf,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where each process logs.
    logs: Vec<PathBuf>,
    mark: Mutex<Option<String>>,
    running: Mutex<Option<Running>>,
}

/// What runs of a proxy.
#[derive(Debug)]
struct Running {
    /// What is in front of several processes: it goes first.
    front: Option<RoundRobin>,
    processes: Vec<Kept>,
}

/// How many processes a proxy is. Clients open a connection for each request if it is more than one, so that they meet all.
pub(crate) fn replicas() -> usize {
    let Some(count) = std::env::var_os("TEST_REPLICAS") else { return 1 };
    count.to_str().and_then(|count| count.parse().ok()).expect("TEST_REPLICAS is a number")
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
        let mut proxy = Self::prepare_single(server, database, flags);
        let count = replicas();
        if count > 1 {
            proxy.ports = (0..count).map(|_| paths::free_port()).collect();
            proxy.logs = (0..count).map(|number| log(&proxy.directory, number)).collect();
        }
        proxy
    }

    /// A proxy that is one process, whatever `TEST_REPLICAS` says. It does not run yet.
    pub fn prepare_single(server: &str, database: &Database, flags: &[&str]) -> Self {
        let port = paths::free_port();
        let directory = paths::scratch("proxy");
        Self {
            server: server.to_owned(),
            database: database.clone(),
            port,
            ports: vec![port],
            logs: vec![log(&directory, 0)],
            directory,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            environment: Vec::new(),
            mark: Mutex::new(None),
            running: Mutex::new(None),
        }
    }

    /// The same, on a machine that trusts the authority of these roots alone.
    #[must_use]
    pub fn on_a_machine_that_trusts(mut self, roots: &Path) -> Self {
        self.environment.push(("SSL_CERT_FILE".to_owned(), roots.display().to_string()));
        self
    }

    /// The same, under a shim. For a proxy that does not run yet.
    #[must_use]
    pub fn under(mut self, shim: &Shim) -> Self {
        self.environment = shim.environment();
        self
    }

    /// The same, answering as a release build does: what it has in memory is not compared with the store each time. For a
    /// proxy that does not run yet.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.environment.push(("SYNCV3_TEST_UNCHECKED".to_owned(), "1".to_owned()));
        self
    }

    /// Has the next process kill itself at a marked point: `ingest::ingest/before_commit/3` is the third time that it
    /// comes there. See the store's module `mark`.
    pub fn kill_at(&self, mark: &str) {
        *self.mark.lock().unwrap() = Some(mark.to_owned());
    }

    /// Waits until the process has been killed at its mark.
    pub async fn is_killed(&self) {
        eventually("the process to come to its mark", async || {
            let status = self.exited()?;
            assert_eq!(status.signal(), Some(9), "{status}\n{}", self.log_tail());
            Some(())
        })
        .await;
        drop(self.running.lock().unwrap().take());
    }

    /// Starts the process if it has ended by itself, as a service manager does. Does not wait until it answers. Gives how
    /// it had ended.
    pub fn revive(&self) -> Option<ExitStatus> {
        let status = self.exited()?;
        self.launch();
        Some(status)
    }

    /// Starts the process without waiting until it accepts connections: what it stands on may be away.
    pub fn start_blindly(&self) {
        self.launch();
    }

    /// How many files and connections the process has open.
    pub fn open_files(&self) -> usize {
        let running = self.running.lock().unwrap();
        let processes = &running.as_ref().expect("the proxy is running").processes;
        let open = |process: &Kept| {
            std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count()
        };
        processes.iter().map(open).sum()
    }

    fn exited(&self) -> Option<ExitStatus> {
        self.running.lock().unwrap().as_mut().and_then(Running::exited)
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
        drop(self.running.lock().unwrap().take().expect("the proxy is running"));
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        let running = self.running.lock().unwrap();
        for process in &running.as_ref().expect("the proxy is running").processes {
            process.signal(signal);
        }
    }

    /// Asks the process to end, as a service manager does, and checks that it does so in time.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap().take().expect("the proxy is running");
        // The wait blocks, and the test's own clients may be what the proxy is draining.
        let stopping = running
            .processes
            .into_iter()
            .map(|process| tokio::task::spawn_blocking(move || process.stop(Signal::Term)));
        let mut ended = true;
        for stopping in stopping.collect::<Vec<_>>() {
            ended &= stopping.await.unwrap();
        }
        drop(running.front);
        assert!(ended, "the proxy does not end within ten seconds of SIGTERM\n{}", self.log_tail());
    }

    /// Starts the process again after [`Proxy::kill9`] or [`Proxy::stop`]. Returns when it was started, for those who measure.
    pub async fn start_again(&self) -> Instant {
        let started = self.launch();
        // Not written with `eventually`: its closure would keep this out of tasks.
        for port in self.ports.iter().chain([&self.port]) {
            while TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                if let Some(status) = self.exited() {
                    panic!("the proxy ended with {status}\n{}", self.log_tail());
                }
                assert!(started.elapsed() < PATIENCE, "the proxy does not accept connections");
                look_away().await;
            }
        }
        started
    }

    /// Kills the process and starts it again.
    pub async fn crash_and_restart(&self) {
        self.kill9();
        self.start_again().await;
    }

    /// What `syncv3 admin` with these arguments prints; it has to succeed.
    pub fn admin_ok(&self, args: &[&str]) -> String {
        let (code, said) = self.admin(args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        said
    }

    /// How `syncv3 admin` with these arguments ends on the proxy's database: the exit code, and what it says, which is its
    /// output if it succeeds and its complaint otherwise.
    pub fn admin(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(paths::syncv3());
        command.arg("admin").args(args);
        let output = self.run_to_its_end(command);
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    /// How `syncv3 check` with the proxy's settings ends: the exit code, and what it finds, a line for each part.
    pub fn check(&self) -> (Option<i32>, String) {
        let mut command = Command::new(paths::syncv3());
        command.args(["check", "-server", &self.server, "-secret", SECRET]);
        let output = self.run_to_its_end(command);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn run_to_its_end(&self, mut command: Command) -> Output {
        without_settings(&mut command);
        command.args(["-db", &self.database.connection_string(), "-data-dir"]);
        command.arg(&self.directory).output().unwrap()
    }

    /// The number of the process, or of the first of several.
    pub fn id(&self) -> u32 {
        let running = self.running.lock().unwrap();
        running.as_ref().expect("the proxy is running").processes[0].id()
    }

    /// The most memory that the process has ever held, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// From now on [`Proxy::peak_memory_kib`] is the most since now.
    pub fn forget_peak_memory(&self) {
        let running = self.running.lock().unwrap();
        for process in &running.as_ref().expect("the proxy is running").processes {
            // See proc(5): 5 sets the peak back to what is held.
            std::fs::write(format!("/proc/{}/clear_refs", process.id()), "5").unwrap();
        }
    }

    /// The memory that the process holds now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let running = self.running.lock().unwrap();
        let processes = &running.as_ref().expect("the proxy is running").processes;
        processes.iter().map(|process| status_kib(process.id(), name)).max().unwrap()
    }

    /// The end of the log, for the report of a failed test.
    pub fn log_tail(&self) -> String {
        let tail = |log: &PathBuf| format!("--- the proxy's log:\n{}", paths::tail(log, 80));
        self.logs.iter().map(tail).collect()
    }

    /// All that the log says.
    pub fn log_text(&self) -> String {
        let read = |log: &PathBuf| std::fs::read(log).unwrap_or_default();
        self.logs.iter().map(|log| String::from_utf8_lossy(&read(log)).into_owned()).collect()
    }

    /// The log so far, line by line.
    pub fn log_lines(&self) -> Vec<String> {
        self.log_text().lines().map(str::to_owned).collect()
    }

    fn launch(&self) -> Instant {
        let started = Instant::now();
        let processes = (0..self.ports.len()).map(|number| self.launch_one(number)).collect();
        let is_single = self.ports == [self.port];
        let front = (!is_single).then(|| RoundRobin::start(self.port, self.ports.clone()));
        *self.running.lock().unwrap() = Some(Running { front, processes });
        started
    }

    fn launch_one(&self, number: usize) -> Kept {
        secrets::register(SECRET);
        let log = File::options().create(true).append(true).open(&self.logs[number]).unwrap();
        let address = format!("127.0.0.1:{}", self.ports[number]);
        let mut command = Command::new(paths::syncv3());
        command
            .args(["-server", &self.server, "-db", &self.database.connection_string()])
            .args(["-port", &address, "-secret", SECRET, "-data-dir"])
            .arg(&self.directory)
            .args(&self.flags)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if !self.flags.iter().any(|flag| flag == "-log-level") {
            command.args(["-log-level", "debug"]);
        }
        without_settings(&mut command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(mark) = self.mark.lock().unwrap().take() {
            command.env("SYNCV3_TEST_KILL_AT", mark);
        }
        Kept::spawn(&mut command, Signal::Kill)
    }
}

/// Where a process logs: where the run collects what must tell no secrets, or beside what the process keeps.
fn log(directory: &Path, number: usize) -> PathBuf {
    secrets::log().unwrap_or_else(|| directory.join(format!("syncv3-{number}.log")))
}

/// Takes the settings of whoever runs the tests out of the environment.
fn without_settings(command: &mut Command) {
    for (name, _value) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SYNCV3_") {
            command.env_remove(name);
        }
    }
}

impl Running {
    fn exited(&mut self) -> Option<ExitStatus> {
        self.processes.iter_mut().find_map(Kept::exited)
    }
}

fn status_kib(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("the kernel reports {name}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
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
