//! Several processes of the program on one database, as when one is too small.

use std::sync::Mutex;

use crate::client::Client;
use crate::postgres::Database;
use crate::proxy::Proxy;
use crate::wait::eventually;

const ALIVE: &str = "SELECT count(*) FROM replicas \
                     WHERE alive_until > (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT";
const NEWEST: &str = "SELECT max(replica_id)::BIGINT FROM replicas";

/// Processes with one database and one secret. A client talks to one of them at a time: [`Replicas::at`].
#[derive(Debug)]
pub struct Replicas {
    proxies: Vec<Proxy>,
    /// What each is called in the database.
    ids: Mutex<Vec<i64>>,
}

impl Replicas {
    /// Starts so many of them for the homeserver at `server`.
    pub async fn start(server: &str, database: &Database, count: usize) -> Self {
        Self::start_with(server, database, count, &[]).await
    }

    /// [`Replicas::start`] with more flags.
    pub async fn start_with(
        server: &str,
        database: &Database,
        count: usize,
        flags: &[&str],
    ) -> Self {
        let proxies: Vec<Proxy> =
            (0..count).map(|_| Proxy::prepare_single(server, database, flags)).collect();
        let replicas = Self { proxies, ids: Mutex::new(vec![0; count]) };
        for number in 0..count {
            replicas.start_again(number, number + 1).await;
        }
        replicas
    }

    /// Starts one that does not run; `alive` is how many there are then.
    pub async fn start_again(&self, number: usize, alive: usize) {
        self.proxies[number].start_again().await;
        self.are_alive(alive).await;
        let id = self.database().count(NEWEST).await;
        self.ids.lock().unwrap()[number] = id;
    }

    /// One of them.
    pub fn proxy(&self, number: usize) -> &Proxy {
        &self.proxies[number]
    }

    /// What they share.
    pub fn database(&self) -> &Database {
        self.proxies[0].database()
    }

    /// A client, talking to one of them; numbers go round.
    pub fn at(&self, number: usize, client: &Client) -> Client {
        client.at(&self.proxies[number % self.proxies.len()].url())
    }

    /// Waits until the database lists so many live replicas.
    pub async fn are_alive(&self, count: usize) {
        let alive = i64::try_from(count).unwrap();
        eventually(&format!("{count} live replicas"), async || {
            match self.database().connect().await.ok()?.query_one(ALIVE, &[]).await {
                Ok(row) => (row.get::<_, i64>(0) == alive).then_some(()),
                // The first has not made the table yet.
                Err(_) => None,
            }
        })
        .await;
    }

    /// Which of them polls for an account, once one does.
    pub async fn holder_of(&self, user_id: &str) -> usize {
        let query = format!(
            "SELECT coalesce(max(replica_id), 0)::BIGINT FROM accounts WHERE user_id = '{user_id}'"
        );
        eventually(&format!("a replica that polls for {user_id}"), async || {
            let holder = self.database().count(&query).await;
            self.ids.lock().unwrap().iter().position(|id| *id == holder)
        })
        .await
    }
}
