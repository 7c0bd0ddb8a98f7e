//! What a session's token carries: whose session it is, under which parameters it was minted, and how
//! far each stream has been answered.
//!
//! `session` mints and reads it. What a place means is known to its stream alone.

use std::collections::BTreeMap;

use store::{AccountId, SessionId};

use crate::token::{Reader, TokenError, TokenKind, Tokens, put_varint};

/// How the payload is laid out. A token laid out otherwise is of no session that we know.
const LAYOUT: u64 = 1;

/// How far each stream has been answered, by the stream's number. A stream that has not been answered
/// has no place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(BTreeMap<u64, Vec<u8>>);

impl Places {
    /// The place of a stream.
    pub(crate) fn get(&self, stream: u64) -> Option<&[u8]> {
        self.0.get(&stream).map(Vec::as_slice)
    }

    /// The stream has been answered up to `place`.
    pub(crate) fn set(&mut self, stream: u64, place: Vec<u8>) {
        self.0.insert(stream, place);
    }

    /// The stream begins anew when it is next asked for.
    pub(crate) fn forget(&mut self, stream: u64) {
        self.0.remove(&stream);
    }
}

/// The payload of a session's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionToken {
    /// Whose session.
    pub(crate) account_id: AccountId,
    /// Which.
    pub(crate) session_id: SessionId,
    /// The parameters it was minted under.
    pub(crate) params_id: i32,
    /// How far each stream has been answered.
    pub(crate) places: Places,
}

impl SessionToken {
    /// The token. The same content gives the same token.
    pub(crate) fn seal(&self, tokens: &Tokens) -> String {
        let mut payload = Vec::new();
        put_varint(&mut payload, LAYOUT);
        put_varint(&mut payload, self.account_id.0.unsigned_abs());
        put_varint(&mut payload, self.session_id.0.unsigned_abs());
        put_varint(&mut payload, u64::from(self.params_id.unsigned_abs()));
        for (stream, place) in &self.places.0 {
            put_varint(&mut payload, *stream);
            put_varint(&mut payload, place.len() as u64);
            payload.extend_from_slice(place);
        }
        tokens.seal(TokenKind::V3, &payload)
    }

    /// Reads a token that we minted.
    pub(crate) fn open(tokens: &Tokens, token: &str) -> Result<Self, TokenError> {
        let payload = tokens.open(TokenKind::V3, token)?;
        let mut reader = Reader::new(&payload);
        if reader.varint()? != LAYOUT {
            return Err(TokenError::Malformed);
        }
        let account_id = AccountId(reader.id()?);
        let session_id = SessionId(reader.id()?);
        let params_id = i32::try_from(reader.id()?).map_err(|_| TokenError::Malformed)?;
        let mut places = Places::default();
        while !reader.is_empty() {
            let stream = reader.varint()?;
            let len = usize::try_from(reader.varint()?).map_err(|_| TokenError::Malformed)?;
            places.set(stream, reader.bytes(len)?.to_vec());
        }
        Ok(Self { account_id, session_id, params_id, places })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(places: &[(u64, &[u8])]) {
        let tokens = Tokens::new(&[1; 32]);
        let mut token = SessionToken {
            account_id: AccountId(3),
            session_id: SessionId(i64::MAX),
            params_id: i32::MAX,
            places: Places::default(),
        };
        for (stream, place) in places {
            token.places.set(*stream, place.to_vec());
        }
        let text = token.seal(&tokens);
        assert_eq!(SessionToken::open(&tokens, &text), Ok(token.clone()));
        assert_eq!(token.seal(&tokens), text);
        let damaged = &text[..text.len() - 1];
        assert_eq!(SessionToken::open(&tokens, damaged), Err(TokenError::Malformed));
    }

    #[test]
    fn tokens_round_trip() {
        check(&[]);
        check(&[(1, b"")]);
        check(&[(1, b"abc"), (2, &[0; 200]), (u64::MAX, b"x")]);
    }

    #[test]
    fn the_order_of_answers_does_not_show() {
        let (mut one, mut other) = (Places::default(), Places::default());
        one.set(1, vec![1]);
        one.set(2, vec![2]);
        other.set(2, vec![2]);
        other.set(3, vec![3]);
        other.set(1, vec![1]);
        other.forget(3);
        assert_eq!(one, other);
        assert_eq!((one.get(2), one.get(3)), (Some(&[2][..]), None));
    }

    #[test]
    fn tokens_of_others_do_not_open() {
        let tokens = Tokens::new(&[1; 32]);
        for foreign in ["", "s72594_4483_1934", "V3_S1_1_1_1", "v2_AAAA"] {
            assert_eq!(SessionToken::open(&tokens, foreign), Err(TokenError::Foreign));
        }
        let other_layout = tokens.seal(TokenKind::V3, &[9, 1, 1, 1]);
        assert_eq!(SessionToken::open(&tokens, &other_layout), Err(TokenError::Malformed));
    }
}
