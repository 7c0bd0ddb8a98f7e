//! What becomes of a poll: stored, asked again at once or after a while, or the end of the token.
//!
//! Pure but for the log: each failure of a poll is logged here, once.

use std::time::Duration;

use crate::{account::Failure, error::causes, metrics::labels::PollOutcome, upstream};

/// The longest wait after a failed first poll: upstream keeps a finished first reply for two minutes,
/// so a prompt retry gets it.
pub(super) const FIRST_POLL_RETRY: Duration = Duration::from_secs(3);

/// The longest wait otherwise: nobody notices for longer than fifteen seconds that upstream was away.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// The wait after a poll that came too late.
const FENCED_RETRY: Duration = Duration::from_secs(1);

/// How often to look whether an account that upstream turns away is let in again: that, too, is noticed within fifteen seconds.
pub(super) const PROBE: Duration = RETRY;

/// What a poller does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The reply is stored: go on.
    Stored,
    /// Something changed under the poll: ask again at once.
    AskAgain,
    /// Upstream no longer knows the token.
    Refused,
    /// Upstream has locked the account: the token may be good again later.
    Locked,
    /// Upstream serves the user no sync, for as long as somebody does nothing about it: look again slowly.
    TurnedAway,
    /// Ask the same again, after a while.
    Retry {
        /// What upstream asked for, if it did.
        after: Option<Duration>,
        /// The longest wait.
        at_most: Duration,
    },
}

impl Outcome {
    /// As it is counted.
    pub(super) fn counted(&self) -> PollOutcome {
        match self {
            Self::Stored => PollOutcome::Stored,
            Self::AskAgain => PollOutcome::GivenUp,
            Self::Refused | Self::Locked => PollOutcome::Refused,
            Self::TurnedAway | Self::Retry { .. } => PollOutcome::Failed,
        }
    }
}

/// What follows from a failed request.
pub(super) fn of_failure(error: &upstream::Error, is_first: bool) -> Outcome {
    if error.is_unknown_token() && !error.is_user_locked() {
        tracing::info!(error = %causes(error), "upstream refused the token");
        return Outcome::Refused;
    }
    if error.is_user_locked() {
        tracing::info!(error = %causes(error), "upstream has locked the account");
        return Outcome::Locked;
    }
    tracing::warn!(error = %causes(error), "a poll failed");
    if error.is_retryable() {
        let at_most = if is_first { FIRST_POLL_RETRY } else { RETRY };
        return Outcome::Retry { after: error.retry_after(), at_most };
    }
    // Consent missing, a resource limit, …: not the token's end.
    Outcome::TurnedAway
}

/// Whether upstream does not know the position that it once gave.
pub(super) fn refuses_since(error: &upstream::Error) -> bool {
    let bad_token = ["M_UNKNOWN", "M_INVALID_PARAM", "M_UNKNOWN_POS"];
    matches!(error, upstream::Error::Matrix { status: 400, errcode, .. }
        if bad_token.contains(&errcode.as_str()))
}

/// The store could not take a reply. Nothing has advanced: the same poll comes again.
pub(super) fn of_store_failure(error: &store::Error) -> Outcome {
    match error {
        store::Error::Fenced { .. } => {
            tracing::warn!(error = %causes(error), "another poller was faster");
            Outcome::Retry { after: None, at_most: FENCED_RETRY }
        }
        _ => {
            tracing::error!(error = %causes(error), "could not store a poll");
            Outcome::Retry { after: None, at_most: FIRST_POLL_RETRY }
        }
    }
}

/// The file of a large reply cannot be read. Nothing has advanced: the same poll comes again.
pub(super) fn of_file_failure(error: &std::io::Error) -> Outcome {
    tracing::error!(error = %causes(error), "could not read the file of a large reply");
    Outcome::Retry { after: None, at_most: FIRST_POLL_RETRY }
}

/// What those who wait for the first poll are told.
pub(super) fn failure(error: &upstream::Error) -> Failure {
    match error {
        upstream::Error::Timeout => Failure::Timeout,
        upstream::Error::Matrix { status: status @ 400..500, body, .. } => {
            Failure::Answer(*status, body.clone())
        }
        _ => Failure::Unreachable,
    }
}
