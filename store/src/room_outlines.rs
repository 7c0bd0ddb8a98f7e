//! Table `account_rooms`, read for answers that tell of every room: first where all of them are listed, in as little as
//! that takes, and then the rooms themselves, a few at a time.

use tokio_postgres::Row;

use crate::{
    AccountId, Error, Position, RoomHead, RoomNid, Section, Store,
    room_heads::{head_columns, head_of},
};

/// Where a room of an account is listed, and from where on it is told: what has to be of one moment for all rooms of an
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomOutline {
    /// Its number.
    pub room_nid: RoomNid,
    /// Timelines are served from this position on: the last hard cut.
    pub segment_pos: Position,
    /// Where it is listed.
    pub section: Section,
    /// In section leave: somebody else ended the membership.
    pub kicked: bool,
    /// In section leave or invite: the user has forgotten the room.
    pub forgotten: bool,
}

impl Store {
    /// Every room of the account in these sections, in the order of their numbers.
    pub async fn room_outlines(
        &self,
        account_id: AccountId,
        sections: &[Section],
    ) -> Result<Vec<RoomOutline>, Error> {
        let sections: Vec<i16> = sections.iter().map(|section| section.to_db()).collect();
        // Arrays, because a row has a price of its own, here and on the way.
        let rows = self
            .query(
                "room_outlines::room_outlines",
                "-- room_outlines::room_outlines
                SELECT
                    ARRAY_AGG(room_nid) AS room_nids,
                    ARRAY_AGG(segment_pos) AS segment_poss,
                    ARRAY_AGG(section) AS sections,
                    ARRAY_AGG(kicked) AS kicked,
                    ARRAY_AGG(forgotten) AS forgotten
                FROM account_rooms
                WHERE account_id = $1 AND section = ANY($2)",
                &[&account_id.0, &sections],
            )
            .await?;
        rows.first().map_or_else(|| Ok(Vec::new()), outlines_of)
    }

    /// The rooms of the account that it left, or may have left, after `since`: of those that were left before, the
    /// stream has to know so still. In the order of their numbers.
    pub async fn rooms_left_after(
        &self,
        account_id: AccountId,
        since: Position,
    ) -> Result<Vec<RoomOutline>, Error> {
        let rows = self
            .query(
                "room_outlines::rooms_left_after",
                "-- room_outlines::rooms_left_after
                SELECT
                    ARRAY_AGG(h.room_nid) AS room_nids,
                    ARRAY_AGG(h.segment_pos) AS segment_poss,
                    ARRAY_AGG(h.section) AS sections,
                    ARRAY_AGG(h.kicked) AS kicked,
                    ARRAY_AGG(h.forgotten) AS forgotten
                FROM account_rooms h
                LEFT JOIN LATERAL (
                    SELECT u.pos
                    FROM room_updates u
                    WHERE u.account_id = $1 AND u.room_nid = h.room_nid
                    ORDER BY u.pos DESC
                    LIMIT 1
                ) l ON TRUE
                WHERE h.account_id = $1 AND h.section = 3 AND (l.pos IS NULL OR l.pos > $2)",
                &[&account_id.0, &since.0],
            )
            .await?;
        rows.first().map_or_else(|| Ok(Vec::new()), outlines_of)
    }

    /// Rooms as their outlines say, and in all else as they stand by now; in the order of their numbers. An invite or a knock
    /// that is none any more is left out: nothing is known of what it said.
    pub async fn rooms_of(
        &self,
        account_id: AccountId,
        outlines: &[RoomOutline],
    ) -> Result<Vec<RoomHead>, Error> {
        let nids: Vec<i64> = outlines.iter().map(|room| room.room_nid.0).collect();
        let sections: Vec<i16> = outlines.iter().map(|room| room.section.to_db()).collect();
        let segments: Vec<i64> = outlines.iter().map(|room| room.segment_pos.0).collect();
        let rows = self
            .query(
                "room_outlines::rooms_of",
                concat!(
                    "-- room_outlines::rooms_of
                    SELECT ",
                    head_columns!(),
                    " FROM UNNEST($2::BIGINT[], $3::SMALLINT[], $4::BIGINT[])
                        AS t (room_nid, section, segment_pos)
                    CROSS JOIN LATERAL (
                        SELECT room_nid, t.section AS section, t.segment_pos AS segment_pos,
                            members_complete, kicked, forgotten, notification_count, highlight_count,
                            thread_counts, heroes, joined_member_count, invited_member_count,
                            summary_pos, stripped_state, typing, typing_pos, recency
                        FROM account_rooms r
                        WHERE r.account_id = $1
                            AND r.room_nid = t.room_nid
                            AND (t.section NOT IN (1, 2) OR r.section = t.section)
                        LIMIT 1
                    ) h
                    ORDER BY h.room_nid"
                ),
                &[&account_id.0, &nids, &sections, &segments],
            )
            .await?;
        rows.iter().map(head_of).collect()
    }
}

/// The outlines in the one row of a statement: arrays, or nulls where there are none.
fn outlines_of(row: &Row) -> Result<Vec<RoomOutline>, Error> {
    let nids: Vec<i64> = row.get::<_, Option<_>>("room_nids").unwrap_or_default();
    let segments: Vec<i64> = row.get::<_, Option<_>>("segment_poss").unwrap_or_default();
    let sections: Vec<i16> = row.get::<_, Option<_>>("sections").unwrap_or_default();
    let kicked: Vec<bool> = row.get::<_, Option<_>>("kicked").unwrap_or_default();
    let forgotten: Vec<bool> = row.get::<_, Option<_>>("forgotten").unwrap_or_default();
    let columns = nids.into_iter().zip(segments).zip(sections).zip(kicked).zip(forgotten);
    let outline = |((((nid, segment), section), kicked), forgotten)| {
        Ok(RoomOutline {
            room_nid: RoomNid(nid),
            segment_pos: Position(segment),
            section: Section::from_db(section)?,
            kicked,
            forgotten,
        })
    };
    let mut outlines: Vec<RoomOutline> = columns.map(outline).collect::<Result<_, Error>>()?;
    outlines.sort_unstable_by_key(|room| room.room_nid);
    Ok(outlines)
}
