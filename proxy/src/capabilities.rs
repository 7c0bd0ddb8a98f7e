//! What the homeserver says it does, as far as it changes what we do.
//!
//! `GET /_matrix/client/v3/capabilities`
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv3capabilities>
//!
//! Neighbours: pollers ask for it now and then, `passthrough` reads what passes by, `v2` acts on it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::causes, json::Object, state::State, upstream::AccessToken};

/// How often it is asked for.
const EVERY: Duration = Duration::from_hours(1);

/// `m.forget_forced_upon_leave`, and what it was called before it was in the specification.
const FORGET_ON_LEAVE: [&str; 2] =
    ["m.forget_forced_upon_leave", "org.matrix.msc4267.forget_forced_upon_leave"];

/// What is known of it.
#[derive(Default)]
pub(crate) struct Capabilities {
    forget_on_leave: AtomicBool,
    asked: Mutex<Option<Instant>>,
}

impl Capabilities {
    /// Whether who leaves a room has also forgotten it.
    pub(crate) fn leaving_forgets(&self) -> bool {
        self.forget_on_leave.load(Ordering::Acquire)
    }

    /// Learns from an answer.
    pub(crate) fn learn(&self, answer: &[u8]) {
        let Some(forgets) = forget_on_leave(answer) else { return };
        if self.forget_on_leave.swap(forgets, Ordering::AcqRel) != forgets {
            tracing::info!(forgets, "whether the homeserver forgets rooms that are left");
        }
    }

    fn is_due(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = asked.is_none_or(|at| at.elapsed() >= EVERY);
        if due {
            *asked = Some(Instant::now());
        }
        due
    }
}

/// Asks for it, if it was not asked for lately. Holds nobody up.
pub(crate) fn refresh(state: &Arc<State>, access_token: &AccessToken) {
    if !state.capabilities.is_due() {
        return;
    }
    let (state, access_token) = (Arc::clone(state), access_token.clone());
    tokio::spawn(async move {
        let path = "/_matrix/client/v3/capabilities";
        match state.upstream.get_json(&access_token, path).await {
            Ok(answer) => state.capabilities.learn(&answer),
            Err(error) => {
                tracing::debug!(error = %causes(&error), "no word on the homeserver's capabilities");
            }
        }
    });
}

/// `None` for what is no answer at all. A server that does not speak of it does not do it.
fn forget_on_leave(answer: &[u8]) -> Option<bool> {
    let capabilities = Object::read(answer)?.object("capabilities")?;
    let enabled = |name: &str| Some(capabilities.object(name)?.get("enabled")?.get() == "true");
    Some(FORGET_ON_LEAVE.into_iter().find_map(enabled).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_found_under_both_names() {
        let check = |answer: &str, expected: Option<bool>| {
            assert_eq!(forget_on_leave(answer.as_bytes()), expected, "{answer}");
        };
        check(r#"{"capabilities":{"m.forget_forced_upon_leave":{"enabled":true}}}"#, Some(true));
        check(
            r#"{"capabilities":{"org.matrix.msc4267.forget_forced_upon_leave":{"enabled":true}}}"#,
            Some(true),
        );
        check(r#"{"capabilities":{"m.forget_forced_upon_leave":{"enabled":false}}}"#, Some(false));
        check(r#"{"capabilities":{}}"#, Some(false));
        check("<html>", None);
    }
}
