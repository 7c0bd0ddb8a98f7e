//! What the store tells of its own work to whoever counts it. It does not know what is made of that.
//!
//! One observer for all clones of a store. It is called in the middle of the work, so it must be quick and
//! must not wait.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::Store;

/// Something that has just happened.
#[derive(Clone, Copy, Debug)]
pub enum Observation {
    /// An operation got a connection of the pool, or gave up after waiting for one.
    Connection {
        /// How long it waited.
        waited: Duration,
        /// Whether it got one.
        got: bool,
    },
    /// A statement has ended.
    Statement {
        /// How long it took, its rows included.
        took: Duration,
        /// Whether it was refused, or its connection broke.
        failed: bool,
    },
    /// Something was sent to the server, one statement or several together, and is waited for.
    RoundTrip,
    /// Numbers of rooms were looked for in memory.
    RoomIds {
        /// How many were there.
        found: usize,
        /// How many the database had to be asked for.
        missing: usize,
    },
}

/// How the pool of connections is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The most connections.
    pub most: usize,
    /// Connections that are open.
    pub open: usize,
    /// Those of them that nobody uses.
    pub available: usize,
    /// Operations that wait for one.
    pub waiting: usize,
}

type Listener = dyn Fn(Observation) + Send + Sync;

/// Whoever listens, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Observer(Arc<OnceLock<Box<Listener>>>);

impl Observer {
    pub(crate) fn tell(&self, observation: Observation) {
        if let Some(listener) = self.0.get() {
            listener(observation);
        }
    }
}

impl Store {
    /// Has a listener told of what happens from now on. The first one stays.
    pub fn observe(&self, listener: impl Fn(Observation) + Send + Sync + 'static) {
        // A second listener would be a second proxy on the same store, which nobody makes.
        let _ = self.observer.0.set(Box::new(listener));
    }

    /// How the pool is used now.
    pub fn pool_use(&self) -> PoolUse {
        let status = self.pool.status();
        PoolUse {
            most: status.max_size,
            open: status.size,
            available: status.available,
            waiting: status.waiting,
        }
    }

    /// How many rooms have their numbers in memory.
    pub fn remembered_rooms(&self) -> usize {
        self.room_nids.len()
    }
}
