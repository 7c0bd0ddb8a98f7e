//! What can go wrong with a sync.

use serde_json::Value;

/// One way to fail. As the weather ([`super::ScriptedHomeserver::weather`]) it lasts, and holds for every endpoint.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Never answers.
    Hang,
    /// Answers with this status and body.
    Status(u16, Value),
    /// Answers 200 with the first half of the JSON, as if it were all.
    TruncatedJson,
    /// Announces the whole body, sends half of it and closes the connection.
    BreakOff,
    /// Answers 200 with something that is not JSON, as a misrouted reverse proxy does.
    Html,
    /// Answers correctly, but in many small pieces.
    Drip,
    /// Asks to be left alone for so many seconds.
    TooMany(u64),
    /// Answers 200 with JSON of about so many bytes, of which the last closes it.
    Huge(usize),
}
