//! What can go wrong with a sync.

use serde_json::Value;

/// One way to fail.
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
}
