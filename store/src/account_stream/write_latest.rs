//! The latest-value tables: account data, receipts, presence, device lists, transaction IDs; and the
//! quarantine. Each function gives the statement that stores its part of a poll, if there is such a part.

use std::collections::{BTreeMap, HashMap};

use super::{AccountDataColumns, Poll, ReceiptColumns, RoomUpdate};
use crate::{
    AccountId, Position, RoomNid,
    ids::NO_ROOM,
    tx::{Flight, Statement, params},
};

/// Adds what there is to be stored.
pub(super) fn add<'a>(
    flight: &mut Flight<'a>,
    account_id: AccountId,
    pos: Position,
    poll: &'a Poll,
    room_nids: &'a HashMap<String, RoomNid>,
) {
    flight.add(account_data(account_id, pos, poll, room_nids));
    flight.add(receipts(account_id, pos, poll, room_nids));
    flight.add(presence(account_id, pos, poll));
    flight.add(device_lists(account_id, pos, poll));
    flight.add(transaction_ids(account_id, poll));
    flight.add(quarantine(account_id, pos, poll));
}

fn account_data<'a>(
    account_id: AccountId,
    pos: Position,
    poll: &'a Poll,
    room_nids: &'a HashMap<String, RoomNid>,
) -> Option<Statement<'a>> {
    let global = poll.account_data.iter().map(|data| (NO_ROOM, data));
    let of_rooms = known_rooms(poll, room_nids)
        .flat_map(|(nid, room)| room.account_data.iter().map(move |data| (nid, data)));
    let rows = AccountDataColumns::of(global.chain(of_rooms));
    if rows.nids.is_empty() {
        return None;
    }
    Some(Statement::new(
        "-- write_latest::account_data
        INSERT INTO account_data (account_id, room_nid, event_type, pos, event)
        SELECT $1, t.room_nid, t.event_type, $2, t.event
        FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::BYTEA[]) AS t (room_nid, event_type, event)
        ON CONFLICT (account_id, room_nid, event_type) DO UPDATE
        SET pos = EXCLUDED.pos, event = EXCLUDED.event",
        params![account_id.0, pos.0, rows.nids, rows.types, rows.events],
    ))
}

/// The rooms of a poll, each with its number.
fn known_rooms<'a>(
    poll: &'a Poll,
    room_nids: &'a HashMap<String, RoomNid>,
) -> impl Iterator<Item = (RoomNid, &'a RoomUpdate)> {
    poll.rooms.iter().filter_map(|room| Some((*room_nids.get(&room.room_id)?, room)))
}

fn receipts<'a>(
    account_id: AccountId,
    pos: Position,
    poll: &'a Poll,
    room_nids: &'a HashMap<String, RoomNid>,
) -> Option<Statement<'a>> {
    let told = known_rooms(poll, room_nids)
        .flat_map(|(nid, room)| room.receipts.iter().map(move |receipt| (nid, receipt)));
    let rows = ReceiptColumns::of(told);
    if rows.nids.is_empty() {
        return None;
    }
    Some(Statement::new(
        "-- write_latest::receipts
        INSERT INTO receipts (
            account_id, room_nid, user_id, receipt_type, thread_id, pos, event_id, data
        )
        SELECT $1, t.room_nid, t.user_id, t.receipt_type, t.thread_id, $2, t.event_id, t.data
        FROM UNNEST($3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::BYTEA[])
            AS t (room_nid, user_id, receipt_type, thread_id, event_id, data)
        ON CONFLICT (account_id, room_nid, user_id, receipt_type, thread_id) DO UPDATE
        SET pos = EXCLUDED.pos, event_id = EXCLUDED.event_id, data = EXCLUDED.data",
        params![
            account_id.0,
            pos.0,
            rows.nids,
            rows.users,
            rows.types,
            rows.threads,
            rows.event_ids,
            rows.data,
        ],
    ))
}

fn presence(account_id: AccountId, pos: Position, poll: &Poll) -> Option<Statement<'_>> {
    let latest: BTreeMap<&str, _> =
        poll.presence.iter().map(|presence| (presence.user_id.as_str(), presence)).collect();
    if latest.is_empty() {
        return None;
    }
    let users: Vec<&str> = latest.keys().copied().collect();
    let active: Vec<Option<i64>> =
        latest.values().map(|presence| presence.last_active_ts).collect();
    let events: Vec<&[u8]> = latest.values().map(|presence| &*presence.event).collect();
    Some(Statement::new(
        "-- write_latest::presence
        INSERT INTO presence (account_id, user_id, pos, last_active_ts, event)
        SELECT $1, t.user_id, $2, t.last_active_ts, t.event
        FROM UNNEST($3::TEXT[], $4::BIGINT[], $5::BYTEA[]) AS t (user_id, last_active_ts, event)
        ON CONFLICT (account_id, user_id) DO UPDATE
        SET pos = EXCLUDED.pos, last_active_ts = EXCLUDED.last_active_ts, event = EXCLUDED.event",
        params![account_id.0, pos.0, users, active, events],
    ))
}

fn device_lists(account_id: AccountId, pos: Position, poll: &Poll) -> Option<Statement<'_>> {
    let mut verdicts: BTreeMap<&str, bool> = BTreeMap::new();
    verdicts.extend(poll.device_lists_left.iter().map(|user| (user.as_str(), true)));
    // A user in both lists shares a room again: to over-report is safe, to under-report is not.
    verdicts.extend(poll.device_lists_changed.iter().map(|user| (user.as_str(), false)));
    if verdicts.is_empty() {
        return None;
    }
    let users: Vec<&str> = verdicts.keys().copied().collect();
    let left: Vec<bool> = verdicts.values().copied().collect();
    Some(Statement::new(
        "-- write_latest::device_lists
        INSERT INTO device_list_changes (account_id, pos, user_id, has_left)
        SELECT $1, $2, t.user_id, t.has_left
        FROM UNNEST($3::TEXT[], $4::BOOLEAN[]) AS t (user_id, has_left)",
        params![account_id.0, pos.0, users, left],
    ))
}

/// Upstream tells a transaction ID to the device that sent the event, and only to it: the polled one.
fn transaction_ids(account_id: AccountId, poll: &Poll) -> Option<Statement<'_>> {
    let Some(device) = &poll.device else { return None };
    let ids: BTreeMap<&str, &str> = poll
        .rooms
        .iter()
        .flat_map(|room| &room.timeline)
        .filter_map(|event| Some((event.event_id.as_str(), event.transaction_id.as_deref()?)))
        .collect();
    if ids.is_empty() {
        return None;
    }
    let event_ids: Vec<&str> = ids.keys().copied().collect();
    let transaction_ids: Vec<&str> = ids.values().copied().collect();
    Some(Statement::new(
        "-- write_latest::transaction_ids
        INSERT INTO transaction_ids (account_id, device_nid, event_id, transaction_id, stored_at)
        SELECT $1, $2, t.event_id, t.transaction_id, $5
        FROM UNNEST($3::TEXT[], $4::TEXT[]) AS t (event_id, transaction_id)
        ON CONFLICT (account_id, device_nid, event_id) DO NOTHING",
        params![account_id.0, device.device_nid.0, event_ids, transaction_ids, poll.received_at],
    ))
}

fn quarantine(account_id: AccountId, pos: Position, poll: &Poll) -> Option<Statement<'_>> {
    if poll.quarantined.is_empty() {
        return None;
    }
    let reasons: Vec<&str> = poll.quarantined.iter().map(|(reason, _)| reason.as_str()).collect();
    let jsons: Vec<&[u8]> = poll.quarantined.iter().map(|(_, json)| &**json).collect();
    Some(Statement::new(
        "-- write_latest::quarantine
        INSERT INTO quarantine (account_id, pos, reason, json, stored_at)
        SELECT $1, $2, t.reason, t.json, $5
        FROM UNNEST($3::TEXT[], $4::BYTEA[]) AS t (reason, json)",
        params![account_id.0, pos.0, reasons, jsons, poll.received_at],
    ))
}
