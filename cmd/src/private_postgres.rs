//! A Postgres of our own, for those who gave no `-db`: it lives in the data directory, listens on a
//! Unix socket alone, and runs as long as we do.
//!
//! It may outlive us: when `syncv3` is killed, its Postgres goes on, and the next `syncv3` adopts it.
//! One `syncv3` owns a data directory at a time, which a lock on a file in it sees to.
//!
//! `binaries` finds the programs, `account` the user to run them as, `cluster` makes the files, and
//! `postmaster` runs the server.

mod account;
mod binaries;
mod cluster;
mod postmaster;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

pub(crate) use self::account::is_root;
use self::{account::Account, binaries::Binaries, cluster::Cluster, postmaster::Postmaster};

/// The role and the database that we use in it.
const NAME: &str = "syncv3";

/// How often we look whether the server still runs.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no PostgreSQL programs found: install them (on Debian: `apt-get install postgresql`), point PG_BIN at the directory that holds `initdb`, or use a server of your own with `-db`"
    )]
    NoBinaries,
    #[error(
        "`{cluster}` was made by PostgreSQL {version}, whose programs are not installed: install them (on Debian: `apt-get install postgresql-{version}`), or move the data with pg_upgrade", cluster = cluster.display()
    )]
    WrongVersion { cluster: PathBuf, version: String },
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as: make one, run syncv3 as an ordinary user, or use `-db`"
    )]
    NoAccount,
    #[error(
        "user `{user}`, as whom PostgreSQL runs, may not pass through `{directory}`: `chmod o+x` it, or choose another `-data-dir`", directory = directory.display()
    )]
    Impassable { user: String, directory: PathBuf },
    #[error("another syncv3 is running on `{data_dir}`: stop it, or choose another `-data-dir`", data_dir = data_dir.display())]
    InUse { data_dir: PathBuf },
    #[error("cannot {action} `{path}`", path = path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run `{program}`", program = program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("`{program}` failed: {said}", program = program.display())]
    Failed { program: PathBuf, said: String },
    #[error("PostgreSQL does not start; the end of `{log}` says: {said}", log = log.display())]
    DoesNotStart { log: PathBuf, said: String },
}

/// A running private Postgres.
#[derive(Debug)]
pub(crate) struct PrivatePostgres {
    settings: store::Settings,
    /// `None` where the server is another process's: then it is not ours to stop.
    owned: Option<Owned>,
}

#[derive(Debug)]
struct Owned {
    /// Dropping it asks the watcher to stop the server.
    stop: mpsc::Sender<()>,
    watcher: JoinHandle<()>,
    /// Held for as long as the server is ours. The kernel lets go of it when we are killed.
    _lock: File,
}

impl PrivatePostgres {
    /// Starts or adopts the server of a data directory, and makes it on first use. Blocks.
    pub(crate) fn start(data_dir: &Path, max_connections: usize) -> Result<Self, Error> {
        make_directory(data_dir)?;
        let lock = lock(data_dir)?.ok_or_else(|| Error::InUse { data_dir: data_dir.to_owned() })?;
        let account = Account::choose()?;
        let binaries = Binaries::find(cluster::version(data_dir)?.as_deref(), data_dir)?;
        let cluster = Cluster::open(data_dir, &binaries, &account)?;
        let postmaster = Postmaster::start(cluster, binaries, account, max_connections)?;
        let settings = settings(postmaster.socket_dir());
        let (stop, stopped) = mpsc::channel();
        let watcher = thread::spawn(move || watch(postmaster, &stopped));
        Ok(Self { settings, owned: Some(Owned { stop, watcher, _lock: lock }) })
    }

    /// Uses the server of a running syncv3 where there is one, and starts it otherwise. Blocks.
    pub(crate) fn share(data_dir: &Path, max_connections: usize) -> Result<Self, Error> {
        if let Ok(None) = lock(data_dir)
            && let Some(socket_dir) = postmaster::running_socket_dir(data_dir)
        {
            return Ok(Self { settings: settings(&socket_dir), owned: None });
        }
        Self::start(data_dir, max_connections)
    }

    /// How to connect to it.
    pub(crate) fn settings(&self) -> &store::Settings {
        &self.settings
    }

    /// Stops the server, if it is ours, and waits until it is gone. Blocks.
    pub(crate) fn stop(self) {
        let Some(Owned { stop, watcher, _lock }) = self.owned else {
            return;
        };
        drop(stop);
        if watcher.join().is_err() {
            tracing::error!("the thread that watches the private Postgres has died");
        }
    }
}

/// Whether a data directory has a cluster already. Also finds out whether one could be made and run
/// here, and makes nothing.
pub(crate) fn is_made(data_dir: &Path) -> Result<bool, Error> {
    let version = cluster::version(data_dir)?;
    Account::choose()?;
    Binaries::find(version.as_deref(), data_dir)?;
    Ok(version.is_some())
}

fn settings(socket_dir: &Path) -> store::Settings {
    store::Settings::for_socket(socket_dir, NAME, NAME)
}

/// Keeps the server running until it is told to stop it.
fn watch(mut postmaster: Postmaster, stopped: &mpsc::Receiver<()>) {
    while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(WATCH_INTERVAL) {
        if postmaster.is_running() {
            continue;
        }
        tracing::warn!("the private Postgres has ended: starting it again");
        if let Err(error) = postmaster.run() {
            tracing::error!("{}", crate::with_sources(&error));
        }
    }
    if let Err(error) = postmaster.stop() {
        tracing::error!("{}", crate::with_sources(&error));
    }
}

/// Takes the lock of a data directory; `None` if another process has it.
fn lock(data_dir: &Path) -> Result<Option<File>, Error> {
    let path = data_dir.join("lock");
    let fault = |source| Error::File { action: "lock", path: path.clone(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::File {
        action: "make the directory",
        path: path.to_owned(),
        source,
    })
}
