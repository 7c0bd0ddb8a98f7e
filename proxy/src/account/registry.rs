//! The accounts that this process serves: loaded when first asked for, and kept.
//!
//! Neighbours: `auth` asks for accounts and devices, pollers share the permits. It must not know what a request wants.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use store::{AccountId, DeviceNid, InboxSeq, Position, Store};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Account, Bootstrap, Device, Failure, Lease};
use crate::{auth::Requester, error::Error, replicas::elsewhere, state::State};

/// How long a request waits for the first word of upstream about its own device, when the account
/// itself is ready: long enough for a healthy upstream, short enough for a sick one.
const DEVICE_WAIT: Duration = Duration::from_secs(5);

/// Of how many accounts the store is asked at once.
const FOLLOWED_AT_ONCE: usize = 500;

/// All accounts of this process.
pub(crate) struct Accounts {
    by_user: DashMap<String, Arc<Account>>,
    /// The same by their numbers.
    by_id: DashMap<AccountId, Arc<Account>>,
    /// Loading an account from the store, one at a time: two requests must share one account.
    loading: Mutex<()>,
    /// Limits the polls under way.
    pub(crate) polls: Semaphore,
    /// Limits the first polls under way: they are the heavy ones.
    pub(crate) first_polls: Semaphore,
}

impl Accounts {
    pub(crate) fn new(max_polls: usize, max_first_polls: usize) -> Self {
        Self {
            by_user: DashMap::new(),
            by_id: DashMap::new(),
            loading: Mutex::new(()),
            polls: Semaphore::new(max_polls),
            first_polls: Semaphore::new(max_first_polls),
        }
    }

    /// The account and device of these Matrix IDs, made in the store where they are new.
    pub(crate) async fn load(
        &self,
        store: &Store,
        user_id: &str,
        device_id: &str,
    ) -> Result<(Arc<Account>, Arc<Device>), store::Error> {
        if let Some(known) = self.known(user_id, device_id) {
            return Ok(known);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(known) = self.known(user_id, device_id) {
            return Ok(known);
        }
        let account = match self.account(user_id) {
            Some(account) => account,
            None => {
                let stored = store.account(user_id).await?;
                let account = Arc::new(Account::new(&stored, Lease::Vacant));
                // Before it is claimed: whatever else in this process claims it at this moment looks for it here afterwards.
                let guest = Guest::admit(self, &account);
                let claimed = store.claim_account(account.account_id).await?;
                // A row that was locked just then says nothing; what has been heard since stands.
                if claimed.is_some() {
                    account.hear_of_holder(store, claimed);
                }
                guest.stays();
                account
            }
        };
        let stored = store.device(account.account_id, device_id).await?;
        let is_main = account.main_device() == Some(stored.device_nid);
        let polled = is_main && matches!(*account.bootstrap.borrow(), Bootstrap::Ready);
        let device = Arc::new(Device::new(&stored, polled));
        account.devices.insert(device.device_nid, Arc::clone(&device));
        Ok((account, device))
    }

    /// The account of a user, if this process has it.
    pub(crate) fn account(&self, user_id: &str) -> Option<Arc<Account>> {
        self.by_user.get(user_id).map(|account| Arc::clone(&account))
    }

    /// The account of a user, if there is one in the store.
    pub(crate) async fn existing(
        &self,
        store: &Store,
        user_id: &str,
    ) -> Result<Option<Arc<Account>>, store::Error> {
        if let Some(account) = self.account(user_id) {
            return Ok(Some(account));
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(account) = self.account(user_id) {
            return Ok(Some(account));
        }
        let Some(stored) = store.find_account(user_id).await? else { return Ok(None) };
        let account = Arc::new(Account::new(&stored, Lease::of(store, stored.replica)));
        let guest = Guest::admit(self, &account);
        // It may have been claimed between the look and this.
        let now = store.account_by_id(account.account_id).await?.and_then(|stored| stored.replica);
        if now.is_some() && now == store.replica() {
            account.hear_of_holder(store, now);
        }
        guest.stays();
        Ok(Some(account))
    }

    /// The accounts that this process knows.
    pub(crate) fn all(&self) -> Vec<Arc<Account>> {
        self.by_user.iter().map(|account| Arc::clone(&account)).collect()
    }

    /// The accounts that this process polls for.
    pub(crate) fn ours(&self) -> Vec<Arc<Account>> {
        self.by_user
            .iter()
            .filter(|account| account.lease() == Lease::Ours)
            .map(|account| Arc::clone(&account))
            .collect()
    }

    /// Forgets an account. Who comes for its user after that finds what is in the store then, as does who has come already:
    /// one that was made anew stays.
    pub(crate) fn remove(&self, account: &Account) {
        self.by_id.remove(&account.account_id);
        self.by_user.remove_if(&account.user_id, |_, known| known.account_id == account.account_id);
    }

    /// The account with this number, if this process has it.
    pub(crate) fn by_id(&self, account_id: AccountId) -> Option<Arc<Account>> {
        self.by_id.get(&account_id).map(|account| Arc::clone(&account))
    }

    fn insert(&self, account: &Arc<Account>) {
        self.by_id.insert(account.account_id, Arc::clone(account));
        self.by_user.insert(account.user_id.clone(), Arc::clone(account));
    }

    /// Waits until there is something to answer the requester from: its account's first poll is
    /// stored, upstream has told its device's own part, and what the account wrote through us is in.
    pub(crate) async fn ensure_ready(
        &self,
        state: &Arc<State>,
        requester: &Requester,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut bootstrap = requester.account.watch_bootstrap();
        let mut shutting_down = state.shutting_down.clone();
        loop {
            match bootstrap.borrow_and_update().clone() {
                Bootstrap::Ready => break,
                Bootstrap::Failed(failure) => return Err(error_of(&failure)),
                Bootstrap::Pending => {}
            }
            tokio::select! {
                changed = timeout_at(deadline, bootstrap.changed()) => {
                    if !matches!(changed, Ok(Ok(()))) {
                        return Err(Error::UpstreamTimeout);
                    }
                }
                _ = shutting_down.wait_for(|down| *down) => return Err(Error::ShuttingDown),
                // The token died: authenticating again tells the client what upstream says.
                () = requester.revoked(state) => return Ok(()),
            }
        }
        if let Some(refusal) = requester.account.refusal() {
            return Err(error_of(&refusal));
        }
        let (account, device) = (&requester.account, &requester.device);
        let device_deadline = deadline.min(Instant::now() + DEVICE_WAIT);
        tokio::select! {
            () = wait_for_own_part(account, device, device_deadline) => {}
            () = state.shuts_down() => {}
        }
        account.cover_writes(state, device).await;
        if let Some(refusal) = account.refusal() {
            return Err(error_of(&refusal));
        }
        elsewhere::look_up(state, account, device).await?;
        Ok(())
    }

    /// Makes up for what this process did not hear of: a client that stands beyond what is known here was
    /// answered from the store, whose commits are visible before their answers.
    pub(crate) async fn catch_up(
        &self,
        store: &Store,
        requester: &Requester,
        pos: Position,
        inbox: InboxSeq,
    ) -> Result<(), store::Error> {
        let (account, device) = (&requester.account, &requester.device);
        if pos > account.pos()
            && let Some(stored) = Box::pin(store.account_by_id(account.account_id)).await?
        {
            account.ignored.forget();
            account.advance(stored.pos);
        }
        if inbox > device.inbox_seq()
            && let Some(stored) = Box::pin(store.device_by_nid(device.device_nid)).await?
        {
            device.catch_up(stored.inbox_seq);
        }
        Ok(())
    }

    /// How many accounts and devices there are in memory.
    pub(crate) fn count(&self) -> (usize, usize) {
        let devices = self.by_user.iter().map(|account| account.devices.len()).sum();
        (self.by_user.len(), devices)
    }

    /// Takes over from the store up to where each account's history is promised still, and drops the accounts and devices
    /// that are gone there.
    pub(crate) async fn follow_retention(&self, store: &Store) -> Result<(), store::Error> {
        let accounts: Vec<Arc<Account>> =
            self.by_user.iter().map(|account| Arc::clone(&account)).collect();
        for some in accounts.chunks(FOLLOWED_AT_ONCE) {
            let ids: Vec<AccountId> = some.iter().map(|account| account.account_id).collect();
            let retained = store.retained_from(&ids).await?;
            // A device with a token is in use. One that gets its first this moment has been stored before this look at it.
            let idle: Vec<DeviceNid> = some
                .iter()
                .flat_map(|account| account.devices())
                .filter(|device| !device.has_token())
                .map(|device| device.device_nid)
                .collect();
            let known = store.known_devices(&idle).await?;
            let gone: Vec<DeviceNid> =
                idle.into_iter().filter(|device| !known.contains(device)).collect();
            for account in some {
                match retained.get(&account.account_id) {
                    Some(pos) => account.retained(*pos),
                    None => self.remove(account),
                }
                account.drop_devices(&gone);
            }
        }
        Ok(())
    }

    /// Drops what was remembered of members for clients that have not come back for long.
    pub(crate) fn sweep_known_members(&self) {
        for account in &self.by_user {
            for device in &account.devices {
                device.known_members.sweep();
            }
        }
    }

    /// Drops what is kept of the latest polls of accounts, if it is too old to be asked for.
    pub(crate) fn sweep_tails(&self) {
        for account in &self.by_user {
            account.sweep_tails();
        }
    }

    /// Drops the room lists of accounts that no client has looked at for long.
    pub(crate) fn sweep_room_indexes(&self) {
        for account in &self.by_user {
            account.room_index.sweep();
        }
    }

    fn known(&self, user_id: &str, device_id: &str) -> Option<(Arc<Account>, Arc<Device>)> {
        let account = self.account(user_id)?;
        let device = account
            .devices
            .iter()
            .find(|device| device.device_id == device_id)
            .map(|device| Arc::clone(&device))?;
        Some((account, device))
    }
}

/// An account that is here while it is found out who polls for it. If that fails, or nobody waits for it any more, it goes
/// again: who comes next finds it out.
struct Guest<'a> {
    accounts: &'a Accounts,
    account: Option<Arc<Account>>,
}

impl<'a> Guest<'a> {
    fn admit(accounts: &'a Accounts, account: &Arc<Account>) -> Self {
        accounts.insert(account);
        Self { accounts, account: Some(Arc::clone(account)) }
    }

    fn stays(mut self) {
        self.account = None;
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            self.accounts.remove(&account);
        }
    }
}

/// Events must not come before the to-device messages with their keys, which a second device gets by polls of its own.
/// One that upstream does not answer for is served without its own part for now.
async fn wait_for_own_part(account: &Account, device: &Device, deadline: Instant) {
    let mut polled = device.watch_polled();
    let mut lease = account.watch_lease();
    while !*polled.borrow_and_update() {
        if *lease.borrow_and_update() != Lease::Ours {
            // The poll that another replica is asked for covers the device's own part as well.
            account.has_written();
            return;
        }
        tokio::select! {
            _ = polled.changed() => {}
            _ = lease.changed() => {}
            () = sleep_until(deadline) => return,
        }
    }
}

/// What a request is told that cannot be answered because of a poll's failure.
pub(crate) fn error_of(failure: &Failure) -> Error {
    match failure {
        Failure::Unreachable => Error::UpstreamUnreachable(crate::upstream::Error::InvalidBody),
        Failure::Timeout => Error::UpstreamTimeout,
        Failure::Answer(status, body) => {
            Error::UpstreamAnswer { status: *status, body: body.clone() }
        }
    }
}
