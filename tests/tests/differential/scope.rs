//! What the stories leave out, because the program does not do it yet. Turn one on when it does.

/// Events that are stored already are pruned when they are redacted.
pub(crate) const REDACTIONS: bool = true;
/// What ignored users send is hidden, and comes back when they are not ignored any more.
pub(crate) const IGNORED_USERS: bool = true;
/// An initial sync with `include_leave` lists rooms that were left before the proxy first polled.
pub(crate) const LEFT_BEFORE_THE_PROXY: bool = true;
/// `use_state_after`. Synapse has it only with `TEST_SYNAPSE_STATE_AFTER`, and under the unstable name.
pub(crate) const STATE_AFTER: bool = false; // not yet: use_state_after
/// Receipts and room account data that were there before the account came into the room.
pub(crate) const FROM_BEFORE_THE_JOIN: bool = true;
/// A forgotten invite is not listed in an initial sync.
pub(crate) const FORGOTTEN_INVITES: bool = true;
