//! What belongs to no account's turn: the quarantine, whether the clock can be trusted, and whose chore it is.

use super::Pace;
use crate::{Error, Store};

impl Store {
    /// Lets go what was quarantined by `oldest`: whoever wanted to look at it has. Gives the number of rows.
    pub async fn empty_quarantine(&self, oldest: i64, pace: Pace) -> Result<u64, Error> {
        self.in_steps(
            "retention::empty_quarantine",
            "-- retention::empty_quarantine
            DELETE FROM quarantine
            WHERE quarantine_id IN (
                SELECT o.quarantine_id
                FROM (
                    SELECT quarantine_id, stored_at FROM quarantine ORDER BY quarantine_id LIMIT $2
                ) o
                WHERE o.stored_at <= $1
            )",
            &[&oldest],
            pace,
        )
        .await
    }

    /// How far the caller's clock is from the server's, in milliseconds.
    pub async fn clock_skew(&self, now: i64) -> Result<i64, Error> {
        let rows = self
            .query(
                "retention::clock_skew",
                "-- retention::clock_skew
                SELECT ABS($1 - (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT) AS skew",
                &[&now],
            )
            .await?;
        Ok(rows.first().map_or(0, |row| row.get("skew")))
    }

    /// Claims a chore of the whole database that was not begun since `before`. Of several processes one gets it.
    pub async fn claim_chore(&self, chore: &str, now: i64, before: i64) -> Result<bool, Error> {
        let rows = self
            .query(
                "retention::claim_chore",
                "-- retention::claim_chore
                INSERT INTO chores AS c (chore, begun_at)
                VALUES ($1, $2)
                ON CONFLICT (chore) DO UPDATE
                SET begun_at = EXCLUDED.begun_at
                WHERE c.begun_at <= $3
                RETURNING c.chore",
                &[&chore, &now, &before],
            )
            .await?;
        Ok(!rows.is_empty())
    }
}
