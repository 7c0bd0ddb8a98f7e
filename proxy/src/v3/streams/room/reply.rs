//! What a reply of the stream says: rooms loaded and written a few at a time.

use std::sync::Arc;

use super::{
    asked::Asked,
    earliest::Held,
    place::Place,
    plan::{Plan, Planned},
    write::{self, About},
};
use crate::{
    account::{KnownMembers, MemoryId},
    error::Error,
    federation::Pdus,
    filter::EventFilter,
    ignored::Ignored,
    json::ObjectWriter,
    metrics::labels::Cache,
    room_json::EventWriter,
    v3::{
        streams::{Answer, followed::Told},
        view::View,
    },
    views::{self, LookBack, RoomView, members_told},
};

/// How many rooms are loaded at once.
const CHUNK: usize = 32;

/// What there is to say to a client that has been answered up to `place`.
pub(super) async fn answer(
    asked: &Asked,
    look_back: &LookBack,
    view: &View<'_>,
    place: Option<Place>,
) -> Result<Option<Answer>, Error> {
    let plan = Plan::make(asked, view, place.as_ref()).await?;
    let members = place.as_ref().map(|place| place.members).unwrap_or_default();
    let account = view.account();
    let mut reply = Reply {
        asked,
        look_back,
        view,
        ignored: account.ignored.get(view.store(), account.account_id).await?,
        timeline: asked.timeline(),
        state: asked.state(),
        held: Held::find(asked, view, &plan.rooms).await?,
        known: view.requester.device.known_members.recall(members),
        told_members: None,
    };
    if members != MemoryId::default() {
        view.state.metrics.looked_up(Cache::Members, !reply.known.is_empty());
    }
    let mut json = Vec::new();
    let mut object = ObjectWriter::new(&mut json);
    if asked.lowered {
        object.raw("timeline_limit", asked.limit.to_string().as_bytes());
    }
    let any = reply.rooms(&plan.rooms, object.key("rooms")).await?;
    object.end();

    let members = reply.members(members);
    let (told, set) = Told::of(plan.told);
    let pos = place.as_ref().map_or(view.now, |place| place.pos.max(view.now));
    let next = Place { pos, measure: plan.measure, members, told };
    let mut answer = if any || asked.lowered {
        Answer::says(json, Some(next.encode()))
    } else if place.as_ref() == Some(&next) {
        return Ok(None);
    } else {
        Answer::nothing_until(next.encode())
    };
    answer.sets.extend(set);
    Ok(Some(answer))
}

/// A reply in the making.
struct Reply<'a> {
    asked: &'a Asked,
    look_back: &'a LookBack,
    view: &'a View<'a>,
    ignored: Arc<Ignored>,
    timeline: EventFilter,
    state: EventFilter,
    held: Held,
    /// What the client knows of members.
    known: Arc<KnownMembers>,
    /// What it will know, if that is more.
    told_members: Option<KnownMembers>,
}

impl Reply<'_> {
    /// Writes the rooms that there is something to say of. Gives whether there were any.
    async fn rooms(&mut self, planned: &[Planned], out: &mut Vec<u8>) -> Result<bool, Error> {
        let (state, requester, mut any) = (self.view.state, self.view.requester, false);
        if !planned.is_empty() {
            requester.device.sends_settle().await;
        }
        let mut object = ObjectWriter::new(out);
        for chunk in planned.chunks(CHUNK) {
            let (about, views) = self.load(chunk).await?;
            let pdus = Pdus::fetch(state, requester, self.asked.format, &views).await?;
            let writer = EventWriter::new(state, requester, self.view.now).with_pdus(&pdus);
            for (about, view) in about.iter().zip(&views) {
                any = true;
                write::room(&writer, about, view, object.key(&view.wanted.head.room_id));
            }
            self.remember(&views);
        }
        object.end();
        Ok(any)
    }

    /// Loads rooms, and keeps those that there is something to say of.
    async fn load(&self, chunk: &[Planned]) -> Result<(Vec<About>, Vec<RoomView>), Error> {
        let wishes = views::View {
            timeline: &self.timeline,
            state: &self.state,
            lazy_load_members: self.asked.lazy,
            known_members: &self.known,
            state_after: false,
            receipts: true,
            look_back: self.look_back,
            ignored: &self.ignored,
            tail: None,
        };
        let wanted = chunk.iter().map(|room| room.wanted.clone()).collect();
        let (state, requester) = (self.view.state, self.view.requester);
        let loaded = views::load(state, requester, wanted, &wishes, self.view.now).await?;
        let (mut about, mut views) = (Vec::new(), Vec::new());
        for (planned, mut room) in chunk.iter().zip(loaded) {
            let mut state_before = None;
            if planned.initial {
                let held = self.held.take_out(self.asked, self.view, &wishes, &mut room);
                state_before = held.await?;
            } else if !planned.has_news(&room, &self.timeline) {
                continue;
            }
            about.push(About { initial: planned.initial, state_before });
            views.push(room);
        }
        Ok((about, views))
    }

    /// Remembers which members are told.
    fn remember(&mut self, views: &[RoomView]) {
        let news = members_told(views).any(|(room, user)| !self.known.contains(room, user));
        if self.asked.lazy && news {
            let told = self.told_members.get_or_insert_with(|| KnownMembers::clone(&self.known));
            told.extend(members_told(views));
        }
    }

    /// The memory of members for a client that goes on from this reply.
    fn members(&mut self, before: MemoryId) -> MemoryId {
        let Some(told) = self.told_members.take() else { return before };
        let after = MemoryId::new();
        self.view.requester.device.known_members.keep(after, told);
        after
    }
}
