//! Page tokens: `p.next` of a reply, `p.since` of the request for the next page.
//!
//! A token belongs to one account and one stream; what else it pins is the stream's own affair. It is
//! worth nothing without access to the room, which is checked for each request anew.

use store::{AccountId, Position};

use crate::token::{Reader, TokenKind, Tokens, put_varint};

/// Stands for the first page, as of now.
pub(crate) const FIRST_PAGE: &str = "1";

/// The page tokens of one account.
#[derive(Clone, Copy)]
pub(crate) struct PageTokens<'a> {
    tokens: &'a Tokens,
    account_id: AccountId,
    retained_from: Position,
}

impl<'a> PageTokens<'a> {
    /// Those of `account_id`, whose history reaches back to `retained_from`.
    pub(crate) fn new(tokens: &'a Tokens, account_id: AccountId, retained_from: Position) -> Self {
        Self { tokens, account_id, retained_from }
    }

    /// A token of the stream with number `stream`, pinning a snapshot and whatever `rest` says.
    pub(crate) fn seal(&self, stream: u64, snapshot: Position, rest: &[u8]) -> String {
        let mut payload = Vec::with_capacity(rest.len() + 12);
        put_varint(&mut payload, self.account_id.0.unsigned_abs());
        put_varint(&mut payload, stream);
        put_varint(&mut payload, snapshot.0.unsigned_abs());
        put_varint(&mut payload, rest.len() as u64);
        payload.extend_from_slice(rest);
        self.tokens.seal(TokenKind::Page, &payload)
    }

    /// The snapshot and the rest; `None` for a token of anybody or anything else, a damaged one, and
    /// one whose snapshot is no longer held.
    pub(crate) fn open(&self, stream: u64, token: &str) -> Option<(Position, Vec<u8>)> {
        let payload = self.tokens.open(TokenKind::Page, token).ok()?;
        let mut reader = Reader::new(&payload);
        let account_id = AccountId(reader.id().ok()?);
        let of_stream = reader.varint().ok()?;
        let snapshot = Position(reader.id().ok()?);
        let rest_len = usize::try_from(reader.varint().ok()?).ok()?;
        let rest = reader.bytes(rest_len).ok()?;
        let good =
            account_id == self.account_id && of_stream == stream && snapshot >= self.retained_from;
        good.then(|| (snapshot, rest.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_belong_to_an_account_and_a_stream() {
        let tokens = Tokens::new(&[1; 32]);
        let pages =
            |account, retained| PageTokens::new(&tokens, AccountId(account), Position(retained));
        let token = pages(7, 0).seal(3, Position(500), b"rest");
        let good = Some((Position(500), b"rest".to_vec()));
        assert_eq!(pages(7, 0).open(3, &token), good);
        assert_eq!(pages(7, 500).open(3, &token), good);
        assert_eq!(pages(7, 501).open(3, &token), None);
        assert_eq!(pages(8, 0).open(3, &token), None);
        assert_eq!(pages(7, 0).open(2, &token), None);
        for damaged in ["", "0", "2", "p3_", "p3_AAAA", &token[..token.len() - 1]] {
            assert_eq!(pages(7, 0).open(3, damaged), None, "{damaged}");
        }
    }
}
