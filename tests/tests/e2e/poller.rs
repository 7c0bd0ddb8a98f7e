//! The poller, in front of a homeserver that does and misdoes what its script says.

mod faults;
mod hostile;
mod large;
mod positions;
mod unheard;

/// The room that most of the scripts are about.
const ROOM: &str = "!room:scripted";
