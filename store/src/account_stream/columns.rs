//! Account data and receipts as the columns of a statement: one row a key, because a statement cannot update a
//! row twice. The last one told wins.
//!
//! Neighbours: `write_latest` stores what a poll brings, `upkeep` merges what is told beside polls.

use std::collections::BTreeMap;

use super::{AccountData, Receipt};
use crate::RoomNid;

/// Rows of `account_data`.
pub(crate) struct AccountDataColumns<'a> {
    pub(crate) nids: Vec<i64>,
    pub(crate) types: Vec<&'a str>,
    pub(crate) events: Vec<&'a [u8]>,
}

impl<'a> AccountDataColumns<'a> {
    pub(crate) fn of(told: impl Iterator<Item = (RoomNid, &'a AccountData)>) -> Self {
        let latest: BTreeMap<(i64, &str), &[u8]> =
            told.map(|(nid, data)| ((nid.0, &*data.event_type), &*data.event)).collect();
        Self {
            nids: latest.keys().map(|key| key.0).collect(),
            types: latest.keys().map(|key| key.1).collect(),
            events: latest.into_values().collect(),
        }
    }
}

/// Rows of `receipts`.
pub(crate) struct ReceiptColumns<'a> {
    pub(crate) nids: Vec<i64>,
    pub(crate) users: Vec<&'a str>,
    pub(crate) types: Vec<&'a str>,
    pub(crate) threads: Vec<&'a str>,
    pub(crate) event_ids: Vec<&'a str>,
    pub(crate) data: Vec<&'a [u8]>,
}

impl<'a> ReceiptColumns<'a> {
    pub(crate) fn of(told: impl Iterator<Item = (RoomNid, &'a Receipt)>) -> Self {
        let key = |nid: RoomNid, receipt: &'a Receipt| {
            (nid.0, &*receipt.user_id, &*receipt.receipt_type, &*receipt.thread_id)
        };
        let latest: BTreeMap<(i64, &str, &str, &str), &Receipt> =
            told.map(|(nid, receipt)| (key(nid, receipt), receipt)).collect();
        Self {
            nids: latest.keys().map(|key| key.0).collect(),
            users: latest.keys().map(|key| key.1).collect(),
            types: latest.keys().map(|key| key.2).collect(),
            threads: latest.keys().map(|key| key.3).collect(),
            event_ids: latest.values().map(|receipt| &*receipt.event_id).collect(),
            data: latest.values().map(|receipt| &*receipt.data).collect(),
        }
    }
}
