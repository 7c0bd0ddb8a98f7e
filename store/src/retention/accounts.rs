//! Whose turn it is, what is promised from now on, and accounts that nobody comes back to.

use std::collections::HashMap;

use super::{DueAccount, Horizon, Pace};
use crate::{AccountId, Error, Position, Store, tx::Tx};

/// The most polls that one turn lets go: no statement of it is longer than that.
const POLLS_A_TURN: i64 = 250_000;

impl Store {
    /// Claims up to `most` accounts that had no turn since `before`. Who stores a poll of one at this moment
    /// is passed over.
    pub async fn due_accounts(
        &self,
        now: i64,
        before: i64,
        most: i64,
    ) -> Result<Vec<DueAccount>, Error> {
        let rows = self
            .query(
                "retention::due_accounts",
                "-- retention::due_accounts
                UPDATE accounts a
                SET retained_at = $1
                FROM (
                    SELECT account_id, retained_at
                    FROM accounts
                    WHERE retained_at <= $2
                    ORDER BY retained_at
                    LIMIT $3
                    FOR UPDATE SKIP LOCKED
                ) due
                WHERE a.account_id = due.account_id
                RETURNING a.account_id, a.user_id, a.retained_from, a.pruned_to,
                    due.retained_at = 0 AS is_first",
                &[&now, &before, &most],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| DueAccount {
                account_id: AccountId(row.get("account_id")),
                user_id: row.get("user_id"),
                retained_from: Position(row.get("retained_from")),
                pruned_to: Position(row.get("pruned_to")),
                claimed_at: now,
                is_first: row.get("is_first"),
            })
            .collect())
    }

    /// Accounts that had their turn in the future, by a clock that was ahead, have had it now: else they would have none until
    /// then. Gives their number.
    pub async fn end_future_turns(&self, now: i64, pace: Pace) -> Result<u64, Error> {
        self.in_steps(
            "retention::end_future_turns",
            "-- retention::end_future_turns
            UPDATE accounts
            SET retained_at = $1
            WHERE account_id = ANY(ARRAY(
                SELECT account_id FROM accounts WHERE retained_at > $1 ORDER BY retained_at LIMIT $2
            ))",
            &[&now],
            pace,
        )
        .await
    }

    /// Ends an account's turn: what was to go is gone, and a little more is no longer promised. A turn that took so
    /// long that the next one has begun promises nothing: the next one could let it go at once.
    pub(super) async fn promise(&self, due: &DueAccount, horizon: Horizon) -> Result<(), Error> {
        // Positions have no gaps, and the one before the first young poll is the newest that somebody may have
        // been told who was here at the horizon.
        self.query(
            "retention::promise",
            "-- retention::promise
            UPDATE accounts a
            SET pruned_to = GREATEST(a.pruned_to, $2),
                retained_from = GREATEST(a.retained_from, LEAST(a.pos, COALESCE(
                    (
                        SELECT p.pos - 1
                        FROM polls p
                        WHERE p.account_id = $1 AND p.pos > $2 AND p.pos <= $2 + $3 AND p.stored_at > $4
                        ORDER BY p.pos
                        LIMIT 1
                    ),
                    $2 + $3
                )))
            WHERE a.account_id = $1 AND a.retained_at = $5",
            &[
                &due.account_id.0,
                &due.retained_from.0,
                &POLLS_A_TURN,
                &horizon.oldest,
                &due.claimed_at,
            ],
        )
        .await?;
        Ok(())
    }

    /// Up to where the history of accounts is gone or may go. Those that are not in the answer are gone themselves.
    pub async fn retained_from(
        &self,
        accounts: &[AccountId],
    ) -> Result<HashMap<AccountId, Position>, Error> {
        let ids: Vec<i64> = accounts.iter().map(|id| id.0).collect();
        let rows = self
            .query(
                "retention::retained_from",
                "-- retention::retained_from
                SELECT account_id, retained_from FROM accounts WHERE account_id = ANY($1)",
                &[&ids],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| (AccountId(row.get("account_id")), Position(row.get("retained_from"))))
            .collect())
    }

    /// Removes an account without devices that nobody has used since the horizon. Its rows in other tables
    /// go later, in small steps: nobody finds them any more, for its number is never given again.
    pub(super) async fn remove_abandoned_account(
        &self,
        due: &DueAccount,
        horizon: Horizon,
    ) -> Result<bool, Error> {
        // One that was made a moment ago is about to get its first device.
        if due.is_first {
            return Ok(false);
        }
        let account_id = due.account_id;
        // A new device waits for this lock, and then finds no account.
        let tx = self.tx_on_account("retention::remove_abandoned_account", account_id).await?;
        let removed = tx
            .execute(
                "-- retention::remove_abandoned_account
                DELETE FROM accounts
                WHERE account_id = $1
                    AND used_at <= $2
                    AND NOT EXISTS (SELECT 1 FROM devices WHERE account_id = $1)",
                &[&account_id.0, &horizon.oldest],
            )
            .await?;
        if removed > 0 {
            tx.execute(
                "-- retention::remove_abandoned_account
                INSERT INTO account_remains (account_id) VALUES ($1) ON CONFLICT DO NOTHING",
                &[&account_id.0],
            )
            .await?;
        }
        tx.commit().await?;
        Ok(removed > 0)
    }

    /// Removes what is left of accounts that are gone, and gives the number of rows.
    pub async fn remove_remains(&self, pace: Pace) -> Result<u64, Error> {
        let mut rows = 0;
        loop {
            let remains = self
                .query(
                    "retention::remove_remains",
                    "-- retention::remove_remains
                    SELECT account_id FROM account_remains ORDER BY account_id LIMIT 1",
                    &[],
                )
                .await?;
            let Some(account_id) = remains.first().map(|row| AccountId(row.get("account_id")))
            else {
                return Ok(rows);
            };
            for table in self.tables_of_accounts().await? {
                let sql = format!(
                    "-- retention::remove_remains
                    DELETE FROM {table}
                    WHERE account_id = $1
                        AND ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE account_id = $1 LIMIT $2))"
                );
                rows += self
                    .in_steps("retention::remove_remains", &sql, &[&account_id.0], pace)
                    .await?;
            }
            self.query(
                "retention::remove_remains",
                "-- retention::remove_remains
                DELETE FROM account_remains WHERE account_id = $1",
                &[&account_id.0],
            )
            .await?;
        }
    }

    /// The tables in which the rows of one account are found by its number, but for those that say which accounts
    /// there are.
    async fn tables_of_accounts(&self) -> Result<Vec<String>, Error> {
        let rows = self
            .query(
                "retention::tables_of_accounts",
                "-- retention::tables_of_accounts
                SELECT DISTINCT quote_ident(c.relname) AS name
                FROM pg_attribute a
                JOIN pg_class c ON c.oid = a.attrelid
                JOIN pg_index i ON i.indrelid = c.oid AND i.indkey[0] = a.attnum
                WHERE a.attname = 'account_id'
                    AND c.relkind IN ('r', 'p')
                    AND NOT c.relispartition
                    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'accounts'::regclass)
                    AND c.relname NOT IN ('accounts', 'account_remains')
                ORDER BY name",
                &[],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("name")).collect())
    }

    /// Runs a statement that deletes, or sets right, at most so many rows, its last parameter, until there are none left.
    pub(super) async fn in_steps(
        &self,
        name: &'static str,
        sql: &str,
        params: crate::tx::Params<'_>,
        pace: Pace,
    ) -> Result<u64, Error> {
        let mut params = params.to_vec();
        params.push(&pace.rows);
        let mut rows = 0;
        loop {
            let tx: Tx = self.tx(name).await?;
            let gone = tx.execute(sql, &params).await?;
            tx.commit().await?;
            rows += gone;
            if !pace.is_full(gone) {
                return Ok(rows);
            }
            pace.rest().await;
        }
    }
}
