//! A session as one request sees it: what its token says, and the token of the reply.
//!
//! The store keeps sessions and every set of parameters that they have had; the token says which set,
//! and how far each stream has been answered. So an old token is as good as a new one.

use std::sync::Arc;

use store::{InboxSeq, SessionId};

use super::{
    params::{Params, Request},
    streams::STREAMS,
    token::{Places, SessionToken},
};
use crate::{auth::Requester, clock::now_ms, error::Error, state::State};

/// A session, or one that will be made with the first reply.
pub(crate) struct Session {
    stored: Option<Stored>,
    /// The parameters of the token.
    pub(crate) params: Params,
    /// How far each stream has been answered.
    pub(crate) places: Places,
}

struct Stored {
    session_id: SessionId,
    params_id: i32,
    inbox_acked: InboxSeq,
}

impl Session {
    /// A new session. It is stored with its first reply: one whose client has gone before that would
    /// hold to-device messages back for nobody.
    pub(crate) fn begin() -> Self {
        Self { stored: None, params: Params::default(), places: Places::default() }
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
        };
        let params = Params::from_stored(&session.params)?;
        let session = Self { stored: Some(stored), params, places: token.places };
        let delivered = session.delivered().unwrap_or(InboxSeq(0));
        let pos = requester.account.pos();
        state.accounts.catch_up(&state.store, requester, pos, delivered).await?;
        if delivered > requester.device.inbox_seq() {
            // The token is of a time that a restored database knows nothing of.
            return Err(Error::UnknownSyncSession);
        }
        Ok(session)
    }

    /// The last to-device message that replies up to the token delivered.
    fn delivered(&self) -> Option<InboxSeq> {
        STREAMS
            .iter()
            .filter_map(|stream| stream.acknowledges(self.places.get(stream.number())?))
            .max()
    }

    /// The client has everything that replies up to its token delivered.
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
        state.store.touch_session(account_id, stored.session_id, now_ms()).await?;
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
                    &self.params.to_stored(),
                )
                .await?
                .ok_or(Error::UnknownSyncSession)?;
        }
        for stream in STREAMS {
            let wanted = request.wanted.iter().any(|it| it.stream.number() == stream.number());
            if !wanted && !stream.outlives_drop() {
                self.places.forget(stream.number());
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
        let (session_id, params_id) = if let Some(stored) = self.stored {
            (stored.session_id, stored.params_id)
        } else {
            let device_nid = requester.device.device_nid;
            let params = self.params.to_stored();
            let made =
                state.store.create_session(account_id, device_nid, &params, now_ms()).await?;
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
