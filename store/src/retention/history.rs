//! The history of an account: what no since can reach any more goes.
//!
//! Of each room stays what came after the position from which history is promised, and of what came up to there:
//!
//! - the newest events, as many as the horizon says, with the polls that brought them whole, but nothing from before a cut;
//! - the changes of the state from there on: they lead from the head back to the start of the oldest timeline;
//! - the last poll that mentioned the room, which says where it was listed then.
//!
//! Rows go by where they lie (`ctid`), as many as were found. The account is asked for once more, because a place is a place of
//! one partition, and Postgres then looks into no other.
//!
//! So whatever was among the newest events of a room when the horizon passed stays where it is until another horizon
//! has passed: the `prev_batch` of an answer that is not older than that finds its place, and the events around it.

use super::{DueAccount, Pace};
use crate::{Error, Store};

/// How many rooms are looked at together.
const ROOMS_AT_ONCE: usize = 50;

/// Deletes rows of rooms below their borders, a few at a time: as many of each room as of all together, at most.
macro_rules! below_border {
    ($name:literal, $table:literal) => {
        concat!(
            "-- ",
            $name,
            "
            DELETE FROM ",
            $table,
            "
            WHERE account_id = $1
                AND ctid = ANY(ARRAY(
                    SELECT k.id
                    FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, keep_from)
                    CROSS JOIN LATERAL (
                        SELECT ctid AS id
                        FROM ",
            $table,
            "
                        WHERE account_id = $1 AND room_nid = t.room_nid AND pos < t.keep_from
                        LIMIT $4
                    ) k
                    LIMIT $4
                ))"
        )
    };
}

/// Rooms, each with the oldest position of which something stays.
#[derive(Default)]
struct Borders {
    nids: Vec<i64>,
    keep_from: Vec<i64>,
}

impl Store {
    /// Lets go what was promised no more before this turn. Gives the number of rows.
    pub(super) async fn prune_history(
        &self,
        due: &DueAccount,
        events: i64,
        pace: Pace,
    ) -> Result<u64, Error> {
        if due.pruned_to >= due.retained_from {
            return Ok(0);
        }
        let mut rows = 0;
        // A room that is not mentioned in this stretch has been pruned as far as it goes. One that is stays
        // mentioned while it is pruned, so a turn that was broken off is found again.
        for rooms in self.rooms_between(due).await?.chunks(ROOMS_AT_ONCE) {
            let borders = self.borders(due, rooms, events).await?;
            rows += self.prune_rooms(due, &borders, pace).await?;
            pace.rest().await;
        }
        let account_id = &due.account_id.0;
        let until = &due.retained_from.0;
        rows += self
            .in_steps(
                "history::device_lists",
                "-- history::device_lists
                DELETE FROM device_list_changes
                WHERE account_id = $1
                    AND (pos, user_id) <= (
                        SELECT pos, user_id
                        FROM (
                            SELECT pos, user_id
                            FROM device_list_changes
                            WHERE account_id = $1 AND pos <= $2
                            ORDER BY pos, user_id
                            LIMIT $3
                        ) oldest
                        ORDER BY pos DESC, user_id DESC
                        LIMIT 1
                    )",
                &[account_id, until],
                pace,
            )
            .await?;
        rows += self
            .in_steps(
                "history::scans",
                "-- history::scans
                DELETE FROM redaction_scans
                WHERE account_id = $1
                    AND ctid = ANY(ARRAY(
                        SELECT ctid
                        FROM redaction_scans
                        WHERE account_id = $1 AND pos <= $2
                            -- An account at rest will look through its gaps when somebody returns.
                            AND $2 < (SELECT a.pos FROM accounts a WHERE a.account_id = $1)
                        LIMIT $3
                    ))",
                &[account_id, until],
                pace,
            )
            .await?;
        // The last: the poll of the oldest since stays, for its token.
        rows += self
            .in_steps(
                "history::polls",
                "-- history::polls
                DELETE FROM polls
                WHERE account_id = $1
                    AND pos <= (
                        SELECT MAX(pos)
                        FROM (
                            SELECT pos FROM polls WHERE account_id = $1 AND pos < $2 ORDER BY pos LIMIT $3
                        ) oldest
                    )",
                &[account_id, until],
                pace,
            )
            .await?;
        Ok(rows)
    }

    /// The rooms that were mentioned after what is gone already.
    async fn rooms_between(&self, due: &DueAccount) -> Result<Vec<i64>, Error> {
        let rows = self
            .query(
                "history::rooms_between",
                "-- history::rooms_between
                SELECT DISTINCT room_nid
                FROM room_updates
                WHERE account_id = $1 AND pos > $2 AND pos <= $3
                ORDER BY room_nid",
                &[&due.account_id.0, &due.pruned_to.0, &due.retained_from.0],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get("room_nid")).collect())
    }

    /// From where on something stays of each of these rooms. With no more events than stay anyway that is the last cut, and
    /// where there was none, everything.
    async fn borders(
        &self,
        due: &DueAccount,
        rooms: &[i64],
        events: i64,
    ) -> Result<Borders, Error> {
        let rows = self
            .query(
                "history::borders",
                "-- history::borders
                SELECT t.room_nid, GREATEST(cut.pos, events.pos, 0) AS keep_from
                FROM UNNEST($2::BIGINT[]) AS t (room_nid)
                LEFT JOIN LATERAL (
                    SELECT pos
                    FROM room_updates
                    WHERE account_id = $1 AND room_nid = t.room_nid AND pos <= $3
                        AND (limited OR newly_joined)
                    ORDER BY pos DESC
                    LIMIT 1
                ) cut ON TRUE
                LEFT JOIN LATERAL (
                    -- The oldest of those that stay, if there is one before it.
                    SELECT MAX(pos) AS pos
                    FROM (
                        SELECT pos
                        FROM timeline_events
                        WHERE account_id = $1 AND room_nid = t.room_nid AND pos <= $3
                        ORDER BY pos DESC, ord DESC
                        OFFSET $4::BIGINT - 1
                        LIMIT 2
                    ) e
                    HAVING COUNT(*) = 2
                ) events ON TRUE",
                &[&due.account_id.0, &rooms, &due.retained_from.0, &events],
            )
            .await?;
        let mut borders = Borders::default();
        for row in rows {
            borders.nids.push(row.get("room_nid"));
            borders.keep_from.push(row.get("keep_from"));
        }
        Ok(borders)
    }

    async fn prune_rooms(
        &self,
        due: &DueAccount,
        borders: &Borders,
        pace: Pace,
    ) -> Result<u64, Error> {
        let params: crate::tx::Params<'_> = &[&due.account_id.0, &borders.nids, &borders.keep_from];
        let mut rows = 0;
        for sql in [
            below_border!("history::timelines", "timeline_events"),
            below_border!("history::copies", "event_copies"),
            below_border!("history::state_changes", "state_changes"),
        ] {
            rows += self.in_steps("history::prune_rooms", sql, params, pace).await?;
        }
        // Polls that brought no events say nothing of the room that is not said better by the last one.
        rows += self
            .in_steps(
                "history::updates",
                "-- history::updates
                DELETE FROM room_updates
                WHERE account_id = $1
                    AND ctid = ANY(ARRAY(
                        SELECT k.id
                        FROM UNNEST($2::BIGINT[], $3::BIGINT[]) AS t (room_nid, keep_from)
                        CROSS JOIN LATERAL (
                            SELECT pos
                            FROM room_updates
                            WHERE account_id = $1 AND room_nid = t.room_nid AND pos <= $4
                            ORDER BY pos DESC
                            LIMIT 1
                        ) l
                        JOIN account_rooms h ON h.account_id = $1 AND h.room_nid = t.room_nid
                        CROSS JOIN LATERAL (
                            SELECT ctid AS id
                            FROM room_updates
                            WHERE account_id = $1 AND room_nid = t.room_nid AND pos < l.pos
                                AND (
                                    pos < t.keep_from
                                    OR (
                                        timeline_len = 0 AND NOT limited AND NOT newly_joined
                                        AND pos <> h.segment_pos
                                    )
                                )
                            ORDER BY pos
                            LIMIT $5
                        ) k
                        LIMIT $5
                    ))",
                &[&due.account_id.0, &borders.nids, &borders.keep_from, &due.retained_from.0],
                pace,
            )
            .await?;
        Ok(rows)
    }
}
