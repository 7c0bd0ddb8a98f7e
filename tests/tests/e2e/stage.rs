//! A proxy of its own in front of a scripted homeserver that knows one device.

use tests::client::Client;
use tests::lab::shared_postgres;
use tests::proxy::Proxy;
use tests::scripted_homeserver::ScriptedHomeserver;

/// The scripted homeserver, the proxy in front of it, and Alice's phone, which talks to the proxy.
pub(crate) struct Stage {
    pub(crate) homeserver: ScriptedHomeserver,
    pub(crate) proxy: Proxy,
    pub(crate) alice: Client,
}

impl Stage {
    /// Nobody has asked for anything yet.
    pub(crate) async fn set() -> Self {
        Self::set_with(&[]).await
    }

    /// The same, with these flags for the proxy.
    pub(crate) async fn set_with(flags: &[&str]) -> Self {
        let postgres = shared_postgres().await;
        let homeserver = ScriptedHomeserver::start().await;
        let database = postgres.database().await;
        let proxy = Proxy::start_with(&homeserver.url(), &database, flags).await;
        let alice = homeserver.device(&proxy.url(), "@alice:scripted", "PHONE");
        Self { homeserver, proxy, alice }
    }
}
