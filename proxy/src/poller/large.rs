//! A large reply on its way to the store: read part by part, with what the poller adds to each.

use std::{sync::Arc, time::Duration};

use store::{Batch, Batches, Ingested, Poll, Stopped};
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    Poller,
    additions::{Additions, Brought},
};
use crate::{
    clock::now_ms,
    ingest::{Asked, LargePoll, PartError},
    upstream::{AccessToken, Large},
};

/// How often it is told how far the store has come.
const PROGRESS: Duration = Duration::from_secs(30);

/// Why a reply is not stored.
#[derive(Debug)]
pub(super) enum Untaken {
    /// It cannot be read.
    Reply(PartError),
    /// The store cannot take it.
    Store(store::Error),
}

impl From<PartError> for Untaken {
    fn from(error: PartError) -> Self {
        Self::Reply(error)
    }
}

impl From<store::Error> for Untaken {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// A poll that is stored.
pub(super) struct Taken {
    /// What it brought; without its rooms if those were too many.
    pub(super) poll: Poll,
    pub(super) brought: Brought,
    pub(super) stored: Ingested,
}

impl Poller {
    /// Stores a large reply.
    pub(super) async fn take_large(
        &self,
        token: &AccessToken,
        since: Option<&str>,
        reply: Large,
        after_outage: bool,
    ) -> Result<Taken, Untaken> {
        let user_id = self.account.user_id.clone();
        let device_nid = self.device.device_nid;
        let since = since.map(str::to_owned);
        let received_at = now_ms();
        let (mut poll, rooms) = aside(move || {
            let since = since.as_deref();
            LargePoll::read(reply, Asked { user_id: &user_id, device_nid, since, received_at })
        })
        .await?;
        let mut additions = self.additions(token, &poll, after_outage).await?;
        if rooms.rooms() == 0 {
            return Ok(self.store_whole(poll, additions).await?);
        }
        tracing::info!(rooms = rooms.rooms(), "storing a large reply");
        additions.take_device_lists(&mut poll);
        let mut parts = Parts {
            poller: self,
            rooms: Arc::new(rooms),
            next: 0,
            additions: Some(additions.clone()),
            all_additions: additions,
            brought: Brought::default(),
            told: Instant::now(),
        };
        let store = &self.state.store;
        let storing = store.ingest_in_batches(self.account.account_id, &poll, &mut parts);
        let stored = Box::pin(storing).await;
        let mut brought = parts.brought;
        brought.add(&[], poll.quarantined.len());
        match stored {
            Ok(stored) => Ok(Taken { poll, brought, stored }),
            Err(Stopped::Store(error)) => Err(Untaken::Store(error)),
            Err(Stopped::Batches(error)) => Err(Untaken::Reply(error)),
        }
    }
}

/// The rooms of a large reply, and then what is added to them.
struct Parts<'a> {
    poller: &'a Poller,
    rooms: Arc<LargePoll>,
    /// The number of the next room.
    next: usize,
    /// What is still to be added; `None` when it has been.
    additions: Option<Additions>,
    /// What there is to be added to all of it.
    all_additions: Additions,
    brought: Brought,
    /// When it was last told how far this is.
    told: Instant,
}

impl Parts<'_> {
    fn tell_progress(&mut self) {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            let (stored, of) = (self.brought.rooms, self.rooms.rooms());
            tracing::info!(rooms = stored, of, "storing a large reply goes on");
        }
    }
}

impl Batches for Parts<'_> {
    type Error = PartError;

    async fn next(&mut self) -> Result<Option<Batch>, PartError> {
        self.tell_progress();
        let (rooms, first) = (Arc::clone(&self.rooms), self.next);
        if let Some((mut batch, next)) = aside(move || rooms.batch(first)).await? {
            self.next = next;
            self.poller.hear_of_typing(&batch.rooms);
            if let Some(additions) = &mut self.additions {
                additions.add(&mut batch.rooms);
            }
            self.brought.add(&batch.rooms, batch.quarantined.len());
            return Ok(Some(batch));
        }
        let rest = self.additions.take().map(Additions::rest);
        if let Some(rest) = &rest {
            self.brought.add(&rest.rooms, rest.quarantined.len());
        }
        Ok(rest)
    }

    fn rewind(&mut self) {
        self.next = 0;
        self.additions = Some(self.all_additions.clone());
        self.brought = Brought::default();
    }
}

/// Does what blocks where that holds nobody up.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PartError> + Send + 'static,
) -> Result<T, PartError> {
    let outcome = spawn_blocking(work).await;
    outcome.unwrap_or_else(|error| Err(PartError::File(std::io::Error::other(error))))
}
