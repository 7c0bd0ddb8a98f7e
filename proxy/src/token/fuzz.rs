//! Tokens of ours, whole, damaged and forged with the right key.

use ::tests::fuzz::{Choices, check};
use store::{AccountId, DeviceNid, InboxSeq, Place, Position};

use super::*;
use crate::{account::MemoryId, sync_token::SyncToken};

const KINDS: [TokenKind; 3] = [TokenKind::V2, TokenKind::V3, TokenKind::Page];

#[test]
fn tokens() {
    let (ours, theirs) = (Tokens::new(&[1; 32]), Tokens::new(&[2; 32]));
    check("tokens", |choices| {
        let kind = *choices.pick(&KINDS);
        let payload = choices.bytes(300);
        choices.note("payload", &payload);
        let token = ours.seal(kind, &payload);
        assert_eq!(ours.open(kind, &token), Ok(payload.clone()));
        assert_eq!(ours.seal(kind, &payload), token);
        assert!(is_minted_here(&token) && is_ours(&token) == (kind == TokenKind::V2));
        assert_eq!(theirs.open(kind, &token), Err(TokenError::Malformed));
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert_eq!(ours.open(other, &token), Err(TokenError::Foreign));
        }
        let damaged = damaged(choices, &token);
        choices.note("damaged", &damaged);
        assert!(damaged == token || ours.open(kind, &damaged).is_err());
    });
}

/// The token with one character changed, left out, put in or moved.
fn damaged(choices: &mut Choices<'_>, token: &str) -> String {
    const INSTEAD: &[u8] = b"ABCabc019-_=+/ .\n%\0";
    let mut bytes = token.as_bytes().to_vec();
    let at = choices.below(bytes.len());
    match choices.below(5) {
        0 => bytes[at] = *choices.pick(INSTEAD),
        1 => bytes.insert(at, *choices.pick(INSTEAD)),
        2 => drop(bytes.remove(at)),
        3 => bytes.push(*choices.pick(INSTEAD)),
        _ => {
            // Some bit of a character, which may be one that base64 does not use.
            bytes[at] ^= 1 << choices.below(7);
        }
    }
    String::from_utf8(bytes).expect("it stays ASCII")
}

#[test]
fn numbers() {
    check("numbers", |choices| {
        let numbers: Vec<u64> = (0..choices.below(9)).map(|_| choices.number()).collect();
        let mut payload = Vec::new();
        for number in &numbers {
            put_varint(&mut payload, *number);
        }
        let mut reader = Reader::new(&payload);
        for number in &numbers {
            assert_eq!(reader.varint(), Ok(*number));
        }
        assert!(reader.is_empty());
    });
}

#[test]
fn sync_tokens() {
    let tokens = Tokens::new(&[1; 32]);
    check("sync_tokens", |choices| {
        let account_id = AccountId(choices.id());
        let token = some_sync_token(choices);
        choices.note("token", &token);
        let minted = token.mint(&tokens, account_id);
        assert_eq!(SyncToken::read(&tokens, account_id, &minted), Ok(token));
        let another = AccountId(account_id.0 ^ 1);
        assert_eq!(SyncToken::read(&tokens, another, &minted), Err(TokenError::Malformed));
    });
}

fn some_sync_token(choices: &mut Choices<'_>) -> SyncToken {
    if choices.one_in(2) {
        let ord = i32::try_from(choices.id() & 0x7fff_ffff).expect("31 bits");
        return SyncToken::Before(Place { pos: Position(choices.id()), ord });
    }
    SyncToken::Batch {
        pos: Position(choices.id()),
        device: DeviceNid(choices.id()),
        inbox: InboxSeq(choices.id()),
        members: if choices.one_in(2) { MemoryId::default() } else { MemoryId(choices.number()) },
    }
}

/// Whoever has the key could write anything into a token. What is read of it is a token that we could have minted.
#[test]
fn forged_sync_tokens() {
    let tokens = Tokens::new(&[1; 32]);
    let account_id = AccountId(7);
    check("forged_sync_tokens", |choices| {
        let mut payload = if choices.one_in(4) { Vec::new() } else { vec![7] };
        payload.extend(choices.bytes(60));
        choices.note("payload", &payload);
        let forged = tokens.seal(TokenKind::V2, &payload);
        match SyncToken::read(&tokens, account_id, &forged) {
            Err(error) => assert_eq!(error, TokenError::Malformed),
            Ok(token) => {
                let minted = token.mint(&tokens, account_id);
                assert_eq!(SyncToken::read(&tokens, account_id, &minted), Ok(token));
                assert!(token.pos() <= Position(i64::MAX) && token.pos() >= Position(-1));
            }
        }
    });
}
