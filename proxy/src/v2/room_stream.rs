//! The rooms of an initial answer, section by section: loaded and written a few at a time, so that memory does not
//! grow with the account, and a few ahead of what the client has taken, so that Postgres and this process work side by side.
//!
//! Neighbours: `sync` begins the answer, and hands it over here. Which rooms may be told is decided before, by their
//! outlines; what else decides it is looked at here.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use store::{Position, RoomOutline, Section};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle},
};
use tracing::Instrument;

use crate::{
    account::{KnownMembers, MemoryId},
    auth::Requester,
    body::BoxError,
    error::{Error, causes},
    federation::Pdus,
    json,
    state::State,
    views::{Extent, LookBack, Wanted, members_told},
};

use super::{
    answer::{self, Wishes},
    archive::Archive,
    rooms,
    sync::SECTIONS,
    write::Writer,
};

/// Rooms that are loaded and written at once.
const CHUNK: usize = 32;

/// Chunks that are in the making at once. Each holds a few of the pool's connections now and then, and never waits for the client
/// while it does.
const AHEAD: usize = 2;

/// An initial answer on its way.
pub(super) struct RoomStream {
    pub(super) loader: Arc<RoomLoader>,
    /// What the client will know of members when it has the answer.
    pub(super) members: MemoryId,
    pub(super) sender: mpsc::Sender<Result<Bytes, BoxError>>,
}

/// What it takes to make a chunk of the rooms of an answer.
pub(super) struct RoomLoader {
    pub(super) state: Arc<State>,
    pub(super) requester: Requester,
    pub(super) wishes: Wishes,
    pub(super) look_back: LookBack,
    pub(super) pos: Position,
    /// Where the client stood, if what happened since is no longer known.
    pub(super) lost: Option<Position>,
    pub(super) archive: Archive,
}

/// Rooms as they go out: members of a JSON object, with commas between them.
#[derive(Default)]
struct Chunk {
    json: Vec<u8>,
    /// The members that they tell of, for a client that lazy-loads.
    members: KnownMembers,
}

/// A chunk in the making. Given up when it is dropped.
struct Making(JoinHandle<Result<Chunk, Error>>);

impl RoomStream {
    /// Sends `head`, then all rooms by section, then the end. Breaks off when the client is gone; an
    /// error breaks the answer off too, so that no client takes a part for the whole.
    pub(super) async fn send(self, head: Vec<u8>, rooms: Vec<RoomOutline>) {
        if let Err(error) = self.try_send(head, rooms).await {
            tracing::warn!(error = %causes(&error), "an initial sync broke off");
            let _ = self.sender.send(Err(Box::new(error))).await;
        }
    }

    async fn try_send(&self, head: Vec<u8>, rooms: Vec<RoomOutline>) -> Result<(), Error> {
        if self.sender.send(Ok(head.into())).await.is_err() {
            return Ok(());
        }
        let mut known = KnownMembers::default();
        let mut any_section = false;
        for (section, name) in SECTIONS {
            let listed: Vec<RoomOutline> =
                rooms.iter().filter(|room| room.section == section).copied().collect();
            let mut waiting = listed.chunks(CHUNK);
            let mut making: VecDeque<Making> = VecDeque::with_capacity(AHEAD);
            let mut archived = (section == Section::Leave).then(|| self.loader.archived());
            let mut any_room = false;
            loop {
                while making.len() < AHEAD
                    && let Some(chunk) = waiting.next()
                {
                    making.push_back(Making::begin(&self.loader, chunk.to_vec()));
                }
                let chunk = match making.pop_front() {
                    Some(first) => first.end().await?,
                    None => match archived.take() {
                        Some(archived) => archived,
                        None => break,
                    },
                };
                known.merge(chunk.members);
                if chunk.json.is_empty() {
                    continue;
                }
                let mut before = Vec::new();
                if any_room {
                    before.push(b',');
                } else {
                    before.extend_from_slice(if any_section { b"}," } else { br#","rooms":{"# });
                    json::write_string(name, &mut before);
                    before.extend_from_slice(b":{");
                    (any_section, any_room) = (true, true);
                }
                for part in [before, chunk.json] {
                    if self.sender.send(Ok(part.into())).await.is_err() {
                        return Ok(());
                    }
                }
                store::mark::reached("v2", "in_stream");
            }
        }
        self.loader.requester.device.known_members.keep(self.members, known);
        let end: &[u8] = if any_section { b"}}}" } else { b"}" };
        let _ = self.sender.send(Ok(Bytes::from_static(end))).await;
        Ok(())
    }
}

impl RoomLoader {
    /// Loads and writes rooms.
    async fn make(&self, outlines: &[RoomOutline]) -> Result<Chunk, Error> {
        let (state, requester, wishes) = (&self.state, &self.requester, &self.wishes);
        let wanted = self.wanted(outlines).await?;
        let views =
            answer::load(state, requester, wanted, wishes, &self.look_back, self.pos, None).await?;
        let pdus = Pdus::fetch(state, requester, wishes.filter.event_format, &views).await?;
        let writer = Writer::new(state, requester, wishes, self.pos).with_pdus(&pdus);
        let mut chunk = Chunk::default();
        if wishes.filter.room.state.lazy_load_members {
            chunk.members.extend(members_told(&views));
        }
        // Each goes as soon as it is written: a chunk is never there twice.
        for view in views {
            chunk.begin(&view.wanted.head.room_id);
            writer.room(&view, &mut chunk.json);
        }
        Ok(chunk)
    }

    /// The rooms of these outlines that the client is told of.
    async fn wanted(&self, outlines: &[RoomOutline]) -> Result<Vec<Wanted>, Error> {
        let account = &self.requester.account;
        let ignored = answer::ignored(&self.state, &self.requester).await?;
        let heads = self.state.store.rooms_of(account.account_id, outlines).await?;
        let extent = Extent::Whole { since: self.lost };
        let told = heads.into_iter().filter(|head| {
            rooms::is_told(head, &self.wishes.filter.room)
                && self.archive.admits(head)
                && !ignored.hides_invite(head, &account.user_id)
        });
        Ok(told.map(|head| Wanted { head, extent }).collect())
    }

    /// The left rooms that only upstream knows of.
    fn archived(&self) -> Chunk {
        let mut chunk = Chunk::default();
        for (room_id, entry) in &self.archive.rooms {
            chunk.begin(room_id);
            chunk.json.extend_from_slice(entry.as_bytes());
        }
        chunk
    }
}

impl Chunk {
    /// Writes the key of the next room.
    fn begin(&mut self, room_id: &str) {
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        json::write_string(room_id, &mut self.json);
        self.json.push(b':');
    }
}

impl Making {
    /// Begins with a chunk in a task of its own: it gets on while the client takes the one before.
    fn begin(loader: &Arc<RoomLoader>, outlines: Vec<RoomOutline>) -> Self {
        let loader = Arc::clone(loader);
        let making = async move { loader.make(&outlines).await };
        Self(tokio::spawn(making.in_current_span()))
    }

    async fn end(mut self) -> Result<Chunk, Error> {
        let ended = &mut self.0;
        ended.await.unwrap_or_else(|error: JoinError| Err(Error::internal(error)))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.abort();
    }
}
