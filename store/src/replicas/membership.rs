//! A replica's own session with the database: its row, its lock, and the news that replicas tell each other.
//!
//! The session ends with the process, however that ends, or with its connection. It is not the pool's: no transaction ever
//! waits for it, and it is never handed on.

use std::{future::poll_fn, time::Duration};

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};

use super::{CHANNEL, DATABASE_NOW, LOCKS, VACATE_ORPHANS};
use crate::{AccountId, Error, ReplicaId, Store, connect::Connection, tx::Params};

/// This process among the replicas, as long as its session with the database lasts.
pub struct Membership {
    client: Client,
    replica: ReplicaId,
    notices: mpsc::UnboundedReceiver<String>,
}

/// What a replica learns when it says that it lives.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The other live replicas.
    pub others: Vec<Peer>,
    /// Those that are dead, or whose lock nobody holds: they may be about to say that they live, or about to be found dead.
    pub suspects: Vec<ReplicaId>,
}

/// Another live replica.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Which.
    pub replica: ReplicaId,
    /// How many accounts it said it polls for.
    pub accounts: i32,
}

impl Store {
    /// Makes this process a replica, alive for `lifetime`. The accounts of the one that it was before are its own again,
    /// as far as nobody has claimed them meanwhile; gives these. Dead replicas that left their lock are buried.
    pub async fn join(
        &self,
        before: Option<ReplicaId>,
        lifetime: Duration,
    ) -> Result<(Membership, Vec<AccountId>), Error> {
        let (client, connection) = self.settings.connect().await?;
        let (sender, notices) = mpsc::unbounded_channel();
        tokio::spawn(drive(connection, sender));
        let mut membership = Membership { client, replica: ReplicaId(0), notices };
        membership.listen().await?;
        membership.replica = membership.enter(lifetime).await?;
        let adopted = membership.adopt(before).await?;
        membership.bury_the_killed().await?;
        membership.query(VACATE_ORPHANS, &[]).await?;
        self.replica.set(membership.replica.0);
        Ok((membership, adopted))
    }
}

impl Membership {
    /// Which replica this is.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Says that this replica lives for another `lifetime`, and how many accounts it polls for. `None` if it says so too
    /// late: the others may poll for its accounts by now.
    pub async fn beat(&self, lifetime: Duration, accounts: i32) -> Result<Option<Beat>, Error> {
        let lived = self
            .query(
                &format!(
                    "-- membership::beat
                UPDATE replicas
                SET alive_until = {DATABASE_NOW} + $2,
                    accounts = $3
                WHERE replica_id = $1
                    AND alive_until > {DATABASE_NOW}
                RETURNING replica_id"
                ),
                &[&self.replica.0, &millis(lifetime), &accounts],
            )
            .await?;
        if lived.is_empty() {
            return Ok(None);
        }
        let rows = self
            .query(
                &format!("-- membership::beat
                SELECT
                    replica_id,
                    accounts,
                    alive_until > {DATABASE_NOW} AS alive,
                    NOT EXISTS (
                        SELECT 1
                        FROM pg_locks l
                        WHERE l.locktype = 'advisory'
                            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                            AND l.classid::BIGINT = $2
                            AND l.objid::BIGINT = replica_id
                            AND l.granted
                    ) AS unlocked
                FROM replicas
                WHERE replica_id <> $1"),
                &[&self.replica.0, &i64::from(LOCKS)],
            )
            .await?;
        let mut beat = Beat { others: Vec::new(), suspects: Vec::new() };
        for row in rows {
            let replica = ReplicaId(row.get("replica_id"));
            let (alive, unlocked): (bool, bool) = (row.get("alive"), row.get("unlocked"));
            if alive {
                beat.others.push(Peer { replica, accounts: row.get("accounts") });
            }
            if unlocked || !alive {
                beat.suspects.push(replica);
            }
        }
        Ok(Some(beat))
    }

    /// The next thing that any replica tells; `None` once the session is over, and from then on.
    pub async fn notice(&mut self) -> Option<String> {
        self.notices.recv().await
    }

    /// What was told before this call and has not been taken yet. Postgres hands a session what was committed before the
    /// session's own question together with the answer to that; so whoever asks has heard everything.
    pub async fn notices_so_far(&mut self) -> Result<Vec<String>, Error> {
        self.query("-- membership::notices_so_far\nSELECT 1 AS heard", &[]).await?;
        let mut notices = Vec::new();
        while let Ok(told) = self.notices.try_recv() {
            notices.push(told);
        }
        Ok(notices)
    }

    /// Leaves for good: its accounts are vacant at once.
    pub async fn leave(self) -> Result<(), Error> {
        self.query(
            "-- membership::leave
            UPDATE accounts SET replica_id = NULL WHERE replica_id = $1",
            &[&self.replica.0],
        )
        .await?;
        self.query(
            "-- membership::leave
            DELETE FROM replicas WHERE replica_id = $1",
            &[&self.replica.0],
        )
        .await?;
        Ok(())
    }

    async fn listen(&self) -> Result<(), Error> {
        let listen = format!("LISTEN {CHANNEL}");
        self.client.batch_execute(&listen).await.map_err(wrap)
    }

    /// The row and the lock together: nobody may see the one without the other and take it for dead.
    async fn enter(&self, lifetime: Duration) -> Result<ReplicaId, Error> {
        let rows = self
            .query(
                &format!(
                    "-- membership::enter
                WITH entered AS (
                    INSERT INTO replicas (alive_until)
                    VALUES ({DATABASE_NOW} + $1)
                    RETURNING replica_id
                )
                SELECT replica_id, pg_advisory_lock($2, replica_id) AS locked FROM entered"
                ),
                &[&millis(lifetime), &LOCKS],
            )
            .await?;
        let row = rows.first().ok_or(Error::Inconsistent {
            table: "replicas",
            column: "replica_id",
            key: String::from("of a new row"),
        })?;
        Ok(ReplicaId(row.get("replica_id")))
    }

    async fn adopt(&self, before: Option<ReplicaId>) -> Result<Vec<AccountId>, Error> {
        let Some(before) = before else { return Ok(Vec::new()) };
        let rows = self
            .query(
                "-- membership::adopt
                UPDATE accounts
                SET replica_id = $1
                WHERE account_id IN (
                    SELECT account_id FROM accounts WHERE replica_id = $2 FOR UPDATE SKIP LOCKED
                )
                RETURNING account_id",
                &[&self.replica.0, &before.0],
            )
            .await?;
        // Its row goes once nobody has to know of it: what it did not end may hold an account's row locked.
        self.query(
            "-- membership::adopt
            UPDATE replicas SET alive_until = 0 WHERE replica_id = $1",
            &[&before.0],
        )
        .await?;
        Ok(rows.iter().map(|row| AccountId(row.get("account_id"))).collect())
    }

    /// A process that was killed has let go of its lock: the one that takes its place need not wait until its time is up.
    async fn bury_the_killed(&self) -> Result<(), Error> {
        self.query(
            "-- membership::bury_the_killed
            UPDATE replicas
            SET alive_until = 0
            WHERE CASE WHEN replica_id = $1 THEN FALSE ELSE pg_try_advisory_xact_lock($2, replica_id) END",
            &[&self.replica.0, &LOCKS],
        )
        .await?;
        Ok(())
    }

    async fn query(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        self.client.query(sql, params).await.map_err(wrap)
    }
}

/// Drives the connection and passes on what comes by itself, until the connection ends or nobody listens.
async fn drive(mut connection: Connection, notices: mpsc::UnboundedSender<String>) {
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notification(told)) => {
                // Whoever has left hears nothing more, but may still have something to say.
                let _ = notices.send(told.payload().to_owned());
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the session of this replica ended");
                return;
            }
        }
    }
}

fn wrap(source: tokio_postgres::Error) -> Error {
    Error::Db { name: "replicas::membership", source }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
