//! A device's own part of a poll: to-device messages for its inbox, each once, and its key counts.
//!
//! A poll's `since` acknowledges what the poll before it brought. One without a `since` acknowledges nothing, so upstream
//! may tell again what it told last, whether or not every client has acknowledged it to us meanwhile.

use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::DeviceUpdate;
use crate::{AccountId, DeviceNid, Error, InboxSeq, tx::Tx};

/// How much of a message's hash is kept: it is compared with few others.
const HASH_BYTES: usize = 8;

/// Appends to the device's inbox and takes over its key counts. Gives the number of its last message.
pub(super) async fn write_device(
    tx: &Tx,
    account_id: AccountId,
    update: &DeviceUpdate,
    without_since: bool,
    received_at: i64,
) -> Result<InboxSeq, Error> {
    let device = update.device_nid;
    let hashes = hashes(&update.to_device);
    let known = if without_since && !update.to_device.is_empty() {
        let again = told_again(tx, device, &hashes).await?;
        again.max(still_there(tx, account_id, update).await?)
    } else {
        0
    };
    let messages: Vec<&[u8]> = update.to_device[known..].iter().map(|message| &**message).collect();
    let arrived = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    let row = tx
        .query_opt(
            "-- write_device::write_device
            UPDATE devices
            SET inbox_seq = inbox_seq + $2,
                one_time_keys_count = COALESCE($3, one_time_keys_count),
                unused_fallback_key_types = COALESCE($4, unused_fallback_key_types),
                last_messages = $5
            WHERE device_nid = $1
            RETURNING inbox_seq",
            &[
                &device.0,
                &arrived,
                &update.one_time_keys_count.as_deref(),
                &update.unused_fallback_key_types.as_deref(),
                &hashes,
            ],
        )
        .await?;
    // A device that was logged out while its poll was under way has no inbox any more.
    let Some(row) = row else { return Ok(InboxSeq(0)) };
    let last: i64 = row.get("inbox_seq");
    if arrived > 0 {
        tx.execute(
            "-- write_device::write_device
            INSERT INTO device_inbox (account_id, device_nid, seq, message, stored_at)
            SELECT $1, $2, $3 + t.number, t.message, $5
            FROM UNNEST($4::BYTEA[]) WITH ORDINALITY AS t (message, number)",
            &[&account_id.0, &device.0, &(last - arrived), &messages, &received_at],
        )
        .await?;
    }
    Ok(InboxSeq(last))
}

/// How many messages at the beginning of an update the poll before brought at its end.
async fn told_again(tx: &Tx, device: DeviceNid, hashes: &[u8]) -> Result<usize, Error> {
    let row = tx
        .query_opt(
            "-- write_device::told_again
            SELECT last_messages FROM devices WHERE device_nid = $1",
            &[&device.0],
        )
        .await?;
    let Some(row) = row else { return Ok(0) };
    let told: Vec<&[u8]> = row.get::<_, &[u8]>("last_messages").chunks(HASH_BYTES).collect();
    Ok(overlap(&told, &hashes.chunks(HASH_BYTES).collect::<Vec<_>>()))
}

/// How many messages at the beginning of an update are those at the end of the inbox, byte for byte: a homeserver that was
/// restored from a backup may have forgotten more than the last acknowledgement.
async fn still_there(
    tx: &Tx,
    account_id: AccountId,
    update: &DeviceUpdate,
) -> Result<usize, Error> {
    let most = i64::try_from(update.to_device.len()).unwrap_or(i64::MAX);
    let rows = tx
        .query(
            "-- write_device::still_there
            SELECT message
            FROM device_inbox
            WHERE account_id = $1 AND device_nid = $2
            ORDER BY seq DESC
            LIMIT $3",
            &[&account_id.0, &update.device_nid.0, &most],
        )
        .await?;
    let stored: Vec<&[u8]> = rows.iter().rev().map(|row| row.get("message")).collect();
    let arrived: Vec<&[u8]> = update.to_device.iter().map(|message| &**message).collect();
    Ok(overlap(&stored, &arrived))
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
