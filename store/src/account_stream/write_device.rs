//! A device's own part of a poll: to-device messages for its inbox, each once, and its key counts.
//!
//! A poll's `since` acknowledges what the poll before it brought. One without a `since` acknowledges nothing, so upstream
//! may tell again what it told last, whether or not every client has acknowledged it to us meanwhile.

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tokio_postgres::Row;

use super::DeviceUpdate;
use crate::{
    AccountId,
    tx::{Statement, params},
};

/// How much of a message's hash is kept: it is compared with few others.
const HASH_BYTES: usize = 8;

/// What a poll brought for a device, as the columns of a statement.
#[derive(Default)]
pub(super) struct DeviceColumns<'a> {
    /// Messages that are not in the inbox yet.
    pub(super) messages: Vec<&'a [u8]>,
    /// How many they are.
    pub(super) arrived: i64,
    pub(super) one_time_keys_count: Option<&'a [u8]>,
    pub(super) unused_fallback_key_types: Option<&'a [u8]>,
    /// Of all messages of the poll.
    pub(super) hashes: Vec<u8>,
}

impl<'a> DeviceColumns<'a> {
    /// An update of which so many messages are known already.
    pub(super) fn of(update: &'a DeviceUpdate, known: usize) -> Self {
        let messages: Vec<&[u8]> =
            update.to_device[known..].iter().map(|message| &**message).collect();
        Self {
            arrived: i64::try_from(messages.len()).unwrap_or(i64::MAX),
            messages,
            one_time_keys_count: update.one_time_keys_count.as_deref(),
            unused_fallback_key_types: update.unused_fallback_key_types.as_deref(),
            hashes: hashes(&update.to_device),
        }
    }
}

/// Asks how many of the messages of a poll without a `since` are known already.
pub(super) struct ToldAgain<'a> {
    account_id: AccountId,
    update: &'a DeviceUpdate,
}

impl<'a> ToldAgain<'a> {
    /// `None` if none can be.
    pub(super) fn of(
        account_id: AccountId,
        update: &'a DeviceUpdate,
        asked_since: Option<&str>,
    ) -> Option<Self> {
        let may_be = asked_since.is_none() && !update.to_device.is_empty();
        may_be.then_some(Self { account_id, update })
    }

    /// Asks what the poll before brought.
    pub(super) fn last_messages(&self) -> Statement<'a> {
        Statement::new(
            "-- write_device::last_messages
            SELECT last_messages FROM devices WHERE device_nid = $1",
            params![self.update.device_nid.0],
        )
    }

    /// Asks what is at the end of the inbox: a homeserver that was restored from a backup may have forgotten more than the
    /// last acknowledgement.
    pub(super) fn still_there(&self) -> Statement<'a> {
        let most = i64::try_from(self.update.to_device.len()).unwrap_or(i64::MAX);
        Statement::new(
            "-- write_device::still_there
            SELECT message
            FROM device_inbox
            WHERE account_id = $1 AND device_nid = $2
            ORDER BY seq DESC
            LIMIT $3",
            params![self.account_id.0, self.update.device_nid.0, most],
        )
    }

    /// How many messages at the beginning of the update the poll before brought at its end, or are those at the end of the
    /// inbox, byte for byte.
    pub(super) fn known(&self, last_messages: &[Row], still_there: &[Row]) -> usize {
        let told: &[u8] = last_messages.first().map_or(&[], |row| row.get("last_messages"));
        let told: Vec<&[u8]> = told.chunks(HASH_BYTES).collect();
        let hashes = hashes(&self.update.to_device);
        let again = overlap(&told, &hashes.chunks(HASH_BYTES).collect::<Vec<_>>());
        let stored: Vec<&[u8]> = still_there.iter().rev().map(|row| row.get("message")).collect();
        let arrived: Vec<&[u8]> = self.update.to_device.iter().map(|message| &**message).collect();
        again.max(overlap(&stored, &arrived))
    }
}

/// The most at the beginning of `arrived` that is at the end of `told`.
fn overlap(told: &[&[u8]], arrived: &[&[u8]]) -> usize {
    let most = told.len().min(arrived.len());
    (0..=most).rev().find(|count| told.ends_with(&arrived[..*count])).unwrap_or(0)
}

fn hashes(messages: &[Bytes]) -> Vec<u8> {
    let hash = |message: &Bytes| digest(&SHA256, message).as_ref()[..HASH_BYTES].to_vec();
    messages.iter().flat_map(hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(told: &[&str], arrived: &[&str], expected: usize) {
        let bytes = |texts: &[&str]| {
            texts.iter().map(|text| Bytes::from((*text).to_owned())).collect::<Vec<_>>()
        };
        let (told, arrived) = (hashes(&bytes(told)), hashes(&bytes(arrived)));
        let told: Vec<&[u8]> = told.chunks(HASH_BYTES).collect();
        let arrived: Vec<&[u8]> = arrived.chunks(HASH_BYTES).collect();
        assert_eq!(overlap(&told, &arrived), expected);
    }

    #[test]
    fn what_comes_again() {
        check(&[], &["1"], 0);
        check(&["1", "2"], &["1", "2", "3"], 2);
        check(&["1", "2"], &["2", "3"], 1);
        check(&["1", "2"], &["3", "1", "2"], 0);
        check(&["3", "3"], &["3", "3"], 2);
        check(&["1", "2"], &[], 0);
    }
}
