//! One account behind a proxy of its own, with a database of its own.

use serde_json::{Value, json};
use tests::client::Client;
use tests::postgres::Postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::{LargeAccount, ScriptedHomeserver};
use tests::session::Session;

use crate::counters::Counters;

/// An account with so many rooms, and all that serves it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) alice: Client,
    pub(crate) counters: Counters,
    homeserver: ScriptedHomeserver,
    account: LargeAccount,
}

impl World {
    /// Waits until the account's first poll is stored.
    pub(crate) async fn make(postgres: &Postgres, rooms: usize) -> Self {
        let homeserver = ScriptedHomeserver::start().await;
        let database = postgres.database().await;
        let counters = Counters::of(&database).await;
        // What it would log at level `debug` is not what a user waits for.
        let flags = ["-log-level", "info"];
        let proxy = Proxy::start_with(&homeserver.url(), &database, &flags).await;
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        let account = LargeAccount::moves_in(&homeserver, &alice.user_id, rooms);
        let world = Self { proxy, alice, counters, homeserver, account };
        world.alice.v3().ask(json!({"to_device": {}})).await;
        world.homeserver.is_polled_with("s0").await;
        world.counters.settle().await;
        world
    }

    /// How many rooms the account is in.
    pub(crate) const fn rooms(&self) -> usize {
        self.account.rooms()
    }

    /// The room that stirred last when the account began.
    pub(crate) fn latest_room(&self) -> String {
        self.account.room_id(self.rooms() - 1)
    }

    /// Somebody speaks in a room; returns before the proxy knows. Gives the token of the poll.
    pub(crate) fn somebody_speaks(&mut self, room_id: &str) -> String {
        self.account.somebody_speaks(&self.homeserver, room_id)
    }

    /// [`World::somebody_speaks`], and waits until the proxy has stored it: it asks again only then.
    pub(crate) async fn somebody_has_spoken(&mut self, room_id: &str) {
        let token = self.somebody_speaks(room_id);
        self.homeserver.is_polled_with(&token).await;
    }

    /// The proxy is stopped and started again: it holds nothing in memory any more.
    pub(crate) async fn restart(&mut self) {
        self.proxy.stop().await;
        self.proxy.start_again().await;
        // Its connections are of no use any more.
        self.alice = self.alice.on_new_connections();
    }

    /// A session with its first reply, and the last of the rooms that it has told of; with `paged` the client has read all
    /// pages of the list.
    pub(crate) async fn session(&self, body: &Value, paged: bool) -> (Session, String) {
        let mut session = self.alice.v3();
        let mut reply = session.ask(body.clone()).await;
        while let Some(next) = reply["room_list"]["p"]["next"].as_str().filter(|_| paged) {
            let page = json!({"room_list": {"p": {"since": next}}});
            reply = session.ask(page).await;
        }
        let last = reply["room_list"]["rooms"].as_array().and_then(|rooms| rooms.last());
        let room = last
            .and_then(|room| room["room_id"].as_str())
            .map_or_else(|| self.latest_room(), str::to_owned);
        (session, room)
    }
}
