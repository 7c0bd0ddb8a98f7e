//! What the proxy holds in memory of an account.

use serde_json::{Value, json};

use crate::world::World;

/// The memory of the process at three moments, in KiB.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) rooms: usize,
    /// After a start, when the account is polled for and nobody has asked for a list.
    pub(crate) without: u64,
    /// After a list by recency.
    pub(crate) by_recency: u64,
    /// And after one by name, for which the names of all rooms are kept.
    pub(crate) by_name: u64,
}

/// Starts the proxy anew and has it make the room index.
pub(crate) async fn measure(world: &mut World) -> Memory {
    world.restart().await;
    ask(world, json!({"to_device": {}})).await;
    let without = world.proxy.memory_kib();
    ask(world, json!({"room_list": {}})).await;
    let by_recency = world.proxy.memory_kib();
    ask(world, json!({"room_list": {"p": {"sort": ["by_name"]}}})).await;
    let by_name = world.proxy.memory_kib();
    Memory { rooms: world.rooms(), without, by_recency, by_name }
}

async fn ask(world: &World, body: Value) {
    // More than once: what one reply takes for itself is there for the next.
    for _ in 0..3 {
        world.alice.v3().ask(body.clone()).await;
    }
}

impl Memory {
    /// For people.
    pub(crate) fn line(&self) -> String {
        let Self { rooms, without, by_recency, by_name } = self;
        format!(
            "memory at {rooms} rooms: {without} KiB without the index, {by_recency} KiB with it by recency, {by_name} KiB by name"
        )
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "rooms": self.rooms, "without_index_kib": self.without, "by_recency_kib": self.by_recency,
            "by_name_kib": self.by_name,
        })
    }
}
