//! Which members the clients of a device have been told of, so that lazy loading need not repeat them.
//!
//! What an answer told counts as known only for a client that has come back with that answer's
//! `next_batch`: the token carries the number of the memory that stood at its end. A lost answer is thus
//! never taken for one that arrived. All of it is in memory and may be lost or dropped at any moment:
//! then members are told again, which is legal
//! (<https://spec.matrix.org/v1.16/client-server-api/#lazy-loading-room-members>).

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use ring::rand::{SecureRandom, SystemRandom};
use store::RoomNid;
use tokio::time::Instant;

/// How long a memory is kept that no client comes back to: as long as Synapse keeps its own.
const KEEP: Duration = Duration::from_mins(30);
/// Memories a device: some clients of one device sync side by side, each in a chain of its own.
const MEMORIES: usize = 4;
/// Members a memory. Past that it starts over.
const MEMBERS: usize = 4096;

/// Names a memory. 0 stands for one that holds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryId(pub(crate) u64);

impl MemoryId {
    /// One that no process has given out before, as far as chance allows: a number of an earlier process
    /// must not name a memory of this one.
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 8];
        // Without randomness nothing is remembered.
        match SystemRandom::new().fill(&mut bytes) {
            Ok(()) => Self(u64::from_ne_bytes(bytes)),
            Err(_) => Self::default(),
        }
    }
}

/// Members that a client has been told of, by room.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownMembers(HashSet<(RoomNid, u64)>);

impl KnownMembers {
    /// Whether the client has been told of this user's membership of the room.
    pub(crate) fn contains(&self, room: RoomNid, user_id: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(room, digest(user_id)))
    }

    /// Whether there is nothing to know, or all was forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds members.
    pub(crate) fn extend<'a>(&mut self, members: impl Iterator<Item = (RoomNid, &'a str)>) {
        self.insert_all(members.map(|(room, user_id)| (room, digest(user_id))));
    }

    /// Adds those of another memory.
    pub(crate) fn merge(&mut self, other: Self) {
        self.insert_all(other.0.into_iter());
    }

    fn insert_all(&mut self, members: impl Iterator<Item = (RoomNid, u64)>) {
        for member in members {
            if self.0.len() >= MEMBERS {
                self.0.clear();
            }
            self.0.insert(member);
        }
    }
}

/// User IDs are kept as digests under a key of this process: small, and not to be made to collide.
fn digest(user_id: &str) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(user_id)
}

/// The memories of one device.
#[derive(Debug, Default)]
pub(crate) struct Memories(Mutex<Vec<Memory>>);

#[derive(Debug)]
struct Memory {
    id: MemoryId,
    used: Instant,
    known: Arc<KnownMembers>,
}

impl Memories {
    /// What a client knows that came back with this memory's number.
    pub(crate) fn recall(&self, id: MemoryId) -> Arc<KnownMembers> {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = memories.iter_mut().find(|memory| memory.id == id);
        found.map_or_else(Arc::default, |memory| {
            memory.used = Instant::now();
            Arc::clone(&memory.known)
        })
    }

    /// Keeps what a client will know once it comes back with this number.
    pub(crate) fn keep(&self, id: MemoryId, known: KnownMembers) {
        if id == MemoryId::default() {
            return;
        }
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memories.retain(|memory| memory.used.elapsed() < KEEP);
        if memories.len() >= MEMORIES
            && let Some((oldest, _)) =
                memories.iter().enumerate().min_by_key(|(_, memory)| memory.used)
        {
            memories.swap_remove(oldest);
        }
        memories.push(Memory { id, used: Instant::now(), known: Arc::new(known) });
    }

    /// Drops what no client has come back to for long.
    pub(crate) fn sweep(&self) {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memories.retain(|memory| memory.used.elapsed() < KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomNid = RoomNid(1);

    fn knowing(users: &[&str]) -> KnownMembers {
        let mut known = KnownMembers::default();
        known.extend(users.iter().map(|user| (ROOM, *user)));
        known
    }

    #[tokio::test(start_paused = true)]
    async fn a_memory_is_found_by_its_number_alone() {
        let memories = Memories::default();
        let (first, second) = (MemoryId::new(), MemoryId::new());
        memories.keep(first, knowing(&["@a:x"]));
        memories.keep(second, knowing(&["@a:x", "@b:x"]));

        assert!(memories.recall(first).contains(ROOM, "@a:x"));
        assert!(!memories.recall(first).contains(ROOM, "@b:x"));
        assert!(memories.recall(second).contains(ROOM, "@b:x"));
        assert!(!memories.recall(second).contains(RoomNid(2), "@b:x"));
        assert!(!memories.recall(MemoryId::new()).contains(ROOM, "@a:x"));
        assert!(!memories.recall(MemoryId::default()).contains(ROOM, "@a:x"));
    }

    #[tokio::test(start_paused = true)]
    async fn memories_are_few_and_do_not_last() {
        let memories = Memories::default();
        let first = MemoryId::new();
        memories.keep(first, knowing(&["@a:x"]));
        for _ in 1..MEMORIES {
            memories.keep(MemoryId::new(), knowing(&["@a:x"]));
            tokio::time::advance(Duration::from_secs(1)).await;
            memories.recall(first);
        }
        memories.keep(MemoryId::new(), knowing(&["@a:x"]));
        assert!(memories.recall(first).contains(ROOM, "@a:x"), "the one in use stays");
        assert_eq!(memories.0.lock().expect("no test panics with it").len(), MEMORIES);

        tokio::time::advance(KEEP).await;
        memories.sweep();
        assert!(!memories.recall(first).contains(ROOM, "@a:x"));
    }

    #[test]
    fn a_memory_has_an_end() {
        let mut known = KnownMembers::default();
        for n in 0..=MEMBERS {
            known.extend([(ROOM, &*n.to_string())].into_iter());
        }
        assert!(known.0.len() <= MEMBERS);
        assert!(known.contains(ROOM, &MEMBERS.to_string()));
    }
}
