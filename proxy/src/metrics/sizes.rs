//! Sizes of tables and the backlog of to-device messages: asked of the database once a minute, whoever scrapes how often.

use std::{sync::Arc, time::Duration};

use crate::{error::causes, state::State};

/// How often.
const EVERY: Duration = Duration::from_mins(1);

/// Looks again and again, until the process ends.
pub(crate) async fn keep(state: Arc<State>) {
    let mut shutting_down = state.shutting_down.clone();
    loop {
        if let Err(error) = look(&state).await {
            tracing::debug!(error = %causes(&error), "could not look how large the tables are");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = shutting_down.wait_for(|down| *down) => return,
        }
    }
}

async fn look(state: &State) -> Result<(), store::Error> {
    let tables = state.store.table_sizes().await?;
    let backlog = state.store.inbox_backlog().await?;
    state.metrics.set_sizes(&tables, backlog);
    Ok(())
}
