//! A device as this process holds it: its inbox, its key counts, and the token to poll with.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use store::{DeviceNid, InboxSeq};
use tokio::{sync::watch, time::timeout};

use super::{
    elsewhere::Elsewhere, fresh::Coverage, in_use::Requests, known_members::Memories,
    presence::Presence, tail::InboxTail, unheard::Unheard,
};
use crate::upstream::{AccessToken, OnBehalfOf};

/// How often the store hears that v2 is still in use.
const V2_TOUCH_MS: i64 = 60 * 60 * 1000;

/// How long a sync waits at most for events that are just being sent.
const SENDING: Duration = Duration::from_secs(1);

/// Key counts as upstream last told them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyCounts {
    /// `device_one_time_keys_count`, a JSON object.
    pub(crate) one_time_keys_count: Bytes,
    /// `device_unused_fallback_key_types`, a JSON list.
    pub(crate) unused_fallback_key_types: Bytes,
}

/// What of a device's own part a poll has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnNews {
    /// There are to-device messages.
    pub(crate) inbox: bool,
    /// There are other keys.
    pub(crate) keys: bool,
}

/// One device of an account.
pub(crate) struct Device {
    /// Its number in the store.
    pub(crate) device_nid: DeviceNid,
    /// Its Matrix ID.
    pub(crate) device_id: String,
    /// The last to-device message stored. Written by the poller after its commit.
    inbox: watch::Sender<InboxSeq>,
    /// The messages that its latest polls brought. Written by the poller after its commit.
    pub(crate) inbox_tail: InboxTail,
    /// What v2 has acknowledged, and when the store was told, in milliseconds. Saves writing it again.
    v2_acked: Mutex<Option<(InboxSeq, i64)>>,
    /// Of polls that tell its own part. Written by the poller.
    pub(crate) unheard: Unheard,
    /// Written by the poller.
    key_counts: watch::Sender<KeyCounts>,
    /// Whether what is stored of this device's own part is as new as the account's rooms: since this process
    /// began, upstream has told it. For the main device rooms and own part come by the same polls.
    polled: watch::Sender<bool>,
    /// How many of the account's writes its polls cover in its own part.
    pub(super) own_part: Coverage,
    /// The token to poll with: the latest that a client has used. `None` once upstream refused it.
    token: watch::Sender<Option<AccessToken>>,
    /// The device was logged out through us.
    logged_out: watch::Sender<bool>,
    /// What its clients wish for.
    pub(crate) presence: Presence,
    /// Which members its clients have been told of.
    pub(crate) known_members: Memories,
    /// The requests of its clients.
    pub(super) requests: Requests,
    /// Events that its clients are just sending.
    sends: watch::Sender<u32>,
    /// What other replicas and this one told each other of it.
    pub(crate) elsewhere: Elsewhere,
    /// The client that was last seen of it.
    on_behalf_of: Mutex<OnBehalfOf>,
    /// Whether a poller runs for it.
    has_poller: AtomicBool,
}

impl Device {
    pub(super) fn new(stored: &store::Device, polled: bool) -> Self {
        Self {
            device_nid: stored.device_nid,
            device_id: stored.device_id.clone(),
            inbox: watch::Sender::new(stored.inbox_seq),
            inbox_tail: InboxTail::default(),
            v2_acked: Mutex::new(None),
            unheard: Unheard::default(),
            key_counts: watch::Sender::new(KeyCounts {
                one_time_keys_count: stored.one_time_keys_count.clone(),
                unused_fallback_key_types: stored.unused_fallback_key_types.clone(),
            }),
            polled: watch::Sender::new(polled),
            own_part: Coverage::new(),
            token: watch::Sender::new(None),
            logged_out: watch::Sender::new(false),
            presence: Presence::new(),
            known_members: Memories::default(),
            requests: Requests::new(),
            sends: watch::Sender::new(0),
            elsewhere: Elsewhere::default(),
            on_behalf_of: Mutex::default(),
            has_poller: AtomicBool::new(false),
        }
    }

    /// The number of the last to-device message stored.
    pub(crate) fn inbox_seq(&self) -> InboxSeq {
        *self.inbox.borrow()
    }

    /// Changes when a to-device message arrives.
    pub(crate) fn watch_inbox(&self) -> watch::Receiver<InboxSeq> {
        self.inbox.subscribe()
    }

    /// Key counts as they are now.
    pub(crate) fn key_counts(&self) -> KeyCounts {
        self.key_counts.borrow().clone()
    }

    /// Changes when the key counts do.
    pub(crate) fn watch_key_counts(&self) -> watch::Receiver<KeyCounts> {
        self.key_counts.subscribe()
    }

    /// Takes over what a poll brought for this device, and wakes who waits for it. Gives what of it is news.
    pub(crate) fn advance(&self, inbox_seq: InboxSeq, update: &store::DeviceUpdate) -> OwnNews {
        let keys = self.key_counts.send_if_modified(|counts| {
            let old = counts.clone();
            if let Some(count) = &update.one_time_keys_count {
                counts.one_time_keys_count = count.clone();
            }
            if let Some(types) = &update.unused_fallback_key_types {
                counts.unused_fallback_key_types = types.clone();
            }
            *counts != old
        });
        self.polled.send_replace(true);
        self.inbox_tail.push(self.inbox_seq(), inbox_seq, &update.to_device);
        OwnNews { keys, inbox: self.catch_up(inbox_seq) }
    }

    /// Takes over the device's own part as it is stored.
    pub(crate) fn follow(&self, stored: &store::Device) {
        self.set_key_counts(KeyCounts {
            one_time_keys_count: stored.one_time_keys_count.clone(),
            unused_fallback_key_types: stored.unused_fallback_key_types.clone(),
        });
        self.catch_up(stored.inbox_seq);
    }

    /// The store has to-device messages up to this one. Gives whether that is news.
    pub(crate) fn catch_up(&self, inbox_seq: InboxSeq) -> bool {
        self.inbox.send_if_modified(|current| {
            let grown = inbox_seq > *current;
            if grown {
                *current = inbox_seq;
            }
            grown
        })
    }

    /// What v2 has acknowledged, as far as this process knows. Now and then (`now` is in milliseconds) it
    /// knows nothing, so that the store hears that v2 is still in use.
    pub(crate) fn v2_acked(&self, now: i64) -> Option<InboxSeq> {
        let known = *self.v2_acked.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(_, at)| now.saturating_sub(*at) < V2_TOUCH_MS).map(|(acked, _)| acked)
    }

    /// The store was told at `now` that v2 is in use, and said that it has acknowledged this much.
    pub(crate) fn set_v2_acked(&self, acked: InboxSeq, now: i64) {
        let mut known = self.v2_acked.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (*known).max(Some((acked, now)));
    }

    /// Another replica has heard that v2 has acknowledged this much.
    pub(crate) fn hear_v2_acked(&self, acked: InboxSeq) {
        let mut known = self.v2_acked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, _)) = &mut *known {
            *known = acked.max(*known);
        }
    }

    /// Whether upstream has told this device's own part since this process began.
    pub(crate) fn is_polled(&self) -> bool {
        *self.polled.borrow()
    }

    /// Changes when upstream has told this device's own part for the first time.
    pub(crate) fn watch_polled(&self) -> watch::Receiver<bool> {
        self.polled.subscribe()
    }

    /// A poll that covers this many of the account's writes is stored.
    pub(crate) fn cover(&self, writes: u64) {
        self.own_part.reaches(writes);
    }

    /// Another replica has stored a poll that covers this many of the account's writes, and one of the device's own part.
    pub(crate) fn cover_up_to(&self, writes: u64) {
        self.polled.send_replace(true);
        self.own_part.reaches(writes);
    }

    /// Another process polls from now on: whether its polls have told the device's own part is not known.
    pub(super) fn change_hands(&self) {
        self.polled.send_replace(false);
        self.own_part.forgive();
        self.elsewhere.forget();
    }

    /// How many of the account's writes its polls cover in its own part.
    pub(crate) fn covered(&self) -> u64 {
        self.own_part.writes()
    }

    /// A client has used this token: polls go on with it.
    pub(crate) fn use_token(&self, token: &AccessToken) {
        self.token.send_if_modified(|current| {
            let changed = current.as_ref() != Some(token);
            if changed {
                *current = Some(token.clone());
            }
            changed
        });
    }

    /// Upstream refused this token: polls stop until a client comes with another.
    pub(crate) fn drop_token(&self, token: &AccessToken) {
        self.token.send_if_modified(|current| {
            let held = current.as_ref() == Some(token);
            if held {
                *current = None;
            }
            held
        });
    }

    /// The device is gone: its poller ends.
    pub(crate) fn log_out(&self) {
        self.token.send_replace(None);
        self.logged_out.send_replace(true);
    }

    /// There is nothing to poll with until a client comes to sync through us.
    pub(crate) fn stop_polling(&self) {
        self.token.send_replace(None);
    }

    /// How long no client has used the device.
    pub(crate) fn idle(&self) -> Duration {
        self.requests.idle()
    }

    /// Turns true when the device is gone.
    pub(crate) fn watch_logged_out(&self) -> watch::Receiver<bool> {
        self.logged_out.subscribe()
    }

    /// Whether there is a token to poll with.
    pub(crate) fn has_token(&self) -> bool {
        self.token.borrow().is_some()
    }

    /// The token to poll with, as it changes.
    pub(crate) fn watch_token(&self) -> watch::Receiver<Option<AccessToken>> {
        self.token.subscribe()
    }

    /// A sync waited for a poll of this device in vain.
    pub(crate) fn lag(&self) {
        self.own_part.lag();
    }

    /// A client of the device is sending an event, until the guard is dropped.
    pub(crate) fn sending(self: &Arc<Self>) -> Sending {
        self.sends.send_modify(|sends| *sends += 1);
        Sending(Arc::clone(self))
    }

    /// Waits for a moment until what is just being sent has its transaction ID recorded: the event may
    /// arrive through another device's poll before the answer to its sender does.
    pub(crate) async fn sends_settle(&self) {
        let mut sends = self.sends.subscribe();
        let _ = timeout(SENDING, sends.wait_for(|sends| *sends == 0)).await;
    }

    /// Counts that upstream gave in another answer than a poll's.
    pub(crate) fn set_one_time_keys_count(&self, count: Bytes) {
        self.key_counts.send_if_modified(|counts| {
            let changed = counts.one_time_keys_count != count;
            counts.one_time_keys_count = count;
            changed
        });
    }

    /// Key counts as the store has them, or as another replica told them.
    pub(crate) fn set_key_counts(&self, counts: KeyCounts) {
        self.key_counts.send_if_modified(|known| {
            let changed = *known != counts;
            *known = counts;
            changed
        });
    }

    /// A client of the device has been seen.
    pub(crate) fn seen(&self, client: OnBehalfOf) {
        *self.on_behalf_of.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Whom its polls are made for.
    pub(crate) fn on_behalf_of(&self) -> OnBehalfOf {
        self.on_behalf_of.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Claims the right to run the one poller of this device; `false` if there is one.
    pub(crate) fn claim_poller(&self) -> bool {
        !self.has_poller.swap(true, Ordering::AcqRel)
    }

    /// Whether a poller runs for it.
    pub(crate) fn has_poller(&self) -> bool {
        self.has_poller.load(Ordering::Acquire)
    }

    /// The poller has ended.
    pub(crate) fn release_poller(&self) {
        self.has_poller.store(false, Ordering::Release);
    }
}

/// An event on its way to upstream.
pub(crate) struct Sending(Arc<Device>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sends.send_modify(|sends| *sends = sends.saturating_sub(1));
    }
}
