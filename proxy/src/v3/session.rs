//! A session as one request sees it: what its token says, and the token of the reply.
//!
//! The store keeps sessions and the sets of parameters that they had last; the token says which set,
//! and how far each stream has been answered. So an old token is as good as a new one.

use std::sync::Arc;

use store::{InboxSeq, Keep, NewSet, Position, SessionId};

use super::{
    params::{Params, Request},
    sets::{NewRoomSet, SetId, Sets},
    streams::{STREAMS, Stream},
    token::{Places, SessionToken},
};
use crate::{auth::Requester, clock::now_ms, error::Error, state::State};

/// How many tokens back the sets of rooms are kept, of those tokens that brought a set: of an older one nothing is left
/// to go on from. And how many changes of parameters back they are kept, likewise. A session takes no more than a MiB for
/// both: where they are large, fewer are kept.
const KEPT: Keep = Keep { turns: 32, bytes: 512 * 1024 };

/// How exactly it is known when a session was last used, in milliseconds. Which of a device's sessions was used last is
/// known exactly.
const USE_GRAIN: i64 = 60_000;

/// A session, or one that will be made with the first reply.
pub(crate) struct Session {
    stored: Option<Stored>,
    /// The parameters of the token.
    pub(crate) params: Params,
    /// How far each stream has been answered.
    pub(crate) places: Places,
    /// The sets that the places name, and the pages that are asked for.
    pub(crate) sets: Sets,
    /// The sets that the pages which are asked for are cut from, and where there are such, those of the token.
    pages: Vec<SetId>,
    /// Those that are to be kept with the reply.
    new_sets: Vec<NewRoomSet>,
}

struct Stored {
    session_id: SessionId,
    params_id: i32,
    inbox_acked: InboxSeq,
    /// When it was last marked as used.
    last_used_at: i64,
    /// No other session of the device was used since.
    is_latest: bool,
}

impl Session {
    /// A new session. It is stored with its first reply: one whose client has gone before that would
    /// hold to-device messages back for nobody.
    pub(crate) fn begin() -> Self {
        Self::of(None, Params::default(), Places::default())
    }

    fn of(stored: Option<Stored>, params: Params, places: Places) -> Self {
        let (sets, pages, new_sets) = (Sets::default(), Vec::new(), Vec::new());
        Self { stored, params, places, sets, pages, new_sets }
    }

    /// The session of a token, if it is the requester's own and has not expired.
    pub(crate) async fn resume(
        state: &Arc<State>,
        requester: &Requester,
        since: &str,
    ) -> Result<Self, Error> {
        let account_id = requester.account.account_id;
        let token = SessionToken::open(&state.tokens, since)
            .ok()
            .filter(|token| token.account_id == account_id)
            .ok_or(Error::UnknownSyncSession)?;
        let session = state
            .store
            .session(
                account_id,
                requester.device.device_nid,
                token.session_id,
                token.params_id,
                live_since(state),
            )
            .await?
            .ok_or(Error::UnknownSyncSession)?;
        let stored = Stored {
            session_id: token.session_id,
            params_id: token.params_id,
            inbox_acked: session.inbox_acked,
            last_used_at: session.last_used_at,
            is_latest: session.is_latest,
        };
        let params = Params::from_stored(&session.params)?;
        let session = Self::of(Some(stored), params, token.places);
        let delivered = session.delivered().unwrap_or(InboxSeq(0));
        let pos = session.reaches().unwrap_or(Position(0));
        state.accounts.catch_up(&state.store, requester, pos, delivered).await?;
        if pos > requester.account.pos() || delivered > requester.device.inbox_seq() {
            // The token is of a time that a restored database knows nothing of.
            return Err(Error::UnknownSyncSession);
        }
        Ok(session)
    }

    /// Looks up the sets that the token and the request name. A token is of no use without its own.
    pub(crate) async fn load_sets(
        &mut self,
        state: &Arc<State>,
        requester: &Requester,
        request: &Request,
    ) -> Result<(), Error> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let placed = self.placed();
        self.pages = request.wanted.iter().filter_map(|it| it.subscription.page_set()).collect();
        if !self.pages.is_empty() {
            // Pages are read from one token, as many as the client likes: it must not age by that.
            self.pages.extend(&placed);
        }
        let ids: Vec<&[u8]> = placed.iter().chain(&self.pages).map(SetId::as_bytes).collect();
        let account_id = requester.account.account_id;
        let read_from: Vec<SetId> = STREAMS
            .iter()
            .filter_map(|stream| stream.pages_from(self.places.get(stream.number())?))
            .collect();
        let read_from: Vec<&[u8]> = read_from.iter().map(SetId::as_bytes).collect();
        if ids.is_empty() && read_from.is_empty() {
            return Ok(());
        }
        let found =
            state.store.session_sets(account_id, stored.session_id, &ids, &read_from).await?;
        self.sets = Sets::new(found);
        placed.iter().try_for_each(|id| self.sets.told(*id).map(drop))
    }

    /// The sets that the places name.
    fn placed(&self) -> Vec<SetId> {
        let sets = STREAMS.iter().flat_map(|stream| {
            let place = self.places.get(stream.number());
            place.map(|place| stream.sets(place)).unwrap_or_default()
        });
        sets.collect()
    }

    /// A stream has been answered: with something to say, or with nothing up to a place. Sets that an earlier answer to
    /// this request brought, and that are named no more, are forgotten: a request may wait for long.
    pub(crate) fn answered(
        &mut self,
        stream: &dyn Stream,
        place: Option<Vec<u8>>,
        sets: Vec<NewRoomSet>,
    ) {
        if let Some(place) = place {
            self.places.set(stream.number(), place);
        }
        for set in sets {
            // One that the session has got stays as long as its tokens name it.
            if self.sets.get(set.id).is_some() {
                continue;
            }
            self.sets.add(&set);
            self.new_sets.push(set);
        }
        let placed = self.placed();
        self.new_sets.retain(|set| set.is_for_pages() || placed.contains(&set.id));
        self.sets.retain(|id| {
            let is_new = self.new_sets.iter().any(|set| set.id.as_bytes() == id);
            let is_named = placed.iter().chain(&self.pages).any(|named| named.as_bytes() == id);
            is_new || is_named
        });
    }

    /// The furthest position of the account stream that replies up to the token told of.
    fn reaches(&self) -> Option<Position> {
        STREAMS.iter().filter_map(|stream| stream.reaches(self.places.get(stream.number())?)).max()
    }

    /// The last to-device message that replies up to the token delivered.
    fn delivered(&self) -> Option<InboxSeq> {
        STREAMS
            .iter()
            .filter_map(|stream| stream.acknowledges(self.places.get(stream.number())?))
            .max()
    }

    /// The client has everything that replies up to its token delivered, and the session is used now.
    pub(crate) async fn acknowledge(
        &self,
        state: &Arc<State>,
        requester: &Requester,
    ) -> Result<(), Error> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let account_id = requester.account.account_id;
        match self.delivered() {
            Some(seq) if seq > stored.inbox_acked => {
                state
                    .store
                    .acknowledge_session(
                        account_id,
                        requester.device.device_nid,
                        stored.session_id,
                        seq,
                        live_since(state),
                    )
                    .await?;
            }
            _ => {}
        }
        let now = now_ms();
        if !stored.is_latest || now.saturating_sub(stored.last_used_at) >= USE_GRAIN {
            state.store.touch_session(account_id, stored.session_id, now).await?;
        }
        Ok(())
    }

    /// Takes the parameters of a request over. Gives back whether they are others than before.
    pub(crate) async fn adopt(
        &mut self,
        state: &Arc<State>,
        requester: &Requester,
        request: &Request,
    ) -> Result<bool, Error> {
        if self.params == request.params {
            return Ok(false);
        }
        self.params = request.params.clone();
        if let Some(stored) = &mut self.stored {
            stored.params_id = state
                .store
                .put_session_params(
                    requester.account.account_id,
                    stored.session_id,
                    stored.params_id,
                    &self.params.to_stored(),
                    KEPT,
                )
                .await?
                .ok_or(Error::UnknownSyncSession)?;
        }
        for stream in STREAMS {
            let wanted = request.wanted.iter().any(|it| it.stream.number() == stream.number());
            if !wanted {
                let place = self.places.get(stream.number());
                match place.and_then(|place| stream.after_drop(place)) {
                    Some(left) => self.places.set(stream.number(), left),
                    None => self.places.forget(stream.number()),
                }
            }
        }
        Ok(true)
    }

    /// The token of the reply. Makes the session if it is new.
    pub(crate) async fn next(
        self,
        state: &Arc<State>,
        requester: &Requester,
    ) -> Result<String, Error> {
        let account_id = requester.account.account_id;
        let placed = self.placed();
        let sets: Vec<NewSet<'_>> = self.new_sets.iter().map(NewRoomSet::row).collect();
        let (session_id, params_id) = if let Some(stored) = &self.stored {
            if !sets.is_empty() {
                let pages = self.pages.iter().filter(|id| self.sets.get(**id).is_some());
                let named: Vec<&[u8]> = placed.iter().chain(pages).map(SetId::as_bytes).collect();
                let store = &state.store;
                let kept =
                    store.put_session_sets(account_id, stored.session_id, &sets, &named, KEPT);
                if !kept.await? {
                    return Err(Error::UnknownSyncSession);
                }
            }
            (stored.session_id, stored.params_id)
        } else {
            let device_nid = requester.device.device_nid;
            let params = self.params.to_stored();
            let most = i64::from(state.config.sessions_per_device);
            let store = &state.store;
            let made = store.create_session(account_id, device_nid, &params, &sets, now_ms(), most);
            let made = made.await?;
            (made.session_id, made.params_id)
        };
        let token = SessionToken { account_id, session_id, params_id, places: self.places };
        Ok(token.seal(&state.tokens))
    }
}

/// Sessions not used since then have expired.
fn live_since(state: &State) -> i64 {
    let expiry = i64::try_from(state.config.session_expiry.as_millis()).unwrap_or(i64::MAX);
    now_ms().saturating_sub(expiry)
}
