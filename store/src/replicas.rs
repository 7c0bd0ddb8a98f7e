//! Table `replicas`, and which of them polls for an account: who lives, whose accounts are vacant, and the fence against a
//! process that was taken for dead.
//!
//! A replica is alive as long as it says so often enough, by the database's clock. It also holds an advisory lock in a
//! session of its own ([`Membership`]): a process that was killed lets go of it at once, so nobody has to wait for it.

mod membership;

use std::sync::atomic::{AtomicI32, Ordering};

use crate::{AccountId, Error, ReplicaId, Store};

pub use self::membership::{Beat, Membership, Peer};

/// The first number of the advisory locks of replicas; the second is the replica's own.
const LOCKS: i32 = 0x7379_6e63;

/// The channel on which replicas tell each other news.
const CHANNEL: &str = "syncv3";

/// Now by the database's clock, in milliseconds, as a part of a statement: all replicas share that clock.
const DATABASE_NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::BIGINT";

/// What this process is among the replicas. A store that has never joined polls for nobody and is not fenced.
#[derive(Debug, Default)]
pub(crate) struct Own(AtomicI32);

/// No replica has this number: whatever is fenced with it is refused.
const DEAD: i32 = -1;

impl Own {
    fn set(&self, replica: i32) {
        self.0.store(replica, Ordering::Release);
    }

    fn get(&self) -> Option<i32> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            replica => Some(replica),
        }
    }
}

/// An account that this process polls for from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its number.
    pub account_id: AccountId,
    /// The user.
    pub user_id: String,
}

impl Store {
    /// Which replica this process is; `None` before it joined, and after it was taken for dead.
    pub fn replica(&self) -> Option<ReplicaId> {
        self.replica.get().filter(|replica| *replica != DEAD).map(ReplicaId)
    }

    /// What an account's `replica_id` has to be for this process to poll for it; `None` where nobody asks.
    pub(crate) fn fence(&self) -> Option<i32> {
        self.replica.get()
    }

    /// From now on nothing that this process polls for is stored, until it joins again.
    pub fn stand_down(&self) {
        self.replica.set(DEAD);
    }

    /// Claims an account that no live replica polls for, and gives the one that does; `None` if this process has not
    /// joined, or the account is gone. Waits for nobody: of a row that is locked, as by a process that died in the middle of
    /// a transaction, it says what is known.
    pub async fn claim_account(&self, account_id: AccountId) -> Result<Option<ReplicaId>, Error> {
        let Some(own) = self.replica() else { return Ok(None) };
        let rows = self
            .query(
                "replicas::claim_account",
                &format!(
                    "-- replicas::claim_account
                UPDATE accounts
                SET replica_id = $2
                WHERE account_id = (
                    SELECT a.account_id
                    FROM accounts a
                    WHERE a.account_id = $1
                        AND NOT EXISTS (
                            SELECT 1
                            FROM replicas r
                            WHERE r.replica_id = a.replica_id
                                AND r.replica_id <> $2
                                AND r.alive_until > {DATABASE_NOW}
                        )
                    FOR UPDATE SKIP LOCKED
                )
                RETURNING replica_id"
                ),
                &[&account_id.0, &own.0],
            )
            .await?;
        if !rows.is_empty() {
            return Ok(Some(own));
        }
        Ok(self.account_by_id(account_id).await?.and_then(|account| account.replica))
    }

    /// How many accounts no live replica polls for, counted up to `most`.
    pub async fn vacant_accounts(&self, most: i64) -> Result<i64, Error> {
        let dead = self.dead_replicas().await?;
        let rows = self
            .query(
                "replicas::vacant_accounts",
                "-- replicas::vacant_accounts
                SELECT COUNT(*) AS vacant
                FROM (
                    SELECT 1 FROM accounts WHERE replica_id IS NULL OR replica_id = ANY($1) LIMIT $2
                ) AS vacant_ones",
                &[&dead, &most],
            )
            .await?;
        Ok(rows.first().map_or(0, |row| row.get("vacant")))
    }

    /// Claims up to `most` accounts that no live replica polls for. Others may do so at the same time.
    pub async fn claim_vacant(&self, most: i64) -> Result<Vec<Claimed>, Error> {
        let Some(own) = self.replica() else { return Ok(Vec::new()) };
        let dead = self.dead_replicas().await?;
        let rows = self
            .query(
                "replicas::claim_vacant",
                "-- replicas::claim_vacant
                UPDATE accounts
                SET replica_id = $1
                WHERE account_id IN (
                    SELECT account_id
                    FROM accounts
                    WHERE replica_id IS NULL OR replica_id = ANY($2)
                    LIMIT $3
                    FOR UPDATE SKIP LOCKED
                )
                RETURNING account_id, user_id",
                &[&own.0, &dead, &most],
            )
            .await?;
        Ok(rows.iter().map(claimed_of).collect())
    }

    /// Gives accounts up that this process polls for: whoever comes first has them.
    pub async fn release_accounts(&self, accounts: &[AccountId]) -> Result<(), Error> {
        let Some(own) = self.replica() else { return Ok(()) };
        let ids: Vec<i64> = accounts.iter().map(|id| id.0).collect();
        self.query(
            "replicas::release_accounts",
            "-- replicas::release_accounts
            UPDATE accounts SET replica_id = NULL WHERE account_id = ANY($1) AND replica_id = $2",
            &[&ids, &own.0],
        )
        .await?;
        Ok(())
    }

    /// Takes these replicas for dead: their accounts are vacant, and what they still store is refused. Those are left alone
    /// that hold their lock and have said in time that they live. Forgets dead ones that nobody has to know of any more.
    pub async fn bury(&self, replicas: &[ReplicaId]) -> Result<(), Error> {
        let ids: Vec<i32> = replicas.iter().map(|id| id.0).collect();
        self.query(
            "replicas::bury",
            &format!(
                "-- replicas::bury
            UPDATE replicas
            SET alive_until = 0
            WHERE replica_id = ANY($1)
                AND (
                    alive_until <= {DATABASE_NOW}
                    OR pg_try_advisory_xact_lock($2, replica_id)
                )"
            ),
            &[&ids, &LOCKS],
        )
        .await?;
        self.query(
            "replicas::bury",
            "-- replicas::bury
            DELETE FROM replicas
            WHERE alive_until = 0
                AND NOT EXISTS (SELECT 1 FROM accounts a WHERE a.replica_id = replicas.replica_id)",
            &[],
        )
        .await?;
        Ok(())
    }

    /// Which accounts this process polls for, as the store has it.
    pub async fn held_accounts(&self) -> Result<Vec<Claimed>, Error> {
        let Some(own) = self.replica() else { return Ok(Vec::new()) };
        let rows = self
            .query(
                "replicas::held_accounts",
                "-- replicas::held_accounts
                SELECT account_id, user_id FROM accounts WHERE replica_id = $1",
                &[&own.0],
            )
            .await?;
        Ok(rows.iter().map(claimed_of).collect())
    }

    /// Vacates accounts that were claimed while their claimer was leaving.
    pub async fn vacate_orphans(&self) -> Result<(), Error> {
        self.query("replicas::vacate_orphans", VACATE_ORPHANS, &[]).await?;
        Ok(())
    }

    /// Tells every replica, this one too, each of these texts: shorter than 8,000 bytes each.
    pub async fn notify(&self, payloads: &[String]) -> Result<(), Error> {
        self.query(
            "replicas::notify",
            "-- replicas::notify
            SELECT pg_notify($1, t.payload) FROM UNNEST($2::TEXT[]) AS t (payload)",
            &[&CHANNEL, &payloads],
        )
        .await?;
        Ok(())
    }

    /// The replicas that are dead and still have a row.
    async fn dead_replicas(&self) -> Result<Vec<i32>, Error> {
        let rows = self
            .query(
                "replicas::dead_replicas",
                &format!(
                    "-- replicas::dead_replicas
                SELECT replica_id
                FROM replicas
                WHERE alive_until <= {DATABASE_NOW}"
                ),
                &[],
            )
            .await?;
        let own = self.replica.get();
        Ok(rows.iter().map(|row| row.get("replica_id")).filter(|id| Some(*id) != own).collect())
    }
}

/// Waits for nobody: what is locked is looked at the next time.
const VACATE_ORPHANS: &str = "-- replicas::vacate_orphans
    UPDATE accounts
    SET replica_id = NULL
    WHERE account_id IN (
        SELECT a.account_id
        FROM accounts a
        WHERE a.replica_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM replicas r WHERE r.replica_id = a.replica_id)
        FOR UPDATE SKIP LOCKED
    )";

fn claimed_of(row: &tokio_postgres::Row) -> Claimed {
    Claimed { account_id: AccountId(row.get("account_id")), user_id: row.get("user_id") }
}
