//! The numbers that the database hands out, each its own type, so that one is never passed for another.
//!
//! They are made by Postgres and mean nothing outside it. This module knows no SQL.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        id!($(#[$doc])* $name: i64);
    };
    ($(#[$doc:meta])* $name:ident: $number:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $number);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// An account: one Matrix user.
    AccountId
);
id!(
    /// A device of an account.
    DeviceNid
);
id!(
    /// A process that serves from this database.
    ReplicaId: i32
);
id!(
    /// A room ID, interned.
    RoomNid
);
id!(
    /// A stored event body.
    BodyId
);
id!(
    /// A sync v3 session of a device.
    SessionId
);
id!(
    /// A position in an account's stream: the number of the last poll it covers; 0 is before the first.
    Position
);
id!(
    /// The number of a to-device message in its device's inbox, from 1; 0 is before the first.
    InboxSeq
);

/// `room_nid` of what belongs to no room (global account data).
pub(crate) const NO_ROOM: RoomNid = RoomNid(0);

/// A place in a room's timeline: before the event number `ord` of the poll at `pos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The poll.
    pub pos: Position,
    /// The event within the poll's timeline of the room, from 0.
    pub ord: i32,
}

impl Place {
    /// After everything that the poll at `pos` brought.
    pub fn after(pos: Position) -> Self {
        Self { pos: Position(pos.0 + 1), ord: i32::MIN }
    }
}
