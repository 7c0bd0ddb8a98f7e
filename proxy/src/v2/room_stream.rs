//! The rooms of an initial answer, section by section: loaded and written a few at a time, so that memory does not
//! grow with the account.
//!
//! Neighbours: `sync` begins the answer, and hands it over here. Which rooms are told is decided before.

use std::sync::Arc;

use bytes::Bytes;
use store::{Position, Section};
use tokio::sync::mpsc;

use crate::{
    account::{KnownMembers, MemoryId},
    auth::Requester,
    body::BoxError,
    error::{Error, causes},
    federation::Pdus,
    json,
    state::State,
    views::{LookBack, Wanted, members_told},
};

use super::{
    answer::{self, Wishes},
    archive::Archive,
    sync::SECTIONS,
    write::Writer,
};

/// Rooms that are loaded and written at once in an initial answer.
const CHUNK: usize = 32;

/// The rooms of an initial answer on their way.
pub(super) struct RoomStream {
    pub(super) state: Arc<State>,
    pub(super) requester: Requester,
    pub(super) wishes: Wishes,
    /// What the client will know of members when it has the answer.
    pub(super) members: MemoryId,
    pub(super) look_back: LookBack,
    pub(super) pos: Position,
    pub(super) archive: Archive,
    pub(super) sender: mpsc::Sender<Result<Bytes, BoxError>>,
}

impl RoomStream {
    /// Sends `head`, then all rooms by section, then the end. Breaks off when the client is gone; an
    /// error breaks the answer off too, so that no client takes a part for the whole.
    pub(super) async fn send(self, head: Vec<u8>, wanted: Vec<Wanted>) {
        if let Err(error) = self.try_send(head, wanted).await {
            tracing::warn!(error = %causes(&error), "an initial sync broke off");
            let _ = self.sender.send(Err(Box::new(error))).await;
        }
    }

    async fn try_send(&self, head: Vec<u8>, mut wanted: Vec<Wanted>) -> Result<(), Error> {
        let mut out = head;
        let mut any_section = false;
        let mut known = KnownMembers::default();
        for (section, name) in SECTIONS {
            let listed: Vec<Wanted> =
                wanted.extract_if(.., |room| room.head.section == section).collect();
            let archived = match section {
                Section::Leave => self.archive.rooms.as_slice(),
                _ => &[],
            };
            if listed.is_empty() && archived.is_empty() {
                continue;
            }
            out.extend_from_slice(if any_section { b"}," } else { br#","rooms":{"# });
            any_section = true;
            json::write_string(name, &mut out);
            out.extend_from_slice(b":{");
            let mut any_room = false;
            for chunk in listed.chunks(CHUNK) {
                let views = answer::load(
                    &self.state,
                    &self.requester,
                    chunk.to_vec(),
                    &self.wishes,
                    &self.look_back,
                    self.pos,
                );
                let views = views.await?;
                known.extend(members_told(&views));
                let format = self.wishes.filter.event_format;
                let pdus = Pdus::fetch(&self.state, &self.requester, format, &views).await?;
                let writer = Writer::new(&self.state, &self.requester, &self.wishes, self.pos)
                    .with_pdus(&pdus);
                for view in views {
                    if std::mem::replace(&mut any_room, true) {
                        out.push(b',');
                    }
                    json::write_string(&view.wanted.head.room_id, &mut out);
                    out.push(b':');
                    writer.room(&view, &mut out);
                }
                if self.sender.send(Ok(std::mem::take(&mut out).into())).await.is_err() {
                    return Ok(());
                }
                store::mark::reached("v2", "in_stream");
            }
            for (room_id, entry) in archived {
                if std::mem::replace(&mut any_room, true) {
                    out.push(b',');
                }
                json::write_string(room_id, &mut out);
                out.push(b':');
                out.extend_from_slice(entry.as_bytes());
            }
        }
        self.requester.device.known_members.keep(self.members, known);
        out.extend_from_slice(if any_section { b"}}}" } else { b"}" });
        let _ = self.sender.send(Ok(out.into())).await;
        Ok(())
    }
}
