//! An account and its devices as this process holds them: where their streams stand, and who waits.
//!
//! All durable state is in the store. What is here can be lost at any moment: positions to wake
//! waiting requests with, the tokens to poll with, and what clients asked for lately. Pollers write
//! it, requests read and await it. Sets of waiters never lock each other: each value is a `watch`.

mod device;
mod elsewhere;
mod fresh;
mod in_use;
mod known_members;
mod lease;
pub(crate) mod members;
mod presence;
mod registry;
pub(crate) mod room_index;
pub(crate) mod tail;
mod unheard;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use store::{AccountId, DeviceNid, Position};
use tokio::sync::{Semaphore, watch};

use crate::{ignored, poller::upkeep};

pub(crate) use self::{
    device::{Device, KeyCounts, Sending as SendingHere},
    in_use::InUse,
    known_members::{KnownMembers, MemoryId},
    lease::Lease,
    presence::PresenceWish,
    registry::{Accounts, error_of},
};
use room_index::SharedRoomIndex;
use tail::Tail;
use unheard::Unheard;

/// Whether an account's first poll has been stored.
#[derive(Clone, Debug)]
pub(crate) enum Bootstrap {
    /// Not yet: one is under way, or will be.
    Pending,
    /// The last try failed; another follows.
    Failed(Arc<Failure>),
    /// There is something to answer from.
    Ready,
}

/// Why a first poll failed, as a client may be told.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The homeserver could not be reached.
    Unreachable,
    /// The homeserver did not answer in time.
    Timeout,
    /// The homeserver answered with an error: its status and body.
    Answer(u16, Bytes),
}

/// One Matrix user.
pub(crate) struct Account {
    /// Its number in the store.
    pub(crate) account_id: AccountId,
    /// The user.
    pub(crate) user_id: String,
    /// A since below this position is answered as a gap.
    retained_from: AtomicI64,
    /// The last position that is stored. Written by the poller after its commit.
    pos: watch::Sender<Position>,
    /// Written by the poller.
    bootstrap: watch::Sender<Bootstrap>,
    /// Why upstream does not want to sync with this user at all, if that is so. Written by the poller.
    refusal: watch::Sender<Option<Failure>>,
    /// Who polls for it. Written by `replicas`, and by whoever learns otherwise from the store.
    lease: watch::Sender<Lease>,
    /// The device whose token runs the main poll. Written by pollers, after the store agreed.
    main_device: watch::Sender<Option<DeviceNid>>,
    /// Counts the occasions on which the main poll may have become vacant.
    candidates: watch::Sender<u64>,
    devices: DashMap<DeviceNid, Arc<Device>>,
    /// When a client last used it.
    last_use: in_use::LastUse,
    /// Counts the writes that were answered through us. See `fresh`.
    writes: AtomicU64,
    /// How many of them main polls cover in its rooms.
    rooms: fresh::Coverage,
    /// The number of writes that somebody waits to see in a poll: pollers that began before ask anew.
    demand: watch::Sender<u64>,
    /// Limits how many member lists are fetched from upstream at once.
    member_fetches: Semaphore,
    /// The users whom it ignores.
    pub(crate) ignored: ignored::Known,
    /// Its rooms in order, for lists.
    pub(crate) room_index: SharedRoomIndex,
    /// What its latest polls brought. Written by the poller after its commit.
    pub(crate) tail: Tail,
    /// What its polls leave to be done in the background.
    pub(crate) upkeep: upkeep::Orders,
    /// Of its main polls. Written by the poller.
    pub(crate) unheard: Unheard,
}

/// How many member lists of one account are fetched from upstream at once.
const MEMBER_FETCHES: usize = 4;

impl Account {
    fn new(stored: &store::Account, lease: Lease) -> Self {
        let bootstrap = match stored.upstream_since {
            Some(_) => Bootstrap::Ready,
            // Even an account whose upstream position was refused has its store to answer from.
            None if stored.pos.0 > 0 => Bootstrap::Ready,
            None => Bootstrap::Pending,
        };
        Self {
            account_id: stored.account_id,
            user_id: stored.user_id.clone(),
            retained_from: AtomicI64::new(stored.retained_from.0),
            pos: watch::Sender::new(stored.pos),
            bootstrap: watch::Sender::new(bootstrap),
            refusal: watch::Sender::new(None),
            lease: watch::Sender::new(lease),
            main_device: watch::Sender::new(stored.main_device),
            candidates: watch::Sender::new(0),
            devices: DashMap::new(),
            last_use: in_use::LastUse::new(stored.used_at),
            writes: AtomicU64::new(0),
            rooms: fresh::Coverage::new(),
            demand: watch::Sender::new(0),
            member_fetches: Semaphore::new(MEMBER_FETCHES),
            ignored: ignored::Known::default(),
            room_index: SharedRoomIndex::default(),
            tail: Tail::default(),
            upkeep: upkeep::Orders::default(),
            unheard: Unheard::default(),
        }
    }

    /// A since below this position is answered as a gap.
    pub(crate) fn retained_from(&self) -> Position {
        Position(self.retained_from.load(Ordering::Acquire))
    }

    /// The history below `pos` is promised no longer. It goes hours later: every process has heard of it by then.
    pub(crate) fn retained(&self, pos: Position) {
        self.retained_from.fetch_max(pos.0, Ordering::AcqRel);
    }

    /// The last position that is stored.
    pub(crate) fn pos(&self) -> Position {
        *self.pos.borrow()
    }

    /// Changes when the stream grows.
    pub(crate) fn watch(&self) -> watch::Receiver<Position> {
        self.pos.subscribe()
    }

    /// Tells everybody who waits that the stream has grown to `pos`. Gives whether that is news.
    pub(crate) fn advance(&self, pos: Position) -> bool {
        let grown = self.pos.send_if_modified(|current| {
            let grown = pos > *current;
            if grown {
                *current = pos;
            }
            grown
        });
        let first = self.bootstrap.send_if_modified(|bootstrap| {
            let first = !matches!(bootstrap, Bootstrap::Ready);
            *bootstrap = Bootstrap::Ready;
            first
        });
        grown || first
    }

    /// A first poll is under way: whoever comes now waits for it, whatever became of the one before. Gives whether that
    /// is news.
    pub(crate) fn first_poll_begins(&self) -> bool {
        self.bootstrap.send_if_modified(|bootstrap| {
            let failed = matches!(bootstrap, Bootstrap::Failed(_));
            if failed {
                *bootstrap = Bootstrap::Pending;
            }
            failed
        })
    }

    /// Why the last try of a first poll failed, if none has succeeded and no other is under way.
    pub(crate) fn first_poll_failure(&self) -> Option<Failure> {
        match &*self.bootstrap.borrow() {
            Bootstrap::Failed(failure) => Some(Failure::clone(failure)),
            Bootstrap::Pending | Bootstrap::Ready => None,
        }
    }

    /// Tells those who wait for the first poll that a try has failed. Gives whether anybody can be waiting.
    pub(crate) fn first_poll_failed(&self, failure: Failure) -> bool {
        self.bootstrap.send_if_modified(|bootstrap| {
            let waiting = !matches!(bootstrap, Bootstrap::Ready);
            if waiting {
                *bootstrap = Bootstrap::Failed(Arc::new(failure));
            }
            waiting
        })
    }

    /// Upstream refuses to sync with this user, or does so no longer. Gives whether that is news.
    pub(crate) fn refused(&self, failure: Option<Failure>) -> bool {
        self.refusal.send_if_modified(|refusal| {
            let changed = refusal.is_some() || failure.is_some();
            *refusal = failure;
            changed
        })
    }

    /// Why upstream refuses to sync with this user, if it does.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.refusal.borrow().clone()
    }

    /// Changes when the first poll is stored, or fails.
    pub(crate) fn watch_bootstrap(&self) -> watch::Receiver<Bootstrap> {
        self.bootstrap.subscribe()
    }

    /// The device whose token runs the main poll.
    pub(crate) fn main_device(&self) -> Option<DeviceNid> {
        *self.main_device.borrow()
    }

    /// Changes when another device takes the main poll over, or none has it.
    pub(crate) fn watch_main_device(&self) -> watch::Receiver<Option<DeviceNid>> {
        self.main_device.subscribe()
    }

    /// Another device runs the main poll now.
    pub(crate) fn set_main_device(&self, device: Option<DeviceNid>) {
        self.main_device.send_replace(device);
    }

    /// The main poll may be vacant: whoever can take it over should look.
    pub(crate) fn wake_candidates(&self) {
        self.candidates.send_modify(|wakes| *wakes = wakes.wrapping_add(1));
    }

    /// Changes when the main poll may be vacant.
    pub(crate) fn watch_candidates(&self) -> watch::Receiver<u64> {
        self.candidates.subscribe()
    }

    /// Whether this process has a token to poll for a device with.
    pub(crate) fn has_token(&self, device_nid: DeviceNid) -> bool {
        self.devices.get(&device_nid).is_some_and(|device| device.has_token())
    }

    /// A device that this process knows.
    pub(crate) fn device(&self, device_nid: DeviceNid) -> Option<Arc<Device>> {
        self.devices.get(&device_nid).map(|device| Arc::clone(&device))
    }

    /// How long no client has used the account.
    pub(crate) fn idle(&self) -> Duration {
        self.last_use.idle()
    }

    /// A write of the account was answered through us.
    pub(crate) fn has_written(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// How many writes have been answered through us. A poll that begins now covers them.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// Changes when a request waits for a poll that covers its account's writes.
    pub(crate) fn watch_demand(&self) -> watch::Receiver<u64> {
        self.demand.subscribe()
    }

    /// Forgets devices that are logged out.
    pub(crate) fn remove_devices(&self, devices: &[DeviceNid]) {
        for device_nid in devices {
            self.devices.remove(device_nid);
        }
        if self.main_device().is_some_and(|main| devices.contains(&main)) {
            self.set_main_device(None);
        }
    }

    /// Whether a poller of this process runs for it.
    pub(crate) fn is_polled_for(&self) -> bool {
        self.devices.iter().any(|device| device.has_poller())
    }

    /// Whether a request of one of its clients is under way here.
    pub(crate) fn is_in_use(&self) -> bool {
        self.devices.iter().any(|device| device.idle().is_zero())
    }

    /// Whether a client of it is here, or will be in a moment: who has just been answered comes back.
    pub(crate) fn is_attended(&self) -> bool {
        self.devices.iter().any(|device| device.idle() < tail::KEEP)
    }

    /// Drops what is kept of its latest polls, and of those of its devices, if it is too old to be asked for.
    pub(crate) fn sweep_tails(&self) {
        self.tail.sweep();
        for device in &self.devices {
            device.inbox_tail.sweep();
        }
    }

    /// Forgets those of these devices that are its own, which are gone from the store.
    fn drop_devices(&self, gone: &[DeviceNid]) {
        let mine: Vec<Arc<Device>> =
            self.devices().into_iter().filter(|device| gone.contains(&device.device_nid)).collect();
        for device in &mine {
            device.log_out();
        }
        if !mine.is_empty() {
            self.remove_devices(&mine.iter().map(|device| device.device_nid).collect::<Vec<_>>());
            self.wake_candidates();
        }
    }

    /// The devices that this process knows.
    pub(crate) fn devices(&self) -> Vec<Arc<Device>> {
        self.devices.iter().map(|device| Arc::clone(&device)).collect()
    }
}
