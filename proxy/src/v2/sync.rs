//! `GET /_matrix/client/{r0,v3}/sync`
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3sync>
//!
//! An answer is a function of where the client stands and where the account is. An initial one is
//! streamed room by room; an incremental one waits until there is something to say.

use std::{sync::Arc, time::Duration};

use hyper::{Response, StatusCode, http::request::Parts};
use store::{InboxSeq, Position, RoomOutline, Section};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use crate::{
    account::{KnownMembers, MemoryId, tail::Stretch},
    auth::{self, Requester},
    auth_header,
    body::{self, Body},
    clock::now_ms,
    error::{Error, json_response},
    event_json::is_offline,
    federation::Pdus,
    json::ObjectWriter,
    metrics::labels::{Api, Cache, Source},
    observed,
    patience::{DATABASE_GRACE, patiently},
    peer::Peer,
    state::State,
    sync_token::SyncToken,
    token::{self, TokenError},
    upstream::{AccessToken, OnBehalfOf},
    views::{LookBack, RoomView, members_told},
};

use super::{
    answer::{self, Standing, Top, Wishes},
    archive::Archive,
    filters, migration,
    request::SyncRequest,
    room_stream::{RoomLoader, RoomStream},
    rooms,
    write::Writer,
};

/// How long a client waits for an account's first poll.
const FIRST_POLL: Duration = Duration::from_mins(10);

/// Answers a request.
pub(crate) async fn handle(
    state: &Arc<State>,
    parts: Parts,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let access_token = auth_header::access_token(&parts, true)?;
    let client = OnBehalfOf::of(&parts.headers, peer);
    let query = parts.uri.query().unwrap_or_default().to_owned();
    // What was read of the connection stays in memory as long as any of the head does.
    drop(parts);
    let started = Instant::now();
    let early = started + DATABASE_GRACE;
    let requester = patiently(early, || auth::identify(state, access_token.clone())).await?;
    requester.device.seen(client);
    // What is wrong with a request is told only to those who may make one.
    let request = SyncRequest::parse(&query)?;
    let deadline = started + request.timeout.min(state.config.max_timeout);
    let mut since = read_since(state, &requester, request.since.as_deref())?;
    if let Since::Foreign(theirs) = &since
        && !Box::pin(migration::begin(state, &requester, theirs)).await?
    {
        since = Since::Nothing;
    }
    auth::poll_for(state, &requester, Some((request.set_presence, deadline)));
    let filter = filters::resolve(state, &requester, request.filter.as_deref()).await?;
    let ready = || state.accounts.ensure_ready(state, &requester, started + FIRST_POLL);
    patiently(deadline + DATABASE_GRACE, ready).await?;
    if requester.is_revoked() {
        return Err(last_word(state, access_token).await);
    }

    let token = match since {
        Since::Nothing => None,
        Since::Ours(token) => Some(token),
        Since::Foreign(theirs) => {
            let answer = migration::answer(state, &requester, &query, theirs);
            if let Some(answer) = Box::pin(answer).await? {
                return Ok(answer);
            }
            None
        }
    };
    let members = members_of(&requester, token);
    let known_members = requester.device.known_members.recall(members);
    if members != MemoryId::default() {
        state.metrics.looked_up(Cache::Members, !known_members.is_empty());
    }
    let wishes = Wishes { filter, state_form: request.state_form, known_members };
    let sync = Sync {
        state,
        requester: &requester,
        request: &request,
        wishes: &wishes,
        members,
        deadline,
    };
    match patiently(deadline + DATABASE_GRACE, || sync.answer(token)).await? {
        Some(answer) => Ok(answer),
        None => Err(last_word(state, access_token).await),
    }
}

/// A token died while its request waited: upstream has the last word on it. Should it be good again,
/// the client is told to come again.
async fn last_word(state: &Arc<State>, access_token: AccessToken) -> Error {
    match Box::pin(auth::authenticate(state, access_token)).await {
        Ok(_) => Error::UpstreamTimeout,
        Err(error) => error,
    }
}

/// What a `since` stands for.
enum Since<'a> {
    /// The client knows nothing.
    Nothing,
    /// A place in the account stream.
    Ours(SyncToken),
    /// A text that we did not mint: the homeserver's, from a client that synced with it directly.
    Foreign(&'a str),
}

fn read_since<'a>(
    state: &State,
    requester: &Requester,
    since: Option<&'a str>,
) -> Result<Since<'a>, Error> {
    let Some(since) = since else { return Ok(Since::Nothing) };
    match SyncToken::read(&state.tokens, requester.account.account_id, since) {
        Ok(token) => Ok(Since::Ours(token)),
        Err(TokenError::Foreign) if !token::is_minted_here(since) => Ok(Since::Foreign(since)),
        Err(_) => Err(Error::UnknownPos(String::from("Invalid stream token"))),
    }
}

/// One request under way.
pub(super) struct Sync<'a> {
    pub(super) state: &'a Arc<State>,
    pub(super) requester: &'a Requester,
    request: &'a SyncRequest,
    wishes: &'a Wishes,
    /// Names what the client knows of members.
    members: MemoryId,
    deadline: Instant,
}

impl Sync<'_> {
    /// Answers when there is something to say, or the time is up; `None` when the token died.
    async fn answer(&self, token: Option<SyncToken>) -> Result<Option<Response<Body>>, Error> {
        let standing = self.standing(token).await?;
        match standing.since {
            None => Box::pin(self.initial(standing)).await.map(Some),
            Some(since) => self.incremental(standing, since).await,
        }
    }

    /// Where the client stands; on the way it acknowledges what its token covers.
    async fn standing(&self, token: Option<SyncToken>) -> Result<Standing, Error> {
        let account = &self.requester.account;
        let device = &self.requester.device;
        let claimed = match token {
            Some(SyncToken::Batch { device: of, inbox, .. }) if of == device.device_nid => {
                Some(inbox)
            }
            _ => None,
        };
        if let Some(token) = token {
            let inbox = claimed.unwrap_or(InboxSeq(0));
            let (accounts, store) = (&self.state.accounts, &self.state.store);
            accounts.catch_up(store, self.requester, token.pos(), inbox).await?;
        }
        // A token from the future is of before the database was restored: what was told here since, its client has not got, and
        // what it covers of the inbox were other messages.
        let is_ahead = token.is_some_and(|token| token.pos() > account.pos())
            || claimed.is_some_and(|inbox| inbox > device.inbox_seq());
        let covered = claimed.filter(|_| !is_ahead);
        let (since, lost) = match token.map(SyncToken::pos) {
            Some(_) if is_ahead => (None, Some(account.retained_from())),
            Some(since) if since < account.retained_from() => (None, Some(since)),
            since => (since, None),
        };
        let inbox_is_held = device.v2_acked(now_ms()).is_some();
        let inbox = match covered {
            Some(covered) => self.acknowledge(covered).await?,
            None => {
                let acked = Box::pin(self.state.store.v2_acked(device.device_nid)).await?;
                acked.unwrap_or(InboxSeq(0))
            }
        };
        Ok(Standing { since, lost, inbox, inbox_is_held })
    }

    /// Records what a `since` covers of the inbox, and gives what is not to be sent again: what any
    /// `since` has covered so far.
    async fn acknowledge(&self, covered: InboxSeq) -> Result<InboxSeq, Error> {
        let device = &self.requester.device;
        let now = now_ms();
        if let Some(acked) = device.v2_acked(now).filter(|acked| *acked >= covered) {
            return Ok(acked);
        }
        let expiry = i64::try_from(self.state.config.session_expiry.as_millis());
        let live_since = now.saturating_sub(expiry.unwrap_or(i64::MAX));
        let account_id = self.requester.account.account_id;
        let store = &self.state.store;
        let told = store.acknowledge_v2(account_id, device.device_nid, covered, now, live_since);
        let acked = Box::pin(told).await?;
        if device.v2_acked(now).is_none() {
            // Only from now on does v2 hold messages back: those that are here may be gone.
            device.inbox_tail.forget();
        }
        device.set_v2_acked(acked, now);
        Ok(acked)
    }

    /// Waits until there is something to say. What loads and writes is boxed: thousands of requests wait at once, and the
    /// room for it must be taken only while it goes on.
    async fn incremental(
        &self,
        standing: Standing,
        since: Position,
    ) -> Result<Option<Response<Body>>, Error> {
        let mut positions = self.requester.account.watch();
        let mut inbox = self.requester.device.watch_inbox();
        let mut shutting_down = self.state.shutting_down.clone();
        let look_back = LookBack::default();
        loop {
            let pos = *positions.borrow_and_update();
            inbox.borrow_and_update();
            let full_state = self.request.full_state;
            if pos > since {
                self.requester.device.sends_settle().await;
            }
            let (top, views) = Box::pin(self.look(standing, since, pos, &look_back)).await?;
            let waits = !full_state && !top.has_news() && views.is_empty();
            if !waits || Instant::now() >= self.deadline || *shutting_down.borrow() {
                let format = self.wishes.filter.event_format;
                let pdus = Pdus::fetch(self.state, self.requester, format, &views);
                let pdus = Box::pin(pdus).await?;
                let members = self.told(&views);
                return Ok(Some(self.whole(&top, members, &views, &pdus)));
            }
            // Nothing is held while it waits but what it needs for looking again.
            drop((top, views));
            let _waits = observed::waits(&self.state.metrics, Api::V2);
            tokio::select! {
                _ = positions.changed() => {}
                _ = inbox.changed() => {}
                () = tokio::time::sleep_until(self.deadline) => {}
                _ = shutting_down.wait_for(|down| *down) => {}
                () = self.requester.revoked(self.state) => return Ok(None),
            }
        }
    }

    /// Looks what there is to say up to `pos`: in memory, if what the polls after `since` brought is there.
    async fn look(
        &self,
        standing: Standing,
        since: Position,
        pos: Position,
        look_back: &LookBack,
    ) -> Result<(Top, Vec<RoomView>), Error> {
        let Self { state, requester, .. } = self;
        let tail = if pos > since && !self.request.full_state {
            requester.account.tail.stretch(since, pos, state.store.prunings())
        } else {
            None
        };
        let found = self.gather(standing, since, pos, look_back, tail.as_ref()).await?;
        if pos > since {
            let was_enough = tail.as_ref().map(Stretch::was_enough);
            state.metrics.looked(match was_enough {
                Some(true) => Source::Memory,
                Some(false) => Source::Both,
                None => Source::Store,
            });
        }
        #[cfg(debug_assertions)]
        self.check(standing, since, pos, look_back, tail.is_some(), &found).await?;
        Ok(found)
    }

    /// Gathers what there is to say. What `tail` does not hold is asked of the store.
    pub(super) async fn gather(
        &self,
        standing: Standing,
        since: Position,
        pos: Position,
        look_back: &LookBack,
        tail: Option<&Stretch>,
    ) -> Result<(Top, Vec<RoomView>), Error> {
        let Self { state, requester, wishes, .. } = self;
        let full_state = self.request.full_state;
        // Where nothing has happened there is nothing to load.
        let (pos, views) = if pos > since || full_state {
            let found =
                answer::changed_rooms(state, requester, since, wishes, look_back, full_state, tail);
            found.await?
        } else {
            (since, Vec::new())
        };
        let filter = &wishes.filter;
        let top = answer::top(state, requester, standing, filter, pos, full_state, tail).await?;
        Ok((top, views))
    }

    /// Remembers which members an answer tells, for a client that comes back from it.
    fn told(&self, views: &[RoomView]) -> MemoryId {
        if !self.wishes.filter.room.state.lazy_load_members {
            return self.members;
        }
        let known = &self.wishes.known_members;
        if members_told(views).all(|(room, user_id)| known.contains(room, user_id)) {
            return self.members;
        }
        let mut known = KnownMembers::clone(known);
        known.extend(members_told(views));
        let after = MemoryId::new();
        self.requester.device.known_members.keep(after, known);
        after
    }

    /// An answer in one piece.
    fn whole(
        &self,
        top: &Top,
        members: MemoryId,
        views: &[RoomView],
        pdus: &Pdus,
    ) -> Response<Body> {
        let writer = Writer::new(self.state, self.requester, self.wishes, top.pos).with_pdus(pdus);
        let mut out = Vec::with_capacity(1024);
        let mut object = ObjectWriter::new(&mut out);
        writer.top(top, members, &mut object);
        if !views.is_empty() {
            let mut sections = ObjectWriter::new(object.key("rooms"));
            for (section, name) in SECTIONS {
                let mut listed =
                    views.iter().filter(|view| view.wanted.head.section == section).peekable();
                if listed.peek().is_some() {
                    let mut rooms = ObjectWriter::new(sections.key(name));
                    for view in listed {
                        writer.room(view, rooms.key(&view.wanted.head.room_id));
                    }
                    rooms.end();
                }
            }
            sections.end();
        }
        object.end();
        json_response(StatusCode::OK, out)
    }

    /// An initial answer never waits, and is streamed: memory does not grow with the account, and its beginning goes out
    /// before any room is read.
    async fn initial(&self, standing: Standing) -> Result<Response<Body>, Error> {
        self.requester.account.upkeep_is_tended(self.state, &self.requester.device).await;
        self.requester.device.sends_settle().await;
        let pos = self.requester.account.pos();
        let filter = &self.wishes.filter;
        let top = answer::top(self.state, self.requester, standing, filter, pos, false, None);
        let (mut top, (rooms, archive)) = tokio::try_join!(top, self.everything(standing))?;
        if self.request.since.is_none() {
            // To who knows nobody, as Synapse has it, everybody is offline who is not told of.
            top.presence.retain(|presence| !is_offline(&presence.event));
        }

        let mut head = Vec::with_capacity(4096);
        let mut object = ObjectWriter::new(&mut head);
        // The client comes back with this number only after the last room, when the memory is there.
        let lazy = filter.room.state.lazy_load_members;
        let members = if lazy { MemoryId::new() } else { MemoryId::default() };
        let writer = Writer::new(self.state, self.requester, self.wishes, top.pos);
        writer.top(&top, members, &mut object);
        object.end();
        // The object goes on with the rooms.
        head.pop();

        let (sender, receiver) = mpsc::channel(2);
        let loader = RoomLoader {
            state: Arc::clone(self.state),
            requester: self.requester.clone(),
            wishes: self.wishes.clone(),
            look_back: LookBack::default(),
            pos,
            lost: standing.lost,
            archive,
        };
        let stream = RoomStream { loader: Arc::new(loader), members, sender };
        tokio::spawn(stream.send(head, rooms).in_current_span());
        let mut response = Response::new(body::stream(receiver));
        response.headers_mut().insert(
            hyper::header::CONTENT_TYPE,
            hyper::header::HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }

    /// The rooms that a client which knows nothing, or nothing for certain, is told of, as far as their outlines say.
    async fn everything(&self, standing: Standing) -> Result<(Vec<RoomOutline>, Archive), Error> {
        let store = &self.state.store;
        let account_id = self.requester.account.account_id;
        let filter = &self.wishes.filter;
        if let Some(lost) = standing.lost {
            let there = [Section::Join, Section::Invite, Section::Knock];
            let mut rooms = store.room_outlines(account_id, &there).await?;
            rooms.extend(store.rooms_left_after(account_id, lost).await?);
            return Ok((rooms, Archive::default()));
        }
        let all = [Section::Join, Section::Invite, Section::Knock, Section::Leave];
        let rooms = store.room_outlines(account_id, &all).await?;
        let archive = Archive::fetch(self.state, self.requester, filter, &rooms).await;
        let leaving_forgets = self.state.capabilities.leaving_forgets();
        Ok((rooms::initial(rooms, &filter.room, leaving_forgets), archive))
    }
}

/// The sections of an answer, in order.
pub(super) const SECTIONS: [(Section, &str); 4] = [
    (Section::Join, "join"),
    (Section::Invite, "invite"),
    (Section::Knock, "knock"),
    (Section::Leave, "leave"),
];

/// The memory that a token names, if the token is this device's.
fn members_of(requester: &Requester, token: Option<SyncToken>) -> MemoryId {
    match token {
        Some(SyncToken::Batch { device, members, .. }) if device == requester.device.device_nid => {
            members
        }
        _ => MemoryId::default(),
    }
}
