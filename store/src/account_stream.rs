//! The account stream: what one poll brought, and storing it in one transaction.
//!
//! The types here are a poll as the store wants it: identifiers read out, everything else raw bytes.
//! `ingest` writes it, and `in_batches` what is too large for memory; `state_plan` is the pure part, which turns a poll's state into changes of the
//! head and their undo.

mod bodies;
mod columns;
mod in_batches;
mod ingest;
mod state_plan;
mod write_device;
mod write_latest;
mod write_rooms;

use bytes::Bytes;

pub(crate) use self::bodies::{BodyIds, insert as insert_bodies};
pub(crate) use self::columns::{AccountDataColumns, ReceiptColumns};
pub use self::in_batches::{Batch, Batches, Stopped};
pub use self::ingest::{Ingested, StoredRoom};
use crate::{DeviceNid, Section};

/// What a main poll of an account brought.
#[derive(Clone, Debug, Default)]
pub struct Poll {
    /// The since it was asked with: the fence.
    pub asked_since: Option<String>,
    /// Upstream's `next_batch`.
    pub next_batch: String,
    /// When the reply was received, in milliseconds.
    pub received_at: i64,
    /// The rooms it mentioned.
    pub rooms: Vec<RoomUpdate>,
    /// Global account data.
    pub account_data: Vec<AccountData>,
    /// Presence.
    pub presence: Vec<PresenceUpdate>,
    /// `device_lists.changed`.
    pub device_lists_changed: Vec<String>,
    /// `device_lists.left`.
    pub device_lists_left: Vec<String>,
    /// What it brought for the device whose token asked.
    pub device: Option<DeviceUpdate>,
    /// Pieces that could not be understood: why, and their JSON.
    pub quarantined: Vec<(String, Bytes)>,
}

/// What a poll brought for one device.
#[derive(Clone, Debug)]
pub struct DeviceUpdate {
    /// The device.
    pub device_nid: DeviceNid,
    /// To-device messages, verbatim, in order.
    pub to_device: Vec<Bytes>,
    /// `device_one_time_keys_count`; `None` leaves it as it was.
    pub one_time_keys_count: Option<Bytes>,
    /// `device_unused_fallback_key_types`; `None` leaves it as it was.
    pub unused_fallback_key_types: Option<Bytes>,
}

/// What a light poll brought: one device's inbox and key counts.
#[derive(Clone, Debug)]
pub struct LightPoll {
    /// The since it was asked with: the fence.
    pub asked_since: Option<String>,
    /// Upstream's `next_batch`.
    pub next_batch: String,
    /// When the reply was received, in milliseconds.
    pub received_at: i64,
    /// What it brought.
    pub device: DeviceUpdate,
}

/// What a poll said of one room.
#[derive(Clone, Debug)]
pub struct RoomUpdate {
    /// The room.
    pub room_id: String,
    /// Where the poll listed it.
    pub section: Section,
    /// Upstream left events out before the timeline.
    pub limited: bool,
    /// The ID of a join of the user, in the timeline or state, whose previous membership was not join.
    pub joins_anew: Option<String>,
    /// In section leave: somebody else ended the membership.
    pub kicked: bool,
    /// Upstream's token just before the first event of the timeline.
    pub prev_batch: Option<String>,
    /// The state that came with it.
    pub state: StateBlock,
    /// The timeline, oldest first.
    pub timeline: Vec<Event>,
    /// The content of `m.typing`, if it came.
    pub typing: Option<Bytes>,
    /// Receipts that came.
    pub receipts: Vec<Receipt>,
    /// Room account data that came.
    pub account_data: Vec<AccountData>,
    /// Unread counts, if they came.
    pub counts: Option<Counts>,
    /// The parts of the summary that came.
    pub summary: Summary,
    /// `invite_state` or `knock_state`, verbatim.
    pub stripped_state: Option<Bytes>,
    /// When the room last stirred, in milliseconds: `origin_server_ts` of the last event, but no later than it was
    /// received. `None` leaves it as it was.
    pub recency: Option<i64>,
}

/// The state that came with a room.
#[derive(Clone, Debug)]
pub enum StateBlock {
    /// `state`: changes up to the start of the timeline.
    BeforeTimeline(Vec<Event>),
    /// `state_after`: changes up to the end of the timeline, and the truth about it.
    AfterTimeline(Vec<Event>),
}

/// An event, split for storing.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Its ID.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// `content.membership` of an `m.room.member` event.
    pub membership: Option<String>,
    /// `content.displayname` of an `m.room.member` event.
    pub displayname: Option<String>,
    /// The event without `unsigned`, else byte for byte.
    pub body: Bytes,
    /// `unsigned` without `age`, `transaction_id` and `redacted_because`; `None` when nothing is left.
    pub unsigned: Option<Bytes>,
    /// `unsigned` without content of other events as well: what is kept with the state.
    pub bare_unsigned: Option<Bytes>,
    /// The events whose content stands in `unsigned`.
    pub copies: Vec<String>,
    /// `unsigned.redacted_because`: upstream told it redacted.
    pub redacted_because: Option<Box<Event>>,
    /// When it happened by upstream's clock, in milliseconds; `None` without `unsigned.age`.
    pub age_ts: Option<i64>,
    /// `unsigned.transaction_id`.
    pub transaction_id: Option<String>,
}

/// One piece of account data.
#[derive(Clone, Debug)]
pub struct AccountData {
    /// Its type.
    pub event_type: String,
    /// The whole JSON event, verbatim.
    pub event: Bytes,
}

/// One receipt.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Whose.
    pub user_id: String,
    /// `m.read`, `m.read.private`, …
    pub receipt_type: String,
    /// The thread; empty for an unthreaded receipt.
    pub thread_id: String,
    /// The event it points at.
    pub event_id: String,
    /// The JSON object with `ts` and `thread_id`, verbatim.
    pub data: Bytes,
}

/// Unread counts: a snapshot.
#[derive(Clone, Debug)]
pub struct Counts {
    /// `notification_count`, without threads.
    pub notification_count: i64,
    /// `highlight_count`, without threads.
    pub highlight_count: i64,
    /// `unread_thread_notifications`; `None` when there are none.
    pub threads: Option<Bytes>,
}

/// The parts of a room summary that a poll brought.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// `m.heroes`, a JSON list.
    pub heroes: Option<Bytes>,
    /// `m.joined_member_count`.
    pub joined_member_count: Option<i64>,
    /// `m.invited_member_count`.
    pub invited_member_count: Option<i64>,
}

/// `m.presence` of one user.
#[derive(Clone, Debug)]
pub struct PresenceUpdate {
    /// Who.
    pub user_id: String,
    /// The event without `content.last_active_ago`.
    pub event: Bytes,
    /// When the user was last active, in milliseconds.
    pub last_active_ts: Option<i64>,
}

impl RoomUpdate {
    /// A room that is listed, and of which nothing else is said.
    pub fn empty(room_id: String, section: Section) -> Self {
        Self {
            room_id,
            section,
            limited: false,
            joins_anew: None,
            kicked: false,
            prev_batch: None,
            state: StateBlock::BeforeTimeline(Vec::new()),
            timeline: Vec::new(),
            typing: None,
            receipts: Vec::new(),
            account_data: Vec::new(),
            counts: None,
            summary: Summary::default(),
            stripped_state: None,
            recency: None,
        }
    }
}

impl Poll {
    /// Whether it brought nothing that a client could be told, apart from the device's own part. It gets no position then.
    pub fn is_idle(&self) -> bool {
        self.rooms.is_empty()
            && self.account_data.is_empty()
            && self.presence.is_empty()
            && self.device_lists_changed.is_empty()
            && self.device_lists_left.is_empty()
            && self.quarantined.is_empty()
    }
}
