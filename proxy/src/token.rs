//! Tokens that we mint: opaque, prefixed, bound to this database.
//!
//! A token is `prefix` + base64url(payload + MAC). The MAC's key lives in the database, so a token of
//! another (restored, recreated) database is told from a damaged one only by failing here: both are
//! [`TokenError`]. What is in the payload is its user's business; numbers are LEB128 varints.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

/// How much of the HMAC a token carries.
const MAC_BYTES: usize = 8;

/// What a token is for. Each kind has its own prefix, and no kind opens as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// `next_batch`, `since` and `prev_batch` of `GET /sync`.
    V2,
    /// `next` and `since` of `POST /sync`.
    V3,
    /// `p.next` and `p.since` of a page of a v3 stream.
    Page,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "v2_",
            Self::V3 => "v3_",
            Self::Page => "p3_",
        }
    }
}

/// Why a token is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// It does not begin like one of ours.
    #[error("the token was not minted here")]
    Foreign,
    /// It begins like one of ours, but is damaged, or of another database.
    #[error("the token is damaged or of another database")]
    Malformed,
}

/// Mints and opens tokens.
pub(crate) struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    /// With the database's own key.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// A token that carries `payload`. The same payload gives the same token.
    pub(crate) fn seal(&self, kind: TokenKind, payload: &[u8]) -> String {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&self.mac(kind, payload));
        let mut token = String::from(kind.prefix());
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut token);
        token
    }

    /// The payload of a token of this kind.
    pub(crate) fn open(&self, kind: TokenKind, token: &str) -> Result<Vec<u8>, TokenError> {
        let encoded = token.strip_prefix(kind.prefix()).ok_or(TokenError::Foreign)?;
        let mut bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Malformed)?;
        let payload_len = bytes.len().checked_sub(MAC_BYTES).ok_or(TokenError::Malformed)?;
        let mac = bytes.split_off(payload_len);
        if !self.is_same(&mac, &self.mac(kind, &bytes)) {
            return Err(TokenError::Malformed);
        }
        Ok(bytes)
    }

    /// Compares MACs without telling by the time it takes how much of them is the same. ring compares whole tags alone,
    /// and these are cut: so tags of them are compared.
    fn is_same(&self, given: &[u8], expected: &[u8]) -> bool {
        let expected = hmac::sign(&self.key, expected);
        hmac::verify(&self.key, given, expected.as_ref()).is_ok()
    }

    fn mac(&self, kind: TokenKind, payload: &[u8]) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(kind.prefix().as_bytes());
        context.update(payload);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&context.sign().as_ref()[..MAC_BYTES]);
        mac
    }
}

/// Whether a token looks like a position in the account stream that we minted: one that endpoints
/// which take a sync token must translate for upstream.
pub(crate) fn is_ours(token: &str) -> bool {
    token.starts_with(TokenKind::V2.prefix())
}

/// Whether a token looks like any of ours.
pub(crate) fn is_minted_here(token: &str) -> bool {
    let kinds = [TokenKind::V2, TokenKind::V3, TokenKind::Page];
    kinds.iter().any(|kind| token.starts_with(kind.prefix()))
}

/// Appends a number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0x7f);
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads a payload.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// From the beginning.
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The next number.
    pub(crate) fn varint(&mut self) -> Result<u64, TokenError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(TokenError::Malformed)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(TokenError::Malformed)
    }

    /// The next number, where the database has signed ones that are never negative.
    pub(crate) fn id(&mut self) -> Result<i64, TokenError> {
        i64::try_from(self.varint()?).map_err(|_| TokenError::Malformed)
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], TokenError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(TokenError::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// Whether everything is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_open_only_as_what_they_are() {
        let tokens = Tokens::new(&[1; 32]);
        let token = tokens.seal(TokenKind::V2, b"payload");
        assert_eq!(tokens.open(TokenKind::V2, &token), Ok(b"payload".to_vec()));
        assert_eq!(tokens.open(TokenKind::V3, &token), Err(TokenError::Foreign));
        assert_eq!(tokens.open(TokenKind::V2, "s72594_4483_1934"), Err(TokenError::Foreign));
        assert_eq!(tokens.open(TokenKind::V2, "v2_garbage"), Err(TokenError::Malformed));
        assert_eq!(tokens.open(TokenKind::V2, "v2_"), Err(TokenError::Malformed));
        let respelt = token.replacen("v2_", "v3_", 1);
        assert_eq!(tokens.open(TokenKind::V3, &respelt), Err(TokenError::Malformed));
        assert_eq!(Tokens::new(&[2; 32]).open(TokenKind::V2, &token), Err(TokenError::Malformed));
    }

    #[test]
    fn a_mac_counts_to_its_last_bit() {
        let tokens = Tokens::new(&[1; 32]);
        let sealed = tokens.seal(TokenKind::V2, b"payload");
        let bytes = URL_SAFE_NO_PAD.decode(&sealed["v2_".len()..]).expect("it is base64");
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let altered = format!("v2_{}", URL_SAFE_NO_PAD.encode(altered));
            assert_eq!(tokens.open(TokenKind::V2, &altered), Err(TokenError::Malformed), "{bit}");
        }
        let shortened = format!("v2_{}", URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]));
        assert_eq!(tokens.open(TokenKind::V2, &shortened), Err(TokenError::Malformed));
    }

    #[test]
    fn numbers_round_trip() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(number));
            assert!(reader.is_empty());
        }
        assert_eq!(Reader::new(&[0x80]).varint(), Err(TokenError::Malformed));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(TokenError::Malformed));
    }
}
