//! Whose an access token is.
//!
//! Upstream alone decides, through
//! [`GET /account/whoami`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3accountwhoami);
//! what it said is kept for a short while, and for as long as polls with the same token go on
//! succeeding. A token is never used before its client has used it, and no 401 is ever made up here:
//! when upstream is away, a token that is known goes on being accepted.
//!
//! Neighbours: `ending` (sessions that were ended through us).

mod ending;

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use store::DeviceNid;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

pub(crate) use self::ending::{
    ended_devices, forget_account, logged_out, logged_out_everywhere, owner, password_changed,
    signed_in, syncs_elsewhere,
};
use crate::{
    account::{Account, Device, InUse, PresenceWish},
    clock::now_ms,
    error::{Error, causes},
    poller,
    secret::TokenHash,
    state::State,
    upstream::{self, AccessToken},
};

/// How long upstream's word on a token is taken without asking again: what bounds how long a token
/// revoked elsewhere still works.
const TRUST: Duration = Duration::from_secs(30);

/// How long a token that nobody uses stays known.
const KEEP: Duration = Duration::from_hours(1);

/// How many tokens are learnt between two looks for those that nobody uses.
const SWEEP_EVERY: usize = 1024;

/// How long a request waits for upstream's word on a token that the store knows.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever makes a request.
#[derive(Clone)]
pub(crate) struct Requester {
    /// The user.
    pub(crate) account: Arc<Account>,
    /// The device.
    pub(crate) device: Arc<Device>,
    /// The token that the request carries.
    pub(crate) access_token: AccessToken,
    /// This process did not know the token before.
    is_new: bool,
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
            let answer = ask_upstream(state, &self.access_token, &hash, stale).await;
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

struct Known {
    account: Arc<Account>,
    device: Arc<Device>,
    /// When upstream last accepted the token; `None` when that may no longer be true.
    accepted: watch::Sender<Option<Instant>>,
    valid: watch::Sender<bool>,
}

impl Known {
    fn is_trusted(&self) -> bool {
        self.accepted.borrow().is_some_and(|at| at.elapsed() < TRUST)
    }
}

/// Access tokens whose owner is known, by keyed hash.
#[derive(Default)]
pub(crate) struct TokenCache {
    known: DashMap<TokenHash, Arc<Known>>,
}

impl TokenCache {
    /// A poll with this token has succeeded.
    pub(crate) fn accepted(&self, hash: &TokenHash) {
        if let Some(known) = self.known.get(hash) {
            known.accepted.send_replace(Some(Instant::now()));
        }
    }

    /// Forgets a token that upstream refused. Whoever waits with it asks upstream again.
    pub(crate) fn refused(&self, hash: &TokenHash) {
        if let Some((_, known)) = self.known.remove(hash) {
            known.valid.send_replace(false);
        }
    }

    /// Forgets tokens that have not been seen for long, now and then: they rotate, and each that is
    /// still good is found again through upstream.
    fn sweep(&self) {
        if self.known.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.known.retain(|_, known| {
                let is_recent = known.accepted.borrow().is_some_and(|at| at.elapsed() < KEEP);
                is_recent || Arc::strong_count(known) > 1
            });
        }
    }

    /// Forgets every token of these devices.
    fn refused_devices(&self, devices: &[DeviceNid]) {
        self.known.retain(|_, known| {
            let refused = devices.contains(&known.device.device_nid);
            if refused {
                known.valid.send_replace(false);
            }
            !refused
        });
    }

    /// The tokens of a device may no longer be good: whoever uses one, or waits with one, asks upstream.
    fn doubt_device(&self, device: DeviceNid) {
        for known in self.known.iter().filter(|known| known.device.device_nid == device) {
            known.accepted.send_replace(None);
        }
    }

    /// Forgets the tokens of a device without a verdict on them.
    fn drop_device(&self, device: DeviceNid) {
        self.known.retain(|_, known| known.device.device_nid != device);
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
    let hash = state.sealer.hash(&access_token);
    let known = state.token_cache.known.get(&hash).map(|known| Arc::clone(&known));
    let is_new = known.is_none();
    let known = match known {
        Some(known) if known.is_trusted() => known,
        stale => ask_upstream(state, &access_token, &hash, stale).await?,
    };
    let in_use = InUse::begin(state, &known.account, &known.device).await?;
    Ok(Requester {
        account: Arc::clone(&known.account),
        device: Arc::clone(&known.device),
        access_token,
        is_new,
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
    if let Some((wish, end)) = wish
        && device.presence.wish(wish, end)
    {
        // A sync sees its own presence: it waits for the poll that says so, as for a write.
        account.has_written();
    }
    // Polls go on with a token that is new, because the one before it is likely dead. Of two that are in use side
    // by side one is as good as the other.
    if requester.is_new || !device.has_token() {
        device.use_token(&requester.access_token);
    }
    poller::ensure(state, account, device);
}

/// Goes on polling for the device of a stored token, as before a restart: its client has used it, and
/// polling is what upstream knows it for. `false` when the secret does not open it.
pub(crate) async fn authenticate_stored(
    state: &Arc<State>,
    stored: &store::StoredToken,
) -> Result<bool, store::Error> {
    let Some(access_token) = state.sealer.open(&stored.token_hash, &stored.sealed) else {
        return Ok(false);
    };
    let (account, device) =
        state.accounts.load(&state.store, &stored.user_id, &stored.device_id).await?;
    if !device.has_token() {
        device.use_token(&access_token);
    }
    poller::ensure(state, &account, &device);
    Ok(true)
}

/// Whose a token is, as far as we know ourselves: upstream is not asked, so the token may be dead.
pub(crate) async fn known(
    state: &State,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Arc<Device>)> {
    let hash = state.sealer.hash(access_token);
    let known = state.token_cache.known.get(&hash).map(|known| Arc::clone(&known));
    let known = match known {
        Some(known) => known,
        None => match from_store(state, &hash).await {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(error = %causes(&error), "could not look a token up");
                return None;
            }
        },
    };
    Some((Arc::clone(&known.account), Arc::clone(&known.device)))
}

/// What the store knows of a token is remembered, but upstream has the last word on it.
async fn from_store(state: &State, hash: &TokenHash) -> Result<Option<Arc<Known>>, store::Error> {
    let Some(stored) = state.store.token(&hash.0).await? else { return Ok(None) };
    let (account, device) =
        state.accounts.load(&state.store, &stored.user_id, &stored.device_id).await?;
    Ok(Some(insert(state, hash, account, device, None)))
}

async fn ask_upstream(
    state: &Arc<State>,
    access_token: &AccessToken,
    hash: &TokenHash,
    stale: Option<Arc<Known>>,
) -> Result<Arc<Known>, Error> {
    let asked = tokio::time::timeout(PATIENCE, state.upstream.whoami(access_token));
    let failure = match asked.await {
        Ok(Ok(whoami)) => {
            let device_id = whoami.device_id.unwrap_or_default();
            return remember(state, access_token, hash, &whoami.user_id, &device_id).await;
        }
        Ok(Err(error)) => error,
        Err(_) => upstream::Error::Timeout,
    };
    if failure.is_unknown_token() {
        state.token_cache.refused(hash);
        if let Some(stale) = stale {
            stale.valid.send_replace(false);
            stale.device.drop_token(access_token);
            // It may have been the one that the main poll goes on with.
            stale.account.wake_candidates();
        }
        // A locked account may be unlocked again: its token is good for polling then.
        if !failure.is_user_locked() {
            state.store.remove_token(&hash.0).await?;
        }
        return Err(failure.into());
    }
    if !failure.is_retryable() {
        return Err(failure.into());
    }
    // Upstream is away: who was accepted before is accepted still.
    if let Some(stale) = stale {
        return Ok(stale);
    }
    from_store(state, hash).await?.ok_or_else(|| failure.into())
}

async fn remember(
    state: &State,
    access_token: &AccessToken,
    hash: &TokenHash,
    user_id: &str,
    device_id: &str,
) -> Result<Arc<Known>, Error> {
    let (account, device) = state.accounts.load(&state.store, user_id, device_id).await?;
    let sealed = state.sealer.seal(access_token).map_err(Error::internal)?;
    state
        .store
        .put_token(account.account_id, device.device_nid, &hash.0, &sealed, now_ms())
        .await?;
    Ok(insert(state, hash, account, device, Some(Instant::now())))
}

fn insert(
    state: &State,
    hash: &TokenHash,
    account: Arc<Account>,
    device: Arc<Device>,
    accepted: Option<Instant>,
) -> Arc<Known> {
    state.token_cache.sweep();
    let entry = state.token_cache.known.entry(hash.clone()).or_insert_with(|| {
        Arc::new(Known {
            account,
            device,
            accepted: watch::Sender::new(None),
            valid: watch::Sender::new(true),
        })
    });
    if accepted.is_some() {
        entry.accepted.send_replace(accepted);
    }
    Arc::clone(&entry)
}
