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

    /// Notes that it is `now`, and gives whether time has passed as it should: whether no two notes of the last `grace` were
    /// more than `most` apart, either way. Where they were, a clock has jumped, or nothing ran and nobody could come.
    pub async fn time_goes_on(&self, now: i64, most: i64, grace: i64) -> Result<bool, Error> {
        let rows = self
            .query(
                "retention::time_goes_on",
                "-- retention::time_goes_on
                WITH noted AS (
                    INSERT INTO chores (chore, begun_at)
                    VALUES ('note_time', $1)
                    ON CONFLICT (chore) DO UPDATE SET begun_at = EXCLUDED.begun_at
                ),
                leap AS (
                    INSERT INTO chores (chore, begun_at)
                    SELECT 'leap', $1 FROM chores WHERE chore = 'note_time' AND ABS($1 - begun_at) > $2
                    ON CONFLICT (chore) DO UPDATE SET begun_at = EXCLUDED.begun_at
                    RETURNING begun_at
                )
                SELECT NOT EXISTS (SELECT 1 FROM leap)
                    AND NOT EXISTS (SELECT 1 FROM chores WHERE chore = 'leap' AND begun_at > $1 - $3) AS goes_on",
                &[&now, &most, &grace],
            )
            .await?;
        Ok(rows.first().is_some_and(|row| row.get("goes_on")))
    }

    /// Claims a chore of the whole database that was not begun since `before`. Of several processes one gets it. One that was
    /// begun in the future was not: a clock was ahead, and would otherwise keep everybody away until then.
    pub async fn claim_chore(&self, chore: &str, now: i64, before: i64) -> Result<bool, Error> {
        let rows = self
            .query(
                "retention::claim_chore",
                "-- retention::claim_chore
                INSERT INTO chores AS c (chore, begun_at)
                VALUES ($1, $2)
                ON CONFLICT (chore) DO UPDATE
                SET begun_at = EXCLUDED.begun_at
                WHERE c.begun_at <= $3 OR c.begun_at > $2
                RETURNING c.chore",
                &[&chore, &now, &before],
            )
            .await?;
        Ok(!rows.is_empty())
    }
}
