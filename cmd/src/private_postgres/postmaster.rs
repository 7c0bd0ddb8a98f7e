//! Runs the server of a cluster: starts it, adopts it, waits for it, stops it.
//!
//! The server is in a process group of its own, so that Ctrl-C in a terminal reaches us alone and we
//! can drain before it goes.

mod pid_file;

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom, SystemRandom};

use self::pid_file::PidFile;
use super::{
    Error,
    account::Account,
    binaries::Binaries,
    cluster::{self, Cluster, file, make_private_directory, run},
};

/// Crash recovery replays what was written since the last checkpoint, which can take minutes.
const START_LIMIT: Duration = Duration::from_mins(5);
const PAUSE: Duration = Duration::from_millis(50);
/// A start that fails while processes of a killed server still end is tried again.
const START_ATTEMPTS: usize = 5;
/// The kernel keeps a socket's path in 108 bytes, the last of which is a zero.
const MAX_SOCKET_PATH: usize = 107;
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// A server that was started or adopted.
#[derive(Debug)]
pub(super) struct Postmaster {
    cluster: Cluster,
    binaries: Binaries,
    account: Account,
    max_connections: usize,
    socket_dir: PathBuf,
    /// `None` where the server was adopted: then it is not our child.
    child: Option<Child>,
}

/// The socket directory of the server that runs on a data directory, if one does.
pub(super) fn running_socket_dir(data_dir: &Path) -> Option<PathBuf> {
    PidFile::read(&cluster::directory(data_dir))
        .filter(PidFile::answers)
        .map(|pid_file| pid_file.socket_dir)
}

impl Postmaster {
    /// Adopts the running server of a cluster, or starts one. Returns when it takes connections.
    pub(super) fn start(
        cluster: Cluster,
        binaries: Binaries,
        account: Account,
        max_connections: usize,
    ) -> Result<Self, Error> {
        let mut postmaster = Self {
            socket_dir: PathBuf::new(),
            cluster,
            binaries,
            account,
            max_connections,
            child: None,
        };
        if let Some(socket_dir) = postmaster.settle_predecessor()? {
            tracing::info!("adopting the private Postgres of an earlier run");
            postmaster.socket_dir = socket_dir;
            return Ok(postmaster);
        }
        postmaster.socket_dir = postmaster.make_socket_dir()?;
        postmaster.run()?;
        Ok(postmaster)
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Starts the server and waits until it takes connections.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let child = self.spawn()?;
            match self.wait_until_ready(child) {
                Ok(child) => {
                    self.child = Some(child);
                    return Ok(());
                }
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => {
                PidFile::read(&self.cluster.directory).is_some_and(|pid_file| pid_file.answers())
            }
        }
    }

    /// Ends all sessions, writes a checkpoint and stops.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        if self.is_running() {
            let mut stop = self.account.command(&self.binaries.program("pg_ctl"));
            stop.args(["stop", "--mode=fast", "--wait", "--timeout=60", "--pgdata"])
                .arg(&self.cluster.directory);
            run(stop, "")?;
        }
        if let Some(mut child) = self.child.take() {
            // It has stopped: this only collects its exit status.
            let _ = child.wait();
        }
        if !self.socket_dir.starts_with(&self.cluster.data_dir) {
            // Nobody would look for a directory of random name again.
            let _ = fs::remove_dir(&self.socket_dir);
        }
        Ok(())
    }

    /// Finds out what became of an earlier server: its socket directory if it can be adopted.
    ///
    /// What `postmaster.pid` says must be taken with care: after a crash its process number may be
    /// another's by now, and a server may be just about to start or to stop.
    fn settle_predecessor(&self) -> Result<Option<PathBuf>, Error> {
        let deadline = Instant::now() + START_LIMIT;
        while let Some(pid_file) = PidFile::read(&self.cluster.directory) {
            if pid_file.answers() && pid_file.is_ready() {
                return Ok(Some(pid_file.socket_dir));
            }
            if pid_file.is_of_another_process(&self.cluster.directory) {
                // Postgres itself would take that process for a server, and refuse to start.
                tracing::warn!("removing the stale `postmaster.pid` of the private Postgres");
                let path = pid_file.path;
                fs::remove_file(&path).map_err(file("remove", &path))?;
                break;
            }
            if !pid_file.process_exists() || Instant::now() > deadline {
                // Postgres knows best how to clean up after itself.
                break;
            }
            thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// The directory for the socket: in the data directory, or a short one where that is too long.
    fn make_socket_dir(&self) -> Result<PathBuf, Error> {
        let usual = self.cluster.data_dir.join("socket");
        if usual.join(SOCKET_NAME).as_os_str().len() <= MAX_SOCKET_PATH {
            make_private_directory(&usual, &self.account)?;
            return Ok(usual);
        }
        // Others may write to the temporary directory: a name that they could guess, they could
        // have made already.
        let mut name = [0; 8];
        let random = SystemRandom::new().fill(&mut name);
        let short = std::env::temp_dir().join(format!("syncv3-{:016x}", u64::from_ne_bytes(name)));
        random.map_err(|_| file("choose a name for", &short)(io::Error::other("no randomness")))?;
        make_private_directory(&short, &self.account)?;
        Ok(short)
    }

    fn spawn(&self) -> Result<Child, Error> {
        let path = self.cluster.log();
        let log = File::options().create(true).append(true).mode(0o600).open(&path);
        let log = log.map_err(file("open", &path))?;
        let errors = log.try_clone().map_err(file("open", &path))?;
        // Those of the pool, and some for superusers, `psql` and a second process that checks.
        let max_connections = self.max_connections + 20;
        let program = self.binaries.program("postgres");
        self.account
            .command(&program)
            .arg("-D")
            .arg(&self.cluster.directory)
            .arg("-k")
            .arg(&self.socket_dir)
            .args(["-p", "5432", "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"])
            .args(["-c", &format!("max_connections={max_connections}")])
            .args(["-c", "logging_collector=off", "-c", "log_destination=stderr"])
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Run { program, source })
    }

    fn wait_until_ready(&self, mut child: Child) -> Result<Child, Error> {
        let started = Instant::now();
        let mut next_word = Duration::from_secs(5);
        loop {
            if let Ok(Some(_)) = child.try_wait() {
                return Err(self.does_not_start());
            }
            let pid_file = PidFile::read(&self.cluster.directory);
            if pid_file
                .is_some_and(|file| file.pid == child.id() && file.is_ready() && file.answers())
            {
                return Ok(child);
            }
            if started.elapsed() > START_LIMIT {
                return Err(self.does_not_start());
            }
            if started.elapsed() > next_word {
                tracing::info!(
                    "waiting for the private Postgres, see {}",
                    self.cluster.log().display()
                );
                next_word *= 2;
            }
            thread::sleep(PAUSE);
        }
    }

    fn does_not_start(&self) -> Error {
        let log = self.cluster.log();
        let said = last_lines(&log).unwrap_or_else(|error| format!("(unreadable: {error})"));
        Error::DoesNotStart { log, said }
    }
}

/// The last few lines of a file, in one line.
fn last_lines(path: &Path) -> io::Result<String> {
    const TAIL: u64 = 2000;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = tail.lines().collect();
    Ok(lines[lines.len().saturating_sub(5)..].join(" / "))
}
