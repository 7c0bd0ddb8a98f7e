//! The tokens of `GET /sync`: positions in an account's stream and places in a room's timeline, and
//! what they are called upstream.
//!
//! Every endpoint that takes a sync token comes here to have ours translated. A token is bound to its
//! account: another user's says nothing.

use store::{AccountId, DeviceNid, InboxSeq, Place, Position};

use crate::{
    account::MemoryId,
    auth::Requester,
    error::Error,
    state::State,
    token::{Reader, TokenError, TokenKind, Tokens, put_varint},
};

/// What a token of ours stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncToken {
    /// `next_batch`: everything up to a position of the account and of a device's inbox.
    Batch {
        /// The account stream.
        pos: Position,
        /// Whose inbox.
        device: DeviceNid,
        /// The inbox.
        inbox: InboxSeq,
        /// Which members whoever has this token has been told of.
        members: MemoryId,
    },
    /// `prev_batch`: just before a place in a timeline.
    Before(Place),
}

const BATCH: u64 = 0;
const BEFORE: u64 = 1;

impl SyncToken {
    /// As a client gets it.
    pub(crate) fn mint(self, tokens: &Tokens, account_id: AccountId) -> String {
        let mut payload = Vec::with_capacity(16);
        let mut put = |number: i64| put_varint(&mut payload, u64::try_from(number).unwrap_or(0));
        put(account_id.0);
        match self {
            Self::Batch { pos, device, inbox, members } => {
                put(i64::try_from(BATCH).unwrap_or(0));
                put(pos.0);
                put(device.0);
                put(inbox.0);
                if members != MemoryId::default() {
                    put_varint(&mut payload, members.0);
                }
            }
            Self::Before(place) => {
                put(i64::try_from(BEFORE).unwrap_or(1));
                put(place.pos.0);
                put(i64::from(place.ord));
            }
        }
        tokens.seal(TokenKind::V2, &payload)
    }

    /// What a token of this account stands for. One of another account is malformed.
    pub(crate) fn read(
        tokens: &Tokens,
        account_id: AccountId,
        token: &str,
    ) -> Result<Self, TokenError> {
        let payload = tokens.open(TokenKind::V2, token)?;
        let mut reader = Reader::new(&payload);
        if reader.id()? != account_id.0 {
            return Err(TokenError::Malformed);
        }
        let token = match reader.varint()? {
            BATCH => Self::Batch {
                pos: Position(reader.id()?),
                device: DeviceNid(reader.id()?),
                inbox: InboxSeq(reader.id()?),
                members: if reader.is_empty() {
                    MemoryId::default()
                } else {
                    MemoryId(reader.varint()?)
                },
            },
            BEFORE => Self::Before(Place {
                pos: Position(reader.id()?),
                ord: i32::try_from(reader.id()?).map_err(|_| TokenError::Malformed)?,
            }),
            _ => return Err(TokenError::Malformed),
        };
        if reader.is_empty() { Ok(token) } else { Err(TokenError::Malformed) }
    }

    /// The position of the account stream that the token covers.
    pub(crate) fn pos(self) -> Position {
        match self {
            Self::Batch { pos, .. } => pos,
            Self::Before(place) => Position(place.pos.0.saturating_sub(1)),
        }
    }
}

/// Upstream's tokens around a token of ours, and the events in between.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// Upstream's token at or before the place; `None` for the beginning of the room.
    pub(crate) older: Option<String>,
    /// Upstream's token at or after the place.
    pub(crate) newer: String,
    /// Event IDs of the room between `older` and the place.
    pub(crate) before: Vec<String>,
    /// Event IDs of the room between the place and `newer`.
    pub(crate) after: Vec<String>,
}

/// Where a token of ours lies in a room, in upstream's terms. `None` for a token that is not ours.
///
/// One that is older than what is retained lies between the beginning of the room and the oldest token that is known.
///
/// [`Error::UnknownPos`] for one that is damaged or another user's, [`Error::InvalidParam`] for one of a time that a
/// restored database knows nothing of.
pub(crate) async fn locate(
    state: &State,
    requester: &Requester,
    room_id: &str,
    token: &str,
) -> Result<Option<Located>, Error> {
    let account_id = requester.account.account_id;
    let invalid = || Error::InvalidParam(String::from("Invalid stream token"));
    let token = match SyncToken::read(&state.tokens, account_id, token) {
        Ok(token) => token,
        Err(TokenError::Foreign) => return Ok(None),
        Err(TokenError::Malformed) => {
            return Err(Error::UnknownPos(String::from("Invalid stream token")));
        }
    };
    let place = match token {
        SyncToken::Batch { pos, .. } => {
            let exact = state.store.next_batch_at(account_id, pos).await?;
            let newer = match &exact {
                Some(next_batch) => Some(next_batch.clone()),
                // Its poll is gone: the nearest that is known gives a page too much, and loses nothing.
                None => state.store.next_batch_after(account_id, pos).await?,
            };
            return Ok(Some(Located {
                older: exact,
                newer: newer.ok_or_else(invalid)?,
                before: Vec::new(),
                after: Vec::new(),
            }));
        }
        SyncToken::Before(place) => place,
    };
    let room_nid = state.store.room_nid(room_id).await?.ok_or_else(invalid)?;
    let tokens = state.store.upstream_tokens(account_id, room_nid, place).await?;
    let newer = tokens.newer.ok_or_else(invalid)?;
    // Where upstream named no token before the timeline, there is nothing before it.
    let (0, Some(older)) = (place.ord, &tokens.older) else {
        return Ok(Some(Located {
            older: tokens.older,
            newer,
            before: tokens.between_older,
            after: tokens.between_newer,
        }));
    };

    // Exactly a poll's start: upstream has a token for that. But before a timeline that holds a room's
    // whole history, Synapse's token stands at the end: what is known to be newer than the place is to
    // be left out then.
    let after = if tokens.limited { Vec::new() } else { tokens.between_newer };
    Ok(Some(Located {
        older: Some(older.clone()),
        newer: older.clone(),
        before: Vec::new(),
        after,
    }))
}

/// Upstream's token for what a token of ours covers, where no room is concerned: that of the last poll at
/// or before it.
///
/// [`Error::UnknownPos`] for one that is damaged, another user's or not ours, [`Error::InvalidParam`] for
/// one that is older than what is retained.
pub(crate) async fn upstream_batch(
    state: &State,
    requester: &Requester,
    token: &str,
) -> Result<String, Error> {
    let account_id = requester.account.account_id;
    let token = SyncToken::read(&state.tokens, account_id, token)
        .map_err(|_| Error::UnknownPos(String::from("Invalid stream token")))?;
    let next_batch = state.store.next_batch_at(account_id, token.pos()).await?;
    next_batch.ok_or_else(|| Error::InvalidParam(String::from("Invalid stream token")))
}

#[cfg(test)]
mod micro;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(members: MemoryId) -> SyncToken {
        let inbox = InboxSeq(0);
        SyncToken::Batch { pos: Position(300), device: DeviceNid(5), inbox, members }
    }

    #[test]
    fn tokens_round_trip_for_their_account_only() {
        let tokens = Tokens::new(&[1; 32]);
        let mine = AccountId(7);
        for token in [
            batch(MemoryId(0)),
            batch(MemoryId(u64::MAX)),
            SyncToken::Before(Place { pos: Position(1), ord: 19 }),
        ] {
            let text = token.mint(&tokens, mine);
            assert_eq!(SyncToken::read(&tokens, mine, &text), Ok(token));
            let other = SyncToken::read(&tokens, AccountId(8), &text);
            assert_eq!(other, Err(TokenError::Malformed));
        }
    }
}
