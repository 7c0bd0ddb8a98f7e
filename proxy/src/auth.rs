//! Whose an access token is.
//!
//! Upstream alone decides, through
//! [`GET /account/whoami`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3accountwhoami);
//! what it said is kept for a short while, and for as long as polls with the same token go on
//! succeeding. A token is never used before its client has used it, and no 401 is ever made up here:
//! when upstream is away, a token that is known goes on being accepted.
//!
//! What passes through is not asked about here: the homeserver judges its token itself. But of an event that it has taken,
//! and of other writes of which something is kept, it is asked whose they are.
//!
//! Neighbours: `known` (whose tokens are known), `questions` (how upstream is asked), `newcomers` (who writes with a token
//! that is not known yet), `ending` (sessions that were ended through us), `gone` (devices that the store has no more).

mod ending;
mod gone;
mod known;
mod newcomers;
mod questions;
mod refusals;

use std::sync::Arc;

use store::DeviceNid;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::{
    ending::{
        doubt_here, drop_token_here, ended_devices, forget_account, forget_here, logged_out,
        logged_out_everywhere, owner, password_changed, refused, signed_in, signed_in_here,
        stop_here, syncs_elsewhere,
    },
    gone::load_stored,
    known::TokenCache,
    newcomers::{Newcomers, newcomer},
    questions::Questions,
};
use self::{
    gone::forget_gone,
    known::{Known, TRUST},
    questions::{Because, Failure},
};
use crate::{
    account::{Account, Device, InUse, Lease, PresenceWish},
    capabilities,
    clock::now_ms,
    error::{Error, causes},
    metrics::labels::Cache,
    observed, poller,
    replicas::elsewhere,
    secret::TokenHash,
    state::State,
    upstream::{AccessToken, Whoami},
};

/// Whoever makes a request.
#[derive(Clone)]
pub(crate) struct Requester {
    /// The user.
    pub(crate) account: Arc<Account>,
    /// The device.
    pub(crate) device: Arc<Device>,
    /// The token that the request carries.
    pub(crate) access_token: AccessToken,
    known: Arc<Known>,
    /// The device is polled as long as somebody holds this.
    _in_use: Arc<InUse>,
}

impl Requester {
    /// Completes when upstream has refused the token since it was accepted. Whoever waits for long asks
    /// upstream again when its last word on the token is too old; as long as polls go on with this very
    /// token, their success is that word.
    pub(crate) async fn revoked(&self, state: &Arc<State>) {
        let mut valid = self.known.valid.subscribe();
        let mut accepted = self.known.accepted.subscribe();
        loop {
            let trusted_until = accepted.borrow_and_update().map(|at| at + TRUST);
            tokio::select! {
                // The other side of both is held by `self.known`.
                _ = valid.wait_for(|valid| !valid) => return,
                _ = accepted.changed() => continue,
                () = sleep_until(trusted_until.unwrap_or_else(Instant::now)) => {}
            }
            let hash = state.sealer.hash(&self.access_token);
            let stale = Some(Arc::clone(&self.known));
            // Boxed: whoever waits asks seldom, and must not hold the room for it all the while.
            let answer = Box::pin(ask_upstream(state, &self.access_token, &hash, stale)).await;
            if let Err(error) = answer {
                tracing::debug!(error = %causes(&error), "a token could not be confirmed");
            }
            if !self.is_revoked() && !self.known.is_trusted() {
                tokio::select! {
                    _ = valid.wait_for(|valid| !valid) => return,
                    _ = accepted.changed() => {}
                    () = sleep(TRUST) => {}
                }
            }
        }
    }

    /// Whether upstream has refused the token since it was accepted.
    pub(crate) fn is_revoked(&self) -> bool {
        !*self.known.valid.borrow()
    }
}

/// Finds out whose a token is, and sees to it that its device is polled.
pub(crate) async fn authenticate(
    state: &Arc<State>,
    access_token: AccessToken,
) -> Result<Requester, Error> {
    let requester = identify(state, access_token).await?;
    poll_for(state, &requester, None);
    Ok(requester)
}

/// Finds out whose a token is, and no more.
pub(crate) async fn identify(
    state: &Arc<State>,
    access_token: AccessToken,
) -> Result<Requester, Error> {
    // A session that was ended at another replica is over, and what was written there is written.
    let has_heard = state.hear_out().await;
    let hash = state.sealer.hash(&access_token);
    let known = state.token_cache.get(&hash);
    let is_trusted = known.as_ref().is_some_and(|known| known.is_trusted());
    state.metrics.looked_up(Cache::Tokens, is_trusted);
    let known = match known {
        Some(known) if has_heard && is_trusted => known,
        stale => Box::pin(ask_upstream(state, &access_token, &hash, stale)).await?,
    };
    if !has_heard {
        known.account.has_written();
    }
    observed::is_of(&known.account.user_id, &known.device.device_id);
    let in_use = InUse::begin(state, &known.account, &known.device).await?;
    Ok(Requester {
        account: Arc::clone(&known.account),
        device: Arc::clone(&known.device),
        access_token,
        known,
        _in_use: Arc::new(in_use),
    })
}

/// Sees to it that the requester's device is polled. A client that wishes for a presence until some time has it
/// told by the very first poll.
pub(crate) fn poll_for(
    state: &Arc<State>,
    requester: &Requester,
    wish: Option<(PresenceWish, Instant)>,
) {
    let (account, device) = (&requester.account, &requester.device);
    let is_elsewhere = account.lease() != Lease::Ours;
    if let Some((wish, end)) = wish {
        let is_new = if is_elsewhere {
            device.presence.wish_elsewhere(wish, end)
        } else {
            device.presence.wish(wish, end)
        };
        // A sync sees its own presence: it waits for the poll that says so, as for a write.
        if is_new {
            account.has_written();
        }
    }
    // What was written with a token before anybody here knew it is not counted.
    let is_new = requester.known.is_new();
    if is_new {
        account.has_written();
    }
    if is_elsewhere {
        let token = is_new.then(|| state.sealer.hash(&requester.access_token));
        elsewhere::tell_use(state, account, device, token, wish);
        capabilities::refresh(state, &requester.access_token);
    } else {
        // Polls go on with a token that is new, because the one before it is likely dead. Of two that are in use side
        // by side one is as good as the other.
        if is_new || !device.has_token() {
            device.use_token(&requester.access_token);
        }
        poller::ensure(state, account, device);
    }
    // Last: of two requests with it at the same time neither must miss what the other sees to.
    requester.known.take_up();
}

/// What became of a stored token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// Its device is polled from now on.
    Begun,
    /// It was already, is another process' to poll for, or is gone by now.
    Running,
    /// The secret does not open it.
    Unreadable,
}

/// Goes on polling for the device of a stored token, as before a restart: its client has used it, and
/// polling is what upstream knows it for.
pub(crate) async fn authenticate_stored(
    state: &Arc<State>,
    stored: &store::StoredToken,
) -> Result<Resumed, store::Error> {
    let Some(access_token) = state.sealer.open(&stored.token_hash, &stored.sealed) else {
        return Ok(Resumed::Unreadable);
    };
    let numbers = (stored.account_id, stored.device_nid);
    let loaded = load_stored(state, &stored.user_id, &stored.device_id, numbers).await?;
    let Some((account, device)) = loaded else { return Ok(Resumed::Running) };
    if account.lease() != Lease::Ours || device.has_poller() && device.has_token() {
        return Ok(Resumed::Running);
    }
    if !device.has_token() {
        device.use_token(&access_token);
    }
    poller::ensure(state, &account, &device);
    Ok(Resumed::Begun)
}

/// Polls for a device that a client uses at another replica, with the token that it came with there, or else with the
/// latest; first of all `prepare` is done. `None` if the device is gone.
pub(crate) async fn poll_for_elsewhere(
    state: &Arc<State>,
    account: &Arc<Account>,
    device_nid: DeviceNid,
    token: Option<&TokenHash>,
    prepare: impl FnOnce(&Device),
) -> Result<Option<Arc<Device>>, store::Error> {
    let device = match account.device(device_nid) {
        Some(device) => device,
        None => {
            let Some(stored) = state.store.device_by_nid(device_nid).await? else {
                return Ok(None);
            };
            if stored.account_id != account.account_id {
                return Ok(None);
            }
            let numbers = (stored.account_id, device_nid);
            let loaded = load_stored(state, &account.user_id, &stored.device_id, numbers).await?;
            let Some((_, device)) = loaded else { return Ok(None) };
            device
        }
    };
    prepare(&device);
    let held = device.watch_token().borrow().as_ref().map(|held| state.sealer.hash(held));
    let is_held = held.is_some_and(|held| token.is_none_or(|token| held == *token));
    if !is_held {
        let stored = match token {
            Some(hash) => state.store.token(&hash.0).await?,
            None => state.store.latest_token_of(device_nid).await?,
        };
        let stored = stored.filter(|stored| stored.device_nid == device_nid);
        let opened =
            stored.and_then(|stored| state.sealer.open(&stored.token_hash, &stored.sealed));
        // Who polls next begins with the latest, which is not known here then.
        if let Some(token) = opened
            && account.lease() == Lease::Ours
        {
            device.use_token(&token);
        }
    }
    poller::ensure(state, account, &device);
    Ok(Some(device))
}

/// Whose a token is, as far as we know ourselves: upstream is not asked, so the token may be dead. A store that does not
/// say knows nobody.
pub(crate) async fn known(
    state: &State,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Arc<Device>)> {
    match look_for(state, access_token).await {
        Ok(found) => found,
        // A flood is not worth a line for each.
        Err(Failure::Shed) => None,
        Err(failure) => {
            let error = Error::from(failure);
            tracing::warn!(error = %causes(&error), "could not look a token up");
            None
        }
    }
}

/// Whose a token is, if that is in memory.
pub(crate) fn known_here(
    state: &State,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Arc<Device>)> {
    let known = state.token_cache.get(&state.sealer.hash(access_token))?;
    observed::is_of(&known.account.user_id, &known.device.device_id);
    Some((Arc::clone(&known.account), Arc::clone(&known.device)))
}

/// The same as [`known()`], for those to whom it matters that nobody could say.
async fn look_for(
    state: &State,
    access_token: &AccessToken,
) -> Result<Option<(Arc<Account>, Arc<Device>)>, Failure> {
    let hash = state.sealer.hash(access_token);
    let known = match state.token_cache.get(&hash) {
        Some(known) => Some(known),
        None => from_store(state, &hash).await?,
    };
    Ok(known.map(|known| {
        observed::is_of(&known.account.user_id, &known.device.device_id);
        (Arc::clone(&known.account), Arc::clone(&known.device))
    }))
}

/// Whose a token is by upstream's word, of which nothing is kept: nobody is polled for. A 401 costs upstream one
/// question a minute here, too.
pub(crate) async fn whoami(
    state: &Arc<State>,
    access_token: &AccessToken,
) -> Result<Whoami, Error> {
    let hash = state.sealer.hash(access_token);
    Ok(questions::whoami(state, access_token, &hash, Because::Only).await?)
}

/// A poll with this token has succeeded.
pub(crate) fn accepted(state: &State, hash: &TokenHash) {
    state.questions.accepted(hash);
    state.token_cache.accepted(hash);
}

/// What the store knows of a token is remembered, but upstream has the last word on it.
async fn from_store(state: &State, hash: &TokenHash) -> Result<Option<Arc<Known>>, Failure> {
    let Some(stored) = state.questions.look_up(state, hash).await? else { return Ok(None) };
    let numbers = (stored.account_id, stored.device_nid);
    let loaded = load_stored(state, &stored.user_id, &stored.device_id, numbers).await?;
    let Some((account, device)) = loaded else { return Ok(None) };
    Ok(Some(state.token_cache.learn(hash, account, device, None)))
}

async fn ask_upstream(
    state: &Arc<State>,
    access_token: &AccessToken,
    hash: &TokenHash,
    stale: Option<Arc<Known>>,
) -> Result<Arc<Known>, Error> {
    let because = Because::OfARequest { is_known: stale.is_some() };
    let failure = match questions::whoami(state, access_token, hash, because).await {
        Ok(whoami) => {
            // Whoever asked first has seen to it, as a rule.
            let known = state.token_cache.get(hash).filter(|known| known.is_trusted());
            return match known {
                Some(known) => Ok(known),
                None => remember(state, access_token, hash, &whoami).await,
            };
        }
        Err(Failure::Upstream(failure)) => failure,
        Err(failure) => return Err(failure.into()),
    };
    if failure.is_unknown_token() {
        state.token_cache.refused(hash);
        if let Some(stale) = stale {
            stale.valid.send_replace(false);
            stale.device.drop_token(access_token);
            // It may have been the one that the main poll goes on with.
            stale.account.wake_candidates();
            refused(state, &stale.account, &stale.device, hash);
        }
        return Err(failure.told_again().into());
    }
    if !failure.is_retryable() {
        return Err(failure.told_again().into());
    }
    // Upstream is away: who was accepted before is accepted still.
    if let Some(stale) = stale {
        return Ok(stale);
    }
    from_store(state, hash).await?.ok_or_else(|| failure.told_again().into())
}

async fn remember(
    state: &State,
    access_token: &AccessToken,
    hash: &TokenHash,
    whoami: &Whoami,
) -> Result<Arc<Known>, Error> {
    let device_id = whoami.device_id.as_deref().unwrap_or_default();
    let sealed = state.sealer.seal(access_token).map_err(Error::internal)?;
    let (account, device) = match keep(state, hash, &sealed, &whoami.user_id, device_id).await {
        // They went from the store without this process having heard of it, and have signed in again.
        Err(error) if error.is_dangling() => {
            forget_gone(state, &whoami.user_id).await?;
            keep(state, hash, &sealed, &whoami.user_id, device_id).await?
        }
        kept => kept?,
    };
    Ok(state.token_cache.learn(hash, account, device, Some(Instant::now())))
}

/// Stores whose a token is.
async fn keep(
    state: &State,
    hash: &TokenHash,
    sealed: &[u8],
    user_id: &str,
    device_id: &str,
) -> Result<(Arc<Account>, Arc<Device>), store::Error> {
    let (account, device) = state.accounts.load(&state.store, user_id, device_id).await?;
    let (account_id, device_nid) = (account.account_id, device.device_nid);
    state.store.put_token(account_id, device_nid, &hash.0, sealed, now_ms()).await?;
    Ok((account, device))
}
