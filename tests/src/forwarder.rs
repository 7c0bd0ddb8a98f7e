//! A wire between the proxy and what it stands on, Postgres or a homeserver, that a test can cut, block or slow down.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::paths;
use crate::postgres::Database;

/// An end of the wire.
#[derive(Debug, Clone)]
enum End {
    /// A port on loopback.
    Tcp(u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// How the wire is. What is said later holds for the connections that are there, too.
#[derive(Debug, Clone, Copy, Default)]
struct Condition {
    /// Nothing gets through, and nothing is lost.
    stalled: bool,
    /// How long each piece takes.
    delay: Duration,
    /// How often all connections have been cut.
    cuts: u64,
    /// How often those have been cut that had committed.
    cuts_of_committed: u64,
}

/// A wire. Connections to its near end go to its far end.
#[derive(Debug)]
pub struct Forwarder {
    near: End,
    far: End,
    condition: watch::Sender<Condition>,
    accepting: Mutex<Option<AbortHandle>>,
}

impl Forwarder {
    /// A wire to a port on loopback.
    pub async fn to_port(port: u16) -> Self {
        Self::between(End::Tcp(paths::free_port()), End::Tcp(port)).await
    }

    /// A wire to the server of a database; [`Forwarder::database`] is the database at the near end.
    pub async fn to_postgres(database: &Database) -> Self {
        let near = paths::scratch("forwarder").join(SOCKET);
        Self::between(End::Unix(near), End::Unix(database.socket_directory().join(SOCKET))).await
    }

    /// A wire from a port on loopback to a socket that whoever is under test makes.
    pub async fn to_socket(path: &Path) -> Self {
        Self::between(End::Tcp(paths::free_port()), End::Unix(path.to_owned())).await
    }

    /// A wire from a socket at `path` to a port on loopback.
    pub async fn from_socket(path: &Path, port: u16) -> Self {
        Self::between(End::Unix(path.to_owned()), End::Tcp(port)).await
    }

    async fn between(near: End, far: End) -> Self {
        let condition = watch::channel(Condition::default()).0;
        let forwarder = Self { near, far, condition, accepting: Mutex::new(None) };
        forwarder.accept().await;
        forwarder
    }

    /// The URL of the near end.
    pub fn url(&self) -> String {
        match &self.near {
            End::Tcp(port) => format!("http://127.0.0.1:{port}"),
            End::Unix(path) => panic!("{} is no URL", path.display()),
        }
    }

    /// The database as it is reached through the wire.
    pub fn database(&self, database: &Database) -> Database {
        match &self.near {
            End::Unix(path) => database.through(path.parent().unwrap()),
            End::Tcp(port) => panic!("port {port} leads to no database"),
        }
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.condition.send_modify(|condition| condition.cuts += 1);
    }

    /// Cuts those connections to Postgres whose last words were to commit, whether that was answered or not.
    pub fn cut_committed(&self) {
        self.condition.send_modify(|condition| condition.cuts_of_committed += 1);
    }

    /// Cuts all connections, and nobody listens any more.
    pub fn refuse(&self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            accepting.abort();
        }
        if let End::Unix(path) = &self.near {
            std::fs::remove_file(path).ok();
        }
        self.cut();
    }

    /// Listens (again).
    pub async fn accept(&self) {
        let listener = loop {
            match Listener::bind(&self.near).await {
                Ok(listener) => break listener,
                // The listener before it goes when its task has been told to.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    crate::wait::look_away().await;
                }
                Err(error) => panic!("cannot listen at {:?}: {error}", self.near),
            }
        };
        let (far, condition) = (self.far.clone(), self.condition.clone());
        let accepting = tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(carry(stream, far.clone(), condition.subscribe()));
            }
        });
        *self.accepting.lock().unwrap() = Some(accepting.abort_handle());
    }

    /// Nothing gets through, or all that waited does. Connections are taken all the same.
    pub fn stall(&self, stalled: bool) {
        self.condition.send_modify(|condition| condition.stalled = stalled);
    }

    /// Each piece takes so long.
    pub fn delay(&self, delay: Duration) {
        self.condition.send_modify(|condition| condition.delay = delay);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.refuse();
    }
}

/// The name of Postgres' socket in its directory.
const SOCKET: &str = ".s.PGSQL.5432";

const COMMIT: &[u8] = b"COMMIT";

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

type Stream = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

impl Listener {
    async fn bind(end: &End) -> io::Result<Self> {
        match end {
            End::Tcp(port) => TcpListener::bind(("127.0.0.1", *port)).await.map(Self::Tcp),
            End::Unix(path) => UnixListener::bind(path).map(Self::Unix),
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| halves(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| halves(stream)),
        }
    }
}

async fn connect(end: &End) -> io::Result<Stream> {
    match end {
        End::Tcp(port) => TcpStream::connect(("127.0.0.1", *port)).await.map(halves),
        End::Unix(path) => UnixStream::connect(path).await.map(halves),
    }
}

fn halves(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Stream {
    let (read, write) = tokio::io::split(stream);
    (Box::new(read), Box::new(write))
}

/// Carries one connection until either side ends it, or it is cut.
async fn carry(near: Stream, far: End, condition: watch::Receiver<Condition>) {
    let before = *condition.borrow();
    let mut cut = condition.clone();
    let committed = AtomicBool::new(false);
    let listen = |piece: &[u8]| {
        let commits = piece.windows(COMMIT.len()).any(|words| words == COMMIT);
        committed.store(commits, Relaxed);
    };
    let carried = async {
        let Ok(far) = connect(&far).await else { return };
        let there = pin!(pump(near.0, far.1, condition.clone(), listen));
        let back = pin!(pump(far.0, near.1, condition.clone(), |_| ()));
        // Whoever closes one direction has nothing to say in the other: HTTP and Postgres both end so.
        tokio::select! {
            () = there => {}
            () = back => {}
        }
    };
    tokio::select! {
        () = carried => {}
        () = is_cut(&mut cut, before, &committed) => {}
    }
}

async fn is_cut(
    condition: &mut watch::Receiver<Condition>,
    mut before: Condition,
    committed: &AtomicBool,
) {
    loop {
        let now = *condition.borrow_and_update();
        let of_committed = now.cuts_of_committed > before.cuts_of_committed;
        if now.cuts > before.cuts || of_committed && committed.load(Relaxed) {
            return;
        }
        before = now;
        if condition.changed().await.is_err() {
            return;
        }
    }
}

/// Carries what comes, piece by piece; `listen` hears each.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut condition: watch::Receiver<Condition>,
    listen: impl Fn(&[u8]),
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Ok(now) = condition.wait_for(|condition| !condition.stalled).await.map(|now| *now)
        else {
            return;
        };
        if !now.delay.is_zero() {
            tokio::time::sleep(now.delay).await;
        }
        listen(&piece[..length]);
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
