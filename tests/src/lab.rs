//! The pieces put together: a proxy in front of Synapse, with Postgres beneath, and users with names of their own.
//!
//! Most tests share one of each, started by the first that asks. A test that stops or kills something takes a
//! [`Lab`] in which that piece is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::client::Client;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::synapse::{PASSWORD, Synapse};

/// A place to test in. When the test fails, the logs are shown.
#[derive(Debug)]
pub struct Lab {
    /// The homeserver.
    pub synapse: Arc<Synapse>,
    /// The database server.
    pub postgres: Arc<Postgres>,
    /// The program under test.
    pub proxy: Arc<Proxy>,
}

impl Lab {
    /// The one that most tests share.
    pub async fn shared() -> Self {
        static PROXY: OnceCell<Arc<Proxy>> = OnceCell::const_new();
        let (synapse, postgres) = tokio::join!(shared_synapse(), shared_postgres());
        let proxy =
            PROXY.get_or_init(async || new_proxy(&synapse, &postgres, &[]).await).await.clone();
        Self { synapse, postgres, proxy }
    }

    /// A proxy of its own, on a fresh database, for tests that kill the proxy.
    pub async fn with_own_proxy() -> Self {
        Self::with_own_proxy_and_flags(&[]).await
    }

    /// [`Lab::with_own_proxy`] with more flags.
    pub async fn with_own_proxy_and_flags(flags: &[&str]) -> Self {
        let (synapse, postgres) = tokio::join!(shared_synapse(), shared_postgres());
        let proxy = new_proxy(&synapse, &postgres, flags).await;
        Self { synapse, postgres, proxy }
    }

    /// A proxy and a Postgres of its own, for tests that stop the database.
    pub async fn with_own_postgres() -> Self {
        let (synapse, postgres) = tokio::join!(shared_synapse(), Postgres::start());
        let postgres = Arc::new(postgres);
        let proxy = new_proxy(&synapse, &postgres, &[]).await;
        Self { synapse, postgres, proxy }
    }

    /// A proxy and a Synapse of its own, for tests that stop the homeserver.
    pub async fn with_own_synapse() -> Self {
        let (synapse, postgres) = tokio::join!(Synapse::start(), shared_postgres());
        let synapse = Arc::new(synapse);
        let proxy = new_proxy(&synapse, &postgres, &[]).await;
        Self { synapse, postgres, proxy }
    }

    /// Where clients connect: to the proxy. With `TEST_DIRECT` set, to Synapse itself, which shows whether a v2 test
    /// asks for what Synapse does.
    pub fn url(&self) -> String {
        if past_the_proxy() { self.synapse.url() } else { self.proxy.url() }
    }

    /// Whether clients connect to Synapse itself.
    pub fn is_past_the_proxy(&self) -> bool {
        past_the_proxy()
    }

    /// A new user, logged in through the proxy. The user ID begins with `name` and has a number after it.
    pub async fn user(&self, name: &str) -> Client {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let localpart = format!("{name}-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        self.synapse.register(&localpart).await;
        self.log_in(&localpart, &format!("{}PHONE", name.to_uppercase())).await
    }

    /// An administrator of the homeserver, who talks to it past the proxy.
    pub async fn administrator(&self) -> Client {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let localpart = format!("administrator-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        self.synapse.register_administrator(&localpart).await;
        Client::login(&self.synapse.url(), &localpart, PASSWORD, "DESK").await
    }

    /// A new user who talks to Synapse past the proxy.
    pub async fn user_on_synapse(&self, name: &str) -> Client {
        self.past_proxy(&self.user(name).await)
    }

    /// Alice, Bob, and a public room of hers that he has joined.
    pub async fn two_in_a_room(&self) -> (Client, Client, String) {
        let (alice, bob) = (self.user("alice").await, self.user("bob").await);
        let room = alice.create_public_room().await;
        bob.join(&room).await.ok();
        (alice, bob, room)
    }

    /// Another device of a user.
    pub async fn second_device(&self, user: &Client) -> Client {
        self.log_in(localpart(user), &format!("{}SECOND", user.device_id)).await
    }

    /// The same device, logged in again: it has another token.
    pub async fn log_in_again(&self, device: &Client) -> Client {
        self.log_in(localpart(device), &device.device_id).await
    }

    /// The same device, talking to Synapse past the proxy.
    pub fn past_proxy(&self, client: &Client) -> Client {
        client.at(&self.synapse.url())
    }

    /// Stops the proxy and starts it again; `meanwhile` begins when nobody listens.
    pub async fn while_the_proxy_restarts<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        if past_the_proxy() {
            return meanwhile.await;
        }
        self.proxy.stop().await;
        tokio::join!(meanwhile, self.proxy.start_again()).0
    }

    /// Stops the proxy, and starts it again when `meanwhile` is over.
    pub async fn while_the_proxy_is_down<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        if past_the_proxy() {
            return meanwhile.await;
        }
        self.proxy.stop().await;
        let result = meanwhile.await;
        self.proxy.start_again().await;
        result
    }

    async fn log_in(&self, localpart: &str, device_id: &str) -> Client {
        Client::login(&self.url(), localpart, PASSWORD, device_id).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A proxy that is this lab's alone shows its log when it is dropped itself.
        if Arc::strong_count(&self.proxy) > 1 {
            eprintln!("{}", self.proxy.log_tail());
        }
        eprintln!("{}", self.synapse.log_tail());
    }
}

fn localpart(user: &Client) -> &str {
    user.user_id.trim_start_matches('@').split(':').next().unwrap_or_default()
}

/// The Postgres that most tests share; each takes a database of its own.
pub async fn shared_postgres() -> Arc<Postgres> {
    static POSTGRES: OnceCell<Arc<Postgres>> = OnceCell::const_new();
    POSTGRES.get_or_init(async || Arc::new(Postgres::start().await)).await.clone()
}

async fn shared_synapse() -> Arc<Synapse> {
    static SYNAPSE: OnceCell<Arc<Synapse>> = OnceCell::const_new();
    SYNAPSE.get_or_init(async || Arc::new(Synapse::start().await)).await.clone()
}

async fn new_proxy(synapse: &Synapse, postgres: &Postgres, flags: &[&str]) -> Arc<Proxy> {
    let proxy = Proxy::prepare(&synapse.url(), &postgres.database().await, flags);
    if !past_the_proxy() {
        proxy.start_again().await;
    }
    Arc::new(proxy)
}

fn past_the_proxy() -> bool {
    std::env::var_os("TEST_DIRECT").is_some()
}
