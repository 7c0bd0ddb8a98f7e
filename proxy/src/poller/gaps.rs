//! Redactions in gaps. Where upstream left events out of a timeline, a redaction of what is stored may be
//! among them: state is not told again when it is redacted, for it is the same event. So each gap is
//! looked through, once, for redactions alone:
//! <https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3roomsroomidmessages>.
//!
//! The gaps are in the store, written with the poll that left them; this works beside the polls and holds
//! none of them up.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use store::RedactionScan;

use crate::{clock::now_ms, error::causes, ingest::parse_event, upstream};

use super::{Poller, backoff::Backoff};

/// How many gaps are fetched from the store at once.
const BATCH: i64 = 1_000;

/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How many pages of redactions are read of one gap.
const MAX_PAGES: u32 = 20;

const PAGE: &str = "100";

/// Nothing else is looked for.
const REDACTIONS: &str = r#"{"types":["m.room.redaction"]}"#;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    chunk: Vec<&'a RawValue>,
    #[serde(default)]
    end: Option<String>,
}

/// Why gaps are left for later, and for how long at least.
struct Later(Option<Duration>);

impl Poller {
    /// Looks through the account's gaps as they come, as long as this device runs the main poll.
    pub(super) async fn look_through_gaps(&self) {
        let mut backoff = Backoff::new();
        // Those that were left before this poller began.
        self.gaps.notify_one();
        loop {
            self.gaps.notified().await;
            while self.is_main() {
                match Box::pin(self.look_through_some()).await {
                    Ok(0) => break,
                    Ok(_) => backoff.reset(),
                    Err(Later(at_least)) => {
                        tokio::time::sleep(backoff.next(at_least, LONGEST_WAIT)).await;
                    }
                }
            }
        }
    }

    /// Looks through some gaps and gives their number.
    async fn look_through_some(&self) -> Result<usize, Later> {
        let account_id = self.account.account_id;
        let store_failed = |error: store::Error| {
            tracing::warn!(error = %causes(&error), "cannot look for redactions in gaps yet");
            Later(None)
        };
        let scans =
            self.state.store.redaction_scans(account_id, BATCH).await.map_err(store_failed)?;
        let mut later = None;
        for scan in &scans {
            let found = match self.redactions_in(scan).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(
                        error = %causes(&error),
                        room_id = %scan.room_id,
                        "could not look for redactions in a gap"
                    );
                    match error {
                        upstream::Error::Transport(_) | upstream::Error::Timeout => {
                            return Err(Later(None));
                        }
                        // One room's trouble does not hold up the others.
                        error if error.is_retryable() || error.is_unknown_token() => {
                            later = Some(Later(error.retry_after()));
                            continue;
                        }
                        // The user is out of the room, or upstream no longer knows the place.
                        _ => Vec::new(),
                    }
                }
            };
            tracing::debug!(room_id = %scan.room_id, redactions = found.len(), "looked through a gap");
            let store = &self.state.store;
            store.finish_redaction_scan(account_id, scan, &found).await.map_err(store_failed)?;
        }
        later.map_or(Ok(scans.len()), Err)
    }

    /// The redactions in a gap.
    async fn redactions_in(
        &self,
        scan: &RedactionScan,
    ) -> Result<Vec<store::Event>, upstream::Error> {
        let mut token = self.device.watch_token();
        let mut found = Vec::new();
        let mut from = scan.from.clone();
        for _ in 0..MAX_PAGES {
            // Closed never: the device lives as long as its poller.
            let Ok(Some(current)) = token.wait_for(Option::is_some).await.map(|it| it.clone())
            else {
                break;
            };
            let reply = self
                .state
                .upstream
                .messages(
                    &current,
                    &scan.room_id,
                    &[
                        ("dir", "b"),
                        ("from", &from),
                        ("to", &scan.until),
                        ("limit", PAGE),
                        ("filter", REDACTIONS),
                    ],
                )
                .await?;
            let page: Page<'_> =
                serde_json::from_slice(&reply).map_err(|_| upstream::Error::InvalidBody)?;
            let received_at = now_ms();
            let events = page.chunk.iter().filter_map(|raw| parse_event(raw, received_at).ok());
            found.extend(events.filter(|event| event.event_type == "m.room.redaction"));
            match page.end {
                Some(end) if end != from => from = end,
                _ => return Ok(found),
            }
        }
        tracing::warn!(room_id = %scan.room_id, "a gap is too long to be looked through whole");
        Ok(found)
    }
}
