//! Table `accounts`: one row a Matrix user, and who runs its main poll.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

use crate::{AccountId, DeviceNid, Error, Position, ReplicaId, Store, tx::Tx};

/// An account as it stands.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its number.
    pub account_id: AccountId,
    /// The user.
    pub user_id: String,
    /// The position of the last poll stored.
    pub pos: Position,
    /// The since of the next main poll; `None` before the first.
    pub upstream_since: Option<String>,
    /// The device whose token runs the main poll.
    pub main_device: Option<DeviceNid>,
    /// A since below this position is answered as a gap.
    pub retained_from: Position,
    /// When a client last synced, in milliseconds, give or take an hour.
    pub used_at: i64,
    /// The process that polls for it, if one does; it may be dead.
    pub replica: Option<ReplicaId>,
}

/// The pause between two looks at a row that somebody has locked.
const COME_AGAIN: Duration = Duration::from_millis(100);

/// From when on such a wait is worth a line.
const LONG: Duration = Duration::from_secs(30);

const COLUMNS: &str =
    "account_id, user_id, pos, upstream_since, main_device_nid, retained_from, used_at, replica_id";

/// Locks an account's row, if there is one. Gives `false` where somebody else has it.
async fn lock_account(tx: &Tx, account_id: AccountId) -> Result<bool, Error> {
    let row = tx
        .query_opt(
            "-- accounts::lock_account
            WITH locked AS (
                SELECT 1 FROM accounts WHERE account_id = $1 FOR UPDATE SKIP LOCKED
            )
            SELECT EXISTS (SELECT 1 FROM locked)
                OR NOT EXISTS (SELECT 1 FROM accounts WHERE account_id = $1) AS is_ours",
            &[&account_id.0],
        )
        .await?;
    Ok(row.is_some_and(|row| row.get("is_ours")))
}

impl Store {
    /// Begins a transaction with the account's row locked: no poll of it is stored until it ends. A large poll has the row
    /// for minutes: whoever waits for that lets go of the connection meanwhile, so that others can go on.
    pub(crate) async fn tx_on_account(
        &self,
        name: &'static str,
        account_id: AccountId,
    ) -> Result<Tx, Error> {
        let began = Instant::now();
        let mut is_long = false;
        loop {
            let tx = self.tx(name).await?;
            if lock_account(&tx, account_id).await? {
                return Ok(tx);
            }
            tx.commit().await?;
            if !is_long && began.elapsed() > LONG {
                is_long = true;
                tracing::warn!(name, %account_id, "waits for an account whose row is locked: is a large poll being stored?");
            }
            sleep(COME_AGAIN).await;
        }
    }

    /// The account of a user; made if there is none.
    pub async fn account(&self, user_id: &str) -> Result<Account, Error> {
        if let Some(known) = self.find_account(user_id).await? {
            return Ok(known);
        }
        self.query(
            "accounts::insert",
            "-- accounts::insert
            INSERT INTO accounts (user_id)
            VALUES ($1)
            ON CONFLICT (user_id) DO NOTHING",
            &[&user_id],
        )
        .await?;
        self.find_account(user_id).await?.ok_or_else(|| Error::Inconsistent {
            table: "accounts",
            column: "user_id",
            key: user_id.to_owned(),
        })
    }

    /// The account with this number, as it stands now.
    pub async fn account_by_id(&self, account_id: AccountId) -> Result<Option<Account>, Error> {
        let sql = format!(
            "-- accounts::account_by_id
            SELECT {COLUMNS} FROM accounts WHERE account_id = $1"
        );
        let rows = self.query("accounts::account_by_id", &sql, &[&account_id.0]).await?;
        Ok(rows.first().map(account_of))
    }

    /// Makes `device` the one that runs the main poll, if `expected` still is and this process polls for the account. The
    /// old one's light poll will go on from where its main poll was.
    pub async fn claim_main_poll(
        &self,
        account_id: AccountId,
        expected: Option<DeviceNid>,
        device: DeviceNid,
    ) -> Result<bool, Error> {
        let tx = self.tx("accounts::claim_main_poll").await?;
        let claimed = tx
            .execute(
                "-- accounts::claim_main_poll
                UPDATE accounts
                SET main_device_nid = $3
                WHERE account_id = $1
                    AND main_device_nid IS NOT DISTINCT FROM $2
                    AND ($4::INTEGER IS NULL OR replica_id = $4)",
                &[&account_id.0, &expected.map(|nid| nid.0), &device.0, &self.fence()],
            )
            .await?;
        if claimed == 1 {
            tx.execute(
                "-- accounts::claim_main_poll
                UPDATE devices
                SET upstream_since = a.upstream_since
                FROM accounts a
                WHERE devices.device_nid = $2 AND a.account_id = $1 AND a.upstream_since IS NOT NULL",
                &[&account_id.0, &expected.map(|nid| nid.0)],
            )
            .await?;
        }
        tx.commit().await?;
        Ok(claimed == 1)
    }

    /// Forgets upstream's position of the account, which upstream refused: the next main poll starts
    /// without a since, and what it no longer lists is taken as left. Does nothing if another process polls for it by now.
    pub async fn forget_upstream_since(&self, account_id: AccountId) -> Result<(), Error> {
        self.query(
            "accounts::forget_upstream_since",
            "-- accounts::forget_upstream_since
            UPDATE accounts
            SET upstream_since = NULL
            WHERE account_id = $1 AND ($2::INTEGER IS NULL OR replica_id = $2)",
            &[&account_id.0, &self.fence()],
        )
        .await?;
        Ok(())
    }

    /// Records that a client syncs as this user. `now` is in milliseconds. Gives whether it has: for a poll that is just being
    /// stored, which may take minutes, it does not wait.
    pub async fn touch_account(&self, account_id: AccountId, now: i64) -> Result<bool, Error> {
        let touched = self
            .query(
                "accounts::touch_account",
                "-- accounts::touch_account
                UPDATE accounts
                SET used_at = GREATEST(used_at, $2)
                WHERE account_id = (
                    SELECT account_id
                    FROM accounts
                    WHERE account_id = $1
                    FOR NO KEY UPDATE SKIP LOCKED
                )
                RETURNING account_id",
                &[&account_id.0, &now],
            )
            .await?;
        Ok(!touched.is_empty())
    }

    /// Deletes an account with everything that is kept for it. What is shared with others stays: room
    /// IDs and event bodies, which say nothing of who was told of them.
    pub async fn remove_account(&self, account_id: AccountId) -> Result<(), Error> {
        let tx = self.tx("accounts::remove_account").await?;
        // First of all the account itself, with its devices, tokens and sessions: that waits for a poll
        // that is just being stored, and keeps the next one from it.
        tx.execute(
            "-- accounts::remove_account
            DELETE FROM accounts WHERE account_id = $1",
            &[&account_id.0],
        )
        .await?;
        // Every table of an account's data has its number, and those that do not go with its row go here.
        let tables = tx
            .query(
                "-- accounts::remove_account
                SELECT quote_ident(c.relname) AS name
                FROM pg_attribute a
                JOIN pg_class c ON c.oid = a.attrelid
                WHERE a.attname = 'account_id'
                    AND c.relkind IN ('r', 'p')
                    AND NOT c.relispartition
                    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'accounts'::regclass)
                ORDER BY c.relname",
                &[],
            )
            .await?;
        for table in tables {
            let table: String = table.get("name");
            let sql = format!(
                "-- accounts::remove_account
                DELETE FROM {table} WHERE account_id = $1"
            );
            tx.execute(&sql, &[&account_id.0]).await?;
        }
        tx.commit().await
    }

    /// The account of a user, if there is one.
    pub async fn find_account(&self, user_id: &str) -> Result<Option<Account>, Error> {
        let sql = format!(
            "-- accounts::find_account
            SELECT {COLUMNS} FROM accounts WHERE user_id = $1"
        );
        let rows = self.query("accounts::find_account", &sql, &[&user_id]).await?;
        Ok(rows.first().map(account_of))
    }
}

fn account_of(row: &Row) -> Account {
    Account {
        account_id: AccountId(row.get("account_id")),
        user_id: row.get("user_id"),
        pos: Position(row.get("pos")),
        upstream_since: row.get("upstream_since"),
        main_device: row.get::<_, Option<i64>>("main_device_nid").map(DeviceNid),
        retained_from: Position(row.get("retained_from")),
        used_at: row.get("used_at"),
        replica: row.get::<_, Option<i32>>("replica_id").map(ReplicaId),
    }
}
