//! Replies as they arrive: a small one is kept in memory, a large one in a file without a name, which is gone with whoever
//! reads it, whatever becomes of the process.
//!
//! Neighbours: `response` fills it. It must not know what the bytes say. Where no file can be had, or the disk is full, the
//! reply stays in memory: polling goes on.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::task::spawn_blocking;

use super::Error;
use crate::error::causes;

/// What is longer is large.
const LARGE: usize = 4 * 1024 * 1024;

/// How much is written at once.
const PIECE: usize = 1024 * 1024;

/// How many names are tried for a file.
const TRIES: usize = 100;

/// A reply that has arrived.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A small one.
    Small(Bytes),
    /// A large one, which nobody should read into memory as a whole.
    Large(Large),
}

impl Reply {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(large) => usize::try_from(large.len()).unwrap_or(usize::MAX),
        }
    }
}

/// A large reply. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    place: Place,
    len: u64,
}

#[derive(Clone, Debug)]
enum Place {
    File(Arc<File>),
    Memory(Bytes),
}

impl Large {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `start` to before `end`. Blocks.
    pub(crate) fn read(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let beyond = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let at = |place: u64| usize::try_from(place).map_err(|_| beyond());
        match &self.place {
            Place::File(file) => {
                let mut bytes = vec![0; at(end.checked_sub(start).ok_or_else(beyond)?)?];
                file.read_exact_at(&mut bytes, start)?;
                Ok(bytes)
            }
            Place::Memory(bytes) => {
                Ok(bytes.get(at(start)?..at(end)?).ok_or_else(beyond)?.to_vec())
            }
        }
    }

    /// Goes through all of it, piece by piece, in order. Blocks.
    pub(crate) fn each_piece<E: From<io::Error>>(
        &self,
        mut look: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let piece = u64::try_from(PIECE).unwrap_or(u64::MAX);
        let mut start = 0;
        while start < self.len {
            let end = self.len.min(start.saturating_add(piece));
            look(&self.read(start, end)?)?;
            start = end;
        }
        Ok(())
    }

    /// One that is in memory all the same.
    pub(crate) fn in_memory(bytes: Bytes) -> Self {
        Self { len: as_u64(bytes.len()), place: Place::Memory(bytes) }
    }
}

/// A reply that arrives.
pub(super) struct Arriving<'a> {
    directory: &'a Path,
    kept: Kept,
    /// What came last, and is not kept yet.
    rest: BytesMut,
}

/// What a reply begins with.
enum Kept {
    /// It may still be a small one.
    Nothing,
    /// So many bytes of it are in a file.
    File { file: Arc<File>, len: u64 },
    /// No file could be had.
    Memory(BytesMut),
}

impl<'a> Arriving<'a> {
    /// Nothing has arrived. What is large goes to the directory.
    pub(super) fn new(directory: &'a Path) -> Self {
        Self { directory, kept: Kept::Nothing, rest: BytesMut::new() }
    }

    /// How many bytes have arrived.
    pub(super) fn len(&self) -> usize {
        let kept = match &self.kept {
            Kept::Nothing => 0,
            Kept::File { len, .. } => usize::try_from(*len).unwrap_or(usize::MAX),
            Kept::Memory(bytes) => bytes.len(),
        };
        kept.saturating_add(self.rest.len())
    }

    /// Takes what comes next.
    pub(super) async fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.rest.extend_from_slice(bytes);
        let most = if matches!(self.kept, Kept::Nothing) { LARGE } else { PIECE };
        if self.rest.len() > most { self.keep().await } else { Ok(()) }
    }

    /// That was all.
    pub(super) async fn finish(mut self) -> Result<Reply, Error> {
        if matches!(self.kept, Kept::Nothing) {
            return Ok(Reply::Small(self.rest.freeze()));
        }
        self.keep().await?;
        Ok(Reply::Large(match self.kept {
            Kept::File { file, len } => Large { place: Place::File(file), len },
            Kept::Memory(bytes) => Large::in_memory(bytes.freeze()),
            Kept::Nothing => Large::in_memory(Bytes::new()),
        }))
    }

    /// Has what came last kept.
    async fn keep(&mut self) -> Result<(), Error> {
        let rest = std::mem::take(&mut self.rest);
        let kept = std::mem::replace(&mut self.kept, Kept::Nothing);
        let directory = self.directory.to_owned();
        // Whoever writes to a disk may have to wait for it.
        let kept = spawn_blocking(move || kept.and(rest, &directory)).await;
        self.kept = kept.map_err(Error::transport)?.map_err(Error::transport)?;
        Ok(())
    }
}

impl Kept {
    /// Keeps more. Fails only if what was written to a file cannot be read any more.
    fn and(self, more: BytesMut, directory: &Path) -> io::Result<Self> {
        let (file, len) = match self {
            Self::Memory(mut bytes) => {
                bytes.extend_from_slice(&more);
                return Ok(Self::Memory(bytes));
            }
            Self::File { file, len } => (file, len),
            Self::Nothing => match nameless(directory) {
                Ok(file) => (Arc::new(file), 0),
                Err(error) => {
                    tracing::warn!(
                        error = %causes(&error),
                        directory = %directory.display(),
                        "no file for a large reply: it is kept in memory"
                    );
                    return Ok(Self::Memory(more));
                }
            },
        };
        if let Err(error) = file.write_all_at(&more, len) {
            tracing::warn!(
                error = %causes(&error),
                directory = %directory.display(),
                "cannot write a large reply to a file: it is kept in memory"
            );
            let written = Large { place: Place::File(file), len }.read(0, len)?;
            let mut bytes = BytesMut::from(&written[..]);
            bytes.extend_from_slice(&more);
            return Ok(Self::Memory(bytes));
        }
        Ok(Self::File { file, len: len + as_u64(more.len()) })
    }
}

/// A new file that only this process can open, and nobody can find.
fn nameless(directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    for _ in 0..TRIES {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("syncv3-reply-{}-{number}", process::id()));
        let opened =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            // One that a process of this number left behind when it was killed between the two.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn arrives(directory: &Path, len: usize, piece: usize) -> (Reply, Vec<u8>) {
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        let mut arriving = Arriving::new(directory);
        for piece in bytes.chunks(piece) {
            arriving.add(piece).await.expect("kept");
        }
        assert_eq!(arriving.len(), len);
        (arriving.finish().await.expect("kept"), bytes)
    }

    #[track_caller]
    fn is_large(reply: &Reply, bytes: &[u8], in_file: bool) {
        let Reply::Large(large) = reply else { panic!("{} bytes are small", bytes.len()) };
        assert_eq!(
            (large.len(), matches!(large.place, Place::File(_))),
            (as_u64(bytes.len()), in_file)
        );
        let mut found = Vec::new();
        let looked = large.each_piece(|piece| {
            found.extend_from_slice(piece);
            io::Result::Ok(())
        });
        looked.expect("read");
        assert!(found == bytes, "it comes out as it went in");
        assert_eq!(large.read(700, 1_700).expect("read"), &bytes[700..1_700]);
        assert!(large.read(0, large.len() + 1).is_err() && large.read(2, 1).is_err());
    }

    #[tokio::test]
    async fn what_is_large_goes_to_a_file_that_nobody_finds() {
        let directory = std::env::temp_dir().join(format!("syncv3-spool-{}", process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let (reply, bytes) = arrives(&directory, LARGE, 60_000).await;
        assert!(matches!(&reply, Reply::Small(held) if *held == bytes));
        for len in [LARGE + 1, LARGE + PIECE, LARGE + 3 * PIECE + 17] {
            let (reply, bytes) = arrives(&directory, len, 65_536).await;
            is_large(&reply, &bytes, true);
            assert_eq!(fs::read_dir(&directory).expect("a directory").count(), 0);
        }
        fs::remove_dir(&directory).expect("an empty directory");
    }

    #[tokio::test]
    async fn without_a_place_for_files_it_stays_in_memory() {
        let (reply, bytes) = arrives(Path::new("/nonexistent"), LARGE + 3 * PIECE, 65_536).await;
        is_large(&reply, &bytes, false);
    }

    /// `/dev/full` lets itself be opened, and has no room for anything.
    #[test]
    fn on_a_full_disk_it_stays_in_memory() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").expect("a device");
        let kept = Kept::File { file: Arc::new(full), len: 0 };
        let kept = kept.and(BytesMut::from(&b"more"[..]), Path::new("/")).expect("kept");
        assert!(matches!(kept, Kept::Memory(bytes) if bytes == b"more"[..]));
    }
}
