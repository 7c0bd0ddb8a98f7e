//! Whose an access token is.
//!
//! Upstream alone decides, through
//! [`GET /account/whoami`](https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3accountwhoami);
//! what it said is kept for a short while, and for as long as polls with the same token go on
//! succeeding. A token is never used before its client has used it, and no 401 is ever made up here:
//! when upstream is away, a token that is known goes on being accepted.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use store::DeviceNid;
use tokio::{sync::watch, time::Instant};

use crate::{
    account::{Account, Device},
    clock::now_ms,
    error::Error,
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
    /// Turns false when upstream refuses the token.
    valid: watch::Receiver<bool>,
}

impl Requester {
    /// Completes when upstream has refused the token since it was accepted.
    pub(crate) async fn revoked(&self) {
        let mut valid = self.valid.clone();
        if valid.wait_for(|valid| !valid).await.is_err() {
            // The entry was dropped without a verdict: nothing was revoked.
            std::future::pending::<()>().await;
        }
    }

    /// Whether upstream has refused the token since it was accepted.
    pub(crate) fn is_revoked(&self) -> bool {
        !*self.valid.borrow()
    }
}

struct Known {
    account: Arc<Account>,
    device: Arc<Device>,
    /// When upstream last accepted the token.
    accepted: watch::Sender<Instant>,
    valid: watch::Sender<bool>,
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
            known.accepted.send_replace(Instant::now());
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
                known.valid.receiver_count() > 0 || known.accepted.borrow().elapsed() < KEEP
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
}

/// Finds out whose a token is, and sees to it that its device is polled.
pub(crate) async fn authenticate(
    state: &Arc<State>,
    access_token: AccessToken,
) -> Result<Requester, Error> {
    let requester = identify(state, access_token).await?;
    poll_for(state, &requester);
    Ok(requester)
}

/// Finds out whose a token is, and no more.
pub(crate) async fn identify(
    state: &Arc<State>,
    access_token: AccessToken,
) -> Result<Requester, Error> {
    let hash = state.sealer.hash(&access_token);
    let known = state.token_cache.known.get(&hash).map(|known| Arc::clone(&known));
    let known = match known {
        Some(known) if known.accepted.borrow().elapsed() < TRUST => known,
        stale => ask_upstream(state, &access_token, &hash, stale).await?,
    };
    Ok(Requester {
        account: Arc::clone(&known.account),
        device: Arc::clone(&known.device),
        access_token,
        valid: known.valid.subscribe(),
    })
}

/// Sees to it that the requester's device is polled, with the token that it has just used.
pub(crate) fn poll_for(state: &Arc<State>, requester: &Requester) {
    requester.device.use_token(&requester.access_token);
    poller::ensure(state, &requester.account, &requester.device);
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

/// Whose a token is, if that is known without asking anybody.
pub(crate) fn peek(
    state: &State,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Arc<Device>)> {
    let hash = state.sealer.hash(access_token);
    let known = state.token_cache.known.get(&hash)?;
    Some((Arc::clone(&known.account), Arc::clone(&known.device)))
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
        if !failure.is_user_locked() {
            state.store.remove_token(&hash.0).await?;
        }
        if let Some(stale) = stale {
            stale.device.drop_token(access_token);
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
    match state.store.token(&hash.0).await? {
        Some(stored) => {
            let (account, device) =
                state.accounts.load(&state.store, &stored.user_id, &stored.device_id).await?;
            Ok(insert(state, hash, account, device))
        }
        None => Err(failure.into()),
    }
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
    Ok(insert(state, hash, account, device))
}

fn insert(
    state: &State,
    hash: &TokenHash,
    account: Arc<Account>,
    device: Arc<Device>,
) -> Arc<Known> {
    state.token_cache.sweep();
    let entry = state.token_cache.known.entry(hash.clone()).or_insert_with(|| {
        Arc::new(Known {
            account,
            device,
            accepted: watch::Sender::new(Instant::now()),
            valid: watch::Sender::new(true),
        })
    });
    entry.accepted.send_replace(Instant::now());
    Arc::clone(&entry)
}

/// The device of this token was logged out through us: it is refused at once, and forgotten.
pub(crate) async fn logged_out(state: &State, access_token: &AccessToken) {
    if let Some((account, devices)) = devices_of(state, access_token).await {
        let own = devices.into_iter().filter(|(_, own)| *own).map(|(nid, _)| nid).collect();
        forget(state, &account, own).await;
    }
}

/// Every device of the user of this token was logged out through us.
pub(crate) async fn logged_out_everywhere(state: &State, access_token: &AccessToken) {
    if let Some((account, devices)) = devices_of(state, access_token).await {
        forget(state, &account, devices.into_iter().map(|(nid, _)| nid).collect()).await;
    }
}

/// The account of a token and its devices, each with whether it is the token's own.
async fn devices_of(
    state: &State,
    access_token: &AccessToken,
) -> Option<(Arc<Account>, Vec<(DeviceNid, bool)>)> {
    let (account, own) = match peek(state, access_token) {
        Some(known) => known,
        None => {
            let hash = state.sealer.hash(access_token);
            let stored = state.store.token(&hash.0).await.ok().flatten()?;
            state.accounts.load(&state.store, &stored.user_id, &stored.device_id).await.ok()?
        }
    };
    let stored = state.store.device_nids(account.account_id).await.ok()?;
    let devices = stored.into_iter().map(|nid| (nid, nid == own.device_nid)).collect();
    Some((account, devices))
}

async fn forget(state: &State, account: &Account, devices: Vec<DeviceNid>) {
    // First of all nobody may go on with these tokens, whatever becomes of the rest.
    state.token_cache.refused_devices(&devices);
    for device in account.devices() {
        if devices.contains(&device.device_nid) {
            device.log_out();
        }
    }
    account.remove_devices(&devices);
    if let Err(error) = state.store.remove_devices(account.account_id, &devices).await {
        tracing::error!(
            error = %crate::error::causes(&error),
            user_id = %account.user_id,
            "could not forget logged-out devices"
        );
    }
}
